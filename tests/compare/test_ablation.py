"""`campus-tune ablate` from the command to the page: which runs are made, what is kept, what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from campus_tune.cli.ablate import read_question
from campus_tune.cli.main import main, make_parser
from campus_tune.compare.ablation import AblationRuns, Question, without_domains
from campus_tune.compare.folder import write_about
from campus_tune.compare.plan import Plan
from campus_tune.compare.recorder import Recorder
from campus_tune.compare.result_file import write_run_result
from campus_tune.compare.task import Task
from campus_tune.compare.training import Bench
from campus_tune.data.held_out import read_held_out
from campus_tune.recipe.config import CampusConfig
from campus_tune.report.ablation_page import read_ablation
from campus_tune.report.write import write_report
from campus_tune.words.errors import DataError, DivergedError, RecipeError
from campus_tune.words.types import Json
from tests.compare.tiny_compare import plan_of, result_of, timeless, tiny_recipe, write_rows
from tests.json_answers import answer
from tests.run.tiny_run import task_rows

THREE = ("code", "lists", "text")
ROWS = 36


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three domains, two seeds, and a step of four rows."""
    folder = tmp_path_factory.mktemp("recipe")
    rows = [row for row in task_rows(200) if row["domain"] in THREE][:ROWS]
    write_rows(folder / "train.jsonl", rows)
    return tiny_recipe(folder, per_device_train_batch_size=4, compare={"points": 2, "arms": ["recipe", "random"]})


def asked(recipe: Path, *words: str) -> tuple[Plan, Question]:
    found, rest = make_parser().parse_known_args(["ablate", "--config", str(recipe), *words])
    found.rest = rest
    return read_question(found)


@pytest.fixture(scope="module")
def done(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ablation, finished."""
    out = tmp_path_factory.mktemp("done")
    assert main(["ablate", "--config", str(recipe), "--out", str(out)]) == 0
    return out


def about(out: Path) -> Json:
    found: Json = json.loads((out / "ablation.json").read_text("utf-8"))
    return found


class FakeBench:
    """Trains nothing: losses by the domains that are trained."""

    def __init__(self, plan: Plan, diverges: Sequence[tuple[str, int]] = ()) -> None:
        self.plan, self.diverges, self.made = plan, diverges, list[Task]()

    def make(self, task: Task) -> Json:
        self.made.append(task)
        gone = set(() if task.only is None else task.only.without)
        rng = np.random.default_rng([task.seed, len(self.made)])
        domain = np.repeat(np.arange(3), 20)
        higher = np.array([0.5 if name in gone else 0.0 for name in THREE])[domain]
        lost = (task.name, task.seed) in self.diverges
        outcome: Json = {
            "arm": task.name, "kind": "baseline" if task.name == "full" else "control", "seed": task.seed,
            "status": "diverged" if lost else "finished", "message": "NaN at step 3" if lost else None,
            "shared": {"steps": 100, "global_batch": 4, "test": "t", "weights_before": task.seed},
            "tokens": 4000, "rows": 400, "cost": {"all": 0.0},
            "seconds": {"training": 1.0, "curriculum": 0.0, "curve": 0.0},
            "curve": {"tokens": [0, 10], "seconds": [0.0, 1.0], "loss": [2.0, 1.0]},
            "test": {
                "domains": list(THREE), "domain": domain.tolist(), "items": [str(i) for i in range(60)],
                "tokens": [4.0] * 60, "loss": (4 * (1 + higher + 0.01 * rng.normal(size=60))).tolist(),
            },
            **task.asked(),
        }  # fmt: skip
        write_run_result(self.plan.out, outcome)
        return outcome


def runs_of(recipe: Path, out: Path, *words: str, **more: Any) -> tuple[AblationRuns, FakeBench, list[str]]:
    plan, question = asked(recipe, "--out", str(out), *words)
    said: list[str] = []
    runs = AblationRuns(plan, question, "campus-tune ablate", said.append)
    runs.begin(read_held_out([recipe.parent / "test.jsonl"]))
    return runs, FakeBench(plan, **more), said


# -- the whole of it ---------------------------------------------------------------------------------------------------


def test_each_domain_is_left_out_once_with_each_seed_and_as_many_tokens(done: Path) -> None:
    found = about(done)
    assert found["finished"]
    assert found["tokens"] == "equal"
    assert set(found["without"]["cells"]) == set(THREE)
    assert sorted(path.parent.parent.name for path in done.rglob("result.json")) == sorted(
        2 * ["full", "without_code", "without_lists", "without_text"]
    )
    for seed in (0, 1):
        full = result_of(done, "full", seed)
        for name in THREE:
            part = result_of(done, f"without_{name}", seed)
            assert part["only"]["without"] == [name]
            assert part["shared"]["weights_before"] == full["shared"]["weights_before"]
            assert abs(part["tokens"] / full["tokens"] - 1) <= 2 / full["shared"]["steps"]
    assert found["runs"]["without_code"]["passes"] > found["runs"]["full"]["passes"] == 1.0
    cell = found["without"]["cells"]["code"]["text"]
    losses = [
        [sum(np.array(run["test"]["loss"])[of]) / sum(np.array(run["test"]["tokens"])[of]) for run in runs]
        for runs in ([result_of(done, arm, seed) for seed in (0, 1)] for arm in ("without_code", "full"))
        if (of := np.array(runs[0]["test"]["domain"]) == runs[0]["test"]["domains"].index("text")).any()
    ]
    assert cell["value"] == pytest.approx(np.mean(losses[0]) - np.mean(losses[1]))


def test_the_same_command_makes_nothing_twice(
    recipe: Path, done: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bench, "make", lambda *_: pytest.fail("a run was made again"))
    before = about(done)
    assert main(["ablate", "--config", str(recipe), "--out", str(done)]) == 0
    said = capsys.readouterr().out
    assert "8 of 8 runs are there already and are kept" in said
    assert "2 seeds of 1 run with all rows, 3 without a domain: 8 runs, each as long as the recipe's" in said
    assert "without ↓ loss of →" in said
    assert about(done) == before


def test_its_json_is_the_matrix_that_the_table_shows(
    recipe: Path, done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = answer(capsys, "ablate", recipe, "--out", done)
    assert found == {"out": str(done), **about(done)}
    assert found["finished"]


def test_the_page_says_what_was_trained_and_shows_the_matrix(done: Path) -> None:
    page = write_report(done)
    assert page == done / "report.html"
    text = page.read_text("utf-8")
    assert "What does each domain do for the others?" in text
    assert f"Trained: {about(done)['model']}." in text
    assert "filled its place" in text
    assert 'id="ablation_without"' in text
    assert (done / "plots" / "ablation_without.png").exists()
    assert "Length of the runs" in text


def test_a_kill_in_the_middle_costs_one_run_and_changes_none(
    recipe: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure, begun = Recorder._measure, list[int]()

    def killed(self: Recorder, step: int) -> None:
        begun.append(step)
        if step and len(begun) > 10:
            raise KeyboardInterrupt
        measure(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_measure", killed)
        assert main(["ablate", "--config", str(recipe), "--out", str(tmp_path)]) == 130
    n = len(list(tmp_path.rglob("result.json")))
    assert f"{n} runs are finished and kept in {tmp_path}. The same command goes on" in capsys.readouterr().out
    assert 2 < n < 8
    assert not about(tmp_path)["finished"]
    assert f"{n} of 8 runs are done" in write_report(tmp_path).read_text("utf-8")
    assert main(["ablate", "--config", str(recipe), "--out", str(tmp_path)]) == 0
    assert_same_ablation(tmp_path, done)


def assert_same_ablation(out: Path, other: Path) -> None:
    found, known = about(out), about(other)
    assert {k: v for k, v in found.items() if k != "command"} == {k: v for k, v in known.items() if k != "command"}
    for path in known["runs"]:
        for seed in (0, 1):
            mine, theirs = (timeless(result_of(home, path, seed)) for home in (out, other))
            mine["campus"].pop("scores")
            theirs["campus"].pop("scores")
            assert mine == theirs


@pytest.mark.slow
def test_sigkill_in_the_middle_too(recipe: Path, done: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "campus_tune", "ablate", "--config", str(recipe), "--out", str(tmp_path)]
    root = Path(__file__).parents[2]
    environment, quiet = {**os.environ, "PYTHONPATH": str(root)}, subprocess.DEVNULL
    process = subprocess.Popen(command, cwd=root, stdout=quiet, stderr=quiet, env=environment)
    until = time.monotonic() + 240
    while len(list(tmp_path.rglob("result.json"))) < 3 and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 3 <= len(list(tmp_path.rglob("result.json"))) < 8
    assert main(["ablate", "--config", str(recipe), "--out", str(tmp_path)]) == 0
    assert_same_ablation(tmp_path, done)


# -- which runs --------------------------------------------------------------------------------------------------------


def test_the_runs_of_all_rows_come_first_and_the_others_are_as_long_with_their_seed(
    recipe: Path, tmp_path: Path
) -> None:
    runs, bench, said = runs_of(recipe, tmp_path, "--only", "--domains", "text", "code")
    runs.train(bench)
    assert [(task.name, task.seed) for task in bench.made] == [
        ("full", 0), ("full", 1),
        ("without_text", 0), ("without_code", 0), ("only_text", 0), ("only_code", 0),
        ("without_text", 1), ("without_code", 1), ("only_text", 1), ("only_code", 1),
    ]  # fmt: skip
    assert bench.made[4].only is not None
    assert set(bench.made[4].only.without) == {"code", "lists"}
    assert [task.as_long is None for task in bench.made] == 2 * [True] + 8 * [False]
    assert said[-1].startswith("run 10 of 10: only_code, seed 1: loss 2.0000 → 1.0000, 4,000 tokens")
    found = runs.judge()
    assert found["without"].cells["text"]["text"].verdict == "needed"
    assert found["only"].cells["text"]["code"].verdict == "not enough"
    assert about(tmp_path)["graph"] == {name: {name: pytest.approx(1.0, abs=0.1)} for name in ("text", "code")}


def test_seeds_and_domains_are_added_to_a_folder_and_other_settings_are_refused(recipe: Path, tmp_path: Path) -> None:
    runs, bench, _ = runs_of(recipe, tmp_path, "--domains", "text")
    runs.train(bench)
    more, bench, said = runs_of(recipe, tmp_path, "--seeds", "3")
    assert said[0] == "4 of 12 runs are there already and are kept"
    assert said[1].startswith("3 seeds: one of 15 cells must differ by up to 17 times the standard error of its seeds")
    assert said[1].endswith("with 5 seeds by 6 times: --seeds 5")
    assert runs_of(recipe, tmp_path / "five", "--seeds", "5")[2] == []  # the advice
    more.train(bench)
    assert len(bench.made) == 8
    more.judge()
    before = about(tmp_path)
    for words, message in (
        (["--fewer"], 'tokens: "equal" there and "fewer" now'),
        (["--learning_rate", "0.5"], r"flags: \[\] there and .*0.5"),
        (["--compare.points", "5"], "points: 2 there and 5 now"),
    ):
        with pytest.raises(RecipeError, match=f"begun with other settings: {message}.* Name another folder"):
            runs_of(recipe, tmp_path, *words)
    assert about(tmp_path) == before
    rows = [json.loads(line) for line in (recipe.parent / "train.jsonl").read_text().splitlines()]
    write_rows(tmp_path / "fewer.jsonl", rows[:-2])
    with pytest.raises(RecipeError, match=r"domains: .* there and .* now"):
        runs_of(recipe, tmp_path, "--dataset_name", str(tmp_path / "fewer.jsonl"))
    write_run_result(tmp_path, {**result_of(tmp_path, "without_text", 0), "as_long": {"tokens": 1}})
    with pytest.raises(RecipeError, match=r"without_text/seed-0` must be a run of the rows and steps that are asked"):
        runs_of(recipe, tmp_path)
    assert about(tmp_path) == before
    assert runs_of(recipe, tmp_path / "another", "--fewer")[0].outcomes == {}  # the advice


def test_a_seed_that_diverges_on_all_rows_has_no_other_runs(recipe: Path, tmp_path: Path) -> None:
    runs, bench, said = runs_of(recipe, tmp_path, diverges=[("full", 1)])
    runs.train(bench)
    assert {task.seed for task in bench.made[2:]} == {0}
    assert any("full, seed 1: diverged: NaN at step 3" in line for line in said)
    found = runs.judge()["without"]
    assert set(found.refused) == set(THREE)
    assert "full diverged with seed 1" in found.refused["text"]
    assert "`full` diverged" in json.dumps(read_and_show(tmp_path)["warnings"])


def read_and_show(out: Path) -> dict[str, Any]:
    from campus_tune.report.ablation_page import ablation_content, ablation_pictures

    facts = read_ablation(out)
    return ablation_content(facts, ablation_pictures(facts))


def test_a_part_that_diverges_with_every_seed_has_no_word_and_the_others_have(recipe: Path, tmp_path: Path) -> None:
    runs, bench, _ = runs_of(recipe, tmp_path, diverges=[("without_text", 0), ("without_text", 1)])
    runs.train(bench)
    found = runs.judge()["without"]
    assert found.cells["text"] == {}
    assert "without_text diverged with seeds 0, 1" in found.refused["text"]
    assert found.cells["code"]["code"].verdict == "needed"
    assert about(tmp_path)["runs"]["without_text"]["diverged"] == [0, 1]
    assert "`without_text` diverged with seed 1" in json.dumps(read_and_show(tmp_path)["warnings"], ensure_ascii=False)


def test_the_folder_of_another_command_is_left_alone(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "compare.json").write_text("{}")
    with pytest.raises(
        RecipeError, match=r"a folder of campus-tune ablate alone, got .* of campus-tune compare\. Name"
    ):
        runs_of(recipe, tmp_path)
    assert not (tmp_path / "ablation.json").exists()
    runs_of(recipe, Path(f"{tmp_path}-ablate"))  # the advice
    held = read_held_out([recipe.parent / "test.jsonl"])
    with pytest.raises(RecipeError, match=r"a folder of campus-tune compare alone, got .*ablation\.json of campus"):
        write_about(plan_of(recipe, "--out", f"{tmp_path}-ablate"), held, "campus-tune compare")


def test_a_recipe_that_diverges_whatever_the_seed_is_told(recipe: Path, tmp_path: Path) -> None:
    runs, bench, _ = runs_of(recipe, tmp_path, diverges=[("full", 0), ("full", 1)])
    with pytest.raises(DivergedError, match=r"on all rows before some are left out, got .*NaN at step 3. Lower learn"):
        runs.train(bench)
    assert len(bench.made) == 2


def test_a_model_in_the_place_of_the_recipes_is_said_to_be_one(recipe: Path, tmp_path: Path) -> None:
    plan, question = asked(recipe, "--model", str(recipe.parent / "model"), "--out", str(tmp_path))
    assert question.target == str(recipe.parent / "model")
    assert plan.flags[-2:] == ("--model_name_or_path", str(recipe.parent / "model"))
    runs, bench, _ = runs_of(recipe, tmp_path, "--model", str(recipe.parent / "model"))
    runs.train(bench)
    runs.judge()
    shown = read_and_show(tmp_path)
    assert "which was not tested" in shown["warnings"][0]
    assert shown["trained"].endswith("was not tested.")


def test_what_only_a_comparison_says_is_not_measured_for_an_ablation(recipe: Path) -> None:
    extras = ["--compare.proxy", "nowhere", "--compare.sharpness", "true", "--compare.evaluate", "{tasks: [gsm8k]}"]
    settings = asked(recipe, *extras)[0].settings
    assert (settings.proxy, settings.sharpness, settings.evaluate) == (None, False, None)


def test_names_of_domains_make_names_of_folders() -> None:
    question = Question({"a/b": 5, "a_b": 5, "ü b": 5}, "domain", ("a/b", "a_b", "ü b"))
    names = [arm.name for arm in question.arms({"metrics": []}).values()]
    assert names == ["without_a_b", "without_a_b.1", "without_ü_b"]


# -- the recipe without a domain ---------------------------------------------------------------------------------------


def test_shares_of_a_domain_that_is_gone_are_dealt_to_the_others() -> None:
    block: Json = {
        "metrics": ["length"],
        "domains": {
            "shares": {"math": 0.5, "code": 0.3, "chat": 0.2},
            "reweight": {"name": "skill_graph", "graph": {"math": {"code": 1.0}, "code": {"math": 0.5, "code": 1.0}}},
        },
        "phases": [{"until": 0.5, "shares": {"math": 0.5, "code": 0.5}}, {"until": 1, "shares": "natural"}],
    }
    found = without_domains(block, ["math"])
    assert found["domains"]["shares"] == {"code": 0.6, "chat": 0.4}
    assert found["domains"]["reweight"]["graph"] == {"code": {"code": 1.0}}
    assert [phase["shares"] for phase in found["phases"]] == [{"code": 1.0}, "natural"]
    CampusConfig.from_mapping({**found, "probes": {"path": "p.jsonl"}})
    cells = {"over": "cells", "shares": {"math · length 1 of 2": 0.5, "code · length 1 of 2": 0.5}}
    assert without_domains({"domains": cells}, ["math"])["domains"]["shares"] == {"code · length 1 of 2": 1.0}
    assert without_domains({"domains": {"reweight": {"graph": {"math": {"math": 1.0}}}}}, ["math"]) == {
        "domains": {"reweight": None}
    }
    assert without_domains({"metrics": ["length"]}, ["math"]) == {"metrics": ["length"]}
    with pytest.raises(RecipeError, match="`phases: shares` must give something to the domains that are left without"):
        without_domains(block, ["math", "code"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--domain-column", "topic"], "`--domain-column` must be a column of the training set .*, got 'topic'"),
        (["--domain-column", "one"], "must have at least two domains to leave one out, got same alone in .*'one'"),
        (["--domains", "txt"], r"`--domains` must be domains .*\(code, lists, text\), got 'txt'. Did you mean 'text'"),
        (
            ["--only", "--per_device_train_batch_size", "16"],
            "each run must have the rows of an optimizer step, 16, got",
        ),
        (["--campus.seed", "3"], "`campus: seed` must be left out where seeds are compared, got 3"),
        (["--seed", "3"], "`--seed` belongs to a single run"),
        (["--lerning_rate", "3"], "`lerning_rate` must be a field .* Did you mean 'learning_rate'"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_trained(
    recipe: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    rows = [json.loads(line) for line in (recipe.parent / "train.jsonl").read_text().splitlines()]
    path = tmp_path / "recipe.yaml"
    train = write_rows(tmp_path / "train.jsonl", [{**row, "one": "same"} for row in rows])
    path.write_text(yaml.safe_dump({**yaml.safe_load(recipe.read_text()), "dataset_name": train}))
    with pytest.raises((RecipeError, DataError), match=message):
        asked(path, *words)


@pytest.fixture
def damaged(done: Path, tmp_path: Path) -> Path:
    path = tmp_path / "ablation.json"
    path.write_text((done / "ablation.json").read_text())
    return path


def test_a_folder_that_cannot_be_read_says_what_to_do(damaged: Path) -> None:
    with pytest.raises(DataError, match=r"must hold the result of a run, got none yet\. Wait for the first one"):
        write_report(damaged.parent)
    damaged.write_text("{")
    with pytest.raises(DataError, match=r"ablation.json` must say what is ablated, got .* Delete it: finished runs"):
        write_report(damaged.parent)
