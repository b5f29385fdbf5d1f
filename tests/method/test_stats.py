"""Rank statistics, against numbers worked by hand, a slow second implementation and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from campus_tune.method.stats import (
    average_ranks,
    correlation_matrix,
    largest_tie,
    mean_within,
    ranks_within,
    spearman,
    tie_share,
)

tied = st.lists(st.integers(-3, 3), min_size=2, max_size=30)


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert average_ranks(np.array([3.0, 1.0, 3.0, 3.0, 2.0])).tolist() == [4.0, 1.0, 4.0, 4.0, 2.0]


@given(tied)
def test_ranks_are_those_of_counting_smaller_and_equal_values(values: list[int]) -> None:
    slow = [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]
    assert average_ranks(np.array(values)).tolist() == slow


grouped = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), min_size=1, max_size=30)


@given(grouped)
def test_ranks_within_groups_are_those_of_each_group_alone(rows: list[tuple[int, int]]) -> None:
    values, groups = (np.array(column) for column in zip(*rows, strict=True))
    slow = np.zeros(len(rows))
    for group in set(groups.tolist()):
        inside = groups == group
        slow[inside] = average_ranks(values[inside]) / inside.sum()
    assert ranks_within(values, groups) == pytest.approx(slow)


def test_no_values_have_no_ranks() -> None:
    assert ranks_within(np.zeros(0), np.zeros(0, dtype=np.int64)).shape == (0,)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 2)), max_size=30))
def test_the_mean_within_groups_is_that_of_a_loop(rows: list[tuple[int, int, int]]) -> None:
    a, b, groups = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    rhos = [(spearman(a[groups == g], b[groups == g]), int((groups == g).sum())) for g in set(groups.tolist())]
    known = [(rho, n) for rho, n in rhos if not math.isnan(rho)]
    expected = sum(rho * n for rho, n in known) / sum(n for _, n in known) if known else math.nan
    assert mean_within(a, b, groups) == pytest.approx(expected, nan_ok=True)


@given(tied, st.randoms())
def test_spearman_is_scipys_with_ties(a: list[int], random: object) -> None:
    b = list(a)
    random.shuffle(b)  # type: ignore[attr-defined]
    if len(set(a)) == 1:
        assert math.isnan(spearman(np.array(a), np.array(b)))
    else:
        assert spearman(np.array(a), np.array(b)) == pytest.approx(scipy_stats.spearmanr(a, b).statistic, abs=1e-12)


def test_the_matrix_is_symmetric_with_ones_and_nan_for_a_constant() -> None:
    names, matrix = correlation_matrix({"a": np.array([1.0, 2, 3]), "b": np.array([3.0, 1, 2]), "c": np.ones(3)})
    assert names == ["a", "b", "c"]
    assert matrix[:2, :2] == pytest.approx(np.array([[1, -0.5], [-0.5, 1]]))
    assert np.isnan(matrix[2]).all()
    assert np.isnan(matrix[:, 2]).all()


def test_no_scores_make_an_empty_matrix() -> None:
    assert correlation_matrix({})[1].shape == (0, 0)
    assert math.isnan(spearman(np.zeros(0), np.zeros(0)))


@given(tied)
def test_ties_are_counted_as_by_hand(values: list[int]) -> None:
    n = len(values)
    assert tie_share(np.array(values)) == pytest.approx(sum(values.count(v) > 1 for v in values) / n)
    assert largest_tie(np.array(values)) == pytest.approx(max(values.count(v) for v in values) / n)


def test_nothing_is_tied_among_no_values() -> None:
    assert tie_share(np.zeros(0)) == largest_tie(np.zeros(0)) == 0.0
