"""The fast sort against the slow one it took the place of: every order is the same to the last row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from campus_tune.method import orders, sorting, standing
from campus_tune.method.orders import order_rows
from campus_tune.method.sorting import Ties, by_score, rising_bits, stable_places
from campus_tune.method.standing import by_number, dealt, sums_of_cells
from campus_tune.words import cores
from campus_tune.words.types import FloatArray, IntArray, RowArray

seeds = st.integers(0, 2**63)
finite = st.floats(allow_nan=False, allow_infinity=False)
near = st.integers(0, 6).map(lambda k: 1.0 + k * 2.0**-50)  # one float32, seven float64
dates = st.integers(0, 40).map(lambda k: 1.7e9 + k * 2.0**-10)
few = st.sampled_from([-1.5, -0.0, 0.0, 1.0, 2.0, 1e300, -1e300, 5e-324])
score_lists = st.one_of(*(st.lists(kind, min_size=1, max_size=70) for kind in (finite, near, dates, few, near | few)))


@pytest.fixture(params=[4, 16, 1 << 18])
def small_parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a few rows: what is merged from many of them is the usual case then."""
    monkeypatch.setattr(cores, "PART", request.param)
    monkeypatch.setattr(sorting, "PART", request.param)


many_cases = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def slow_order(scores: FloatArray, seed: int, groups: IntArray | None = None) -> RowArray:
    """As orders were made at first: places sorted by score, the tied ones by their keys, groups by their quantiles."""
    ties = Ties(seed).in_part(slice(0, len(scores))).astype(np.uint64)
    order = np.lexsort((ties, scores)).astype(np.int32)
    if groups is None:
        return order
    sizes = np.bincount(groups)
    by_group = order[np.argsort(groups[order], kind="stable")]
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    quantile = (rank + 0.5) / np.repeat(sizes, sizes)
    high = (quantile * 2**31).astype(np.int64).astype(np.uint64)
    return by_group[np.argsort((high << np.uint64(32)) | ties[by_group])]


@pytest.mark.usefixtures("small_parts")
@many_cases
@given(score_lists, seeds)
@example([1.7976931348623157e308, -9.98e291], 0)  # further apart than any number
def test_an_order_is_that_of_the_slow_sort(scores: list[float], seed: int) -> None:
    values = np.array(scores)
    order = by_score(values, Ties(seed))
    assert (order.tolist(), order.dtype) == (slow_order(values, seed).tolist(), np.int32)


@pytest.mark.usefixtures("small_parts")
@many_cases
@given(score_lists, seeds, st.data())
def test_an_order_within_groups_is_that_of_the_slow_sort(scores: list[float], seed: int, data: st.DataObject) -> None:
    codes = st.sampled_from([0, 1, 2, 7, 70_000])
    values, groups = np.array(scores), np.array([data.draw(codes) for _ in scores])
    assert order_rows(values, seed=seed, groups=groups).tolist() == slow_order(values, seed, groups).tolist()


def made(kind: str, n: int) -> FloatArray:
    rng = np.random.default_rng(5)
    if kind == "length":
        return rng.integers(1, 2000, n).astype(np.float64)
    if kind == "dates":
        return 1.7e9 + rng.random(n)
    if kind == "float32":
        return rng.standard_normal(n).astype(np.float32).astype(np.float64)
    return rng.standard_normal(n) if kind == "normal" else np.round(rng.random(n), 2)


@pytest.mark.parametrize("kind", ["length", "dates", "float32", "normal", "rounded"])
def test_an_order_of_many_parts_is_that_of_the_slow_sort(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "PART", 1 << 12)
    monkeypatch.setattr(sorting, "PART", 1 << 12)
    scores = made(kind, 100_003)
    groups = np.random.default_rng(6).integers(5, size=len(scores))
    assert np.array_equal(order_rows(scores, seed=3), slow_order(scores, 3))
    assert np.array_equal(order_rows(scores, seed=3, groups=groups), slow_order(scores, 3, groups))


def test_scores_in_a_file_are_ordered_as_they_are_in_memory(tmp_path: pytest.TempPathFactory) -> None:
    scores = made("normal", 1000)
    np.save(f"{tmp_path}/scores.npy", scores)
    mapped = np.load(f"{tmp_path}/scores.npy", mmap_mode="r")
    assert order_rows(mapped, seed=1).tolist() == order_rows(scores, seed=1).tolist()


def test_scores_are_left_as_they_are() -> None:
    scores = made("normal", 5000)
    before = scores.copy()
    order_rows(scores, seed=0, groups=np.zeros(5000, dtype=np.int64))
    assert np.array_equal(scores, before)


def test_no_rows_are_no_order() -> None:
    assert by_score(np.zeros(0), Ties(0)).tolist() == []


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=50), seeds)
def test_a_tie_says_whose_it_is(rows: list[int], seed: int) -> None:
    ids = np.array(rows, dtype=np.uint32)
    assert Ties(seed).rows(Ties(seed).of(ids)).tolist() == rows


@given(st.lists(finite | near | dates, min_size=1, max_size=60), st.sampled_from([np.float64, np.float32]))
def test_places_are_those_of_a_stable_argsort(values: list[float], kind: type) -> None:
    with np.errstate(over="ignore"):
        array = np.array(values).astype(kind)
    assert stable_places(array).tolist() == np.argsort(array, kind="stable").tolist()


def test_places_are_right_where_a_value_has_more_bits_than_are_left_for_it() -> None:
    values = np.array([1e300, 1.0 + 2.0**-52, 1.0, -1e300, 1.0 + 2.0**-52, 1.0])
    assert stable_places(values).tolist() == [3, 2, 5, 1, 4, 0]


@given(st.lists(finite, min_size=2, max_size=40), st.sampled_from([np.float64, np.float32]))
def test_bits_rise_as_the_floats_do(values: list[float], kind: type) -> None:
    with np.errstate(over="ignore"):
        array = np.array(values).astype(kind)
    bits = rising_bits(array).tolist()
    for one, its in zip(array.tolist(), bits, strict=True):
        assert [(other > one) - (other < one) for other in array.tolist()] == [(b > its) - (b < its) for b in bits]


# -- what standings are made of ----------------------------------------------------------------------------------------

in_cells = st.lists(st.tuples(st.floats(-1e6, 1e6), st.integers(0, 5)), min_size=1, max_size=60)


def arrays(rows: list[tuple[float, int]]) -> tuple[FloatArray, IntArray]:
    return np.array([value for value, _ in rows]), np.array([cell for _, cell in rows])


@pytest.mark.usefixtures("small_parts")
@many_cases
@given(in_cells)
def test_values_are_dealt_to_their_cells_in_sequence(rows: list[tuple[float, int]]) -> None:
    values, cells = arrays(rows)
    ends = np.append(0, np.cumsum(np.bincount(cells, minlength=7)))
    assert dealt(values, cells, ends).tolist() == values[by_number(cells, 7)].tolist()


@pytest.mark.usefixtures("small_parts")
@many_cases
@given(in_cells)
def test_sums_of_cells_are_those_of_one_pass_to_the_last_bit(rows: list[tuple[float, int]]) -> None:
    values, cells = arrays(rows)
    assert sums_of_cells(values, cells, 7).tolist() == np.bincount(cells, values, 7).tolist()


@pytest.mark.parametrize("limit", [standing.MOST_DEALT, 2])
def test_more_cells_than_are_counted_in_each_part_are_dealt_too(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "PART", 8)
    monkeypatch.setattr(standing, "MOST_DEALT", limit)
    cells = np.arange(40) % 5
    ends = np.append(0, np.cumsum(np.bincount(cells)))
    assert dealt(np.arange(40.0), cells, ends).tolist() == np.argsort(cells, kind="stable").tolist()


# -- how much is held at once ------------------------------------------------------------------------------------------


@pytest.fixture
def asked_for(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Entries of each array of keys that an order takes, and of each piece of scores that it reads."""
    sizes: list[int] = []
    finish = sorting.sorted_rows

    def watched(keys: NDArray[np.uint64], *args: object, **kwargs: bool) -> RowArray:
        sizes.append(len(keys))
        return finish(keys, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(sorting, "sorted_rows", watched)
    monkeypatch.setattr(orders, "sorted_rows", watched)
    return sizes


def test_an_order_takes_one_array_of_keys_and_one_more_for_groups(asked_for: list[int]) -> None:
    scores = made("normal", 3000)
    order_rows(scores, seed=0)
    assert asked_for == [3000]
    order_rows(scores, seed=0, groups=np.arange(3000) % 3)
    assert asked_for == [3000, 3000, 3000]
