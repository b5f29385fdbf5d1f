"""`campus-tune compare`, from a YAML to a verdict and a page."""

import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import yaml

from campus_tune.cli import compare as run_compare
from campus_tune.cli import sft
from campus_tune.cli.main import main
from campus_tune.compare.result_file import write_run_result
from campus_tune.compare.task import Task
from campus_tune.compare.training import Bench
from campus_tune.compare.verdict import Verdict, arm_of, lines
from campus_tune.report.compare_facts import read_comparison
from campus_tune.report.run_facts import read_run
from campus_tune.run.lock import RunLock
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json
from tests.compare.tiny_compare import options, plan_of, result_of, tiny_recipe

Read = pytest.CaptureFixture[str]


def strict(path: Path) -> Json:
    """JSON as other languages read it."""

    def refuse(word: str) -> NoReturn:
        raise ValueError(word)

    found: Json = json.loads(path.read_text("utf-8"), parse_constant=refuse)
    return found


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_recipe(tmp_path_factory.mktemp("command"))


@pytest.fixture(scope="module")
def done(recipe: Path) -> Path:
    """The folder of a comparison that was made by the command."""
    assert main(["compare", "--config", str(recipe)]) == 0
    return recipe.parent / "comparison"


@pytest.fixture
def replayed(done: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, int]]]:
    """Trains nothing: runs give what they gave before, changed if asked for. The report is left out."""

    def play(change: Callable[[Json], Json | BaseException] = dict) -> list[tuple[str, int]]:
        made: list[tuple[str, int]] = []

        def run(bench: Bench, task: Task) -> Json:
            name, seed = task.name, task.seed
            outcome = change(result_of(done, "random" if name != "recipe" else name, seed))
            if isinstance(outcome, BaseException):
                raise outcome
            outcome |= {"arm": name, "kind": bench.plan.arm(name).kind}
            write_run_result(bench.plan.out, outcome)
            made.append((name, seed))
            return outcome

        monkeypatch.setattr(Bench, "make", run)
        monkeypatch.setattr("campus_tune.report.write.write_report", lambda out: out / "report.html")
        return made

    return play


def test_it_leaves_a_verdict_that_can_be_read_and_a_page(done: Path) -> None:
    content = strict(done / "verdict.json")
    verdict = Verdict.from_mapping(content)
    assert json.loads(json.dumps(verdict.to_mapping())) == content
    assert list(verdict.judgements) == ["recipe"]
    assert verdict.judgements["recipe"].verdict is not None
    assert verdict.seeds == (0, 1)
    assert verdict.n_items == 40
    assert len(verdict.planned) == 2
    assert all("sentence" in one for one in verdict.planned)
    page = (done / "report.html").read_text()
    assert verdict.judgements["recipe"].sentence.partition(": ")[2][1:40] in page
    assert strict(done / "compare.json")["command"].startswith("campus-tune compare --config")


def test_every_file_is_strict_json(done: Path) -> None:
    for path in done.rglob("*.json"):
        strict(path)


def test_every_arm_is_shown_by_the_metrics_of_the_recipe(done: Path) -> None:
    for arm in read_comparison(done).arms:
        assert arm.runs[0]["learning_rate"].keys() == read_run(done / "runs" / "recipe" / "seed-0").rates.keys()


def test_the_same_command_trains_nothing_and_says_the_same(
    recipe: Path, done: Path, replayed: Callable[..., Any], capsys: Read
) -> None:
    before = {path: path.stat().st_mtime_ns for path in done.rglob("result.json")}
    verdict = (done / "verdict.json").read_text()
    made = replayed()
    assert main(["compare", "--config", str(recipe)]) == 0
    assert made == []
    assert "4 of 4 runs are there already and are kept" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (done / "verdict.json").read_text() == verdict


def test_the_table_holds_the_numbers_of_the_verdict(done: Path) -> None:
    arms = [arm_of([result_of(done, name, seed) for seed in (0, 1)]) for name in ("random", "recipe")]
    verdict = Verdict.from_mapping(strict(done / "verdict.json"))
    told = lines(verdict, arms)
    judged, speed = verdict.judgements["recipe"], verdict.speed["recipe"]
    assert f"VERDICT. {judged.sentence}" in told
    assert f"SPEED. {speed.sentence}" in told
    table = next(line for line in told if "against random" in line).splitlines()
    base, mine = table[-2:]
    assert verdict.baseline_mean is not None
    assert judged.difference is not None
    assert judged.difference.p is not None
    assert judged.difference.value is not None
    assert f"{verdict.baseline_mean:.4f} ± " in base
    tests = [result_of(done, "recipe", seed)["test"] for seed in (0, 1)]
    losses = [sum(test["loss"]) / sum(test["tokens"]) for test in tests]
    assert f"{np.mean(losses):.4f} ± {np.std(losses, ddof=1):.4f}" in mine
    assert np.mean(losses) - verdict.baseline_mean == pytest.approx(judged.difference.value)
    assert f"{judged.difference.p:.3f}" in mine
    signed = re.search(r"([+−][\d.]+) %", mine)
    assert signed is not None
    share = 100 * judged.difference.value / verdict.baseline_mean
    assert float(signed[1].replace("−", "-")) == pytest.approx(share, abs=0.051)


def test_a_pilot_trains_plain_shuffling_alone_and_says_what_could_be_found(
    recipe: Path, tmp_path: Path, replayed: Callable[..., Any], capsys: Read
) -> None:
    made = replayed()
    assert main(["compare", "--config", str(recipe), "--out", str(tmp_path), "--pilot"]) == 0
    assert made == [("random", 0), ("random", 1)]
    told = capsys.readouterr().out
    assert "in 4 of 5 comparisons" in told
    assert "run 2 of 2: random, seed 1" in told
    assert "the default expectation is no difference" in told
    assert not (tmp_path / "verdict.json").exists()


def test_flags_go_before_the_yaml(recipe: Path, tmp_path: Path, replayed: Callable[..., Any]) -> None:
    made = replayed()
    test = tmp_path / "other.jsonl"
    shutil.copy(recipe.parent / "test.jsonl", test)
    words = ["--out", str(tmp_path / "out"), "--arms", "random", "recipe", "reversed", "--seeds", "1", "0"]
    words += ["--test", str(test), "--random-plus", "--compare.effect", "0.07", "--compare.points=4"]
    assert main(["compare", "--config", str(recipe), *words]) == 0
    assert made == [(arm, seed) for arm in ("random", "recipe", "reversed", "random_plus") for seed in (1, 0)]
    about = strict(tmp_path / "out" / "compare.json")
    assert (about["effect"], about["points"], about["test"]["path"]) == (0.07, 4, [str(test)])
    verdict = strict(tmp_path / "out" / "verdict.json")
    assert list(verdict["judgements"]) == ["recipe", "random_plus", "reversed"]
    assert verdict["effect"] == 0.07


def test_flags_that_name_arms_and_files_keep_what_the_yaml_says_of_them(tmp_path: Path) -> None:
    arms = {"recipe": {}, "random": {}, "mine": {"stages": 9}}
    recipe = tiny_recipe(tmp_path, compare={"arms": arms, "test": {"path": "t.jsonl", "domain_column": "source"}})
    plan = plan_of(recipe, "--arms", "random", "mine", "--test", "other.jsonl")
    assert [arm.name for arm in plan.arms] == ["random", "mine"]
    assert plan.arm("mine").campus["stages"] == 9
    assert (plan.settings.test, plan.settings.domain_column) == (("other.jsonl",), "source")
    assert plan_of(recipe, "--campus.stages", "7").arm("recipe").campus["stages"] == 7


def test_ctrl_c_keeps_what_is_finished(
    recipe: Path, tmp_path: Path, replayed: Callable[..., Any], capsys: Read
) -> None:
    replayed(lambda one: KeyboardInterrupt() if one["arm"] == "recipe" else one)
    assert main(["compare", "--config", str(recipe), "--out", str(tmp_path)]) == 130
    told = capsys.readouterr().out
    assert f"interrupted: 2 runs are finished and kept in {tmp_path}. The same command goes on." in told


def test_ctrl_c_before_anything_is_looked_at_counts_what_is_there(
    recipe: Path, tmp_path: Path, replayed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: Read
) -> None:
    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    replayed()
    assert main(["compare", "--config", str(recipe), "--out", str(tmp_path), "--pilot", "--seeds", "1"]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(Bench, "read_test", interrupt)
        assert main(["compare", "--config", str(recipe), "--out", str(tmp_path)]) == 130
    assert f"interrupted: 1 run is finished and kept in {tmp_path}." in capsys.readouterr().out
    monkeypatch.setattr(run_compare, "read_plan", interrupt)
    assert main(["compare", "--config", str(recipe), "--out", str(tmp_path)]) == 130
    assert "interrupted: nothing was begun." in capsys.readouterr().out


def test_a_second_comparison_in_the_same_folder_at_once_is_refused(
    recipe: Path, tmp_path: Path, replayed: Callable[..., Any], capsys: Read
) -> None:
    first = RunLock(tmp_path, what="--out")
    first.take()
    made = replayed()
    assert main(["compare", "--config", str(recipe), "--out", str(tmp_path)]) == 2
    assert "`--out` must be used by one run at a time" in capsys.readouterr().err
    assert made == []
    first.release()
    assert main(["compare", "--config", str(recipe), "--out", str(tmp_path)]) == 0


def test_an_error_names_the_run_and_its_log(
    recipe: Path, tmp_path: Path, replayed: Callable[..., Any], capsys: Read
) -> None:
    replayed(lambda one: RuntimeError("CUDA out of memory") if one["arm"] == "recipe" else one)
    assert main(["compare", "--config", str(recipe), "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "`recipe`, seed 0, cannot be trained: CUDA out of memory" in told
    assert str(tmp_path / "runs" / "recipe" / "seed-0" / "log.txt") in told


def test_one_seed_is_no_verdict(recipe: Path, tmp_path: Path, replayed: Callable[..., Any], capsys: Read) -> None:
    replayed()
    assert main(["compare", "--config", str(recipe), "--out", str(tmp_path), "--seeds", "1"]) == 0
    told = capsys.readouterr().out
    assert "VERDICT. No verdict on recipe: " in told
    assert "one seed cannot tell a recipe from luck" in told
    assert "there will be no verdict: one seed cannot tell a recipe from luck" in told
    assert strict(tmp_path / "verdict.json")["judgements"]["recipe"]["verdict"] is None


def test_a_diverged_run_is_no_verdict_on_its_arm_and_one_on_the_others(
    recipe: Path, tmp_path: Path, replayed: Callable[..., Any], capsys: Read
) -> None:
    def diverged(one: Json) -> Json:
        bad = {"status": "diverged", "message": "NaN at step 3", "test": None}
        return {**one, **bad} if (one["arm"], one["seed"]) == ("recipe", 1) else one

    replayed(diverged)
    words = ["--out", str(tmp_path), "--arms", "random", "recipe", "reversed"]
    assert main(["compare", "--config", str(recipe), *words]) == 0
    told = capsys.readouterr().out
    assert "recipe, seed 1: diverged: NaN at step 3" in told
    assert "VERDICT. No verdict on recipe: " in told
    assert "diverged: recipe, seed 1: NaN at step 3" in told
    verdict = strict(tmp_path / "verdict.json")
    assert verdict["judgements"]["recipe"]["verdict"] is None
    assert verdict["judgements"]["reversed"]["difference"] is not None


def test_where_all_diverge_that_is_all_that_is_said(
    recipe: Path, tmp_path: Path, replayed: Callable[..., Any], capsys: Read
) -> None:
    replayed(lambda one: {**one, "status": "diverged", "message": "NaN", "test": None})
    assert main(["compare", "--config", str(recipe), "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told.count("diverged: NaN") == 4
    assert "VERDICT. No verdict on recipe: " in told


def test_arms_that_train_other_tokens_get_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Read
) -> None:
    monkeypatch.setattr("campus_tune.report.write.write_report", lambda out: out / "report.html")
    recipe = tiny_recipe(tmp_path, max_steps=2)  # of six: easy rows are short
    block = yaml.safe_load(recipe.read_text())
    block["campus"] = {"metrics": ["length"], "stages": 3}
    recipe.write_text(yaml.safe_dump(block))
    assert main(["compare", "--config", str(recipe), "--seeds", "1"]) == 0
    tokens = {arm: result_of(tmp_path / "comparison", arm, 0)["tokens"] for arm in ("recipe", "random")}
    assert tokens["recipe"] < tokens["random"]
    told = capsys.readouterr().out
    assert re.search(r"VERDICT. No verdict on recipe: .*recipe trained [\d,]+ tokens and random [\d,]+ with seed", told)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seed", "3"], "`--seed` belongs to a single run, got it for a comparison. Write --seeds."),
        (["--seed=3"], "`--seed` belongs to a single run"),
        (["--output_dir", "x"], "`--output_dir` belongs to a single run, got it for a comparison. Write --out."),
        (["--data_seed", "3"], "`data_seed` must be left out where seeds are compared, got 3"),
        (["--learning_rte", "1"], "Did you mean 'learning_rate'"),
        (["--compare.sedes", "3"], "Did you mean 'seeds'"),
        (["--compare.effect"], "`--compare.effect` must be followed by a value"),
        (["--compare.arms", "{random: {}"], "`--compare.arms` line 1 must be YAML, got: expected ',' or '}'"),
        (["--compare.jobs", "0"], "`compare: jobs` must be"),
        (["--jobs", "0"], "`compare: jobs` must be"),
        (["--seeds", "0"], "`compare: seeds` must be how many"),
        (["--seeds", "1", "1"], "`compare: seeds` must be different, got 1 twice"),
        (["--arms", "recipe"], "`compare: arms` must have 'random'"),
        (["--campus.seed", "3"], "`campus: seed` must be left out"),
        (["--campus.stagse", "3"], "Did you mean 'stages'"),
    ],
)
def test_wrong_flags_are_refused(recipe: Path, words: list[str], message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        run_compare.read_plan(options(recipe, *words))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"campus": None}, "`campus` must be a block"),
        ({"compare": None}, "`compare: test` must be a file"),
        ({"compare": ["recipe"]}, "`compare` must be a mapping"),
        ({"model_name_or_path": None}, "`model_name_or_path` must be a model folder or a hub id"),
        ({"data_seed": 4}, "`data_seed` must be left out where seeds are compared, got 4"),
        ({"learning_rte": 1}, "Did you mean 'learning_rate'"),
    ],
)
def test_wrong_settings_are_refused(recipe: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), **change}))
    with pytest.raises(RecipeError, match=re.escape(message)):
        run_compare.read_plan(options(path))


def test_what_a_single_run_saves_and_evaluates_is_left_out(recipe: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    more = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "seed": 9}
    more |= {"load_best_model_at_end": True, "push_to_hub": True, "eval_on_start": True, "resume_from_checkpoint": True}
    path.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), **more}))
    (_, training, _, _), problems = plan_of(path, "--report_to", "wandb").parsed(4, tmp_path / "run")
    assert problems == []
    assert (training.seed, training.output_dir) == (4, str(tmp_path / "run"))
    assert training.save_strategy == training.eval_strategy == "no"
    assert training.report_to in ([], ["none"], "none")
    assert [training.load_best_model_at_end, training.push_to_hub, training.eval_on_start] == [False] * 3
    assert not sft._resume(training.resume_from_checkpoint)


def test_help_shows_an_example(capsys: Read) -> None:
    with suppress(SystemExit):
        main(["compare", "--help"])
    told = capsys.readouterr().out
    assert "campus-tune compare --config recipes/compare/quickstart.yaml" in told
    assert "--random-plus" in told


def test_other_commands_leave_the_block_alone(recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: Read) -> None:
    trained: list[Any] = []
    monkeypatch.setattr(sft, "train", lambda *parts: trained.append(parts))
    assert main(["sft", "--config", str(recipe)]) == 0
    assert len(trained) == 1
    assert main(["check", str(recipe)]) in (0, 1)
    assert main(["simulate", "--config", str(recipe), "--rows", "50"]) == 0
    told = capsys.readouterr()
    assert "compare" not in told.err
    assert "`compare`" not in told.out
