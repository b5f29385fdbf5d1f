"""`campus-tune init`: from rows to a recipe that `check` takes at once, asked for or by flags, and over nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.cli.main import main
from campus_tune.demo.tiny import write_tiny
from campus_tune.words.files import read_jsonl
from campus_tune.words.strict_yaml import read_yaml

WORDS = [f"w{i}" for i in range(40)]


def said(rng: np.random.Generator, n: int) -> str:
    return " ".join(rng.choice(WORDS, size=n).tolist())


def rows_in(form: str, n: int = 240) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    pairs = [(said(rng, 8), said(rng, 10), "xyz"[i % 3]) for i in range(n)]
    if form == "messages":
        return [{"messages": turns("role", "content", q, a), "domain": d} for q, a, d in pairs]
    if form == "sharegpt":
        return [{"conversations": turns("from", "value", q, a, "human", "gpt"), "category": d} for q, a, d in pairs]
    if form == "alpaca":
        return [{"instruction": q, "input": "", "output": a} for q, a, _ in pairs]
    return [{"text": f"{q} {a}"} for q, a, _ in pairs]


def turns(who: str, what: str, asked: str, answered: str, user: str = "user", other: str = "assistant") -> list[Any]:
    return [{who: user, what: asked}, {who: other, what: answered}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    write_tiny(folder)
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(rows: list[dict[str, Any]], name: str = "rows.jsonl") -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return name


@pytest.mark.parametrize("form", ["messages", "sharegpt", "alpaca", "text"])
def test_a_recipe_of_any_form_passes_check_at_once(form: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--model", str(model), "--data", write(rows_in(form)), "--yes"]) == 0
    told = capsys.readouterr().out
    assert main(["check", "recipe.yaml"]) == 0
    found = capsys.readouterr().out
    assert "0 refused, 0 errors, 0 warnings" in found
    assert ("converted, for TRL" in told) == (form in ("sharegpt", "alpaca"))
    settings = read_yaml("recipe.yaml")
    assert settings["dataset_name"] == "recipe-data/train.jsonl"
    assert ("compare" in settings) == (form != "text")
    n = {path.stem: len(read_jsonl(path)) for path in Path("recipe-data").iterdir()}
    assert sum(n.values()) == 240
    for command in (
        "campus-tune check recipe.yaml",
        "campus-tune sft --config recipe.yaml",
        "campus-tune report runs/",
    ):
        assert command in told
        assert command in Path("recipe.yaml").read_text("utf-8")


def test_what_was_written_is_trained(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--model", str(model), "--data", write(rows_in("sharegpt", 120)), "--yes", "--full"]) == 0
    assert main(["sft", "--config", "recipe.yaml", "--max_steps", "3", "--report_to", "none"]) == 0
    assert "order audit: all 3 steps trained the planned rows" in capsys.readouterr().out
    assert Path("runs/recipe/curriculum").is_dir()


def test_the_answer_is_json_for_a_program(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--model", str(model), "--data", write(rows_in("alpaca", 60)), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["recipe"] == "recipe.yaml"
    assert told["conversion"].startswith("map(lambda row")
    assert told["next"]["check"] == "campus-tune check recipe.yaml"
    assert told["train"]["rows"] + told["probes"]["rows"] == 60


def test_nothing_is_written_over(here: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["init", "--model", str(model), "--data", write(rows_in("text")), "--yes"]
    assert main(words) == 0
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert main(words) == 2
    assert "`--out` must name files that are not there yet, got recipe.yaml" in capsys.readouterr().err
    Path("recipe.yaml").unlink()
    assert main(words) == 2
    assert "got recipe-data/train.jsonl. Write another --out." in capsys.readouterr().err
    assert main([*words, "--out", "second.yaml"]) == 0  # as it advises
    assert all(path.read_bytes() == old for path, old in before.items() if path.name != "recipe.yaml")


@pytest.mark.parametrize("flag", ["--model", "--data"])
def test_what_is_missing_where_nobody_can_be_asked_is_named_by_its_flag(
    flag: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"--model": str(model), "--data": write(rows_in("text"))}
    del words[flag]
    assert main(["init", *(part for pair in words.items() for part in pair)]) == 2
    assert f"`{flag}` must be given where nobody is asked" in capsys.readouterr().err
    assert not Path("recipe.yaml").exists()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Answers that a person gives; what they are asked is printed."""
    answers: list[str] = []

    def ask(question: str) -> str:
        print(question)
        if not answers:
            raise EOFError
        return answers.pop(0)

    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.setattr("campus_tune.cli.init.at_terminal", lambda: True)
    yield answers
    assert answers == []


def test_a_person_is_asked_for_what_no_flag_says(
    model: Path, terminal: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    terminal += ["", str(model), write(rows_in("messages")), "mine.yaml", "", "12"]
    assert main(["init"]) == 0
    told = capsys.readouterr().out
    assert "the column of the domains, or none [domain]" in told
    assert "probes to hold out, rows or a share; 0 for none [24]" in told
    assert len(read_jsonl("mine-data/probes.jsonl")) == 12
    assert read_yaml("mine.yaml")["model_name_or_path"] == str(model)


@pytest.mark.parametrize("n", [1, 3])
def test_a_handful_of_rows_and_a_domain_for_each_pass_check(
    n: int, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**row, "domain": f"d{i}"} for i, row in enumerate(rows_in("alpaca")[:n])]
    assert main(["init", "--model", str(model), "--data", write(rows), "--yes"]) == 0
    assert main(["check", "recipe.yaml"]) == 0
    assert " 0 errors" in capsys.readouterr().out


def test_a_person_may_say_that_there_are_no_domains_and_no_probes(model: Path, terminal: list[str]) -> None:
    terminal += ["none", "no", "0"]  # `no` is no number, and asked for again
    assert main(["init", "--model", str(model), "--data", write(rows_in("messages")), "--out", "mine.yaml"]) == 0
    settings = read_yaml("mine.yaml")
    assert settings["campus"] == {}
    assert settings["compare"]["test"]["domain_column"] is None


@pytest.mark.usefixtures("terminal")
def test_the_end_of_the_input_is_told_with_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == 2
    assert "`--model` must be answered, or given as a flag, got the end of the input" in capsys.readouterr().err


def test_few_rows_are_not_held_out_for_a_comparison_that_could_say_nothing(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", "--model", str(model), "--data", write(rows_in("messages", 60)), "--yes"]) == 0
    assert "no test rows: a comparison asks for 30" in capsys.readouterr().out
    assert "compare" not in read_yaml("recipe.yaml")
    words = ["--data", "rows.jsonl", "--yes", "--out", "b.yaml", "--test", "15", "--probes", "0"]
    assert main(["init", "--model", str(model), *words]) == 0
    assert len(read_jsonl("b-data/test.jsonl")) == 15


def test_a_model_that_is_not_there_is_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", "--model", "nobody/nowhere", "--data", write(rows_in("text")), "--yes"]) == 0
    told = capsys.readouterr().out
    assert "words" in told
    assert "a guess, for the tokenizer could not be asked" in Path("recipe.yaml").read_text("utf-8")
