"""Arms from arrays and from what runs wrote, and what is no arm."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from campus_tune.compare.verdict.inputs import ArmResults, Curve, ItemValues, arm_of
from campus_tune.words.errors import DataError
from tests.compare.arms import an_arm

TEST = {"domains": ["a", "b"], "items": ["x", "y", "z"], "domain": [0, 1, 1], "tokens": [2, 0, 3]}


def result(seed: int, **more: Any) -> dict[str, Any]:
    """What a run writes."""
    return {
        "arm": "recipe", "kind": "recipe", "seed": seed, "status": "finished", "message": None,
        "shared": {"data": "d"}, "tokens": 100 + seed, "cost": {"all": 0.05},
        "test": {**TEST, "loss": [1.0 + seed, 0.0, 4.0]},
        "curve": {"step": [0, 1], "tokens": [0, 100], "seconds": [0.0, 9.0], "loss": [3.0, 1.0]},
        "evaluation": {"gsm8k": {"exact_match": {"gsm8k/1": 1.0, "gsm8k/2": 0.0}, "nll": {"gsm8k/1": 3.0}}},
        **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    "changed",
    [
        {"test": None},
        {"test": {**TEST, "loss": [1.0, None, "x"]}},
        {"test": {**TEST, "loss": [[1.0], [], 3.0]}},
        {"test": {name: part for name, part in TEST.items() if name != "items"} | {"loss": [1.0, 0.0, 4.0]}},
        {"curve": 5},
        {"curve": {"tokens": [0, 1], "seconds": [0, "x"], "loss": [1, 2]}},
        {"seed": "x"},
        {"tokens": 10**400},
        {"tokens": {}},
        {"cost": None},
        {"evaluation": {"gsm8k": 5}},
        {"evaluation": {"gsm8k": {"exact_match": {"gsm8k/1": None, "gsm8k/2": [1]}}}},
    ],
)
def test_a_result_that_somebody_has_changed_is_refused_and_says_what_to_do(changed: dict[str, Any]) -> None:
    told = "`results` must be what the runs .* wrote, got one that is not .*delete the result.json of that run"
    with pytest.raises(DataError, match=told):
        arm_of([result(0), {**result(1), **changed}])


def test_results_become_an_arm_by_seed() -> None:
    arm = arm_of([result(2), result(0), result(1, status="diverged", message="NaN", test=None)])
    assert (arm.name, arm.kind, arm.seeds, dict(arm.diverged)) == ("recipe", "recipe", (0, 2), {1: "NaN"})
    assert arm.end.values.tolist() == [[1.0, 4.0], [3.0, 4.0]]  # an item without tokens says nothing
    assert arm.end.weights.tolist() == [2.0, 3.0]
    assert (arm.end.items, arm.end.domain.tolist(), arm.end.domains) == (("x", "z"), [0, 1], ("a", "b"))
    assert arm.end.mean() == pytest.approx((1 + 4 + 3 + 4) / (2 * 5))
    assert arm.trained.tolist() == [100, 102]
    assert (arm.curves[0].cost, arm.curves[1].seconds.tolist()) == (0.05, [0.0, 9.0])


def test_documents_of_tasks_become_measures() -> None:
    fewer = result(1, evaluation={"gsm8k": {"exact_match": {"gsm8k/1": 0.0}}})
    arm = arm_of([result(0), fewer])
    assert list(arm.tasks) == ["gsm8k: exact_match"]  # all seeds have it
    task = arm.tasks["gsm8k: exact_match"]
    assert (task.values.tolist(), task.items, task.higher_is_better) == ([[1.0], [0.0]], ("gsm8k/1",), True)
    assert not arm_of([result(0)]).tasks["gsm8k: nll"].higher_is_better
    assert arm_of([result(0, evaluation=None)]).tasks == {}


def test_an_arm_of_which_no_seed_finished_has_no_items() -> None:
    arm = arm_of([result(0, status="diverged", message="NaN", test=None)])
    assert (arm.seeds, arm.end.n_items) == ((), 0)


def test_what_is_no_arm_is_an_error() -> None:
    other = {**TEST, "loss": [1.0, 0.0, 4.0], "tokens": [2, 0, 4]}
    with pytest.raises(DataError, match="got other tokens with seed 1"):
        arm_of([result(0), result(1, test=other)])
    with pytest.raises(DataError, match=r"must be those of one arm, got \['a', 'recipe'\]"):
        arm_of([result(0), result(1, arm="a")])
    with pytest.raises(DataError, match="must be those of one arm, got none"):
        arm_of([])
    with pytest.raises(DataError, match="`kind` must be one of recipe, baseline, control, plus, got 'best'"):
        replace(an_arm(), kind="best")
    with pytest.raises(DataError, match="one entry per seed in all its parts, got 2 seeds and 4"):
        replace(an_arm(), seeds=(0, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": np.zeros((2, 5))}, r"shape \(seeds, items\)"),
        ({"items": ("a",)}, r"shape \(seeds, items\)"),
        ({"values": np.full((2, 4), np.nan)}, "must be finite, got NaN or inf"),
        ({"weights": np.zeros(4)}, "`weights` must be positive and finite"),
        ({"domain": np.full(4, 2)}, r"`domain` must be in 0\.\.0, got 2 to 2"),
    ],
)
def test_measures_that_do_not_fit_are_errors(change: dict[str, Any], message: str) -> None:
    whole: dict[str, Any] = {
        "values": np.zeros((2, 4)), "weights": np.ones(4), "domain": np.zeros(4, dtype=np.int64), "domains": ("a",),
    }  # fmt: skip
    assert ItemValues(**whole).n_items == 4
    with pytest.raises(DataError, match=message):
        ItemValues(**{**whole, **change})


def test_curves_that_do_not_fit_are_errors() -> None:
    with pytest.raises(DataError, match="at two points or more"):
        Curve(np.zeros(1), np.zeros(1), np.zeros(1))
    with pytest.raises(DataError, match="at two points or more"):
        Curve(np.arange(3.0), np.zeros(3), np.zeros(2))
    with pytest.raises(DataError, match="`tokens` of a curve must rise"):
        Curve(np.array([0.0, 2, 1]), np.zeros(3), np.zeros(3))


def test_an_arm_may_have_no_runs_at_all() -> None:
    empty = ItemValues(np.zeros((0, 0)), np.zeros(0), np.zeros(0, dtype=np.int64), ())
    assert ArmResults("a", "control", (), empty).diverged == {}
