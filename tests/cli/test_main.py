"""The command line: plain output, exit codes, examples in every help, and no torch where none is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import campus_tune
from campus_tune.cli.main import main
from campus_tune.preview.simulate import simulate
from campus_tune.recipe.config import load_recipe
from campus_tune.words.errors import RecipeError

ROOT = Path(__file__).parents[2]
RECIPES = sorted([*(ROOT / "recipes").glob("*.yaml"), *(ROOT / "recipes/compare").glob("*.yaml")])


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    code = main(argv)
    out, err = capsys.readouterr()
    return code, out, err


def test_importing_and_simulating_load_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from campus_tune.cli.main import main; main(['simulate', '--rows', '500']);"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'trl', 'datasets')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["simulate"],
        ["check"],
        ["suspects"],
        ["schema"],
        ["demo"],
        ["demo", "tasks"],
        ["demo", "model"],
        ["demo", "sums"],
    ],
)
def test_every_help_shows_an_example(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert f"example:\n  campus-tune {' '.join(command)}".rstrip() in capsys.readouterr().out


def test_it_knows_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"campus-tune {campus_tune.__version__}\n"


def test_simulate_prints_the_stages_and_what_they_add_up_to(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(
        capsys, "simulate", "--rows", "800", "--batch", "8", "--domains", "2", "--selector", "round_robin",
        "--metrics", "length,mtld", "--stages", "4", "--handover", "0.5", "--mix", "0",
    )  # fmt: skip
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == [
        "stage",
        "epoch",
        "chosen",
        "scope",
        "rows",
        "random",
        "repeats",
        "domain",
        "0",
        "domain",
        "1",
    ]
    assert [line.split()[2] for line in lines[1:5]] == ["length", "mtld", "shuffle", "shuffle"]
    assert "100 steps of 8 rows: 800 rows' worth of training" in lines
    assert "seen 800 of 800 rows, 0% repeated" in lines
    assert "selector round_robin; rows from length 25%, mtld 25%, shuffle 50%" in lines


def test_simulate_tells_the_facts_of_the_published_method(capsys: pytest.CaptureFixture[str]) -> None:
    published = ["--selector", "lowest_perplexity", "--window", "slice", "--handover", "1"]
    assert "supplies 9" in run(capsys, "simulate", *published)[1]
    revisited = run(capsys, "simulate", *published, "--coverage", "revisit")[1]
    assert "Narrow sorted slices forget" in revisited
    assert "of it is repetition" in revisited


def test_simulate_as_json_is_the_whole_plan(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "simulate", "--rows", "400", "--epochs", "2", "--json", "--metrics=-length")
    plan = json.loads(out)
    assert sum(stage["n_rows"] for stage in plan["stages"]) == 800
    assert plan["rows_by_choice"].keys() == {"-length", "shuffle"}
    assert {stage["epoch"] for stage in plan["stages"]} == {0, 1}


def test_simulate_takes_batch_epochs_and_seed_from_a_training_yaml(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "per_device_train_batch_size: 5\nnum_train_epochs: 2\nseed: 3\ncampus: {metrics: [length]}\n", encoding="utf-8"
    )
    assert json.loads(run(capsys, "simulate", "--config", str(path), "--rows", "100", "--json")[1])["total_steps"] == 40
    flags = ["--epochs", "1", "--batch", "10"]
    plan = json.loads(run(capsys, "simulate", "--config", str(path), "--rows", "100", "--json", *flags)[1])
    assert (plan["total_steps"], plan["global_batch"]) == (10, 10)


def test_simulate_takes_the_domains_that_a_recipe_names_or_their_sizes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("campus: {selector: shuffle, domains: {shares: {math: 0.4, code: 0.6}}}\n", encoding="utf-8")
    asked = ["simulate", "--config", str(path), "--batch", "10", "--epochs", "1", "--json"]
    plan = json.loads(run(capsys, *asked)[1])
    assert (plan["domains"], plan["n_rows"]) == (["code", "math"], 10_000)
    assert plan["stages"][0]["domain_shares"] == [0.6, 0.4]
    plan = json.loads(run(capsys, *asked, "--domains", "math=200,code=800")[1])
    assert (plan["n_rows"], plan["passes"]) == (1000, {"code": 0.75, "math": 2.0})
    plan = json.loads(run(capsys, *asked, "--domains", "math=1,code=4", "--rows", "500")[1])
    assert (plan["n_rows"], plan["passes"]) == (500, {"code": 0.75, "math": 2.0})
    code, _, err = run(capsys, *asked, "--domains", "3")
    assert code == 2
    assert "Write --domains code=1000,math=1000, with the sizes of yours." in err
    assert run(capsys, *asked, "--domains", "code=1000,math=1000")[0] == 0  # as it says


def test_simulate_says_that_it_drops_no_rows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("campus: {selector: shuffle, drop: [{by: duplicates}]}\n", encoding="utf-8")
    out = run(capsys, "simulate", "--config", str(path), "--rows", "200")[1]
    assert "info: `drop` leaves out nothing here" in out
    assert "seen 200 of 200 rows" in out


@pytest.mark.parametrize("text", ["0", "math", "math=", "=3", "a=1,a=2", "a=0"])
def test_domains_that_are_no_numbers_and_no_sizes_end_with_2(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", "--domains", text])
    assert ended.value.code == 2
    assert "--domains" in capsys.readouterr().err


def test_a_mistake_is_a_message_and_not_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "simulate", "--selector", "matchd")
    assert (code, out) == (2, "")
    assert err.startswith("campus-tune: `selector` must be one of ")
    assert err.endswith("got 'matchd'. Did you mean 'matched'?\n")


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(RecipeError, match="Did you mean 'matched'"):
        main(["simulate", "--selector", "matchd", "--debug"])


@pytest.mark.parametrize("argv", [["simulate", "--rows", "0"], ["simulate", "--epochs", "-1"], ["simulat"]])
def test_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage: campus-tune" in capsys.readouterr().err


def test_more_rows_in_a_step_than_there_are_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "simulate", "--rows", "10", "--batch", "20")
    assert code == 2
    assert "`rows` must be at least the 20 of one optimizer step, got 10" in err


def test_check_ends_with_1_when_a_run_should_not_start(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("metrics: [length]\n", encoding="utf-8")
    bad.write_text("metrics: [loss, length]\nselector: lowest_perplexity\n", encoding="utf-8")
    assert run(capsys, "check", str(good))[0] == 0
    code, out, _ = run(capsys, "check", "--config", str(bad))
    assert code == 1
    assert out.startswith("refused: lowest_perplexity")


def test_check_without_a_recipe_says_what_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "check")
    assert code == 2
    assert "Write: campus-tune check recipe.yaml" in err


def test_sft_is_handed_everything_after_the_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr("campus_tune.cli.sft.main", given.append)
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model_name_or_path: model\n", encoding="utf-8")
    words = ["--config", str(recipe), "--learning_rate", "1e-4"]
    assert main(["sft", *words]) == 0
    assert given == [words]


def test_demo_tasks_are_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(
        capsys, "demo", "tasks", "--out", str(tmp_path), "--rows-per-cell", "2", "--probes-per-cell", "1",
        "--tests-per-cell", "1",
    )  # fmt: skip
    assert code == 0
    assert str(tmp_path) in out
    assert {path.name for path in tmp_path.iterdir()} == {"train.jsonl", "probes.jsonl", "test.jsonl"}


def test_a_tiny_demo_model_is_written(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "demo", "model", "--tiny", "--out", str(tmp_path / "tiny"))[0] == 0
    assert (tmp_path / "tiny" / "config.json").is_file()


def test_sums_and_their_model_are_written(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("campus_tune.demo.sums._WARM_STEPS", 2)
    code, out, _ = run(capsys, "demo", "sums", "--out", str(tmp_path), "--prompts-per-cell", "2")
    assert code == 0
    assert str(tmp_path) in out
    assert {path.name for path in tmp_path.iterdir()} == {"train.jsonl", "test.jsonl", "model"}


def test_python_dash_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "campus_tune", "check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "campus-tune check recipe.yaml" in done.stderr


# -- the recipes that ship -----------------------------------------------------------------------------------------


def test_the_recipes_are_all_there() -> None:
    names = {str(path.relative_to(ROOT / "recipes")) for path in RECIPES}
    assert {"campus.yaml", "random.yaml", "anti_length.yaml", "compare/campus_vs_random.yaml"} <= names


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_recipe_loads_builds_and_simulates(path: Path) -> None:
    config = load_recipe(path)
    named = sorted({name for phase in config.phases or () for name in phase.shares or ()})  # rows are of these domains
    rows = {"groups": np.arange(1000) % len(named), "domains": tuple(named)} if named else {}
    run = simulate(config, n_rows=1000, global_batch=8, **rows)
    assert run.visits == 1000
    assert run.stages[0].chosen in {*config.labels, "shuffle"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_recipe_says_what_it_is_and_what_to_type(path: Path) -> None:
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    for word in ("paper", "command", "hardware", "result"):
        assert f"# {word}" in header, word
    assert str(path.relative_to(ROOT)).removesuffix(".yaml") in header
