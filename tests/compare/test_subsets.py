"""A run of some of the rows is the run that `campus-tune sft` makes of a file that has no others, bit for bit."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.compare.arms import Arm
from campus_tune.compare.processes import Processes
from campus_tune.compare.result_file import read_run_result
from campus_tune.compare.task import AsLong, Task
from campus_tune.compare.training import Bench
from campus_tune.compare.trainings import Trainings
from campus_tune.data.subset import Subset
from campus_tune.words.errors import CampusError, RecipeError
from campus_tune.words.types import Json
from tests.compare.test_runs import Trained, Witness, by_sft
from tests.compare.tiny_compare import plan_of, result_of, timeless, tiny_recipe, write_rows


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_recipe(tmp_path_factory.mktemp("recipe"))


def rows_of(recipe: Path) -> list[Json]:
    return [json.loads(line) for line in (recipe.parent / "train.jsonl").read_text().splitlines()]


def smaller(recipe: Path, rows: Sequence[Json], folder: Path, **settings: Any) -> Path:
    """The recipe with a file of these rows alone, and all else as it is."""
    folder.mkdir()
    made = tiny_recipe(recipe.parent, dataset_name=write_rows(folder / "train.jsonl", rows), **settings)
    moved = made.rename(folder / "recipe.yaml")
    tiny_recipe(recipe.parent)
    return moved


def assert_equal(one: Trained, other: Trained) -> None:
    assert one.weights.keys() == other.weights.keys()
    assert all(torch.equal(weight, other.weights[name]) for name, weight in one.weights.items())
    assert [line.get("loss") for line in one.history] == [line.get("loss") for line in other.history]
    assert one.history


def trained(bench: Witness, task: Task) -> Trained:
    outcome = bench.make(task)
    return Trained(bench.weights, bench.history, outcome)


def test_rows_of_a_domain_left_out_make_the_run_of_a_file_without_them(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = rows_of(recipe)[0]["domain"]
    rest = [row for row in rows_of(recipe) if row["domain"] != domain]
    assert 8 <= len(rest) < len(rows_of(recipe))
    alone = by_sft(smaller(recipe, rest, tmp_path / "rest"), tmp_path / "alone", 1, monkeypatch)
    bench = Witness(plan_of(recipe, "--out", str(tmp_path / "out")))
    whole = trained(bench, Task("recipe", 1))
    part = trained(bench, Task("recipe", 1, only=Subset(without=(domain,))))
    assert_equal(part, alone)
    assert part.outcome["rows"] == len(rest)
    again = trained(bench, Task("recipe", 1))  # all rows are still there for who asks for all
    assert timeless(again.outcome) == timeless(whole.outcome)
    assert "only" not in whole.outcome
    assert part.outcome["only"] == {"without": [domain], "column": "domain", "rows": None}


def test_row_numbers_are_those_of_the_prepared_rows_whichever_run_comes_first(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = (40, *range(0, 30, 2))
    rows = [rows_of(recipe)[row] for row in sorted(chosen)]
    alone = by_sft(smaller(recipe, rows, tmp_path / "rest"), tmp_path / "alone", 0, monkeypatch)
    bench = Witness(plan_of(recipe, "--out", str(tmp_path / "out")))
    assert_equal(trained(bench, Task("recipe", 0, only=Subset(rows=chosen))), alone)  # the first run of its process


def test_rows_that_trl_shuffles_are_shuffled_once_with_each_runs_own_seed(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffling = smaller(recipe, rows_of(recipe), tmp_path / "all", shuffle_dataset=True)
    chosen = tuple(range(0, 30, 2))
    some = smaller(recipe, [rows_of(recipe)[row] for row in chosen], tmp_path / "some", shuffle_dataset=True)
    with monkeypatch.context() as patch:
        alone = by_sft(shuffling, tmp_path / "alone", 1, patch)
    with monkeypatch.context() as patch:
        part = by_sft(some, tmp_path / "part", 2, patch)
    bench = Witness(plan_of(shuffling, "--out", str(tmp_path / "out")))
    first = trained(bench, Task("recipe", 0))
    assert_equal(trained(bench, Task("recipe", 1)), alone)  # as if it were the first
    assert_equal(trained(bench, Task("recipe", 2, only=Subset(rows=chosen))), part)
    assert timeless(trained(bench, Task("recipe", 0)).outcome) == timeless(first.outcome)


def test_an_arm_that_the_plan_does_not_know_is_trained_for_its_own_steps(recipe: Path, tmp_path: Path) -> None:
    plan = plan_of(recipe, "--out", str(tmp_path))
    arm = Arm("two_stages", "recipe", {**plan.block, "stages": 2})
    tasks = [Task(arm, seed, max_steps=4, only=Subset(rows=tuple(range(20)))) for seed in (0, 1)]
    trainings = Trainings(plan)
    made = list(trainings.all_of(tasks, Bench(plan)))
    assert [task for task, _ in made] == tasks
    assert [outcome["shared"]["steps"] for _, outcome in made] == [4, 4]
    assert made[0][1]["campus"]["stages"] == 2
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("result.json")}
    assert len(kept) == 2
    again = list(Trainings(plan).all_of(tasks, None))  # nothing is left to be made
    assert [outcome["seed"] for _, outcome in again] == [0, 1]
    for other, message in (
        (replace(tasks[0], max_steps=5), r"two_stages/seed-0` must be .* got one of others: steps: 4 there and 5 now"),
        (
            replace(tasks[0], only=None),
            "got one of others: only: without: .* there and null now, only.* Name another --out, or delete",
        ),
        (replace(tasks[0], arm=Arm("two_stages", "recipe", plan.block)), "stages: 2 there and 3 now"),
    ):
        with pytest.raises(RecipeError, match=message):
            trainings.there(other)
    (tmp_path / "runs" / "two_stages" / "seed-0" / "result.json").unlink()  # the advice
    assert trainings.there(replace(tasks[0], max_steps=5)) is None


def test_a_run_that_cannot_be_made_is_named_and_the_others_are_kept(recipe: Path, tmp_path: Path) -> None:
    plan = plan_of(recipe, "--out", str(tmp_path))
    tasks = [Task("recipe", 0), Task("recipe", 1, only=Subset(without=("nowhere",)))]
    with pytest.raises(CampusError, match=r"`recipe`, seed 1, cannot be trained: `without` must be domains"):
        list(Trainings(plan).make(tasks, Bench(plan)))
    assert read_run_result(tmp_path, "recipe", 0) is not None
    assert read_run_result(tmp_path, "recipe", 1) is None


@pytest.mark.slow
def test_another_process_makes_the_same_run(recipe: Path, tmp_path: Path) -> None:
    plan = plan_of(recipe, "--out", str(tmp_path / "other"))
    task = Task(Arm("part", "recipe", plan.block), 0, max_steps=3, only=Subset(rows=tuple(range(24))))
    trainings = Trainings(plan)
    trainings.processes = Processes([replace(plan, threads=1)])
    try:
        [(_, there)] = trainings.all_of([task], None)
    finally:
        trainings.close()
    here = Bench(plan_of(recipe, "--out", str(tmp_path / "here"))).make(task)
    for outcome in (there, here):
        outcome["campus"].pop("scores")
    assert timeless(json.loads(json.dumps(here, default=float))) == timeless(there)
    assert result_of(tmp_path / "here", "part", 0)["only"] == result_of(tmp_path / "other", "part", 0)["only"]


def test_it_trains_as_long_as_a_run_of_all_rows(recipe: Path, tmp_path: Path) -> None:
    plan = plan_of(recipe, "--out", str(tmp_path))
    bench = Bench(plan)
    full = bench.make(Task("recipe", 0))
    some = Subset(rows=tuple(range(0, 48, 3)))
    equal = bench.make(Task(Arm("equal", "recipe", plan.block), 0, only=some, as_long=AsLong.of(full)))
    assert abs(equal["tokens"] / full["tokens"] - 1) < 1 / 12  # to half a step of six
    assert equal["rows"] == 48
    passes = AsLong.of(full, passes=True)
    fewer = bench.make(Task(Arm("fewer", "recipe", plan.block), 0, only=some, as_long=passes))
    assert fewer["rows"] == 16
    assert fewer["as_long"] == {"tokens": full["tokens"], "rows_per_step": 8, "passes": True}
    other = Task(Arm("fewer", "recipe", plan.block), 0, only=some, as_long=AsLong.of(full))
    with pytest.raises(RecipeError, match="as_long: passes: true there and false now"):
        Trainings(plan).there(other)


@given(
    st.lists(st.integers(1, 500), min_size=8, max_size=40),
    st.data(),
    st.integers(1, 8),
    st.integers(1, 5),
    st.booleans(),
)
def test_equal_tokens_are_met_to_half_a_step(
    lengths: list[int], data: st.DataObject, batch: int, epochs: int, short: bool
) -> None:
    every = np.array(lengths)
    kept = every[: data.draw(st.integers(batch, len(every)))]
    full = AsLong(int(every.sum()) * epochs, batch)
    steps = full.steps(every, kept, short=short)
    whole, rest = divmod(steps, -(-len(kept) // batch)) if short else (0, steps)
    trained = whole * kept.sum() + rest * batch * kept.mean()
    assert abs(trained - full.tokens) <= batch * kept.mean() or steps == 1
    if short or len(every) % batch == 0:  # the run of all rows itself
        assert replace(full, passes=True).steps(every, every, short=short) == epochs * -(-len(every) // batch)
