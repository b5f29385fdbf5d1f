"""How sure a difference is: against the analysis of variance, by hand, and where chance has no part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from campus_tune.compare.verdict.bootstrap import VarianceParts, crossed_spread
from campus_tune.compare.verdict.difference import Difference, corrected, decide, with_spread
from campus_tune.words.types import FloatArray
from tests.strategies import examples

ALL = np.ones(40, dtype=bool)


def anova(d: FloatArray, weights: FloatArray) -> tuple[float, float, float]:
    """Slow and independent: mean squares of the crossed layout without repetition, of linearised differences."""
    n_seeds, n_items = d.shape
    total = d.sum() / (n_seeds * weights.sum())
    x = [[(d[s, i] - total * weights[i]) * n_items / weights.sum() for i in range(n_items)] for s in range(n_seeds)]
    rows = [sum(line) / n_items for line in x]
    columns = [sum(x[s][i] for s in range(n_seeds)) / n_seeds for i in range(n_items)]
    mean = sum(rows) / n_seeds
    of_rows = n_items * sum((row - mean) ** 2 for row in rows) / (n_seeds - 1)
    of_columns = n_seeds * sum((column - mean) ** 2 for column in columns) / (n_items - 1)
    rest = sum((x[s][i] - rows[s] - columns[i] + mean) ** 2 for s in range(n_seeds) for i in range(n_items))
    cells = n_seeds * n_items
    return of_rows / cells, of_columns / cells, rest / ((n_seeds - 1) * (n_items - 1)) / cells


def draw(seed: int, n_seeds: int = 5, n_items: int = 40) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    weights = rng.integers(5, 12, n_items).astype(float)
    effect = rng.normal(size=(n_seeds, 1)) * 0.3 + rng.normal(size=(1, n_items)) + rng.normal(size=(n_seeds, n_items))
    return effect * weights, weights


@pytest.mark.parametrize("seed", range(3))
def test_the_bootstrap_finds_the_mean_squares_of_an_analysis_of_variance(seed: int) -> None:
    d, weights = draw(seed)
    ((found,),) = crossed_spread(d[None], weights, [ALL], resamples=20_000)
    assert (found.seeds, found.items, found.cells) == pytest.approx(anova(d, weights), rel=0.06)


def test_a_reading_on_some_items_is_that_of_these_items_alone() -> None:
    d, weights = draw(4)
    some = np.arange(40) < 20
    ((found,),) = crossed_spread(d[None], weights, [some], resamples=20_000)
    assert (found.seeds, found.items) == pytest.approx(anova(d[:, :20], weights[:20])[:2], rel=0.12)
    assert found.n_items == 20


def test_components_give_the_spread_back() -> None:
    spread = VarianceParts.of((0.4, 2.0, 6.0), 5, 40)
    assert (spread.seeds, spread.items, spread.cells) == pytest.approx((0.4 / 5 + 0.03, 2 / 40 + 0.03, 0.03))
    assert spread.variance == pytest.approx(0.4 / 5 + 2 / 40 + 0.03)
    assert spread.components == pytest.approx((0.4, 2.0, 6.0))


def test_the_variance_is_never_less_than_what_seeds_or_items_alone_say() -> None:
    assert VarianceParts(1.0, 2.0, 2.5, 5, 40).variance == 2.0
    assert VarianceParts(3.0, 2.0, 2.5, 5, 40).variance == 3.0


def test_seeds_alone_are_students_t() -> None:
    spread = VarianceParts(0.04, 0.0, 0.0, 4, 10**9)
    assert spread.critical() == pytest.approx(stats.t.ppf(0.975, 3))
    assert spread.df() == pytest.approx(3, abs=1e-5)
    assert spread.p(0.5) == pytest.approx(2 * stats.t.sf(2.5, 3), rel=1e-6)
    exact = stats.nct.sf(stats.t.ppf(0.975, 3), 3, 4.0)  # the noncentral t has the power in closed form
    assert spread.power(0.8) == pytest.approx(exact, abs=0.005)


def test_the_critical_value_lies_between_the_two_t_points_by_the_seeds_share() -> None:
    spread = VarianceParts(1.0, 3.0, 0.0, 3, 31)
    assert spread.critical() == pytest.approx(0.25 * stats.t.ppf(0.975, 2) + 0.75 * stats.t.ppf(0.975, 30))
    two = VarianceParts(1.0, 3.0, 0.0, 2, 31)  # which know nothing
    assert two.critical() == pytest.approx(stats.t.ppf(0.975, 1))


def test_the_detectable_effect_has_the_power_it_promises() -> None:
    spread = VarianceParts(0.3, 0.2, 0.1, 5, 400)
    assert spread.power(spread.detectable()) == pytest.approx(0.8, abs=1e-4)
    assert spread.detectable(0.01) > spread.detectable(0.05)


@examples(20)
@given(st.integers(0, 1000), st.floats(0.01, 100.0))
def test_scaling_the_losses_scales_the_spread_and_leaves_the_p_value(seed: int, by: float) -> None:
    d, weights = draw(seed)
    ((one,),) = crossed_spread(d[None], weights, [ALL], resamples=100)
    ((other,),) = crossed_spread(d[None] * by, weights, [ALL], resamples=100)
    assert other.stderr == pytest.approx(one.stderr * by)
    assert other.p(0.3 * by) == pytest.approx(one.p(0.3), rel=1e-6)


def test_the_same_seed_gives_the_same_spread() -> None:
    d, weights = draw(0)
    again = [crossed_spread(d[None], weights, [ALL], resamples=100, seed=seed) for seed in (1, 1, 2)]
    assert again[0] == again[1] != again[2]


def test_an_interval_ends_at_zero_where_the_p_value_is_five_per_cent() -> None:
    spread = VarianceParts(0.3, 0.2, 0.1, 5, 400)
    value = spread.critical() * spread.stderr
    found = with_spread(Difference("a", "b", value), spread)
    assert (found.low, found.p) == pytest.approx((0.0, 0.05), abs=1e-9)
    assert found.high == pytest.approx(2 * value)


def test_equal_arms_do_not_differ_and_a_difference_without_any_chance_has_no_p_value() -> None:
    nothing = VarianceParts(0.0, 0.0, 0.0, 3, 40)
    equal = with_spread(Difference("a", "b", 0.0), nothing)
    assert (equal.p, equal.detectable, decide(equal, 0.02)) == (1.0, 0.0, "no detectable difference")
    constant = with_spread(Difference("a", "b", 0.5), VarianceParts(1e-34, 1e-34, 0.0, 3, 40))
    assert (constant.p, constant.low) == (None, None)
    assert nothing.power(0.0) == 0.0
    assert nothing.power(0.1) == 1.0


@pytest.mark.parametrize(
    ("value", "p", "detectable", "higher", "word"),
    [
        (-0.1, 0.01, 0.01, False, "helped"),
        (0.1, 0.01, 0.01, False, "hurt"),
        (0.1, 0.05, 0.01, True, "helped"),
        (-0.1, 0.01, 0.01, True, "hurt"),
        (-0.1, 0.06, 0.02, False, "no detectable difference"),
        (-0.1, 0.06, 0.021, False, "underpowered"),
    ],
)
def test_four_words(value: float, p: float, detectable: float, higher: bool, word: str) -> None:
    found = Difference("a", "b", value, p_adjusted=p, detectable=detectable)
    assert decide(found, 0.02, higher_is_better=higher) == word


def test_refused_differences_do_not_count_in_a_family() -> None:
    family = [Difference("a", "b", 1.0, p=p) for p in (0.01, None, 0.04)]
    assert [one.p_adjusted for one in corrected(family, [None] * 3)] == [0.02, None, 0.04]


P_VALUES = st.lists(st.one_of(st.none(), st.floats(1e-6, 1.0)), min_size=1, max_size=6)


@examples(40)
@given(P_VALUES)
def test_an_interval_excludes_zero_exactly_where_the_corrected_p_value_is_small(p_values: list[float | None]) -> None:
    spread = VarianceParts(0.3, 0.2, 0.1, 5, 400)
    family, spreads = [], []
    for p in p_values:
        value = None if p is None else spread.critical(p) * spread.stderr
        family.append(Difference("a", "b", 1.0) if value is None else with_spread(Difference("a", "b", value), spread))
        spreads.append(None if p is None else spread)
    alone = [one.low for one in family]
    for one, low in zip(corrected(family, spreads), alone, strict=True):
        if low is None:
            assert (one.low, one.level) == (None, None)
            continue
        assert one.low is not None
        assert one.low <= low  # never narrower than at 95 %
        assert one.p_adjusted is not None
        if abs(one.p_adjusted - 0.05) > 1e-6:
            assert (one.low > 0) == (one.p_adjusted < 0.05)
