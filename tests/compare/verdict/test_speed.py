"""Speed: arrivals by hand, the symmetry that the test rests on, overhead, and curves that bear no verdict."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from campus_tune.compare.verdict.speed import Speed, first_reached, judge_speed, log_ratios, told
from campus_tune.compare.verdict.verdict import judge
from tests.compare.arms import a_curve, an_arm, base, without

FALLING = st.lists(st.floats(0.1, 0.9), min_size=4, max_size=8)


def falling(steps: list[float], cost: float = 0.0) -> Any:
    return a_curve(4 * np.cumprod([1.0, *steps]), cost=cost)


def speed_of(mine: list[Any], theirs: list[Any]) -> Speed:
    n = len(mine)
    arms = base(seeds=n, curves=tuple(theirs)), an_arm(seeds=n, curves=tuple(mine))
    return judge(arms, resamples=100).speed["recipe"]


@pytest.mark.parametrize(
    ("target", "where"),
    [(4.0, 0.0), (3.0, 50.0), (2.0, 100.0), (1.9, None), (5.0, 0.0)],
)
def test_the_first_arrival_is_read_off_a_straight_line(target: float, where: float | None) -> None:
    assert first_reached(a_curve([4, 2, 3]), target, a_curve([4, 2, 3]).tokens) == where


def test_a_lucky_dip_is_an_arrival_and_a_missing_point_is_passed_over() -> None:
    dip = a_curve([4, 2, 5, 1])
    assert first_reached(dip, 2.5, dip.tokens) == pytest.approx(75.0)
    hole = a_curve([4, np.nan, 2, 1])
    assert first_reached(hole, 3.0, hole.tokens) == pytest.approx(100.0)


def test_the_target_is_the_worse_of_the_two_final_losses() -> None:
    mine, theirs = a_curve([4, 2, 1], cost=0.1), a_curve([4, 3, 2])
    charged, tokens, seconds = log_ratios(mine, theirs) or ()
    assert tokens == pytest.approx(math.log(100 / 200))
    assert charged == pytest.approx(math.log(1.1 * 100 / 200))
    assert seconds == pytest.approx(math.log(10 / 20))


@given(FALLING, FALLING)
def test_swapping_two_runs_turns_the_sign(one: list[float], other: list[float]) -> None:
    ahead, back = log_ratios(falling(one), falling(other)), log_ratios(falling(other), falling(one))
    assert ahead is not None
    assert back is not None
    assert ahead[1] == pytest.approx(-back[1])


def test_the_verdict_is_students_t_of_the_log_ratios() -> None:
    ends = [1.0, 1.2, 1.1, 1.3]
    found = speed_of([a_curve([4, end, 0.9]) for end in ends], [a_curve([4, 3, 1.4])] * 4)
    ratios = [math.log(100 * (4 - 1.4) / (4 - end) / 200) for end in ends]
    assert found.charged is not None
    assert found.charged.by_seed == pytest.approx(ratios)
    assert found.charged.p == pytest.approx(stats.ttest_1samp(ratios, 0).pvalue, rel=1e-4)
    interval = stats.ttest_1samp(ratios, 0).confidence_interval()
    assert (found.charged.low, found.charged.high) == pytest.approx((interval.low, interval.high), rel=1e-4)
    assert found.verdict == "helped"
    assert found.charged.relative == pytest.approx(math.exp(np.mean(ratios)) - 1)


def test_overhead_may_eat_the_gain() -> None:
    theirs = [a_curve([4, 3, 2.0 + seed / 100]) for seed in range(4)]
    mine = [a_curve([4, 2.8, 2.0 + seed / 200], cost=0.5) for seed in range(4)]
    found = speed_of(mine, theirs)
    assert found.tokens is not None
    assert found.tokens.value is not None
    assert found.tokens.value < 0
    assert found.verdict == "hurt"
    assert "more tokens than plain shuffling, the curriculum's cost charged" in found.sentence


def test_what_a_user_asks_is_shown_per_seed_and_may_be_missing() -> None:
    found = speed_of([a_curve([4, 2, 1], cost=0.1), a_curve([4, 3.5, 3])], [a_curve([4, 3, 2])] * 2)
    assert found.reached == {0: pytest.approx(0.55), 1: None}
    assert "1 of 2 seeds came as far as the final loss of plain shuffling" in found.sentence


def test_an_interval_that_two_seeds_cannot_bound_is_no_endless_number() -> None:
    theirs = [a_curve([4, 3, 2])] * 2
    found = speed_of([a_curve([4, 0.001, 0.0001]), a_curve([4, 3.9999, 3.99])], theirs)
    assert "interval under −99 % to over +1000 %, 2 seeds)" in found.sentence
    assert "a saving of over 99 % would have been found, and 10 % was worth finding." in found.sentence
    assert found.charged is not None
    huge = replace(found.charged, high=1e4, low=-1e4, value=900.0, relative=1.0)
    assert "took over 1000 % more tokens" in told(replace(found, charged=huge), "random", 0.1).sentence


def test_a_saving_too_small_to_matter_says_so() -> None:
    theirs = [a_curve([4, 3, 2 + seed / 1000]) for seed in range(4)]
    found = speed_of([a_curve([4, 2.97, 1.9 + seed / 2000]) for seed in range(4)], theirs)
    assert found.verdict == "helped"
    assert found.sentence.endswith("It is less than the 10 % that was worth finding.")


def test_noisy_curves_of_equal_arms_are_underpowered() -> None:
    curves = [falling([0.6, 0.7, end]) for end in (0.5, 0.9, 0.6, 0.8, 0.9, 0.5, 0.8, 0.6)]
    assert speed_of(curves[:4], curves[4:]).verdict == "underpowered"


@pytest.mark.parametrize(
    ("mine", "theirs", "why"),
    [
        ([], [], "the loss was not measured on the way"),
        ([a_curve([4, 2])], [a_curve([4, 2.1])], "one seed cannot tell a recipe from luck"),
        ([a_curve([4, 5])] * 3, [a_curve([4, 3])] * 3, "ended no lower than it began"),
        ([a_curve([4, 2])] * 3, [a_curve([4, 2])] * 3, None),
        ([a_curve([4, 2])] * 3, [a_curve([4, 3])] * 3, "exactly the same ratio"),
        ([a_curve([4, math.nan])] * 3, [a_curve([4, 3])] * 3, "ended no lower than it began"),
    ],
)
def test_curves_that_bear_no_verdict(mine: list[Any], theirs: list[Any], why: str | None) -> None:
    n = max(1, len(mine))
    found = judge_speed(an_arm(seeds=n, curves=tuple(mine)), base(seeds=n, curves=tuple(theirs)))
    if why is None:
        assert (found.verdict, found.refused) == ("no detectable difference", None)
    else:
        assert found.verdict is None
        assert why in str(found.refused)
        assert found.refused in found.sentence
    assert Speed.from_mapping(found.to_mapping()) == found


def test_arms_that_bear_no_verdict_at_the_end_bear_none_on_speed() -> None:
    arms = base(), without(an_arm(), 1, "NaN")
    assert "recipe diverged with seed 1" in str(judge(arms, resamples=100).speed["recipe"].refused)
