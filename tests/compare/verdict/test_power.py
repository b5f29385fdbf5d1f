"""Plans: components by hand and from simulated truth, what it would take, and what no number of rows can mend."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from campus_tune.compare.verdict.bootstrap import VarianceParts
from campus_tune.compare.verdict.difference import Difference
from campus_tune.compare.verdict.inputs import ItemValues
from campus_tune.compare.verdict.power import components_of_pilot, from_difference, from_pilot, speed_from_pilot
from campus_tune.words.errors import DataError
from tests.compare.arms import a_curve


def pilot(seed: float, cell: float, *, seeds: int = 4, items: int = 100, draw: int = 0) -> ItemValues:
    """Runs of one recipe with a mean loss of 2, and these standard deviations of seeds and cells."""
    rng = np.random.default_rng(draw)
    values = 2 + rng.normal(size=items) + seed * rng.normal(size=(seeds, 1)) + cell * rng.normal(size=(seeds, items))
    return ItemValues(values, np.ones(items), np.zeros(items, dtype=np.int64), ("all",))


def difference(seed: float, item: float, cell: float) -> Difference:
    return Difference(
        "recipe", "random", -0.1, mean_against=2.0, n_seeds=3, n_items=400,
        seed_variance=seed, item_variance=item, cell_variance=cell,
    )  # fmt: skip


def test_a_pilot_shows_the_components_of_a_difference_of_two_runs() -> None:
    found = np.mean([components_of_pilot(pilot(0.1, 0.5, seeds=20, draw=draw)) for draw in range(20)], axis=0)
    assert found == pytest.approx([2 * 0.1**2, 2 * 0.5**2, 2 * 0.5**2], rel=0.2)


def test_a_pilot_weighs_by_tokens() -> None:
    rng = np.random.default_rng(0)
    weights = np.repeat([1.0, 3.0], 50)
    values = (2 + rng.normal(size=(6, 100))) * weights
    one = components_of_pilot(ItemValues(values, weights, np.zeros(100, dtype=np.int64), ("all",)))
    assert one[2] == pytest.approx(2 * 1.25, rel=0.2)  # mean of squared weights over the squared mean: 5 / 4


def test_a_plan_is_the_detectable_effect_of_the_verdicts_own_test() -> None:
    plan = from_difference(difference(0.01, 0.1, 0.5), seeds=3, effect=0.2)
    assert plan.detectable == pytest.approx(VarianceParts.of((0.01, 0.1, 0.5), 3, 400).detectable() / 2)
    assert plan.enough == (plan.detectable <= 0.2)
    assert plan.learned_from == "the earlier comparison of recipe with random"


def test_enough_is_said_in_a_sentence() -> None:
    plan = from_pilot(pilot(0.001, 0.01), seeds=3, effect=0.02)
    assert plan.enough
    assert plan.seeds_needed == 3
    assert plan.items_needed == 100
    with pytest.raises(AssertionError, match=r"^3 seeds and 100 test rows would find an effect of [\d.]+ % or more"):
        raise AssertionError(plan.sentence)


def test_what_it_takes_is_the_least_that_is_enough() -> None:
    earlier = difference(0.01, 0.1, 0.5)
    plan = from_difference(earlier, seeds=10, effect=0.05)
    assert not plan.enough
    assert plan.seeds_needed is not None
    assert plan.items_needed is not None
    parts = 0.01, 0.1, 0.5
    for enough, n_seeds, n_items in (
        (True, plan.seeds_needed, 400),
        (False, plan.seeds_needed - 1, 400),
        (True, 10, plan.items_needed),
        (False, 10, plan.items_needed - 1),
    ):
        assert (VarianceParts.of(parts, n_seeds, n_items).detectable() <= 0.1) == enough
    assert f"it takes {plan.seeds_needed} seeds, or {plan.items_needed:,} test rows" in plan.sentence


def test_where_seeds_differ_too_much_no_number_of_rows_suffices() -> None:
    plan = from_difference(difference(0.5, 0.0, 0.5), seeds=3, effect=0.02)
    assert plan.items_needed is None
    assert "no number of test rows suffices with 3 seeds" in plan.sentence
    hopeless = from_difference(difference(50.0, 0.0, 0.5), seeds=3, effect=0.001)
    assert hopeless.seeds_needed is None
    assert "even 1000 seeds do not suffice, and no number of test rows suffices" in hopeless.sentence


def test_where_items_differ_too_much_it_takes_more_of_them() -> None:
    plan = from_difference(difference(0.001, 0.2, 0.5), seeds=5, effect=0.03)
    assert plan.seeds_needed is None
    assert f"even 1000 seeds do not suffice, but {plan.items_needed:,} test rows do." in plan.sentence


def test_more_seeds_rows_and_fewer_comparisons_find_smaller_effects() -> None:
    runs = pilot(0.05, 0.5)
    plain = from_pilot(runs, seeds=3, effect=0.02).detectable
    assert from_pilot(runs, seeds=5, effect=0.02).detectable < plain
    assert from_pilot(runs, seeds=3, effect=0.02, items=1000).detectable < plain
    assert from_pilot(runs, seeds=3, effect=0.02, comparisons=3).detectable > plain


def test_speed_is_planned_from_pairs_of_runs() -> None:
    curves = [a_curve([4, 2, 1 + end]) for end in (0.0, 0.2, 0.4)]
    plan = speed_from_pilot(curves, seeds=3, faster=0.1)
    to = [(1.2, 0.0), (1.4, 0.0), (1.4, 0.2)]  # target and the better run's end; the other takes 200 tokens
    ratios = [math.log((100 + 100 * (2 - target) / (1 - end)) / 200) for target, end in to]
    spread = VarianceParts(float(np.mean(np.square(ratios))) / 3, 0.0, 0.0, 3, 10**12)
    assert plan.detectable == pytest.approx(-math.expm1(-spread.detectable()))
    assert plan.n_items is None
    assert "would find a saving of" in plan.sentence
    json.dumps(plan.to_mapping(), allow_nan=False)


def test_what_cannot_be_planned_from_is_an_error() -> None:
    with pytest.raises(DataError, match="at least two seeds and two test items, got 1 and 100"):
        from_pilot(pilot(0.1, 0.1, seeds=1), seeds=3, effect=0.02)
    with pytest.raises(DataError, match="a refused one of recipe"):
        from_difference(Difference("recipe", "random", -0.1), seeds=3, effect=0.02)
    with pytest.raises(DataError, match="`seeds` and `items` of at least 2"):
        from_pilot(pilot(0.1, 0.1), seeds=1, effect=0.02)
    with pytest.raises(DataError, match="at least two curves that fall, got 1 curves"):
        speed_from_pilot([a_curve([4, 2])], seeds=3, faster=0.1)
    with pytest.raises(DataError, match="0 comparable pairs of 1"):
        speed_from_pilot([a_curve([4, 5]), a_curve([4, 2])], seeds=3, faster=0.1)
