"""What may still be drawn: under exact coverage a row once in a pass, under revisit once in a pass of shuffling."""

from __future__ import annotations

import numpy as np
import pytest

from campus_tune.method.passes import Passes, resorted
from campus_tune.words.types import RowArray


def rows(*numbers: int) -> RowArray:
    return np.array(numbers, dtype=np.int32)


def test_a_planned_row_is_not_free_again_before_the_epoch_ends_under_exact_coverage() -> None:
    passes = Passes(6, "exact")
    passes.plan(rows(4, 1))
    assert passes.free(rows(5, 4, 3, 2, 1, 0)).tolist() == [5, 3, 2, 0]
    assert (passes.n_free, passes.reach(rows(4, 1, 0, 2, 3, 5), 2)) == (4, 4)
    passes.begin_epoch()
    assert passes.free(rows(4, 1)).tolist() == [4, 1]
    assert passes.waiting.all()


def test_under_revisit_every_row_stays_free_and_waits_until_it_was_seen() -> None:
    passes = Passes(6, "revisit")
    passes.plan(rows(4, 1))
    passes.begin_epoch()
    assert passes.free(rows(5, 4, 1)).tolist() == [5, 4, 1]
    assert (passes.n_free, passes.reach(rows(4, 1, 0, 2, 3, 5), 2)) == (6, 2)
    assert np.flatnonzero(passes.waiting).tolist() == [0, 2, 3, 5]


@pytest.mark.parametrize("coverage", ["exact", "revisit"])
def test_what_was_planned_and_not_trained_counts_as_never_planned(coverage: str) -> None:
    passes = Passes(6, coverage)  # type: ignore[arg-type] # parametrised
    drawn = passes.draw_shuffled(np.random.default_rng(0), 4)
    passes.plan(drawn)
    assert passes.counts(to_come=drawn[1:]) == (1, 0)
    passes.take_back(drawn[1:], shuffled=True)
    assert passes.counts(to_come=rows()) == (1, 0)
    rest = passes.draw_shuffled(np.random.default_rng(1), 5)
    assert sorted([*rest.tolist(), int(drawn[0])]) == list(range(6))


def test_a_row_that_was_planned_300_times_is_counted_as_255() -> None:
    passes = Passes(2, "revisit")
    for _ in range(300):
        passes.plan(rows(1))
    assert passes.counts(to_come=rows()) == (1, 254)
    assert passes.n_repeats(rows(0, 1), epoch=254) == 1


def test_rows_at_other_places_keep_them() -> None:
    order, places = rows(3, 0, 2, 1), np.array([True, False, True, False])
    assert resorted(order, places, rows(0, 1, 2, 3)).tolist() == [2, 0, 3, 1]
    assert order.tolist() == [3, 0, 2, 1]
