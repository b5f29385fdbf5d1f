"""Thinning: chances by hand and by slow references, draws by counting, the bounds of what a setting may be."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.standing import relative
from campus_tune.method.thin import THINNERS, Prune, Thin, build_thinner, capped, ess, filled, take, tau
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray
from tests.strategies import examples

ONE_OF_FIVE = np.array([4.0, 1, 1, 1, 1])
INFOBATCH = np.array([0.2, 0.4, 0.6, 1.0, 2.8])
GRID = (np.arange(2000) + 0.5) / 2000


def keys(m: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).random(m)


def chances(setting: str | dict[str, Any], scores: Any, n: int) -> FloatArray:
    return build_thinner(setting).chances(np.asarray(scores, dtype=np.float64), n, keys(len(scores)))


def inclusion(pi: FloatArray) -> FloatArray:
    """How often each row is taken, over an even grid of the random number."""
    return np.mean([take(pi, float(u)) for u in GRID], axis=0)


scores_drawn = st.lists(
    st.one_of(st.just(0.0), st.floats(0, 10), st.integers(0, 3).map(float)), min_size=1, max_size=30
)
cases = scores_drawn.flatmap(lambda s: st.tuples(st.just(np.array(s)), st.integers(0, len(s) + 2)))


# -- slow references ---------------------------------------------------------------------------------------------------


def filled_slowly(parts: list[float], n: int) -> list[float]:
    """Water-filling as one would say it: who would have more than 1 has 1, the others share what is left, and again."""
    m = len(parts)
    sure: set[int] = set()
    while True:
        others = [i for i in range(m) if i not in sure]
        total, left = sum(parts[i] for i in others), min(n, m) - len(sure)
        pi = [1.0] * m
        for i in others:
            pi[i] = left * parts[i] / total if total > 0 else left / len(others)
        over = {i for i in others if pi[i] > 1}
        if not over:
            return pi
        sure |= over


def madow_slowly(pi: FloatArray, u: float) -> list[int]:
    """A tick at u, u + 1, …: the row in whose stretch each of them lies."""
    taken, end, tick = [], 0.0, u
    for row, chance in enumerate(pi.tolist()):
        end += chance
        if tick < end:
            taken.append(row)
            tick += 1
    return taken


# -- proportional ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "floor", "pi", "weights"),
    [
        (2, 0.0, [1, 0.25, 0.25, 0.25, 0.25], [0.4, 1.6, 1.6, 1.6, 1.6]),
        (2, 0.3, [0.82, 0.295, 0.295, 0.295, 0.295], [0.4878, 1.3559, 1.3559, 1.3559, 1.3559]),
        (3, 0.0, [1, 0.5, 0.5, 0.5, 0.5], [0.6, 1.2, 1.2, 1.2, 1.2]),
    ],
)
def test_worked_importance_sampling(n: int, floor: float, pi: list[float], weights: list[float]) -> None:
    got = chances({"name": "proportional", "floor": floor}, ONE_OF_FIVE, n)
    assert got.tolist() == pytest.approx(pi)
    assert (n / 5 / got).round(4).tolist() == weights
    assert (got * (n / 5 / got)).sum() == pytest.approx(n)


def test_worked_tau() -> None:
    assert tau(ONE_OF_FIVE) == pytest.approx(1.25)
    assert tau(ONE_OF_FIVE) == pytest.approx(math.sqrt(1 + 0.75**2))
    assert tau(np.full(7, 3.0)) == tau(np.zeros(7)) == tau(np.zeros(0)) == 1


@given(st.lists(st.floats(1e-3, 10), min_size=1, max_size=20).map(np.array))
def test_tau_is_that_of_the_paper(scores: FloatArray) -> None:
    """1/√(1 − Σ(g − 1/m)²/Σg²), as Katharopoulos & Fleuret write it."""
    g, m = scores / scores.sum(), len(scores)
    assert tau(scores) == pytest.approx(1 / math.sqrt(1 - ((g - 1 / m) ** 2).sum() / (g**2).sum()))


@given(cases)
def test_water_filling_is_the_slow_one(case: tuple[FloatArray, int]) -> None:
    parts, n = case
    pi = capped(parts, n)
    assert pi.tolist() == pytest.approx(filled_slowly(parts.tolist(), n), abs=1e-9)
    assert pi.sum() == pytest.approx(min(n, len(parts)))
    assert ((pi >= 0) & (pi <= 1)).all()


@given(cases, st.floats(0.05, 1), st.floats(0, 4))
def test_weights_are_never_above_what_the_floor_allows(
    case: tuple[FloatArray, int], floor: float, power: float
) -> None:
    scores, n = case
    m = len(scores)
    pi = chances({"name": "proportional", "floor": floor, "power": power}, scores, n)
    assert (pi >= min(1, floor * n / m) - 1e-9).all()


def test_power_zero_and_scores_that_say_nothing_are_uniform() -> None:
    for setting in ({"name": "proportional", "power": 0}, {"name": "rank", "keep": 1.0}):
        assert chances(setting, [1.0, 2.0, 9.0, 0.5], 2).tolist() == [0.5] * 4
    assert chances("proportional", np.zeros(4), 2).tolist() == [0.5] * 4


def test_a_large_power_of_large_scores_is_a_number() -> None:
    pi = chances({"name": "proportional", "power": 100, "floor": 0}, [1e300, 1e-300, 1e299], 1)
    assert pi.tolist() == pytest.approx([1, 0, 0], abs=1e-9)


# -- rank --------------------------------------------------------------------------------------------------------------


def test_worked_selective_backprop() -> None:
    """Composer's parts for eight rows, keep ½: percentile^1 over their sum, four of them taken."""
    percentiles = (np.arange(8) + 0.5) / 8
    pi = chances({"name": "rank", "keep": 0.5}, percentiles, 4)
    assert (pi / 4).round(4).tolist() == [0.0156, 0.0469, 0.0781, 0.1094, 0.1406, 0.1719, 0.2031, 0.2344]


def test_the_power_of_rank_is_that_of_keep_unless_it_is_given() -> None:
    percentiles = (np.arange(20) + 0.5) / 20
    for keep in (0.25, 0.5, 0.8):
        power = 1 / keep - 1
        assert (percentiles**power).mean() == pytest.approx(keep, abs=0.01)
        theirs = chances({"name": "rank", "keep": keep, "power": power}, percentiles, 5)
        assert chances({"name": "rank", "keep": keep}, percentiles, 5).tolist() == theirs.tolist()


# -- top ---------------------------------------------------------------------------------------------------------------


def test_worked_rho() -> None:
    rho = np.array([3, 2, 5, 1]) - np.array([1, 1.9, 4.9, 0.1])
    assert rho.tolist() == pytest.approx([2, 0.1, 0.1, 0.9])
    assert chances({"name": "top", "keep": 0.5}, rho, 2).tolist() == [1, 0, 0, 1]  # rows 0 and 3


@given(cases, st.integers(0, 9))
def test_top_takes_n_of_which_none_is_below_one_that_it_leaves(case: tuple[FloatArray, int], seed: int) -> None:
    scores, n = case
    pi = build_thinner("top").chances(scores, n, keys(len(scores), seed))
    slow = sorted(range(len(scores)), key=lambda i: (-scores[i], keys(len(scores), seed)[i]))[:n]
    assert np.flatnonzero(pi == 1).tolist() == sorted(slow)
    assert set(pi.tolist()) <= {0.0, 1.0}


def test_equal_scores_are_parted_by_the_keys_and_not_by_the_number_of_the_row() -> None:
    counts = np.zeros(10)
    for seed in range(600):
        counts += build_thinner("top").chances(np.ones(10), 3, keys(10, seed))
    assert ((counts - 180) ** 2 / (180 * 0.7)).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001


# -- prune -------------------------------------------------------------------------------------------------------------


def test_worked_infobatch() -> None:
    rows = np.arange(5)
    pi = chances({"name": "prune", "drop": 0.5}, relative("difference", INFOBATCH, None, rows), 5)
    assert pi.tolist() == [0.5, 0.5, 0.5, 1, 1]  # the fourth is at the mean, 1.0
    assert pi.sum() == 3.5


@pytest.mark.parametrize("how", ["prune", "proportional"])
def test_weights_1_over_pi_give_the_sum_of_all_losses(how: str) -> None:
    """E[Σ w·ℓ] = 5.0 = Σ ℓ, counted over the random number."""
    scale = build_thinner(how).scale
    pi = chances(how, relative(scale, INFOBATCH, None, np.arange(5)), 3)
    sums = [(INFOBATCH / pi)[take(pi, float(u))].sum() for u in GRID]
    assert np.mean(sums) == pytest.approx(5.0, abs=0.02)


def test_what_is_offered_until_the_stage_is_full() -> None:
    pi = np.array([0.5, 1.0, 0.5, 1.0, 1.0])
    assert filled(pi, 2).tolist() == [0.5, 1, 0.5]
    assert filled(pi, 3).tolist() == [0.5, 1, 0.5, 1]
    assert filled(np.array([0.5, 1.0, 1.0]), 2).tolist() == [0.5, 1.0, 0.5]  # the last one is cut
    assert filled(pi, 9).tolist() == pi.tolist()
    assert filled(pi, 0).tolist() == []


@given(st.lists(st.sampled_from([0.1, 0.5, 0.7, 1.0]), min_size=1, max_size=60).map(np.array), st.integers(1, 20))
def test_filled_adds_up_to_what_is_wanted_and_cuts_the_last_alone(pi: FloatArray, n: int) -> None:
    first = filled(pi, n)
    assert first[:-1].tolist() == pi[: len(first) - 1].tolist()
    assert 0 < first[-1] <= pi[len(first) - 1]
    if pi.sum() >= n:
        assert first.sum() == pytest.approx(n)
        assert all(np.count_nonzero(take(first, float(u))) == n for u in GRID[::100])
    else:
        assert first.tolist() == pi.tolist()


# -- what is drawn -----------------------------------------------------------------------------------------------------


def test_worked_systematic_draws() -> None:
    pi = capped(0.7 * ONE_OF_FIVE / 8 + 0.3 / 5, 2)
    assert np.flatnonzero(take(pi, 0.25)).tolist() == [0, 2]
    assert np.flatnonzero(take(pi, 0.9)).tolist() == [1, 4]
    assert inclusion(pi).tolist() == pytest.approx([0.82, 0.295, 0.295, 0.295, 0.295], abs=1e-3)


@given(cases, st.floats(0, 1, exclude_max=True))
def test_exactly_n_rows_are_taken_those_of_the_slow_one(case: tuple[FloatArray, int], u: float) -> None:
    parts, n = case
    pi = capped(parts, n)
    assert np.count_nonzero(take(pi, u)) == min(n, len(parts))
    unsure = pi < 1 - 1e-9
    near = np.abs((np.cumsum(np.where(unsure, pi, 0.0)) - u + 0.5) % 1 - 0.5) < 1e-6
    if not near.any():  # a tick on an edge falls to either side
        assert np.flatnonzero(take(pi, u) & unsure).tolist() == madow_slowly(np.where(unsure, pi, 0.0), u)


@examples(20)
@given(cases)
def test_rows_are_taken_as_often_as_their_chances_say(case: tuple[FloatArray, int]) -> None:
    pi = capped(*case)
    assert inclusion(pi).tolist() == pytest.approx(pi.tolist(), abs=2 / len(GRID))


@pytest.mark.parametrize("u", [0.0, 1e-17, 0.5, np.nextafter(1.0, 0.0)])
def test_sums_of_many_floats_lose_no_row(u: float) -> None:
    for m, n in ((300_000, 99_999), (30, 3), (7, 7), (1_000_003, 333_333)):
        assert np.count_nonzero(take(capped(np.ones(m), n), u)) == n
    uneven = capped(keys(200_000) ** 8, 50_000)
    taken = take(uneven, u)
    assert np.count_nonzero(taken) == 50_000
    assert taken[uneven == 1].all()
    assert not taken[uneven == 0].any()


def test_a_sum_that_is_not_whole_gives_one_of_its_neighbours() -> None:
    pi = np.array([0.5, 0.5, 0.5, 1, 1])
    assert {int(np.count_nonzero(take(pi, float(u)))) for u in GRID} == {3, 4}
    assert inclusion(pi).tolist() == pytest.approx(pi.tolist(), abs=1e-3)


def test_worked_effective_sample_size() -> None:
    assert ess(np.array([0.5, 0.5, 1, 1])) == pytest.approx(36 / 40)  # weights 2 2 1 1: 6² / (4·10)
    assert ess(np.full(9, 0.3)) == pytest.approx(1)
    assert ess(np.zeros(0)) == 1


# -- every thinner -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", THINNERS.names())
def test_a_card_cites_its_paper_and_says_where_we_differ(name: str) -> None:
    card = " ".join((inspect.getdoc(THINNERS.get(name)) or "").split())
    assert "Reference:" in card
    assert "*Differs from the paper*" in card


def test_the_four_are_there() -> None:
    assert THINNERS.names() == ["proportional", "prune", "rank", "top"]
    with pytest.raises(RecipeError, match=r"`thinner` must be one of proportional, .*Did you mean 'prune'"):
        build_thinner("prun")


@pytest.mark.parametrize(
    ("name", "keep", "n", "m"),
    [("top", 0.5, 3, 6), ("rank", 0.3, 3, 10), ("proportional", 0.1, 7, 70), ("top", 0.4, 3, 8)],
)
def test_rows_are_offered_by_the_share_that_is_kept(name: str, keep: float, n: int, m: int) -> None:
    assert build_thinner({"name": name, "keep": keep}).offered(n) == m


def test_a_thinner_whose_chances_are_a_rows_own_offers_what_it_takes_to_begin_with() -> None:
    assert Prune.own
    assert Prune().offered(7) == 7


@pytest.mark.parametrize(
    ("setting", "refusal"),
    [
        ({"name": "top", "keep": 0}, r"`keep` must be a number in \(0, 1\], got 0\. It is the share of offered"),
        ({"name": "rank", "power": -1}, r"`power` must be"),
        ({"name": "proportional", "floor": 1.5}, r"`floor` must be"),
        ({"name": "prune", "drop": 1}, r"`drop` must be a number in \[0, 1\), got 1\. It is the share passed over"),
        ({"name": "top", "floor": 0.3}, r"`thinner: top` takes keep, got 'floor'"),
        ({"name": "prune", "kep": 0.3}, r"`thinner: prune` takes drop, got 'kep'"),
    ],
)
def test_an_option_that_cannot_be_is_refused(setting: dict[str, Any], refusal: str) -> None:
    with pytest.raises(RecipeError, match=refusal):
        build_thinner(setting)


# -- the setting -------------------------------------------------------------------------------------------------------


def test_a_setting_builds_its_thinner_of_what_is_given() -> None:
    assert Thin("rank", "seen_loss", keep=0.25).thinner == build_thinner({"name": "rank", "keep": 0.25})
    assert Thin("prune", "seen_loss").thinner == Prune()


def test_a_setting_holds_from_since_to_until() -> None:
    thin = Thin("prune", "seen_loss", since=0.25, until=0.875)
    assert [thin.holds(u) for u in (0.0, 0.25, 0.8, 0.875, 1.0)] == [False, True, True, False, False]
    assert Thin("prune", "seen_loss").holds(0.0)


def test_below_the_gate_a_stage_draws_uniformly() -> None:
    shut, open_ = Thin("proportional", "surprise", gate=1.3), Thin("proportional", "surprise", gate=1.2)
    assert shut.chances(ONE_OF_FIVE, 2, keys(5)).tolist() == [0.4] * 5  # τ is 1.25
    assert open_.chances(ONE_OF_FIVE, 2, keys(5))[0] == pytest.approx(0.82)
    assert shut.chances(ONE_OF_FIVE, 9, keys(5)).tolist() == [1.0] * 5


@pytest.mark.parametrize(
    ("setting", "refusal"),
    [
        ({"how": "top", "gate": 1.1}, r"`thin: gate` must go with a thinner by ratio, .*got 'top'\. Remove it"),
        ({"how": "topp"}, r"Did you mean 'top'"),
        ({"how": "top", "drop": 0.5}, r"`thinner: top` takes keep, got 'drop'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(setting: dict[str, Any], refusal: str) -> None:
    with pytest.raises(RecipeError, match=refusal):
        Thin(by="seen_loss", **setting)
