"""What a policy says at a moment: shares, phases, open rows, and what of the book the shares follow."""

from __future__ import annotations

import numpy as np
import pytest

from campus_tune.method.book import Book
from campus_tune.method.cells import Cells
from campus_tune.method.policy import Period, Policy
from campus_tune.method.shares import SharePhase
from campus_tune.words.types import FloatArray

CODES, NAMES = np.array([0, 0, 0, 1]), ("a", "b")


def at(policy: Policy, u: float) -> list[float] | None:
    shares = policy.shares_at(u)
    return None if shares is None else shares.round(4).tolist()


def phase(until: float, shares: list[float] | None, overlap: float = 0.0) -> Period:
    given: FloatArray | None = None if shares is None else np.array(shares)
    return Period(SharePhase(until, given, overlap))


def test_phases_win_over_fixed_shares_and_are_faded() -> None:
    """POLICIES 5.9: until .5, overlap .2: u = .3 (1, 0), .45 (.75, .25), .5 (.5, .5), .6 (0, 1)."""
    two = (phase(0.5, [1.0, 0.0], 0.2), phase(1.0, [0.0, 1.0]))
    policy = Policy(4, CODES, NAMES, shares=np.array([0.5, 0.5]), periods=two)
    assert [at(policy, u) for u in (0.3, 0.45, 0.5, 0.6)] == [[1, 0], [0.75, 0.25], [0.5, 0.5], [0, 1]]


def test_phases_without_shares_leave_them_natural_and_one_beside_others_is_so() -> None:
    assert at(Policy(4, CODES, NAMES, periods=(phase(0.5, None), phase(1.0, None))), 0.2) is None
    assert at(Policy(4, CODES, NAMES, periods=(phase(0.5, None), phase(1.0, [0, 1]))), 0.2) == [0.75, 0.25]


@pytest.mark.parametrize("total", [7, 10, 20, 30, 57, 100])
@pytest.mark.parametrize("until", [0.1, 0.3, 0.35, 0.5, 0.7])
def test_a_phase_begins_at_the_first_step_that_is_not_before_it(total: int, until: float) -> None:
    policy = Policy(4, CODES, NAMES, periods=(phase(until, [1, 0]), phase(1.0, [0, 1])))
    first = next(step for step in range(total) if step >= until * total - 1e-9)
    assert policy.period(first / total) is policy.periods[1]
    assert at(policy, first / total) == [0, 1]
    assert policy.period((first - 1) / total) is policy.periods[0]
    assert policy.period(1.0) is policy.periods[1]


def test_rows_are_shut_that_were_dropped_or_are_not_of_the_best() -> None:
    dropped, top = np.array([True, False, False, False]), np.array([True, True, False, False])
    assert Policy(4).shut_at(0.5) is None
    assert Policy(4, dropped=dropped).shut_at(0.5) is dropped
    periods = (Period(SharePhase(0.5), top=top), Period(SharePhase(1.0)))
    shut = Policy(4, dropped=dropped, periods=periods).shut_at(0.2)
    assert shut is not None
    assert shut.tolist() == [True, False, True, True]
    assert Policy(4, periods=periods).shut_at(0.7) is None
    assert Policy(4, CODES, NAMES, dropped=dropped).natural.round(4).tolist() == [0.6667, 0.3333]


def test_shares_follow_what_training_shows_of_the_cells_of_a_domain() -> None:
    cells = Cells.cut(np.array([1.0, 2, 2, 1]), domains=CODES, domain_names=NAMES, bands=2)
    book = Book(4, cells=cells.codes)
    policy = Policy(4, CODES, NAMES, cells=cells, follow="seen_loss", book=book)
    assert at(policy, 0.01) is None
    assert at(policy, 0.5) == [0.75, 0.25]  # nothing is known
    book.levels.mean[:] = [0.5, 1.0, 2.0]  # a: one row at .5, two at 1, so 2.5/3; b: 2
    drawn = np.array([0.75 * 2.5 / 3, 0.25 * 2.0])
    assert at(policy, 0.5) == (0.2 * np.array([0.75, 0.25]) + 0.8 * drawn / drawn.sum()).round(4).tolist()
    by_cell = Policy(4, cells.codes, cells.names, cells=cells, follow="seen_loss", book=book)
    drawn = np.array([0.25, 0.5, 0.25]) * [0.5, 1.0, 2.0]
    assert at(by_cell, 0.5) == (0.2 * np.array([0.25, 0.5, 0.25]) + 0.8 * drawn / drawn.sum()).round(4).tolist()
    assert at(Policy(4, follow="seen_loss", cells=cells, book=book), 0.5) is None  # one stratum has no shares
