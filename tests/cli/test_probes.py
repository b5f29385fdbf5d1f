"""`campus-tune probes`: a training set cut in three, from a file or from a recipe, the same way every time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from campus_tune.cli.main import main
from campus_tune.demo.tasks import write_tasks
from campus_tune.words.files import read_jsonl


@pytest.fixture(autouse=True)
def _tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_tasks(tmp_path / "tasks", rows_per_cell=12, probes_per_cell=1)


def ids(path: str) -> list[Any]:
    return [row["id"] for row in read_jsonl(path)]


def test_a_file_is_cut_in_three_and_said_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probes", "--data", "tasks/train.jsonl", "--out", "cut", "--probes", "40", "--test", "0.1"]) == 0
    told = capsys.readouterr().out.splitlines()
    parts = [ids(f"cut/{part}.jsonl") for part in ("train", "probes", "test")]
    assert [len(part) for part in parts] == [230, 40, 30]
    assert sorted(one for part in parts for one in part) == sorted(ids("tasks/train.jsonl"))
    assert "40 probes: measured while training (arithmetic 8, calendar 8, code 8, lists 8, text 8)" in told
    assert "next: in the recipe, dataset_name: cut/train.jsonl" in told
    assert told[-1].strip() == "and campus: {probes: {path: cut/probes.jsonl}}"


def test_the_answer_is_json_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probes", "--data", "tasks/train.jsonl", "--out", "cut", "--test", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["domain_column"], told["domains"]["code"]) == (300, "domain", 60)
    assert told["probes"] == {
        "file": "cut/probes.jsonl",
        "rows": len(ids("cut/probes.jsonl")),
        "domains": dict.fromkeys(("arithmetic", "calendar", "code", "lists", "text"), 6),
    }
    assert "test" not in told


def test_the_seed_says_which_rows_and_nothing_is_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    for out, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert main(["probes", "--data", "tasks/train.jsonl", "--out", out, "--seed", seed]) == 0
    assert Path("a/probes.jsonl").read_bytes() == Path("b/probes.jsonl").read_bytes()
    assert ids("a/probes.jsonl") != ids("c/probes.jsonl")
    assert main(["probes", "--data", "tasks/train.jsonl", "--out", "a"]) == 2
    assert "must name files that are not there yet, got a/train.jsonl" in capsys.readouterr().err


def test_a_recipe_says_its_rows_and_its_column(capsys: pytest.CaptureFixture[str]) -> None:
    Path("recipe.yaml").write_text("dataset_name: tasks/train.jsonl\ncampus: {metrics: [length], within: level}\n")
    assert main(["probes", "--config", "recipe.yaml", "--out", "cut", "--test", "0"]) == 0
    told = capsys.readouterr().out
    assert "domains in the column `level`" in told
    assert "{path: cut/probes.jsonl, domain_column: level}" in told
    assert not Path("cut/test.jsonl").exists()


def test_a_mixture_is_cut_as_one_set_with_its_domains() -> None:
    for name in ("songs", "facts"):
        rows = [{"text": f"{name} word{i} and word{i * i}"} for i in range(60)]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    entries = "datasets: [{path: ./songs.jsonl}, {path: ./facts.jsonl, domain: knowledge}]\n"
    Path("recipe.yaml").write_text(f"{entries}campus: {{metrics: [length]}}\n")
    assert main(["probes", "--config", "recipe.yaml", "--out", "cut"]) == 0
    assert {row["domain"] for row in read_jsonl("cut/probes.jsonl")} == {"songs", "knowledge"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "must be given --data or --config, one of them, got neither"),
        (["--data", "a.jsonl", "--config", "b.yaml"], "one of them, got both"),
        (["--data", "tasks/nothing.jsonl"], "`tasks/nothing.jsonl` must be a readable file"),
        (["--data", "tasks/train.jsonl", "--probes", "200"], "`--probes` must be at most 75 of these 300 rows"),
        (["--config", "none.yaml"], "none.yaml"),
        (["--config", "empty.yaml"], "must name its rows in dataset_name or datasets, got neither"),
    ],
)
def test_what_cannot_be_cut_is_refused(words: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty.yaml").write_text("learning_rate: 0.1\n")
    assert main(["probes", *words, "--out", "cut"]) == 2
    assert told in capsys.readouterr().err
    assert not Path("cut").exists()


@pytest.mark.parametrize("value", ["-1", "1.5", "many", "nan"])
def test_a_number_of_rows_or_a_share_of_them(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["probes", "--data", "x.jsonl", f"--probes={value}"])
    assert "must be rows, or a share below 1" in capsys.readouterr().err
