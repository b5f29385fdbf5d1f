"""Passes: what may still be drawn. A pass is over when every row was drawn once; then all of them may be drawn again.

- `exact`: whatever is chosen, no row comes twice in a pass, and a pass is the trainer's epoch.
- `revisit`: sub-curricula ignore each other, so any row may come again. Only plain shuffling keeps passes of its own,
  which may end in the middle of a stage.
"""

from __future__ import annotations

import numpy as np

from campus_tune.method.sampling import draw
from campus_tune.method.stages import Coverage
from campus_tune.words.types import BoolArray, IntArray, RowArray


class Passes:
    """Which rows were planned in this pass, and how often in the run.

    Args:
        n_rows: N.
        coverage: exact or revisit.
        groups: domain number of each row, shape (N,), for random draws in proportion.
    """

    def __init__(self, n_rows: int, coverage: Coverage, groups: IntArray | None = None) -> None:
        self.n_rows, self.groups = n_rows, groups
        self.exact = coverage == "exact"
        self.spent = np.zeros(n_rows, dtype=np.bool_)  # rows that may not be drawn again in this pass
        self.seen = np.zeros(n_rows, dtype=np.uint8)  # how often each row was planned, cut at 255

    # -- what is left -------------------------------------------------------------------------------------------

    @property
    def n_free(self) -> int:
        """How many rows one stage could hold at most."""
        return self.n_rows - int(np.count_nonzero(self.spent)) if self.exact else self.n_rows

    @property
    def waiting(self) -> BoolArray:
        """Rows not drawn in this pass (exact), not drawn at all (revisit); shape (N,)."""
        return ~self.spent if self.exact else self.seen == 0

    def free(self, rows: RowArray) -> RowArray:
        """Those of `rows` that a sub-curriculum may still draw, in the same sequence."""
        return rows.compress(~self.spent.take(rows)) if self.exact else rows

    def reach(self, order: RowArray, n_rows: int) -> int:
        """How far `order` must be open to hold `n_rows` drawable rows."""
        return int(np.searchsorted(np.cumsum(~self.spent.take(order)), n_rows)) + 1 if self.exact else n_rows

    def movable(self, order: RowArray, n_used: int) -> BoolArray:
        """Places of an order whose rows it has not used, shape (N,).

        Args:
            order: easy → hard, shape (N,).
            n_used: rows at its beginning that it has been through, where rows come again.
        """
        return ~self.spent[order] if self.exact else np.arange(self.n_rows) >= n_used

    # -- draws --------------------------------------------------------------------------------------------------

    def draw_others(self, rng: np.random.Generator, rows: RowArray, n: int) -> RowArray:
        """`n` random rows for the `mix` beside `rows`, domains in proportion to what is left of them."""
        others = ~self.spent
        others[rows] = False
        return draw(rng, np.flatnonzero(others).astype(np.int32), n, self.groups)

    def draw_shuffled(self, rng: np.random.Generator, n: int) -> RowArray:
        """`n` random rows for a stage of plain shuffling: no row a second time before all have been drawn."""
        rows = draw(rng, np.flatnonzero(~self.spent).astype(np.int32), n)
        if not self.exact:
            self.spent[rows] = True
            if len(rows) < n:  # this pass is used up: the next one begins in the middle of the stage
                self.spent[:] = False
                others = np.setdiff1d(np.arange(self.n_rows, dtype=np.int32), rows)
                more = draw(rng, others, n - len(rows))
                self.spent[more] = True
                rows = np.concatenate([rows, more])
        return rows

    # -- what was drawn -----------------------------------------------------------------------------------------

    def n_repeats(self, rows: RowArray, epoch: int) -> int:
        """How many of `rows` were planned more often than epochs have gone by."""
        return int(np.count_nonzero(self.seen[rows] > epoch))

    def plan(self, rows: RowArray) -> None:
        """These rows will be trained."""
        self.seen[rows] += self.seen[rows] < 255
        if self.exact:
            self.spent[rows] = True

    def take_back(self, rows: RowArray, *, shuffled: bool) -> None:
        """These rows were planned last and will not be trained after all.

        Args:
            rows: of one stage, shape (n,).
            shuffled: plain shuffling drew them.
        """
        self.seen[rows] -= 1
        if shuffled:
            self.spent[rows] = False

    def begin_epoch(self) -> None:
        """Under exact coverage all rows may be drawn again."""
        if self.exact:
            self.spent[:] = False

    def counts(self, to_come: RowArray) -> tuple[int, int]:
        """(Rows trained at least once, visits beyond the first), of what was planned but for the rows `to_come`."""
        visits = self.seen.copy()
        visits[to_come] -= 1
        n_rows = int(np.count_nonzero(visits))
        return n_rows, int(visits.sum(dtype=np.int64)) - n_rows


def resorted(order: RowArray, places: BoolArray, ranking: RowArray) -> RowArray:
    """The same order with the rows at `places` dealt anew over these places, in the sequence of `ranking`.

    >>> resorted(np.array([0, 1, 2, 3]), np.array([False, True, False, True]), np.array([3, 2, 1, 0])).tolist()
    [0, 3, 2, 1]
    """
    moves = np.zeros(len(order), dtype=np.bool_)
    moves[order[places]] = True
    result = order.copy()
    result[places] = ranking[moves[ranking]]
    return result
