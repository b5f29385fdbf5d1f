"""Shares: the hand-worked ones, slow references, and what holds of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from campus_tune.method.sampling import quotas
from campus_tune.method.shares import (
    SharePhase,
    at_least,
    at_phase,
    check_phases,
    fixed,
    following,
    natural,
    split,
    tempered,
)
from campus_tune.words.errors import RecipeError

SIZES = np.array([8000, 1500, 500])
A, B = np.array([1.0, 0.0]), np.array([0.0, 1.0])
EVEN = np.array([0.5, 0.5])

sizes_drawn = st.lists(st.integers(0, 10_000), min_size=1, max_size=8).filter(any).map(np.array)


def weights(n: int) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(0, 1), min_size=n, max_size=n).filter(lambda parts: sum(parts) > 1e-3)


def shares_of(parts: Sequence[float]) -> np.ndarray:
    return np.array(parts) / sum(parts)


# -- what a share is made of -------------------------------------------------------------------------------------------


def test_natural_shares_are_those_of_the_rows() -> None:
    assert natural(SIZES).tolist() == [0.8, 0.15, 0.05]


@pytest.mark.parametrize(
    ("temperature", "worked"),
    [
        (1, [0.8, 0.15, 0.05]),
        (2, [0.5942, 0.2573, 0.1485]),
        (3.3, [0.4917, 0.2961, 0.2122]),
        (1e9, [0.3333, 0.3333, 0.3333]),
    ],
)
def test_worked_temperatures(temperature: float, worked: list[float]) -> None:
    assert tempered(SIZES, temperature).round(4).tolist() == worked


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_a_temperature_that_is_not_above_0_is_refused(temperature: float) -> None:
    with pytest.raises(RecipeError, match=r"`temperature` must be above 0, got .*Write 1 for natural"):
        tempered(SIZES, temperature)
    assert tempered(SIZES, 1).tolist() == pytest.approx(natural(SIZES).tolist())


@given(sizes_drawn, st.floats(0.05, 1e6))
def test_tempered_shares_sum_to_1_keep_the_sequence_of_the_sizes_and_nothing_of_nothing(
    sizes: np.ndarray, temperature: float
) -> None:
    shares = tempered(sizes, temperature)
    assert shares.sum() == pytest.approx(1)
    assert (shares[sizes == 0] == 0).all()
    assert (np.diff(shares[np.argsort(sizes)]) >= -1e-12).all()


def test_tiny_temperatures_do_not_overflow() -> None:
    assert tempered(np.array([10**9, 10]), 1e-3).tolist() == [1.0, 0.0]


# -- as a recipe writes them -------------------------------------------------------------------------------------------


def test_fixed_shares_follow_the_domains_and_one_that_is_not_named_gets_none() -> None:
    assert fixed({"math": 0.4, "code": 0.6}, ["chat", "code", "math"]).tolist() == [0.0, 0.6, 0.4]


def test_fixed_shares_may_be_off_by_what_people_round_and_are_scaled() -> None:
    assert fixed({"a": 0.3333333, "b": 0.6666666}, ["a", "b"]).sum() == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize(
    ("shares", "refusal"),
    [
        ({"math": 0.5, "code": 0.4}, r"`domains: shares` must sum to 1, got 0\.9 from .*Scale them\."),
        ({"math": 0.5, "code": 0.500002}, r"must sum to 1, got 1 from"),
        ({"math": 0.0}, r"must sum to 1, got 0 from .*Give a domain a share\."),
        ({}, r"must sum to 1, got 0 from \{\}"),
        ({"math": -0.5, "code": 1.5}, r"(?s)`domains: shares: math` must be a share in \[0, 1\], got -0\.5.*got 1\.5"),
        ({"math": float("nan"), "code": 1.0}, r"`domains: shares: math` must be a share in \[0, 1\], got nan"),
        (
            {"maths": 1.0},
            r"`domains: shares` must be of the domains chat, code, math, got 'maths'\. Did you mean 'math'\?",
        ),
    ],
)
def test_shares_that_cannot_be_are_refused(shares: Mapping[str, float], refusal: str) -> None:
    with pytest.raises(RecipeError, match=refusal):
        fixed(shares, ["chat", "code", "math"], what="domains: shares")


def test_the_advice_of_a_refusal_is_followed() -> None:
    assert fixed({"math": 1.0}, ["chat", "code", "math"]).tolist() == [0, 0, 1]  # not `maths`
    assert fixed({"math": 5 / 9, "code": 4 / 9}, ["code", "math"]).tolist() == pytest.approx([4 / 9, 5 / 9])  # scaled


# -- the least share ---------------------------------------------------------------------------------------------------


def lifted_slowly(shares: Sequence[Fraction], least: Fraction) -> list[Fraction]:
    """The same, exactly, one share at a time: the smallest is lifted, the others make room for it."""
    free = dict(enumerate(shares))
    room = Fraction(1)
    done: dict[int, Fraction] = {}
    while free:
        scale = room / sum(free.values()) if sum(free.values()) else Fraction(0)
        smallest = min(free, key=lambda i: free[i])
        if free[smallest] * scale >= least:
            return [done[i] if i in done else free[i] * scale for i in range(len(shares))]
        done[smallest] = least
        room -= least
        del free[smallest]
    return [done[i] for i in range(len(shares))]


def test_worked_least_share() -> None:
    assert at_least(natural(SIZES), 0.1).round(4).tolist() == [0.7579, 0.1421, 0.1]
    assert at_least(np.array([0.5, 0.3, 0.2]), 0.25).round(4).tolist() == [0.4688, 0.2812, 0.25]


def test_scaling_that_pushes_another_one_below_lifts_that_one_too() -> None:
    assert at_least(np.array([0.69, 0.21, 0.1]), 0.2).round(4).tolist() == [0.6, 0.2, 0.2]


@given(st.integers(1, 8).flatmap(weights), st.floats(0, 1))
def test_the_least_share_is_that_of_the_slow_one(parts: list[float], part: float) -> None:
    shares, least = shares_of(parts), part / len(parts)
    lifted = at_least(shares, least)
    assert lifted.sum() == pytest.approx(1)
    assert lifted.min() >= least - 1e-9
    exact = [Fraction(float(share)) for share in shares]
    slow = lifted_slowly([share / sum(exact) for share in exact], Fraction(least))
    assert lifted.tolist() == pytest.approx([float(share) for share in slow], abs=1e-9)


@pytest.mark.parametrize("least", [0.34, -0.1, float("nan")])
def test_a_least_share_that_all_together_cannot_have_is_refused(least: float) -> None:
    with pytest.raises(RecipeError, match=r"`least` must be in \[0, 0\.3333\] with 3 domains, got .*Lower it"):
        at_least(natural(SIZES), least)
    assert at_least(natural(SIZES), 1 / 3).tolist() == pytest.approx([1 / 3] * 3)


# -- phases ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("u", "worked"), [(0.0, [1, 0]), (0.3, [1, 0]), (0.45, [0.75, 0.25]), (0.5, [0.5, 0.5]), (0.6, [0, 1]), (1, [0, 1])]
)
def test_worked_phases(u: float, worked: list[float]) -> None:
    phases = [SharePhase(0.5, A, overlap=0.2), SharePhase(1.0, B)]
    check_phases(phases)
    assert at_phase(phases, EVEN, u).tolist() == pytest.approx(worked)


@pytest.mark.parametrize(("u", "worked"), [(0.2, [0.5, 0.5]), (0.4999, [0.5, 0.5]), (0.5, [0, 1]), (1.0, [0, 1])])
def test_without_overlap_the_next_phase_holds_from_until_on(u: float, worked: list[float]) -> None:
    assert at_phase([SharePhase(0.5), SharePhase(1.0, B)], EVEN, u).tolist() == worked


def test_three_phases_with_two_overlaps_that_touch() -> None:
    phases = [SharePhase(0.3, A, overlap=0.2), SharePhase(0.6, B, overlap=0.4), SharePhase(1.0, EVEN)]
    check_phases(phases)
    assert [at_phase(phases, EVEN, u)[0] for u in (0.1, 0.25, 0.35, 0.4, 0.5, 0.6, 0.8)] == pytest.approx(
        [1, 0.75, 0.25, 0, 0.125, 0.25, 0.5]
    )


@st.composite
def phases_drawn(draw: st.DrawFn) -> list[SharePhase]:
    untils = sorted(draw(st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True)))
    edges = [until / 100 for until in untils] + [1.0]
    room = np.diff([0.0, *edges])
    overlaps = [draw(st.floats(0, 1)) * min(a, b) for a, b in pairwise(room)]
    return [
        SharePhase(until, shares_of(draw(weights(3))), overlap)
        for until, overlap in zip(edges, [*overlaps, 0.0], strict=True)
    ]


@given(phases_drawn(), st.floats(0, 1))
def test_the_shares_of_a_moment_are_those_of_the_slow_one_and_sum_to_1(phases: list[SharePhase], u: float) -> None:
    check_phases(phases)
    got = at_phase(phases, np.ones(3) / 3, u)
    slow = phases[-1].shares
    for this, after in reversed(list(pairwise(phases))):  # from the last boundary to the first
        assert this.shares is not None
        assert slow is not None
        begin, end = this.until - this.overlap / 2, this.until + this.overlap / 2
        if u <= begin and u < end:
            slow = this.shares
        elif u < end:
            assert after.shares is not None
            slow = this.shares * (end - u) / this.overlap + after.shares * (u - begin) / this.overlap
    assert slow is not None
    assert got.tolist() == pytest.approx(slow.tolist(), abs=1e-6)
    assert got.sum() == pytest.approx(1)


def test_what_a_phase_gives_is_the_callers() -> None:
    phases = [SharePhase(1.0)]
    at_phase(phases, EVEN, 0.5)[:] = 7
    assert EVEN.tolist() == [0.5, 0.5]


@pytest.mark.parametrize("untils", [[0.5, 0.5, 1.0], [0.7, 0.2, 1.0], [0.5, 0.9], [], [0.0, 1.0], [0.5, 1.2]])
def test_phases_that_do_not_rise_to_1_are_refused(untils: list[float]) -> None:
    with pytest.raises(RecipeError, match=r"`until` of the phases must rise and end at 1, got \[.*Order them"):
        check_phases([SharePhase(until) for until in untils])
    check_phases([SharePhase(0.2), SharePhase(0.7), SharePhase(1.0)])


def test_the_last_phase_has_no_overlap() -> None:
    with pytest.raises(RecipeError, match=r"`overlap` of the last phase must be 0, got 0\.1\. Remove it"):
        check_phases([SharePhase(0.5), SharePhase(1.0, overlap=0.1)])


@pytest.mark.parametrize(
    ("overlaps", "refusal"),
    [
        ((1.0, 0.0), r"`overlap` of the phase until 0\.4 must .* begin after 0, .* got 1\.0, from -0\.1 to 0\.9"),
        ((0.2, 0.4), r"the phase until 0\.6 must .*begin after 0\.5, where what was before is over, .* got 0\.4"),
        ((-0.1, 0.0), r"the phase until 0\.4 must be at least 0"),
    ],
)
def test_overlaps_that_collide_are_refused(overlaps: tuple[float, float], refusal: str) -> None:
    with pytest.raises(RecipeError, match=refusal):
        check_phases([SharePhase(0.4, overlap=overlaps[0]), SharePhase(0.6, overlap=overlaps[1]), SharePhase(1.0)])


def test_an_overlap_into_the_end_of_the_run_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"the phase until 0\.9 must .* and be over by 1, got 0\.4"):
        check_phases([SharePhase(0.9, overlap=0.4), SharePhase(1.0)])
    check_phases([SharePhase(0.9, overlap=0.2), SharePhase(1.0)])


# -- shares that follow a signal ---------------------------------------------------------------------------------------


def test_worked_following() -> None:
    """½ ½ by signals 1 and 3: .2·.5 + .8·¼ and .2·.5 + .8·¾."""
    assert following(EVEN, np.array([1.0, 3.0])).tolist() == pytest.approx([0.3, 0.7])
    assert following(np.array([0.8, 0.2]), np.array([1.0, 4.0]), kept=0.5).tolist() == pytest.approx([0.65, 0.35])


@pytest.mark.parametrize("signal", [[0, 0], [np.nan, np.nan], [-1, 0], [-2, np.nan], [0, np.nan]])
def test_a_signal_that_says_nothing_leaves_the_shares_natural(signal: list[float]) -> None:
    assert following(np.array([0.7, 0.3]), np.array(signal)).tolist() == [0.7, 0.3]


def test_a_fall_below_0_counts_as_none_and_the_unknown_as_the_mean_of_the_known() -> None:
    thirds = np.ones(3) / 3
    assert following(thirds, np.array([-5.0, 1.0, 1.0]), kept=0).tolist() == pytest.approx([0, 0.5, 0.5])
    assert following(thirds, np.array([1.0, np.nan, 3.0]), kept=0).tolist() == pytest.approx([1 / 6, 2 / 6, 3 / 6])


@given(st.integers(2, 6).flatmap(lambda n: st.tuples(weights(n), weights(n), st.floats(0, 1))), st.floats(1e-3, 1e6))
def test_following_sums_to_1_starves_none_and_knows_no_unit(
    case: tuple[list[float], list[float], float], unit: float
) -> None:
    parts, signal, kept = case
    prior = shares_of(parts)
    shares = following(prior, np.array(signal), kept=kept)
    assert shares.sum() == pytest.approx(1)
    assert (shares >= kept * prior - 1e-12).all()
    assert following(prior, np.array(signal) * unit, kept=kept).tolist() == pytest.approx(shares.tolist())


# -- whole rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shares", "n", "most", "rows"),
    [
        ([0.5, 0.3, 0.2], 10, [99, 99, 99], [5, 3, 2]),
        ([0.5, 0.3, 0.2], 3, [99, 99, 99], [1, 1, 1]),  # 1.5, 0.9, 0.6
        ([0.5, 0.5], 3, [99, 99], [2, 1]),  # equal remainders go by number
        ([0.5, 0.3, 0.2], 10, [2, 99, 99], [2, 5, 3]),  # three rows over, by 3 : 2 → 4.8, 3.2
        ([0.5, 0.3, 0.2], 10, [2, 4, 99], [2, 4, 4]),  # and again
        ([1.0, 0.0, 0.0], 10, [4, 20, 40], [4, 2, 4]),  # whose share is 0 gives in proportion to what it has
        ([0.5, 0.5], 10, [3, 2], [3, 2]),
        ([0.5, 0.5], 0, [3, 2], [0, 0]),
        ([0.0, 0.0], 2, [1, 3], [1, 1]),
        ([0.4, 0.3, 0.3], 10_000, [8000, 1500, 500], [8000, 1500, 500]),
    ],
)
def test_worked_splits(shares: list[float], n: int, most: list[int], rows: list[int]) -> None:
    assert split(np.array(shares), n, np.array(most)).tolist() == rows


@given(
    st.integers(1, 7).flatmap(
        lambda s: st.tuples(
            weights(s), st.integers(0, 2000), st.lists(st.integers(0, 500), min_size=s, max_size=s).map(np.array)
        )
    ),
    st.none() | st.floats(0, 1, exclude_max=True),
)
def test_a_split_sums_gives_no_more_than_there_is_and_is_near_the_shares(
    case: tuple[list[float], int, np.ndarray], u: float | None
) -> None:
    parts, n, most = case
    rows = split(shares_of(parts), n, most, u)
    assert rows.dtype == np.int64
    assert rows.sum() == min(n, most.sum())
    assert ((rows >= 0) & (rows <= most)).all()
    exact = shares_of(parts) * n
    if (exact <= most).all():
        assert (np.abs(rows - exact) < 1 + 1e-6).all()
    else:  # nobody has fewer for another's shortage
        assert (rows >= np.minimum(np.floor(exact - 1e-6), most)).all()


def test_with_chance_a_remainder_is_the_chance_of_one_more_row() -> None:
    shares, most = np.array([0.9, 0.08, 0.02]), np.array([99, 99, 99])
    drawn = np.array([split(shares, 16, most, u) for u in (np.arange(1000) + 0.5) / 1000])
    assert (drawn.sum(axis=1) == 16).all()
    assert drawn.mean(axis=0) == pytest.approx([14.4, 1.28, 0.32], abs=1e-3)


@given(sizes_drawn, st.floats(0, 1))
def test_natural_shares_of_what_is_there_are_the_quotas_of_today(sizes: np.ndarray, part: float) -> None:
    n = int(part * sizes.sum())
    exact = sizes * (n / sizes.sum())
    remainders = np.sort(exact - np.floor(exact))
    assume((np.diff(remainders) > 1e-6).all() and remainders[-1] < 1 - 1e-6)  # equal ones are parted by rounding
    assert split(natural(sizes), n, sizes).tolist() == quotas(sizes, n).tolist()
