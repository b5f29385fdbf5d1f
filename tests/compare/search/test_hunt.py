"""The trials of a search, with runs that are made up: what is trained, kept and said, and what a kill costs."""

import json
import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campus_tune.cli.search import SearchPlan, cost_lines, read_search_plan
from campus_tune.compare.arms import Arm
from campus_tune.compare.legs import leg_file
from campus_tune.compare.result_file import FORMAT, run_folder
from campus_tune.compare.search import record
from campus_tune.compare.search.hunt import Hunt, refuse_test_rows, search_seeds, spread_at
from campus_tune.compare.search.record import FILE, SearchRecord
from campus_tune.compare.search.winner import Standing
from campus_tune.compare.task import Task
from campus_tune.compare.trainings import Trainings
from campus_tune.data.held_out import HeldOut, read_held_out
from campus_tune.words.errors import CampusError, DataError, RecipeError
from campus_tune.words.types import Json
from tests.compare.search.tiny_search import options, tiny_search
from tests.compare.tiny_compare import write_rows
from tests.run.tiny_run import task_rows

STEPS = 9
Loss = Callable[[Json, int, int], float]  # of a campus block, a seed, a step


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_search(tmp_path_factory.mktemp("recipe"), search={"trials": 6})


@pytest.fixture(scope="module")
def plan(recipe: Path) -> SearchPlan:
    return read_search_plan(options(recipe, "--out", "nowhere"))


@pytest.fixture(scope="module")
def rows(recipe: Path) -> HeldOut:
    return read_held_out([recipe.parent / "search.jsonl"])


class KilledError(Exception):
    """A SIGKILL, as far as files go."""


class MadeUp:
    """Trains nothing, and writes what a leg would: the loss is a function of the recipe, the seed and the step."""

    def __init__(self, out: Path, loss: Loss, *, legs: int = 10**9) -> None:
        self.out, self.loss, self.left = out, loss, legs
        self.made: list[tuple[str, int, int]] = []  # arm, seed, step at which the leg ended
        self.ends: set[tuple[str, int]] = set()  # runs that a rule ends in their first leg
        self.legs: list[tuple[int, int | None]] = []  # where each began and ended
        self.anew: list[str] = []  # arms of legs whose checkpoint was gone: these begin anew (test_legs)

    def make(self, task: Task) -> Json:
        assert task.leg is not None
        assert isinstance(task.arm, Arm)
        if not self.left:
            raise KilledError
        self.left -= 1
        end = STEPS if task.leg.until is None else task.leg.until
        folder = run_folder(self.out, task.name, task.seed)
        if task.leg.since and not (folder / f"checkpoint-{task.leg.since}").is_dir():
            self.anew.append(task.name)
        steps = sorted({max(1, round(share * STEPS)) for share in task.leg.marks} | {end})
        losses = [self.loss(task.arm.campus, task.seed, step) for step in steps]
        status = "failed" if losses[-1] < 0 else "finished" if math.isfinite(losses[-1]) else "diverged"
        outcome: Json = {
            "arm": task.name,
            "seed": task.seed,
            "until": task.leg.until,
            "status": status,
            "message": None if status == "finished" else f"it {status}",
            "campus": json.loads(json.dumps(task.arm.config(task.seed).to_mapping())),
            "step": end,
            "steps": STEPS,
            "over": end == STEPS or (task.name, task.seed) in self.ends,
            "curve": {"step": steps, "loss": losses if status == "finished" else []},
            "test": {"domains": ["a"], "items": ["0", "1"], "domain": [0, 0], "tokens": [1.0, 3.0],
                     "loss": [losses[-1], 3 * losses[-1]]} if status == "finished" else None,
        }  # fmt: skip
        self.made.append((task.name, task.seed, end))
        self.legs.append((task.leg.since, task.leg.until))
        folder.mkdir(parents=True, exist_ok=True)
        if end < STEPS and status == "finished":
            (folder / f"checkpoint-{end}").mkdir(exist_ok=True)
        if status != "failed":
            leg_file(self.out, task.name, task.seed, task.leg).write_text(json.dumps({"format": FORMAT, **outcome}))
        return outcome


def start_of(block: Json) -> float:
    return float((block.get("pacing") or {"start": 0.01})["start"])


def noisy(block: Json, seed: int, step: int) -> float:
    """Small mixes are better, a little more so with each step; seeds differ by one per cent."""
    own = [round(100 * (block.get("mix") or 0.6)), block["stages"], round(100 * start_of(block))]
    luck = np.random.default_rng([seed, *own]).normal(0, 0.02)
    return float(3 - step / STEPS + 0.1 * step / STEPS * (block.get("mix") or 0.6) + luck)


def hunt_of(
    plan: SearchPlan, rows: HeldOut, out: Path, loss: Loss, *, legs: int = 10**9, **settings: object
) -> tuple[Hunt, MadeUp, list[str]]:
    trials, asked = replace(plan.trials, out=out), replace(plan.settings, **settings)  # type: ignore[arg-type]
    made, said = MadeUp(out, loss, legs=legs), list[str]()
    record = SearchRecord(trials, asked, plan.space, rows, "campus-tune search")
    return Hunt(trials, plan.space, asked, Trainings(trials), made, record, 40, said.append), made, said


def content(out: Path) -> Json:
    found: Json = json.loads((out / FILE).read_text("utf-8"))
    return found


def test_the_recipe_comes_first_and_the_better_third_goes_on(plan: SearchPlan, rows: HeldOut, tmp_path: Path) -> None:
    hunt, made, said = hunt_of(plan, rows, tmp_path, noisy)
    standing = hunt.run()
    assert made.made[:3] == [("recipe", seed, STEPS) for seed in (1000, 1001, 1002)]
    assert made.made[3:9] == [(f"trial-00{n}", 1000, 1) for n in range(1, 7)]
    assert [end for _, _, end in made.made[9:]] == [3, 3, 9]  # two of six, then one of two
    assert standing.best == int(made.made[-1][0].removeprefix("trial-"))
    assert made.anew == []
    assert made.legs == [*[(0, None)] * 3, *[(0, 1)] * 6, (1, 3), (1, 3), (3, None)]  # each from the one before
    assert said[0].startswith("the recipe as it stands, seed 1000: loss ")
    assert "where nothing matters, the best of 6 trials of 1 seed will look" in said[3]
    assert said[4].startswith("the comparison that judges the best one: ")
    assert "behind step 1 of 9: 2 of 6 trials go on" in said
    assert not list(tmp_path.glob("runs/*/*/checkpoint-*"))


def test_what_is_found_is_in_the_file(plan: SearchPlan, rows: HeldOut, tmp_path: Path) -> None:
    hunt, _, _ = hunt_of(plan, rows, tmp_path, noisy)
    standing = hunt.run()
    found = content(tmp_path)
    assert found["standing"] == json.loads(json.dumps(standing.to_mapping()))
    assert found["ladder"]["steps"] == [1, 3, STEPS]
    assert [run["seed"] for run in found["recipe"]] == [1000, 1001, 1002]
    assert [sum(loss is not None for loss in trial["losses"]) for trial in found["trials"]].count(1) == 4
    best = found["trials"][standing.best - 1]
    assert best["losses"][-1] == standing.loss
    assert best["changes"] == hunt.changes(standing.best)
    assert found["rungs"][0]["trials"] == 6
    assert found["rungs"][0]["seed_spread"] == pytest.approx(0.007, abs=0.007)


@settings(max_examples=15)  # of which each searches up to eight times
@given(kills=st.lists(st.integers(1, 7), max_size=6), seeds=st.integers(1, 2))
def test_a_search_that_is_killed_anywhere_ends_as_one_that_was_not(
    plan: SearchPlan, rows: HeldOut, tmp_path_factory: pytest.TempPathFactory, kills: list[int], seeds: int
) -> None:
    whole, killed = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("killed")
    hunt, made, _ = hunt_of(plan, rows, whole, noisy, seeds=seeds)
    standing = hunt.run()
    legs: list[tuple[str, int, int]] = []
    for n in [*kills, 10**9]:
        again, made_now, _ = hunt_of(plan, rows, killed, noisy, legs=n, seeds=seeds)
        with suppress(CampusError):  # the bench was killed
            assert again.run() == standing
        legs += made_now.made
        assert made_now.anew == []
    assert sorted(legs) == sorted(made.made)  # none twice, none missing
    assert content(killed) == content(whole)


def test_more_trials_may_be_asked_for_later(plan: SearchPlan, rows: HeldOut, tmp_path: Path) -> None:
    hunt_of(plan, rows, tmp_path / "few", noisy, trials=3)[0].run()
    before = content(tmp_path / "few")["trials"]
    hunt, made, _ = hunt_of(plan, rows, tmp_path / "few", noisy, trials=9)
    whole, _, _ = hunt_of(plan, rows, tmp_path / "all", noisy, trials=9)
    assert hunt.run() == whole.run()
    assert [trial["changes"] for trial in content(tmp_path / "few")["trials"]][:3] == [one["changes"] for one in before]
    assert {name for name, _, end in made.made if end == 1} == {f"trial-00{n}" for n in range(4, 10)}
    assert set(made.anew) <= {"trial-001", "trial-002", "trial-003"}  # dropped of three, and going on of nine


@pytest.mark.parametrize(
    "change", [{"seeds": 2}, {"seed": 5}, {"sampler": "tpe"}, {"space": {"mix": (0.0, 0.5), "stages": (3, 2)}}]
)
def test_another_search_in_the_same_folder_is_refused(
    plan: SearchPlan, rows: HeldOut, tmp_path: Path, change: Json
) -> None:
    hunt_of(plan, rows, tmp_path, noisy)[0].run()
    (name,) = change
    with pytest.raises(RecipeError, match=rf"which was begun with other settings: {name}: .* there and .* now"):
        hunt_of(plan, rows, tmp_path, noisy, **change)[0].run()
    (tmp_path / FILE).unlink()  # the advice: another folder, or none
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    if change != {"sampler": "tpe"}:
        assert isinstance(hunt_of(plan, rows, tmp_path, noisy, **change)[0].run(), Standing)


def test_who_names_no_sampler_has_the_best_there_is_and_a_search_keeps_its_own(
    plan: SearchPlan, rows: HeldOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_search(tmp_path / "recipe", search={"sampler": None})
    asked = options(recipe, "--out", str(tmp_path / "out"))
    monkeypatch.setattr(record, "find_spec", lambda name: name)
    assert read_search_plan(asked).settings.sampler == "tpe"
    assert cost_lines(read_search_plan(asked))[-1] == "trials are drawn by `sampler: tpe`"
    monkeypatch.setattr(record, "find_spec", lambda _: None)
    assert read_search_plan(asked).settings.sampler == "random"
    hunt_of(plan, rows, tmp_path / "out", noisy, trials=3)[0].run()
    monkeypatch.setattr(record, "find_spec", lambda name: name)  # optuna comes later
    assert read_search_plan(asked).settings.sampler == "random"


def test_a_damaged_file_is_told(plan: SearchPlan, rows: HeldOut, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(DataError, match="must say what is searched"):
        hunt_of(plan, rows, tmp_path, noisy)[0].run()


def test_a_trial_of_another_recipe_in_the_folder_is_refused(plan: SearchPlan, rows: HeldOut, tmp_path: Path) -> None:
    hunt_of(plan, rows, tmp_path, noisy)[0].run()
    (tmp_path / FILE).unlink()
    with pytest.raises(RecipeError, match="must be a run of the arm 'trial-001', got one with other settings"):
        hunt_of(plan, rows, tmp_path, noisy, seed=99)[0].run()


# -- trials that are no use --------------------------------------------------------------------------------------------


def only(works: Callable[[Json], bool], otherwise: float) -> Loss:
    """The recipe as it stands works, and trials that are such."""
    return lambda block, seed, step: noisy(block, seed, step) if "mix" not in block or works(block) else otherwise


def test_a_trial_that_diverges_is_a_result_and_goes_no_further(plan: SearchPlan, rows: HeldOut, tmp_path: Path) -> None:
    hunt, made, said = hunt_of(plan, rows, tmp_path, only(lambda block: block["mix"] == 0.75, math.inf), trials=11)
    best = hunt.changes(hunt.run().best)
    assert best["mix"] == 0.75
    assert any("diverged: it diverged (mix: 0.0" in line for line in said)
    assert all(found["message"] in (None, "diverged: it diverged") for found in content(tmp_path)["trials"])
    assert {end for name, _, end in made.made if hunt_block(hunt, name).get("mix") in (0.0, 0.5)} == {1}
    again, made, _ = hunt_of(plan, rows, tmp_path, noisy, trials=11)
    again.run()
    assert made.made == []  # a diverged run is not made again


def hunt_block(hunt: Hunt, name: str) -> Json:
    return {} if name == "recipe" else hunt.arm(int(name.removeprefix("trial-"))).campus


def test_a_trial_that_failed_is_tried_again_by_the_next_start(plan: SearchPlan, rows: HeldOut, tmp_path: Path) -> None:
    first, made, _ = hunt_of(plan, rows, tmp_path, only(lambda block: block["mix"] == 0.75, -1.0), trials=11)
    first.run()
    failed = {name for name, _, _ in made.made if hunt_block(first, name).get("mix") in (0.0, 0.5)}
    again, made, _ = hunt_of(plan, rows, tmp_path, noisy, trials=11)
    again.run()
    assert {name for name, _, end in made.made if end == 1} == failed
    assert all(one["message"] is None for one in content(tmp_path)["trials"])


@pytest.mark.parametrize(("loss", "how"), [(math.inf, "diverged"), (-1.0, "failed")])
def test_where_every_trial_fails_it_is_said_why(
    plan: SearchPlan, rows: HeldOut, tmp_path: Path, loss: float, how: str
) -> None:
    hunt, _, _ = hunt_of(plan, rows, tmp_path, only(lambda _: False, loss))
    with pytest.raises(CampusError, match=rf"every trial failed: {how}: it {how} \(trial 1, 2, 3, 4, 5, 6; mix: "):
        hunt.run()


def test_where_all_fail_on_the_way_it_is_said_why(plan: SearchPlan, rows: HeldOut, tmp_path: Path) -> None:
    def later(block: Json, seed: int, step: int) -> float:
        return math.inf if step > 1 and "mix" in block else noisy(block, seed, step)

    with pytest.raises(CampusError, match="no trial was trained to the end: diverged: it diverged"):
        hunt_of(plan, rows, tmp_path, later)[0].run()


def test_a_recipe_that_cannot_be_trained_ends_the_search(plan: SearchPlan, rows: HeldOut, tmp_path: Path) -> None:
    with pytest.raises(CampusError, match=r"the recipe as it stands must be one that can be trained, got a run with"):
        hunt_of(plan, rows, tmp_path, lambda *_: math.inf)[0].run()


def test_a_trial_that_a_rule_has_ended_stays_where_it_is(plan: SearchPlan, rows: HeldOut, tmp_path: Path) -> None:
    def low(block: Json, seed: int, step: int) -> float:
        return noisy(block, seed, step) - 9 * ("mix" in block and step == 1)

    hunt, made, _ = hunt_of(plan, rows, tmp_path, lambda *of: max(low(*of), 0.5))
    made.ends = {(f"trial-00{n}", 1000) for n in range(1, 7)}
    standing = hunt.run()
    assert standing.loss == 0.5
    assert {end for name, _, end in made.made if name != "recipe"} == {1}
    assert all(one["losses"] == [0.5, 0.5, 0.5] for one in content(tmp_path)["trials"])


def test_a_trial_goes_on_as_long_as_one_of_its_seeds_does(plan: SearchPlan, rows: HeldOut, tmp_path: Path) -> None:
    hunt, made, _ = hunt_of(plan, rows, tmp_path, noisy, seeds=2, trials=1)
    made.ends = {("trial-001", 1001)}
    block = hunt.run() and hunt.arm(1).campus
    assert content(tmp_path)["trials"][0]["losses"][-1] == np.mean([noisy(block, seed, STEPS) for seed in (1000, 1001)])
    assert [end for name, _, end in made.made if name != "recipe"] == [1, 1, 3, 3, STEPS, STEPS]


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_a_small_space_is_tried_whole_and_said_to_be(plan: SearchPlan, rows: HeldOut, tmp_path: Path) -> None:
    hunt, made, said = hunt_of(plan, rows, tmp_path, noisy, trials=50)
    hunt.run()
    assert len({name for name, _, _ in made.made}) == 1 + 3 * 2 * 2  # `mix: 0.5` is not `mix: null`
    assert "the space has 12 recipes besides the one that stands there, and all are tried" in said


def test_seeds_of_a_trial_count_together(plan: SearchPlan, rows: HeldOut, tmp_path: Path) -> None:
    hunt, made, _ = hunt_of(plan, rows, tmp_path, noisy, seeds=4)
    standing = hunt.run()
    assert [seed for name, seed, _ in made.made if name == "recipe"] == [1000, 1001, 1002, 1003]
    block = hunt.arm(standing.best).campus
    assert standing.loss == pytest.approx(np.mean([noisy(block, seed, STEPS) for seed in range(1000, 1004)]))
    assert standing.seeds == 4


def test_a_sampler_that_learns_is_asked_after_each_batch(
    plan: SearchPlan, rows: HeldOut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import campus_tune.compare.search.hunt as module

    asked: list[tuple[str, int, int]] = []

    def spied(kind: str, space: object, tried: list[object], n: int, *, seed: int) -> object:
        asked.append((kind, len(tried), n))
        return module_ask("random", space, tried, n, seed=seed)  # type: ignore[arg-type]

    module_ask = module.ask
    monkeypatch.setattr(module, "ask", spied)
    hunt_of(plan, rows, tmp_path, noisy, sampler="tpe", trials=3)[0].run()
    assert asked == [("tpe", 0, 1), ("tpe", 1, 1), ("tpe", 2, 1)]


def test_no_seed_of_the_search_judges() -> None:
    assert search_seeds(range(5), 3) == [1000, 1001, 1002]
    assert search_seeds((1000, 1002, 4), 3) == [1001, 1003, 1004]


def test_trials_and_seeds_are_compared_at_the_same_step() -> None:
    curves = [{"step": [1, 3], "loss": [2.0, 1.0]}, {"step": [1, 3], "loss": [2.0, 1.2]}]
    assert spread_at(3, curves, [1.0, 1.2, math.inf])["seed_spread"] == pytest.approx(np.std([1, 1.2], ddof=1) / 1.1)
    assert spread_at(3, curves, [1.0, 1.2, math.inf])["trials"] == 2
    assert spread_at(2, curves, [1.0]) == {"step": 2, "trials": 1, "trial_spread": None, "seed_spread": None}


def test_rows_that_rank_and_judge_are_refused_by_row(tmp_path: Path) -> None:
    rows, test = task_rows(5, seed=1), task_rows(5, seed=2)
    ranking, judging = write_rows(tmp_path / "a.jsonl", rows), write_rows(tmp_path / "b.jsonl", [*test, rows[3]])
    with pytest.raises(DataError, match=re.escape(f"got 1 that are in both (`{ranking}` row 3 = `{judging}` row 5)")):
        refuse_test_rows([ranking], [judging])
    refuse_test_rows([ranking], [write_rows(tmp_path / "b.jsonl", test)])  # the advice


def test_the_cost_is_said_in_whole_runs(plan: SearchPlan) -> None:
    cost, why, drawn = cost_lines(plan)
    assert drawn == "trials are drawn by `sampler: random`"
    # six legs to the first of six steps, two to the second, one to the end
    assert cost.startswith("cost: 6 trials as 2.0 whole runs of about 6 steps, 3 of the recipe as it stands, and 6 of")
    assert "11.0 runs in all" in cost
    assert why == "one trial in 3 goes on behind step 1 and 2 of 6"
    trials = replace(plan.trials, training={**plan.trials.training, "lr_scheduler_type": "cosine"})
    cost, why, _ = cost_lines(replace(plan, trials=trials))
    assert cost.startswith("cost: 6 trials as 6.0 whole runs")
    assert "cosine moves all along" in why
