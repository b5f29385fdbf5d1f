"""Orders against `sorted` with a key, tie keys against a slow murmur3, interleaving against fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.orders import group_codes, group_rows, order_rows, rank_of_rows
from campus_tune.method.sorting import Ties
from campus_tune.words.hashing import hash_rows
from tests.strategies import group_names

seeds = st.integers(0, 2**63)
# few different values, so that most rows are tied
tied_scores = st.lists(st.sampled_from([-1.5, -0.0, 0.0, 1.0, 2.0, 1e300]), min_size=1, max_size=60)


def murmur3_finaliser(x: int) -> int:
    x = ((x ^ (x >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    x = ((x ^ (x >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return x ^ (x >> 16)


def slow_tie_key(row: int, seed: int) -> int:
    return murmur3_finaliser(row ^ (int(hash_rows(np.zeros(1), seed)[0]) >> 32))


@given(st.integers(1, 300), seeds)
def test_tie_keys_are_the_finaliser_of_murmur3(n_rows: int, seed: int) -> None:
    assert Ties(seed).in_part(slice(0, n_rows)).tolist() == [slow_tie_key(row, seed) for row in range(n_rows)]


@pytest.mark.parametrize("seed", [0, 1, 12345])
def test_tie_keys_are_different_for_every_row(seed: int) -> None:
    assert len(np.unique(Ties(seed).in_part(slice(0, 300_000)))) == 300_000


@given(tied_scores, seeds)
def test_an_order_is_sorted_by_score_and_then_by_the_tie_key(scores: list[float], seed: int) -> None:
    expected = sorted(range(len(scores)), key=lambda row: (scores[row], slow_tie_key(row, seed)))
    order = order_rows(np.array(scores), seed=seed)
    assert order.tolist() == expected
    assert order.dtype == np.int32


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=60), seeds)
def test_an_order_is_a_permutation_from_easy_to_hard(scores: list[float], seed: int) -> None:
    order = order_rows(np.array(scores), seed=seed)
    assert sorted(order.tolist()) == list(range(len(scores)))
    ranked = np.array(scores)[order]
    assert (ranked[:-1] <= ranked[1:]).all()


@given(tied_scores, seeds, st.data())
def test_an_order_within_groups_is_a_permutation_too(scores: list[float], seed: int, data: st.DataObject) -> None:
    groups = np.array(data.draw(st.lists(st.integers(0, 4), min_size=len(scores), max_size=len(scores))))
    assert sorted(order_rows(np.array(scores), seed=seed, groups=groups).tolist()) == list(range(len(scores)))


def test_ties_do_not_follow_file_position() -> None:
    n = 2000
    place = rank_of_rows(order_rows(np.zeros(n), seed=3)).astype(float)
    assert abs(np.corrcoef(place, np.arange(n))[0, 1]) < 3 / np.sqrt(n)
    assert abs(np.corrcoef(place[:-1], place[1:])[0, 1]) < 3 / np.sqrt(n)  # nor do neighbours stay together


def test_ties_are_a_fair_shuffle_over_seeds() -> None:
    """Each of five tied rows comes first in a fifth of the seeds: chi-square over 4 degrees of freedom."""
    first = np.bincount([order_rows(np.zeros(5), seed=seed)[0] for seed in range(2000)], minlength=5)
    assert ((first - 400.0) ** 2 / 400.0).sum() < 18.5  # p = 0.001


def test_another_seed_breaks_ties_another_way_and_leaves_the_rest() -> None:
    scores = np.repeat([2.0, 1.0], 50)
    one, two = order_rows(scores, seed=1), order_rows(scores, seed=2)
    assert one.tolist() != two.tolist()
    assert scores[one].tolist() == scores[two].tolist()


def slow_interleave(scores: list[float], groups: list[int], seed: int) -> list[int]:
    """Each group in its own order; its i-th of n rows stands at (i + ½)/n of the whole."""
    at: dict[int, Fraction] = {}
    for group in set(groups):
        rows = [row for row in range(len(scores)) if groups[row] == group]
        rows.sort(key=lambda row: (scores[row], slow_tie_key(row, seed)))
        at |= {row: Fraction(2 * i + 1, 2 * len(rows)) for i, row in enumerate(rows)}
    return sorted(at, key=lambda row: (at[row], slow_tie_key(row, seed)))


grouped = st.lists(st.tuples(st.integers(-3, 3), st.sampled_from([0, 1, 2, 7])), min_size=1, max_size=60)


@given(grouped, seeds)
def test_groups_are_ranked_inside_and_merged_by_quantile(rows: list[tuple[int, int]], seed: int) -> None:
    scores, groups = [float(score) for score, _ in rows], [group for _, group in rows]
    order = order_rows(np.array(scores), seed=seed, groups=np.array(groups))
    assert order.tolist() == slow_interleave(scores, groups, seed)


@given(grouped, seeds)
def test_any_prefix_holds_the_groups_in_proportion(rows: list[tuple[int, int]], seed: int) -> None:
    """Of a group with share p, among G groups, a prefix of L rows holds p·L ± (½ + p·(G − 2)/2).

    Why: each group is within ½ of its share of the quantile at which the prefix ends; L is the sum of these.
    """
    groups = np.array([group for _, group in rows])
    order = order_rows(np.array([float(score) for score, _ in rows]), seed=seed, groups=groups)
    lengths = np.arange(1, len(rows) + 1)
    n_groups = len(np.unique(groups))
    for group in np.unique(groups):
        share = float((groups == group).mean())
        held = np.cumsum(groups[order] == group)
        assert np.abs(held - share * lengths).max() <= 0.5 + share * max(0, n_groups - 2) / 2 + 1e-9


@given(grouped, seeds)
def test_inside_a_group_the_order_is_the_groups_own(rows: list[tuple[int, int]], seed: int) -> None:
    scores, groups = np.array([float(score) for score, _ in rows]), np.array([group for _, group in rows])
    merged, plain = order_rows(scores, seed=seed, groups=groups), order_rows(scores, seed=seed)
    for group in np.unique(groups):
        assert merged[groups[merged] == group].tolist() == plain[groups[plain] == group].tolist()


def test_scores_of_other_scales_do_not_push_a_domain_to_the_end() -> None:
    scores = np.concatenate([np.arange(50.0), 1e6 + np.arange(50.0)])
    groups = np.repeat([0, 1], 50)
    assert groups[order_rows(scores, seed=0)][:50].tolist() == [0] * 50
    assert groups[order_rows(scores, seed=0, groups=groups)][:50].sum() == 25


def test_more_groups_than_sixteen_bits_can_count_are_ordered_too() -> None:
    n = (1 << 16) + 3
    order = order_rows(np.arange(n, dtype=float), seed=0, groups=np.arange(n))
    assert np.array_equal(np.sort(order), np.arange(n))


@given(st.permutations(range(20)))
def test_ranks_undo_an_order(order: list[int]) -> None:
    ranks = rank_of_rows(np.array(order, dtype=np.int32))
    assert [order[rank] for rank in ranks] == list(range(20))


@given(st.lists(group_names() | st.none() | st.integers(0, 3)))
def test_group_codes_point_at_sorted_names(values: list[str | int | None]) -> None:
    names, codes = group_codes(values)
    assert names == sorted(set(names))
    assert [names[code] for code in codes] == [str(value) for value in values]
    assert codes.dtype == np.int64


@pytest.mark.parametrize(
    "other", ["a\0", "a ", " a", "a\0\0", "\0a", "A", "а", "a\n", "a\ufeff", "a\u200b", "a\ud800", ""]
)
def test_a_name_that_looks_like_another_is_another(other: str) -> None:
    assert group_codes(["a", other, "a"])[0] == sorted(["a", other])
    assert sorted(rows.tolist() for rows in group_rows([other, "a", other]).values()) == [[0, 2], [1]]


@given(st.lists(group_names()))
def test_every_row_lies_in_the_group_of_its_name(values: list[str]) -> None:
    groups = group_rows(values)
    assert list(groups) == sorted(set(values))
    for name, rows in groups.items():
        assert rows.tolist() == [row for row, value in enumerate(values) if value == name]


def test_one_very_long_name_costs_no_memory_for_the_others() -> None:
    values = ["x" * 1_000_000, *map(str, range(20_000))]  # 80 GB as numpy's text of fixed width
    names, codes = group_codes(values)
    assert [names[code] for code in codes] == values
