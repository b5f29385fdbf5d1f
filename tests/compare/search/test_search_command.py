"""The command, with real runs: it goes on after a kill, and finds nothing where nothing matters."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from campus_tune.cli.main import main
from campus_tune.cli.search import cost_lines, read_search_plan
from campus_tune.compare.search import read_search
from campus_tune.compare.training import Bench
from campus_tune.compare.verdict import Verdict
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.types import Json
from tests.compare.search.tiny_search import options, tiny_search
from tests.compare.tiny_compare import write_rows
from tests.json_answers import answer
from tests.run.tiny_run import task_rows

Read = pytest.CaptureFixture[str]
# Orders that are random each in a way of its own: trials differ, and nothing matters.
LUCK = {"metrics": [[{"name": "random", "label": "luck", "seed": seed}] for seed in range(1, 7)]}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_search(
        tmp_path_factory.mktemp("search"),
        search={"space": LUCK, "trials": 6},
        compare={"seeds": 3},
        campus={"metrics": [{"name": "random", "label": "luck", "seed": 0}], "stages": 3, "mix": 0.0},
    )


@pytest.fixture(scope="module")
def done(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search that was made by the command."""
    out = tmp_path_factory.mktemp("done") / "out"
    assert main(["search", "--config", str(recipe), "--out", str(out)]) == 0
    return out


def test_where_nothing_matters_the_command_finds_no_winner(done: Path) -> None:
    found = read_search(done)
    assert found["conclusion"]["winner"] is None
    assert found["conclusion"]["why"].startswith("no winner: ")
    finals = [trial["losses"][-1] for trial in found["trials"] if trial["losses"][-1] is not None]
    assert min(finals) == found["standing"]["loss"]
    assert len({trial["losses"][0] for trial in found["trials"]}) == 6  # they do differ


def test_a_best_trial_is_judged_with_other_seeds_on_other_rows(done: Path) -> None:
    found = read_search(done)
    if not found["standing"]["change"] < 0:
        pytest.skip("no trial was better than the recipe, so there is nothing to judge")
    name = found["judged"]["arm"]
    verdict = Verdict.from_mapping(json.loads((done / "compare" / "verdict.json").read_text()))
    assert list(verdict.judgements) == ["recipe", name]
    assert verdict.seeds == (0, 1, 2)
    assert verdict.n_items == 40
    assert {run["seed"] for run in found["recipe"]} == {1000, 1001, 1002}
    assert re.fullmatch(r"search said −.* %, compare says [+−].* % \(.* to .* %\)", found["judged"]["said"])
    assert found["judged"]["recipe"]["difference"]["against"] == "recipe"
    assert found["judged"]["random"]["difference"]["against"] == "random"
    assert (done / "compare" / "report.html").is_file()


def test_the_page_says_it_too(done: Path) -> None:
    page = (done / "report.html").read_text("utf-8")
    assert "No winner." in page
    assert "By luck alone" in page
    assert "trial-00" in page or "metrics" in page
    assert (done / "plots" / "trials.png").is_file()


def test_no_checkpoint_is_left(done: Path) -> None:
    assert not list(done.rglob("checkpoint-*"))


def test_the_same_command_trains_nothing_and_says_the_same(
    recipe: Path, done: Path, monkeypatch: pytest.MonkeyPatch, capsys: Read
) -> None:
    before = read_search(done)
    monkeypatch.setattr(Bench, "make", lambda *_: pytest.fail("a run was made"))
    assert main(["search", "--config", str(recipe), "--out", str(done)]) == 0
    assert read_search(done) == before
    told = capsys.readouterr().out
    assert told.count("the recipe as it stands, seed") == 3
    assert before["conclusion"]["why"] in told


def test_its_json_is_what_is_written_of_the_search(recipe: Path, done: Path, tmp_path: Path, capsys: Read) -> None:
    assert answer(capsys, "search", recipe, "--out", done) == {"out": str(done), **read_search(done)}
    cost = answer(capsys, "search", recipe, "--out", tmp_path, "--cost", "--trials", "3")
    assert cost["cost"][0].startswith("cost: 3 trials as ")


def test_the_cost_is_said_and_nothing_trained(recipe: Path, tmp_path: Path, capsys: Read) -> None:
    assert main(["search", "--config", str(recipe), "--out", str(tmp_path), "--cost", "--trials", "3"]) == 0
    told = capsys.readouterr().out
    assert "cost: 3 trials as " in told
    assert "9 of the comparison that judges the best one" in told
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "where"), [("train", "the training set"), ("probes", "the steering probes"), ("test", "both")]
)
def test_rows_that_train_steer_or_judge_do_not_rank(tmp_path: Path, name: str, where: str) -> None:
    recipe = tiny_search(tmp_path)
    theirs = [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
    mixed = write_rows(tmp_path / "mixed.jsonl", [*task_rows(36, seed=9), theirs[2]])
    with pytest.raises(DataError, match=rf"got 1 that are in {where} .*mixed.jsonl` row 36 = "):
        main_or_raise(["search", "--config", str(recipe), "--out", str(tmp_path / "out"), f"--search.rows={mixed}"])
    assert not (tmp_path / "out" / "runs").exists()


def main_or_raise(words: list[str]) -> int:
    return main(["--debug", *words])


def test_a_proxy_that_is_none_is_refused_before_a_trial_is_trained(tmp_path: Path) -> None:
    recipe = tiny_search(tmp_path / "recipe", compare={"proxy": str(tmp_path / "nowhere")})
    found = options(recipe, "--out", str(tmp_path / "out"))
    with pytest.raises(RecipeError, match="`compare: proxy` must be a folder that campus-tune proxy has made"):
        found.command(found)
    assert not list((tmp_path / "out").rglob("leg-*"))


def test_a_space_of_the_recipe_alone_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    recipe = tiny_search(tmp_path / "recipe", search={"space": {"pacing": ["root", {"name": "root"}]}})
    found = options(recipe, "--out", str(tmp_path / "out"))
    with pytest.raises(RecipeError, match="must have a recipe besides the one that stands there, got 2"):
        found.command(found)
    assert not (tmp_path / "out").exists()


def test_tpe_without_optuna_is_refused_before_anything_is_trained(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    found = options(recipe, "--out", str(tmp_path / "out"), "--search.sampler", "tpe")
    with pytest.raises(RecipeError, match="must have optuna, got none"):
        found.command(found)
    assert not (tmp_path / "out").exists()


def test_one_seed_to_judge_with_is_told_before_anything_is_trained(recipe: Path) -> None:
    def told(*words: str) -> str:
        return "\n".join(cost_lines(read_search_plan(options(recipe, *words))))

    assert "there will be no winner: one seed" in told("--seeds", "1")
    assert "winner" not in told("--seeds", "3")


def test_few_rows_do_not_rank(recipe: Path, tmp_path: Path) -> None:
    few = write_rows(tmp_path / "few.jsonl", task_rows(29, seed=9))
    with pytest.raises(DataError, match="`search: rows` must have at least 30 rows, got 29"):
        main_or_raise(["search", "--config", str(recipe), "--out", str(tmp_path), f"--search.rows={few}"])


def test_all_that_is_wrong_with_both_blocks_is_told_at_once(recipe: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        read_search_plan(options(recipe, "--search.seeds=0", "--compare.effect=7", "--trials", "0"))
    said = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 3
    assert "`search: seeds`" in said
    assert "`search: trials` must be a whole number of at least 1" in said
    assert "`compare: effect`" in said


def test_a_yaml_without_the_block_says_what_to_write(tmp_path: Path) -> None:
    recipe = tiny_search(tmp_path)
    recipe.write_text(re.sub(r"^search:\n( .*\n|- .*\n)*", "", recipe.read_text(), flags=re.MULTILINE))
    with pytest.raises(
        RecipeError, match=r"`search: space` must be a mapping .* Write space: \{mix: \[0, 0.25, 0.5\]\}"
    ):
        read_search_plan(options(recipe))


def test_other_commands_leave_the_block_alone(recipe: Path) -> None:
    assert main(["check", str(recipe)]) == 0


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_to_the_same_end(recipe: Path, done: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "campus_tune", "search", "--config", str(recipe), "--out", str(tmp_path)]
    for pattern in ("runs/trial-00*/*/leg-1.json", "runs/trial-00*/*/leg-2.json"):
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not list(tmp_path.glob(pattern)) and process.poll() is None:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

    def without_names(found: Json) -> Json:
        return {key: value for key, value in found.items() if key != "command"}

    assert without_names(read_search(tmp_path)) == without_names(read_search(done))
