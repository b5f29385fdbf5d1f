"""The bounds of dropping: worked ones, a slow reference, and that half of each domain stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.drop import bounded


def bounded_slowly(worst: list[int], domains: list[int], at_most: float, gone: set[int]) -> tuple[list[int], int, int]:
    """(Dropped, left to their domain, left to the share), one row at a time."""
    room = {d: max(0, domains.count(d) // 2 - sum(domains[row] == d for row in gone)) for d in set(domains)}
    dropped, by_domain, by_share = [], 0, 0
    for row in (row for row in worst if row not in gone):
        if room[domains[row]] == 0:
            by_domain += 1
            continue
        room[domains[row]] -= 1
        if len(dropped) < int(at_most * len(domains) + 1e-9):
            dropped.append(row)
        else:
            by_share += 1
    return dropped, by_domain, by_share


def test_what_both_bounds_allow_is_dropped_as_it_is() -> None:
    cut = bounded(np.array([3, 1]), 10, at_most=0.2)
    assert (cut.rows.tolist(), cut.wanted, cut.by_domain, cut.by_share) == ([3, 1], 2, {}, 0)
    assert cut.rows.dtype == np.int32


def test_no_more_than_its_share_of_all_rows_is_dropped_the_worst_first() -> None:
    cut = bounded(np.array([3, 1, 7, 8]), 10, at_most=0.25)
    assert (cut.rows.tolist(), cut.wanted, cut.by_domain, cut.by_share) == ([3, 1], 4, {}, 2)


def test_no_domain_falls_below_half_and_its_rows_make_room_for_those_of_others() -> None:
    domains = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    cut = bounded(np.array([0, 1, 2, 3, 5, 6]), 8, at_most=0.5, domains=domains)
    assert (cut.rows.tolist(), cut.wanted, cut.by_domain, cut.by_share) == ([0, 1, 5], 6, {0: 2, 1: 1}, 0)


def test_a_domain_of_one_row_keeps_it() -> None:
    assert bounded(np.array([0]), 3, at_most=1.0, domains=np.array([1, 0, 0])).by_domain == {1: 1}


def test_rows_that_other_entries_drop_count_for_their_domain_and_are_not_dropped_again() -> None:
    gone = np.array([True, False, False, False, False, False])
    cut = bounded(np.array([0, 1, 2, 3]), 6, at_most=0.5, dropped=gone)
    assert (cut.rows.tolist(), cut.wanted, cut.by_domain, cut.by_share) == ([1, 2], 3, {0: 1}, 0)


@pytest.mark.parametrize(("at_most", "n"), [(0.0, 0), (0.29, 29), (0.1, 10), (1.0, 50)])
def test_the_share_is_counted_in_whole_rows(at_most: float, n: int) -> None:
    assert len(bounded(np.arange(100), 100, at_most=at_most).rows) == n


def test_nothing_wanted_is_nothing_dropped() -> None:
    cut = bounded(np.arange(0), 5, at_most=0.5, domains=np.array([0, 0, 1, 1, 1]))
    assert (cut.rows.tolist(), cut.wanted, cut.by_domain, cut.by_share) == ([], 0, {}, 0)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[int], list[int], float, set[int]]:
    domains = draw(st.lists(st.integers(0, 3), min_size=1, max_size=40))
    rows = draw(st.permutations(range(len(domains))))
    worst = rows[: draw(st.integers(0, len(rows)))]
    gone = draw(st.sets(st.sampled_from(rows), max_size=3))
    return worst, domains, draw(st.floats(0, 1)), gone


@given(cases())
def test_what_is_dropped_is_what_the_slow_one_drops(case: tuple[list[int], list[int], float, set[int]]) -> None:
    worst, domains, at_most, gone = case
    mask = np.isin(np.arange(len(domains)), list(gone))
    codes = np.array(domains)
    cut = bounded(np.array(worst, dtype=np.int64), len(domains), at_most=at_most, domains=codes, dropped=mask)
    rows, by_domain, by_share = bounded_slowly(worst, domains, at_most, gone)
    assert (cut.rows.tolist(), sum(cut.by_domain.values()), cut.by_share) == (rows, by_domain, by_share)
    assert cut.wanted == len(cut.rows) + sum(cut.by_domain.values()) + cut.by_share
    assert len(cut.rows) <= at_most * len(domains) + 1e-6
    for domain in set(domains):
        before = np.count_nonzero((codes == domain) & ~mask)
        after = before - np.count_nonzero(codes[cut.rows] == domain)
        assert after == before or 2 * after >= np.count_nonzero(codes == domain)
