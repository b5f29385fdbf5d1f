"""Speed: arrivals by hand, the symmetry that the test rests on, overhead, and curves that bear no verdict."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from campus_tune.compare.verdict.bootstrap import VarianceParts
from campus_tune.compare.verdict.console_lines import domain_speeds
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


# -- by domain ---------------------------------------------------------------------------------------------------------


def with_domains(curve: Any, **losses: list[float]) -> Any:
    return replace(curve, domains={name: np.array(loss, dtype=float) for name, loss in losses.items()})


def of_domains(sums: list[float], words: list[float], cost: float = 0.0) -> Any:
    """Both domains of `tests.compare.arms`, and their mean."""
    return with_domains(a_curve(np.mean([sums, words], axis=0), cost=cost), sums=sums, words=words)


SLOW = [of_domains([4, 3, 2 + seed / 50], [6, 5, 4 + seed / 90]) for seed in range(4)]


def test_each_domain_has_a_speed_of_its_own_to_a_loss_of_its_own() -> None:
    mine = [of_domains([4, 1.9 - seed / 100, 1.5], [6, 5.5, 5.1 + seed / 70], cost=0.1) for seed in range(4)]
    found = speed_of(mine, SLOW).domains
    assert list(found) == ["sums", "words"]
    for name, part in found.items():
        ratios = []
        for ahead, behind in zip(mine, SLOW, strict=True):
            charged, _, _ = log_ratios(ahead.of(name), behind.of(name)) or ()
            ratios.append(charged)
        assert part.charged is not None
        assert part.charged.by_seed == pytest.approx(ratios)
        p = stats.ttest_1samp(ratios, 0).pvalue
        assert part.charged.p == pytest.approx(p, rel=1e-3)
        spread = VarianceParts(float(np.var(ratios, ddof=1)) / 4, 0.0, 0.0, 4, 10**9)
        assert part.charged.detectable == pytest.approx(spread.detectable(0.05 / 2))  # of the stricter of two
        assert part.refused is None
    sums, words = found["sums"].charged, found["words"].charged
    assert sums is not None
    assert words is not None
    assert (sums.value or 0) < 0 < (words.value or 0)
    assert found["sums"].reached[0] == pytest.approx(1.1 * 200 * (2 / 2.1) / 2 / 200)  # half a step to 2.0 of 4 → 1.9
    assert found["words"].reached == dict.fromkeys(range(4))
    assert max(sums.p_adjusted or 0, words.p_adjusted or 0) <= 2 * max(sums.p or 0, words.p or 0)
    assert min(sums.p_adjusted or 0, words.p_adjusted or 0) == pytest.approx(2 * min(sums.p or 0, words.p or 0))


def test_a_domain_that_did_not_learn_or_is_small_has_no_ratio_and_says_why() -> None:
    mine = [of_domains([4, 3, 2 + seed / 60], [6, 6.5, 7]) for seed in range(4)]
    found = speed_of(mine, SLOW).domains
    assert found["sums"].refused is None
    assert found["words"].charged is None
    assert "ended no lower than it began" in str(found["words"].refused)
    few = judge_speed(an_arm(items=18, curves=tuple(mine)), base(items=18, curves=tuple(SLOW))).domains
    assert [one.refused for one in few.values()] == ["it has fewer than 10 test rows"] * 2
    one = judge_speed(an_arm(seeds=1, curves=tuple(mine[:1])), base(seeds=1, curves=tuple(SLOW[:1]))).domains
    assert one["sums"].refused == "one seed cannot tell a recipe from luck"
    assert one["sums"].reached == {0: 1.0}


def test_one_domain_or_none_has_no_table() -> None:
    alone = [with_domains(a_curve([4, 3, 2]), sums=[4, 3, 2])] * 3
    assert speed_of(alone, alone).domains == {}
    assert speed_of(alone, [a_curve([4, 3, 2])] * 3).domains == {}


def test_a_speed_with_domains_is_kept_and_one_of_an_earlier_version_has_none() -> None:
    found = speed_of(SLOW, SLOW[::-1])
    written = json.loads(json.dumps(found.to_mapping(), allow_nan=False))
    assert Speed.from_mapping(written) == found
    assert Speed.from_mapping({name: part for name, part in written.items() if name != "domains"}).domains == {}


def test_the_console_names_domains_that_are_told_from_chance() -> None:
    mine = [of_domains([4, 1.9 - seed / 100, 1.5], [6, 5.5, 5.1 + seed / 70]) for seed in range(4)]
    assert domain_speeds(speed_of(mine, SLOW)) == (
        "Sooner in sums (53 % fewer tokens); later in words (128 % more tokens)."
    )
    assert domain_speeds(speed_of(SLOW, SLOW[::-1])) == "Not told from chance in 2 of 2 domains."


@given(st.integers(0, 10_000))
def test_swapping_the_arms_turns_the_sign_in_every_domain_and_keeps_its_p_value(draw: int) -> None:
    rng = np.random.default_rng(draw)
    falls = [[np.cumprod([1.0, *rng.uniform(0.5, 0.9, 3)]).tolist() for _ in range(2)] for _ in range(6)]
    curves = [of_domains(*both) for both in falls]
    there, back = (
        judge_speed(an_arm(seeds=3, curves=tuple(a)), base(seeds=3, curves=tuple(b))).domains
        for a, b in ((curves[:3], curves[3:]), (curves[3:], curves[:3]))
    )
    for name, one in there.items():
        other = back[name].charged
        assert one.charged is not None
        assert other is not None
        assert one.charged.value == pytest.approx(-(other.value or 0.0), abs=1e-12)
        assert one.charged.p_adjusted == pytest.approx(other.p_adjusted, rel=1e-6)


def test_over_many_equal_arms_no_domain_is_told_from_chance_in_ninety_five_of_a_hundred() -> None:
    rng, n_found, n = np.random.default_rng(7), 0, 300
    for _ in range(n):
        curves = []
        for _ in range(8):
            ends = 1 + rng.normal(0, 0.05) + rng.normal(0, 0.05, 2)  # a seed's luck, and that of each domain
            curves.append(of_domains([4, 2.5, ends[0]], [4, 2.2, ends[1]]))
        arms = an_arm(curves=tuple(curves[:4])), base(curves=tuple(curves[4:]))
        of_domain = [one.charged for one in judge_speed(*arms).domains.values()]
        n_found += any(one is not None and (one.p_adjusted or 1.0) <= 0.05 for one in of_domain)
    assert n_found <= 0.05 * n + 2 * (0.05 * 0.95 * n) ** 0.5
