"""Which runs are made, in which sequence, what is kept, and what a kill or an error costs."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.compare import processes
from campus_tune.compare.campaign import Campaign
from campus_tune.compare.ctrl_c import CtrlC
from campus_tune.compare.plan import Plan
from campus_tune.compare.processes import Processes, begin, name_of_device, plans_of_processes
from campus_tune.compare.recorder import Recorder
from campus_tune.compare.result_file import read_run_result, run_folder, write_run_result
from campus_tune.compare.task import Task
from campus_tune.compare.training import Bench
from campus_tune.data.held_out import HeldOut, read_held_out
from campus_tune.words.errors import CampusError, DataError, RecipeError
from campus_tune.words.library_warnings import hushed
from campus_tune.words.strict_yaml import read_yaml
from campus_tune.words.types import Json
from tests.compare.tiny_compare import plan_of, result_of, timeless, tiny_recipe

ALL = ["recipe", "random", "random_same_pacing", "random_plus"]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_recipe(tmp_path_factory.mktemp("recipe"))


@pytest.fixture(scope="module")
def held(recipe: Path) -> HeldOut:
    return read_held_out([recipe.parent / "test.jsonl"])


class FakeBench:
    """Trains nothing, and writes what a run would."""

    def __init__(self, plan: Plan, fails: Sequence[tuple[str, int]] = (), error: BaseException | None = None) -> None:
        self.plan, self.fails, self.error = plan, fails, error
        self.made: list[tuple[str, int, int | None]] = []
        self.recorded: dict[tuple[str, int], Json | None] = {}

    def make(self, task: Task) -> Json:
        return self.run(task.name, task.seed, max_steps=task.max_steps, recorded=task.recorded)

    def run(self, name: str, seed: int, *, max_steps: int | None = None, recorded: Json | None = None) -> Json:
        if (name, seed) in self.fails:
            raise self.error or DataError("`rows` must be there, got none. Add some.")
        self.made.append((name, seed, max_steps))
        self.recorded[name, seed] = recorded
        bill = 0.5 + seed if name == "recipe" else 0.0
        outcome: Json = {
            "arm": name,
            "kind": self.plan.arm(name).kind,
            "seed": seed,
            "status": "diverged" if bill > 3 else "finished",
            "message": "NaN" if bill > 3 else None,
            "shared": {"steps": 10},
            "cost": {"all": bill},
            "seconds": {"training": 1.0, "curriculum": 0.1, "curve": 0.1},
            "curve": {"tokens": [0, 10], "seconds": [0.0, 1.0], "loss": [2.0, 1.0]},
            "audit": None,
            "choices": [
                {"step": 0, "steps": 3, "chosen": "shuffle", "rows": 30, "shares": {"a": 0.5, "b": 0.5}},
                {"step": 3, "steps": 1, "chosen": "shuffle", "rows": 10, "shares": {"a": 0.1 * seed, "b": 1.0}},
            ],
        }
        write_run_result(self.plan.out, outcome)
        return outcome


def least(arm: str) -> Json:
    """What every result says."""
    return {"arm": arm, "kind": "recipe", "seed": 0, "status": "finished", "shared": {}}


def make(plan: Plan, held: HeldOut) -> tuple[Campaign, list[str]]:
    said: list[str] = []
    campaign = Campaign(plan, "campus-tune compare", said.append)
    campaign.begin(held)
    return campaign, said


def train(campaign: Campaign, bench: Any) -> None:
    for kinds in (["baseline"], ["recipe", "control"], ["control", "plus"]):
        campaign.train(kinds, bench)


def arms_and_seeds(recipe: Path, out: Path, arms: Sequence[str] = ALL, seeds: Sequence[int] = (0, 1)) -> Plan:
    return plan_of(recipe, "--out", str(out), "--arms", *arms, "--compare.seeds", str(list(seeds)))


def test_the_baseline_comes_first_and_more_compute_last(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    plan = arms_and_seeds(recipe, tmp_path)
    campaign, said = make(plan, held)
    bench = FakeBench(plan)
    train(campaign, bench)
    assert bench.made == [
        ("random", 0, None),
        ("random", 1, None),
        ("recipe", 0, None),
        ("recipe", 1, None),
        ("random_same_pacing", 0, None),
        ("random_same_pacing", 1, None),
        ("random_plus", 0, 15),  # 10 steps, and half as much again
        ("random_plus", 1, 25),  # a bill of 150 %
    ]
    assert campaign.n_runs == 8
    assert said[0].startswith("run 1 of 8: random, seed 0: loss 2.0000 → 1.0000, cost 0.0%, audit 0 of 0")
    assert "left" not in said[-1]


def test_more_compute_is_that_of_the_recipe_and_not_of_an_arm_before_it(
    recipe: Path, held: HeldOut, tmp_path: Path
) -> None:
    arms = "{mine: {stages: 2}, recipe: {}, random: {}, random_plus: {}}"
    plan = plan_of(recipe, "--out", str(tmp_path), "--compare.arms", arms, "--compare.seeds", "[0]")
    train(make(plan, held)[0], bench := FakeBench(plan))
    assert bench.made[-1] == ("random_plus", 0, 15)  # `mine` cost nothing


def test_finished_runs_are_kept_and_seeds_and_arms_are_added(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    plan = arms_and_seeds(recipe, tmp_path, ["recipe", "random"], [0])
    train(make(plan, held)[0], FakeBench(plan))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    more = arms_and_seeds(recipe, tmp_path, ["recipe", "random", "random_plus"], [1, 0])
    campaign, said = make(more, held)
    bench = FakeBench(more)
    train(campaign, bench)
    assert said[0] == "2 of 6 runs are there already and are kept"
    assert {(name, seed) for name, seed, _ in bench.made} == {
        ("recipe", 1), ("random", 1), ("random_plus", 0), ("random_plus", 1)
    }  # fmt: skip
    assert {path: path.stat().st_mtime_ns for path in before} == before
    about = json.loads((tmp_path / "compare.json").read_text())
    assert about["seeds"] == [1, 0]
    assert set(about["arms"]) == {"recipe", "random", "random_plus"}


def test_an_arm_that_is_not_asked_for_now_is_remembered(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    make(arms_and_seeds(recipe, tmp_path), held)
    fewer = arms_and_seeds(recipe, tmp_path, ["recipe", "random"])
    make(fewer, held)
    about = json.loads((tmp_path / "compare.json").read_text())
    assert set(about["arms"]) == {"recipe", "random"}  # what the report is about
    assert set(about["earlier"]) == {"random_same_pacing", "random_plus"}
    other = plan_of(
        recipe, "--out", str(tmp_path), "--compare.arms", "{random: {}, random_same_pacing: {stages: 9}, recipe: {}}"
    )
    with pytest.raises(RecipeError, match="arm random_same_pacing stages: 3 there and 9 now"):
        make(other, held)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--learning_rate", "0.5"), r'flags \[\] there and \["--learning_rate", "0.5"\] now'),
        (("--compare.points", "7"), "points 3 there and 7 now"),
        (("--compare.sharpness", "true"), "sharpness false there and true now"),
        (("--compare.arms", "{random: {}, recipe: {stages: 9}}"), "arm recipe stages: 3 there and 9 now"),
        (("--compare.evaluate", "{suite: smoke}"), "evaluate null there and .*smoke"),
    ],
)
def test_a_folder_of_other_settings_is_refused_naming_them(
    recipe: Path, held: HeldOut, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    make(plan_of(recipe, "--out", str(tmp_path)), held)
    before = (tmp_path / "compare.json").read_text()
    with pytest.raises(RecipeError, match=message):
        make(plan_of(recipe, "--out", str(tmp_path), *words), held)
    assert (tmp_path / "compare.json").read_text() == before


def test_other_test_rows_are_other_settings(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    make(plan_of(recipe, "--out", str(tmp_path)), held)
    with pytest.raises(RecipeError, match=r"test digest: .* there and .* now, items: 40 there and 35 now"):
        make(plan_of(recipe, "--out", str(tmp_path)), held.take(range(35)))


def test_a_run_of_another_recipe_is_refused_even_where_nothing_else_tells(
    recipe: Path, held: HeldOut, tmp_path: Path
) -> None:
    plan = plan_of(recipe, "--out", str(tmp_path))
    campus = plan.arm("recipe").config(0).to_mapping()
    write_run_result(tmp_path, {**least("recipe"), "campus": {**campus, "scores": "elsewhere", "gone": 1}})
    make(plan, held)
    (tmp_path / "compare.json").unlink()
    write_run_result(tmp_path, {**least("recipe"), "campus": {**campus, "stages": 9}})
    with pytest.raises(
        RecipeError, match=r"recipe/seed-0` must be a run of the arm 'recipe', .*stages: 9 there and 3 now"
    ):
        make(plan, held)


def test_what_may_change_may_change(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    make(plan_of(recipe, "--out", str(tmp_path)), held)
    make(plan_of(recipe, "--out", str(tmp_path), "--jobs", "2", "--compare.effect", "0.1"), held)
    assert json.loads((tmp_path / "compare.json").read_text())["effect"] == 0.1


@pytest.mark.parametrize("text", ["{", "[1]", '{"format": 99}'])
def test_damaged_files_are_named(recipe: Path, held: HeldOut, tmp_path: Path, text: str) -> None:
    plan = plan_of(recipe, "--out", str(tmp_path))
    make(plan, held)
    result = run_folder(tmp_path, "recipe", 0) / "result.json"
    result.parent.mkdir(parents=True)
    result.write_text(text)
    with pytest.raises(DataError, match=r"recipe/seed-0/result.json` must be .*the run is repeated"):
        make(plan, held)
    result.unlink()
    (tmp_path / "compare.json").write_text(text)
    with pytest.raises(DataError, match=r"compare.json` must"):
        make(plan, held)


def test_a_run_that_cannot_be_made_is_named_and_the_others_are_kept(
    recipe: Path, held: HeldOut, tmp_path: Path
) -> None:
    plan = arms_and_seeds(recipe, tmp_path)
    bench = FakeBench(plan, [("recipe", 1)])
    with pytest.raises(
        CampusError, match=r"`recipe`, seed 1, cannot be trained: `rows` must be.*\n.*recipe/seed-1/log.txt"
    ):
        train(make(plan, held)[0], bench)
    assert len(bench.made) == 3
    train(make(plan, held)[0], rest := FakeBench(plan))
    assert len(rest.made) == 5


def test_an_error_of_a_library_is_named_too(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    plan = arms_and_seeds(recipe, tmp_path)
    bench = FakeBench(plan, [("random", 1)], RuntimeError("CUDA out of memory"))
    with pytest.raises(CampusError, match="`random`, seed 1, cannot be trained: CUDA out of memory") as caught:
        train(make(plan, held)[0], bench)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_ctrl_c_is_nobodys_error(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    plan = arms_and_seeds(recipe, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(make(plan, held)[0], FakeBench(plan, [("random", 1)], KeyboardInterrupt()))


@pytest.fixture
def _ctrl_c_is_heard() -> Iterator[None]:
    """A shell starts what runs in its background with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_is_heard")
def test_ctrl_c_that_a_library_swallowed_ends_it_after_the_run(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    plan, ctrl_c = arms_and_seeds(recipe, tmp_path), CtrlC()
    campaign = Campaign(plan, "", lambda _: None, check=ctrl_c.check)
    campaign.begin(held)

    class Deaf(FakeBench):
        def run(self, name: str, seed: int, **more: Any) -> Json:
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            return super().run(name, seed, **more)

    with ctrl_c, pytest.raises(KeyboardInterrupt):
        train(campaign, bench := Deaf(plan))
    assert len(bench.made) == 1
    assert read_run_result(tmp_path, "random", 0) is not None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_who_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with CtrlC() as ctrl_c:
            signal.raise_signal(signal.SIGINT)
            ctrl_c.check()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_diverged_run_is_told_and_the_others_go_on(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    plan = arms_and_seeds(recipe, tmp_path, ["recipe", "random"], [0, 3])
    campaign, said = make(plan, held)
    train(campaign, FakeBench(plan))
    assert next(line for line in said if "diverged: NaN" in line).startswith("run 4 of 4: recipe, seed 3")
    assert [one["status"] for one in campaign.results("recipe")] == ["finished", "diverged"]


def test_a_result_without_json_numbers_holds_null(tmp_path: Path) -> None:
    write_run_result(tmp_path, {**least("a"), "x": [np.float64("nan"), float("inf"), np.int64(3)]})
    assert read_run_result(tmp_path, "a", 0) == {"format": 1, **least("a"), "x": [None, None, 3]}
    assert read_run_result(tmp_path, "a", 1) is None


# -- with real runs ---------------------------------------------------------------------------------------------------


TWO = ["recipe", "random"]


@pytest.fixture(scope="module")
def alone(recipe: Path, held: HeldOut, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms, one after the other, in this process and without a break."""
    out = tmp_path_factory.mktemp("alone")
    plan = arms_and_seeds(recipe, out, TWO, [0])
    train(make(plan, held)[0], Bench(plan))
    return out


def results(out: Path, arms: Sequence[str]) -> Iterator[Json]:
    for arm in arms:
        result = timeless(result_of(out, arm, 0))
        yield {**result, "campus": {**result["campus"], "scores": None}}


@pytest.mark.parametrize(("jobs", "n_tasks"), [(1, 3), (2, 5), (3, 2)])
def test_as_many_runs_at_once_as_processes_and_each_once(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int, n_tasks: int
) -> None:
    """Threads in the place of processes, so that nothing has to be loaded."""
    plan = plan_of(recipe, "--out", str(tmp_path))
    busy: set[int] = set()
    most: list[int] = []
    together, one_at_a_time = threading.Event(), threading.Lock()

    def work(task: Task) -> Json:
        with one_at_a_time:
            busy.add(task.seed)
            most.append(len(busy))
        if len(busy) == min(jobs, n_tasks):
            together.set()
        assert together.wait(60), f"only {max(most)} at once"
        time.sleep(0.02 * (1 + task.seed % 2))
        busy.remove(task.seed)
        return {"seed": task.seed}

    monkeypatch.setattr(processes, "_work", work)
    monkeypatch.setattr(processes, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))
    several = Processes([plan] * jobs)
    tasks = [Task("recipe", seed) for seed in range(n_tasks)]
    done = [(task.seed, future.result()["seed"]) for task, future in several.run(tasks)]
    assert sorted(done) == [(seed, seed) for seed in range(n_tasks)]
    assert max(most) == min(jobs, n_tasks)
    assert [one.seed for one, _ in several.run(tasks[:1])] == [0]  # the same processes take more
    several.close()


def test_an_error_or_ctrl_c_waits_for_no_other_run(recipe: Path, held: HeldOut, tmp_path: Path) -> None:
    campaign, _ = make(arms_and_seeds(recipe, tmp_path), held)
    campaign.trainings.processes = several = Processes([])
    several._pools = [ProcessPoolExecutor(1, get_context("spawn")) for _ in range(2)]
    began = time.perf_counter()
    sleeping = [pool.submit(time.sleep, 60) for pool in several._pools]
    campaign.close()
    assert time.perf_counter() - began < 30
    assert all(future.done() for future in sleeping)


def test_a_kill_in_the_middle_costs_one_run_and_changes_none(
    recipe: Path, held: HeldOut, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = arms_and_seeds(recipe, tmp_path, TWO, [0])
    measure = Recorder._measure

    def killed(self: Recorder, step: int) -> None:
        if step == 4 and self.run.situation.config.metrics:
            raise KeyboardInterrupt
        measure(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Recorder, "_measure", killed)
        with pytest.raises(KeyboardInterrupt):
            train(make(plan, held)[0], Bench(plan))
    folder = run_folder(tmp_path, "recipe", 0)
    assert (folder / "curriculum" / "ledger.jsonl").exists()  # it was on its way
    assert "KeyboardInterrupt" in (folder / "log.txt").read_text()
    assert [path.parent.parent.name for path in tmp_path.rglob("result.json")] == ["random"]
    before = result_of(tmp_path, "random", 0)
    campaign, said = make(plan, held)
    train(campaign, Bench(plan))
    assert said[0] == "1 of 2 runs are there already and are kept"
    assert result_of(tmp_path, "random", 0) == before
    assert list(results(tmp_path, TWO)) == list(results(alone, TWO))


@pytest.mark.slow
def test_another_process_makes_the_same_runs_one_after_the_other(
    recipe: Path, held: HeldOut, alone: Path, tmp_path: Path
) -> None:
    plan = arms_and_seeds(recipe, tmp_path, TWO, [0])
    campaign, said = make(plan, held)
    campaign.trainings.processes = Processes([replace(plan, threads=1)])  # one, for each loads torch anew
    try:
        train(campaign, None)
    finally:
        campaign.close()
    assert list(results(tmp_path, TWO)) == list(results(alone, TWO))
    assert len(said) == 2
    for log in tmp_path.rglob("log.txt"):
        assert "Logging error" not in log.read_text()


def test_each_device_is_given_to_a_process_of_its_own(recipe: Path, tmp_path: Path) -> None:
    plan = plan_of(recipe, "--out", str(tmp_path), "--devices", "3")
    assert [one.device for one in plans_of_processes(plan)] == ["3"]  # this process would take the first one
    both = plan_of(recipe, "--out", str(tmp_path), "--devices", "1", "0")
    assert [one.device for one in plans_of_processes(both)] == ["1", "0"]
    assert plans_of_processes(plan_of(recipe, "--out", str(tmp_path))) == []


def test_a_process_begins_with_its_device_and_its_threads(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_benches", [])
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    plan = replace(plan_of(recipe, "--out", str(tmp_path)), device="2", threads=3)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with hushed():  # a process of ours hushes libraries for good, and this one is a test's
            begin(plan)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN  # Ctrl-C is for the one that started it
    finally:
        signal.signal(signal.SIGINT, handler)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert processes._benches[0].plan is plan


def test_a_device_is_counted_among_those_that_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert name_of_device(3) == "3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-a1")
    assert [name_of_device(device) for device in (0, 1)] == ["4", "GPU-a1"]
    with pytest.raises(RecipeError, match="`compare: devices` must be below 2, those that CUDA_VISIBLE_DEVICES"):
        name_of_device(2)


# -- arms that have the shares of the recipe's own run -----------------------------------------------------------------


@pytest.fixture(scope="module")
def follower(tmp_path_factory: pytest.TempPathFactory) -> Path:
    domains = {"follow": "progress", "over": "cells"}
    campus = {"metrics": ["length"], "stages": 3, "domains": domains, "cells": {"bands": 2}}
    return tiny_recipe(tmp_path_factory.mktemp("follower"), campus=campus)


def test_an_arm_of_average_shares_awaits_the_recipes_run_with_its_seed(
    follower: Path, held: HeldOut, tmp_path: Path
) -> None:
    plan = arms_and_seeds(follower, tmp_path, ["mean_shares", "recipe", "random"])
    campaign, _ = make(plan, held)
    bench = FakeBench(plan)
    campaign.train(["baseline"], bench)
    campaign.train(["recipe", "control"], bench)
    assert [name for name, _, _ in bench.made] == ["random", "random", "recipe", "recipe"]
    campaign.train(["control", "plus"], bench)
    assert [(name, seed) for name, seed, _ in bench.made[4:]] == [("mean_shares", 0), ("mean_shares", 1)]
    assert bench.recorded["mean_shares", 0]["shares"] == pytest.approx({"a": 15 / 40, "b": 25 / 40})
    assert bench.recorded["mean_shares", 1]["shares"] == pytest.approx({"a": 16 / 41, "b": 25 / 41})
    assert bench.recorded["recipe", 0] is None
    again, said = make(plan, held)
    train(again, FakeBench(plan))
    assert said[0] == "6 of 6 runs are there already and are kept"


def test_it_is_made_again_where_the_recipes_run_is_gone(follower: Path, held: HeldOut, tmp_path: Path) -> None:
    plan = arms_and_seeds(follower, tmp_path, ["mean_shares", "recipe", "random"], [0])
    train(make(plan, held)[0], FakeBench(plan))
    (run_folder(tmp_path, "recipe", 0) / "result.json").unlink()
    train(make(plan, held)[0], bench := FakeBench(plan))
    assert [name for name, _, _ in bench.made] == ["recipe", "mean_shares"]


def test_a_comparison_that_asks_for_no_arms_has_the_controls_of_its_recipe(follower: Path, tmp_path: Path) -> None:
    settings = {key: value for key, value in read_yaml(follower).items() if key != "compare"}
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps({**settings, "compare": {"test": str(follower.parent / "test.jsonl"), "seeds": 2}}))
    assert [arm.name for arm in plan_of(path, "--out", str(tmp_path)).arms] == [
        "random", "recipe", "natural_shares", "random_same_pacing", "reversed"
    ]  # fmt: skip
