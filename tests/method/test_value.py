"""What rows and domains are worth: slow references, a learner with planted values, and what holds for any visits."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.value import (
    ALL,
    BLOCKS,
    RESAMPLES,
    Reliability,
    RowValues,
    Transfer,
    ValuedVisits,
    harms,
    mean_interval,
    probes_of,
    stepped_up,
    transfer_of,
)
from campus_tune.words.types import FloatArray
from tests.method.valued import DOMAINS, Learned, planted
from tests.strategies import examples

N, PROBES = 7, ("math", "code")
NAN = float("nan")

Visit = tuple[int, int, float, int, tuple[float, float], tuple[float, float]]
_number = st.integers(-8, 8).map(lambda x: x / 2)
_halves = st.tuples(_number, _number)
visits_drawn = st.lists(
    st.tuples(
        st.integers(0, N - 1),
        st.integers(1, 5),
        st.sampled_from([0.5, 0.25, 0.0]),
        st.sampled_from([4, 8]),
        st.one_of(_halves, st.just((NAN, NAN))),
        _halves,
    ),
    max_size=24,
)


def stage(visits: list[Visit]) -> ValuedVisits:
    a, b = (np.array([one[k] for one in visits], dtype=np.float64).reshape(-1, 2) for k in (4, 5))
    return ValuedVisits(
        np.array([one[0] for one in visits], dtype=np.int64),
        np.array([one[1] for one in visits], dtype=np.int64),
        np.array([one[2] for one in visits]),
        np.array([one[3] for one in visits], dtype=np.int64),
        a,
        b,
    )


def folded(visits: list[Visit], *cuts: int) -> RowValues:
    ends = [0, *sorted(cuts), len(visits)]
    parts = [stage(visits[low:high]) for low, high in pairwise(ends)]
    return RowValues.fold(parts, N, PROBES)


@given(visits_drawn)
def test_the_fold_is_what_the_slow_reference_says(visits: list[Visit]) -> None:
    values = folded(visits)
    for row in range(N):
        mine = [one for one in visits if one[0] == row]
        known = [one for one in mine if not math.isnan(one[4][0])]
        assert values.visits[row] == len(known)
        assert values.unweighted[row] == len(mine) - len(known)
        assert values.tokens[row] == sum(one[1] for one in known)
        for k, probe in enumerate([*PROBES, ALL]):

            def part(pair: tuple[float, float], k: int = k) -> float:
                return statistics.fmean(pair) if k == len(PROBES) else pair[k]

            phi = [sum(one[2] / one[3] * part(one[half]) for one in known) for half in (4, 5)]
            found = [float(values.of(probe, half)[row]) for half in ("a", "b")]  # type: ignore[arg-type]
            assert found == pytest.approx(phi if known else [NAN, NAN], nan_ok=True)
            whole = values.of(probe)[row]
            assert whole == pytest.approx(sum(phi) / 2 if known else NAN, nan_ok=True)
            negative = sum(part(one[4]) < 0 and part(one[5]) < 0 for one in known)
            assert values.negative_visits(probe)[row] == negative
            harm = bool(known) and phi[0] < 0 and phi[1] < 0 and 3 * negative >= 2 * len(known)
            if all(abs(one) > 1e-9 for one in phi):  # a sum of floats that is 0 may come out on either side of it
                assert bool(values.harmful(probe)[row]) == harm


@given(visits_drawn, st.lists(st.integers(0, 24), max_size=3))
def test_where_stages_were_cut_does_not_matter(visits: list[Visit], cuts: list[int]) -> None:
    whole, parts = folded(visits), folded(visits, *(min(cut, len(visits)) for cut in cuts))
    for name, found in vars(whole).items():
        if name != "probes":
            np.testing.assert_array_equal(found, getattr(parts, name))


@given(visits_drawn)
def test_halves_changed_over_change_nothing_but_their_names(visits: list[Visit]) -> None:
    turned = [(*one[:4], one[5], one[4]) for one in visits if not math.isnan(one[4][0])]
    straight, other = folded([one for one in visits if not math.isnan(one[4][0])]), folded(turned)
    for probe in (*PROBES, ALL):
        np.testing.assert_allclose(straight.of(probe), other.of(probe))
        np.testing.assert_array_equal(straight.of(probe, "a"), other.of(probe, "b"))
        np.testing.assert_array_equal(straight.harmful(probe), other.harmful(probe))


def test_the_columns_of_a_stages_file_are_taken_by_their_names() -> None:
    columns = {
        "row": np.array([3, 1], dtype=np.int32),
        "tokens": np.array([2, 5], dtype=np.int32),
        "rate": np.array([0.1, 0.1]),
        "step_tokens": np.array([7, 7]),
        "a b": np.array([1, NAN], dtype=np.float32),
        "a ": np.array([2, NAN], dtype=np.float32),
        "b ": np.array([4, NAN], dtype=np.float32),
        "b b": np.array([3, NAN], dtype=np.float32),
    }
    assert probes_of(columns) == ("b", "")
    visits = ValuedVisits.of_columns(columns, ("b", ""))
    assert visits.a.tolist()[0] == [1, 2]
    assert visits.b.tolist()[0] == [3, 4]
    values = RowValues.fold([visits], 5, ("b", ""))
    assert values.of("b")[3] == pytest.approx(0.1 / 7 * 2)
    assert values.unweighted.tolist() == [0, 1, 0, 0, 0]
    with pytest.raises(KeyError, match="b math"):
        ValuedVisits.of_columns({**columns, "a math": columns["a b"]}, ("math",))


def test_a_row_harms_by_both_halves_and_two_of_three_of_its_visits() -> None:
    a, b = np.array([-1.0, -1.0, -1.0, 1.0, NAN, -1.0]), np.array([-1.0, -1.0, 1.0, -1.0, NAN, 0.0])
    found = harms(a, b, np.array([2, 1, 3, 3, 0, 3]), np.array([3, 3, 3, 3, 0, 3]))
    assert found.tolist() == [True, False, False, False, False, False]


# -- how well halves agree ---------------------------------------------------------------------------------------------


def agree(a: FloatArray, b: FloatArray, tokens: object = None, domains: object = None) -> Reliability:
    n = len(a)
    return Reliability.between(
        a,
        b,
        tokens=np.ones(n, dtype=np.int64) if tokens is None else np.asarray(tokens, dtype=np.int64),
        domains=np.zeros(n, dtype=np.int64) if domains is None else np.asarray(domains, dtype=np.int64),
    )


def test_reliability_by_hand() -> None:
    found = agree(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([2.0, 1.0, 4.0, 3.0, 5.0]))
    assert found.value == pytest.approx(2 * 0.8 / 1.8)  # ρ = 1 − 6·4 / (5·24)
    z, width = math.atanh(0.8), 1.95996398 * math.sqrt((1 + 0.32) / 2)
    assert found.low == pytest.approx(math.tanh(z - width))  # below 0: not stepped up
    high = math.tanh(z + width)
    assert found.high == pytest.approx(2 * high / (1 + high))
    assert found.inside == pytest.approx(found.value)
    assert found.rows == 5


def test_reliability_of_few_or_equal_rows_is_not_known() -> None:
    assert math.isnan(agree(np.zeros(0), np.zeros(0)).value)
    assert math.isnan(agree(np.ones(1), np.ones(1)).value)
    assert math.isnan(agree(np.ones(9), np.arange(9.0)).value)
    three = agree(np.arange(3.0), np.arange(3.0))
    assert three.value == pytest.approx(1)
    assert math.isnan(three.low)
    many = agree(np.arange(30.0), np.arange(30.0))
    assert many.low == pytest.approx(1)


def test_values_that_only_tell_long_rows_and_domains_apart_are_found_out() -> None:
    rng = np.random.default_rng(0)
    domains, tokens = np.arange(600) % 2, rng.integers(1, 200, 600)
    shift = np.where(domains == 1, 2.0, 1.0)
    a, b = (tokens * (shift + 0.1 * rng.normal(size=600)) for _ in "ab")
    found = agree(a, b, tokens, domains)
    assert found.value > 0.95
    assert abs(found.inside) < 0.2


def test_the_interval_of_the_reliability_holds_the_truth() -> None:
    """What two more halves of a million rows would say, from 60 rows at a time."""
    rng, truth = np.random.default_rng(1), None
    held, n_worlds = 0, 400
    for world in range(n_worlds + 1):
        n = 60 if world else 200_000
        signal = rng.normal(size=n)
        found = agree(signal + rng.normal(size=n), signal + rng.normal(size=n))
        if truth is None:
            truth = found.value
        else:
            held += found.low <= truth <= found.high
    assert truth == pytest.approx(stepped_up(6 / math.pi * math.asin(0.25)), abs=0.01)
    assert 0.92 * n_worlds <= held <= 0.985 * n_worlds


def test_halves_are_stepped_up_to_the_whole() -> None:
    assert [stepped_up(rho) for rho in (0.2, 0.5, 0.9, 0.0, -0.4)] == pytest.approx([1 / 3, 2 / 3, 1.8 / 1.9, 0, -0.4])


@given(st.floats(-1, 1), st.floats(-1, 1))
def test_stepping_up_keeps_the_sequence_and_the_bounds(a: float, b: float) -> None:
    assert -1 <= stepped_up(a) <= 1
    if a <= b:
        assert stepped_up(a) <= stepped_up(b)


# -- what domains do to each other -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learned() -> Learned:
    return planted(3, n=360)


def transfer(of: Learned, **how: int) -> Transfer:
    values = RowValues.fold(of.stages, len(of.domains), DOMAINS)
    return transfer_of(values, of.domains, DOMAINS, **how)


def test_what_was_planted_is_found(learned: Learned) -> None:
    found = transfer(learned)
    assert (found.low <= learned.truth).all()
    assert (learned.truth <= found.high).all()
    near, far = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 2)], [(0, 2), (2, 0), (2, 1)]
    assert all(found.clear[cell] and found.mean[cell] > 0 for cell in near)
    assert all(found.clear[cell] and found.mean[cell] < 0 for cell in far)


def test_intervals_hold_what_was_planted_nineteen_times_of_twenty() -> None:
    held = []
    for world in range(70):
        of = planted(100 + world, n=90, stages=2)
        found = transfer(of, seed=world)
        held.append((found.low <= of.truth) & (of.truth <= found.high))
    by_cell = np.mean(held, axis=0)
    assert 0.91 <= by_cell.mean() <= 0.985
    assert by_cell.min() > 0.8


@pytest.mark.parametrize("n", [12, 40, 300])
def test_rows_that_know_nothing_are_clear_one_time_of_twenty(n: int) -> None:
    probes = tuple(map(str, range(600)))
    values = np.random.default_rng(n).normal(size=(2, n, len(probes)))
    rows, ones = np.arange(n), np.ones(n, dtype=np.int64)
    of = ValuedVisits(rows, ones, ones / 1.0, ones, values[0], values[1])
    found = transfer_of(RowValues.fold([of], n, probes), rows * 0, ("one",))
    assert 0.03 < found.clear.mean() < 0.075


def test_means_are_those_of_the_visits(learned: Learned) -> None:
    found = transfer(learned)
    for d in range(3):
        visits = [
            (one.a[i], one.b[i], one.rows[i], one.tokens[i])
            for one in learned.stages
            for i in range(len(one.rows))
            if learned.domains[one.rows[i]] == d and not np.isnan(one.a[i, 0])
        ]
        assert found.visits[d] == len(visits)
        assert found.rows[d] == len({row for *_, row, _ in visits})
        assert found.tokens[d] == pytest.approx(statistics.fmean(tokens for *_, tokens in visits))
        assert found.a[d] == pytest.approx(np.mean([a for a, *_ in visits], axis=0))
        assert found.b[d] == pytest.approx(np.mean([b for _, b, *_ in visits], axis=0))
        assert found.mean[d] == pytest.approx((found.a[d] + found.b[d]) / 2)


def test_a_cell_whose_halves_disagree_is_not_clear() -> None:
    one = np.array([[1.0]])
    n = np.array([9])
    settings = {"domains": ("a",), "probes": ("p",), "visits": n, "rows": n, "tokens": n / 1.0}
    agreeing = Transfer(mean=one, low=one / 2, high=2 * one, a=one, b=one, **settings)  # type: ignore[arg-type]
    torn = Transfer(mean=one, low=one / 2, high=2 * one, a=3 * one, b=-one, **settings)  # type: ignore[arg-type]
    assert agreeing.clear.tolist() == [[True]]
    assert torn.clear.tolist() == [[False]]


def test_a_domain_without_visits_is_not_known_and_one_row_has_no_interval() -> None:
    values = RowValues.fold([stage([(0, 3, 0.5, 4, (1.0, 2.0), (3.0, 4.0))])], N, PROBES)
    found = transfer_of(values, np.array([0, 1, 1, 1, 1, 1, 1]), ("one", "none", "empty"))
    assert found.mean[0].tolist() == [2, 3]
    assert np.isnan(found.low[0]).all()
    assert np.isnan(found.mean[1:]).all()
    assert found.visits.tolist() == [1, 0, 0]
    assert not found.clear.any()


def test_an_interval_is_the_ordinary_one_of_a_mean_with_many_rows() -> None:
    rng = np.random.default_rng(0)
    for n in (300, 5 * BLOCKS):
        sums = rng.normal(2.0, 1.0, (n, 1))
        low, high = mean_interval(sums, np.ones(n, dtype=np.int64), seed=(1,))
        half = 1.96 * sums.std(ddof=1) / math.sqrt(n)
        assert (high - low)[0] / 2 == pytest.approx(half, rel=4 / math.sqrt(RESAMPLES))


def test_an_interval_of_few_rows_is_what_the_slow_reference_says() -> None:
    rng = np.random.default_rng(5)
    sums, counts, n = rng.normal(1.0, 1.0, 6), np.array([1, 2, 1, 3, 1, 1]), 6
    mean = sums.sum() / counts.sum()
    drawn = []
    for _ in range(20_000):
        rows = rng.integers(0, n, n)
        drawn.append(sums[rows].sum() / counts[rows].sum())
    wider = math.sqrt(6 / 5) * (1 + (1.959964**2 + 1) / 20)
    expected = [mean + wider * (np.quantile(drawn, q) - mean) for q in (0.025, 0.975)]
    found = mean_interval(sums[:, None], counts, seed=(3,))
    assert [float(end[0]) for end in found] == pytest.approx(expected, abs=0.03 * (expected[1] - expected[0]))


def test_visits_of_one_row_are_not_taken_for_several_rows() -> None:
    """Ten visits with one value each say no more than one does."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=(40, 1))
    once = mean_interval(values, np.ones(40, dtype=np.int64), seed=(1,))
    often = mean_interval(10 * values, np.full(40, 10), seed=(1,))
    np.testing.assert_allclose(once, often)


# -- what it says of training ------------------------------------------------------------------------------------------


def test_values_add_up_to_what_the_probes_gained(learned: Learned) -> None:
    values = RowValues.fold(learned.stages, len(learned.domains), DOMAINS)
    total = [np.nansum(values.of(probe)) for probe in DOMAINS]
    assert total == pytest.approx(learned.fell, rel=0.05)
    assert np.nansum(values.of()) == pytest.approx(learned.fell.mean(), rel=0.05)


def test_rows_of_a_far_domain_harm(learned: Learned) -> None:
    values = RowValues.fold(learned.stages, len(learned.domains), DOMAINS)
    shares = [values.harmful("math")[learned.domains == d].mean() for d in range(3)]
    assert shares[2] > 2 * max(shares[:2])
    assert values.reliability("math").value > 0.9


@given(st.integers(0, 1000), st.sampled_from([2, 5, 30]))
@examples(10)
def test_a_transfer_is_the_same_whatever_its_domains_are_called(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    drawn: list[Visit] = [
        (int(rng.integers(N)), 1, 0.5, 4, tuple(rng.normal(size=2)), tuple(rng.normal(size=2)))  # type: ignore[misc]
        for _ in range(n)
    ]
    values, codes = folded(drawn), rng.integers(0, 3, N)
    straight = transfer_of(values, codes, ("a", "b", "c"), seed=seed)
    again = transfer_of(values, codes, ("x", "y", "z"), seed=seed)
    np.testing.assert_array_equal(straight.low, again.low)
    inside = np.isfinite(straight.low)
    assert (straight.low[inside] <= straight.mean[inside] + 1e-12).all()
    assert (straight.mean[inside] <= straight.high[inside] + 1e-12).all()
