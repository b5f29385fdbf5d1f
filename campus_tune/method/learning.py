"""Learning: what the visits of a run say of each row, and in which region of the data map that puts it.

A visit is one row trained once; its loss is the one that the training forward showed. Of each row the first and the
last visit count, and what is compared is its cell:

    level         of a cell: the median of the losses that its rows had at their last visits
    fall          of a row: the loss at its first visit less the one at its last

    learned_early    at its first visit already at or below the level
    learned          above it at first, at or below it at its last visit
    still_learning   above the level at both, and its fall is above 0 and more than half of the median fall of its cell
    never_learned    above the level at both, and it has not fallen so far
    seen_once        one visit, above the level: one pass cannot tell the last two apart
    not_seen         no visit

By these rules about half of a cell is at or below its level, whatever the run was: regions compare rows with their
kind, they do not measure how good a model is. What else is seen of a row is written over that (`flagged`), the first of
these that holds:

    suspect          its losses stand out from those of rows like it, as those of wrong answers do
    contradicting    another row answers the same prompt in another way
    duplicate        an earlier row says the same, or nearly

Reference:
    Swayamdipta et al. 2020, Dataset Cartography (arXiv 2009.10795): easy, ambiguous and hard rows by mean and spread of
    the probability of the label over epochs.

    *Differs*: a map is of rows beside their kind. What they plot as mean and spread of probability are mean and spread
    of a row's excess over its cell here (`suspicion`), so that long answers and hard domains are no hard rows.

>>> losses = RowLosses.zeros(6)
>>> losses.tokens[:] = 1
>>> losses.nll_sum[:] = [3.0, 0.9, 2.0, 3.0, 0.9, 0.8]
>>> seen = Learning.of(np.array([0, 1, 2, 0, 1, 2]), np.array([1, 1, 2, 3, 3, 4]), losses, 4)
>>> [REGIONS[code] for code in seen.regions(np.zeros(4, dtype=np.int64))]
['never_learned', 'learned_early', 'learned', 'not_seen']
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from campus_tune.method.book import MOST_VISITS
from campus_tune.method.standing import Sorted
from campus_tune.words.types import BoolArray, FloatArray, IntArray, RowArray, RowLosses

REGIONS = (
    "learned_early",
    "learned",
    "still_learning",
    "never_learned",
    "seen_once",
    "not_seen",
    "suspect",
    "contradicting",
    "duplicate",
)
EARLY, LEARNED, STILL, NEVER, ONCE, UNSEEN, SUSPECT, CONTRADICTING, DUPLICATE = range(len(REGIONS))
MOSTLY = 0.5  # of the median fall of its cell, that a row must have fallen by to be still learning


@dataclass(frozen=True, eq=False)
class Learning:
    """What the visits of a run say of each row. NaN where a row was never seen, as a step −1.

    Args:
        visits: of each row, 255 at most, uint8, shape (N,).
        first_step: optimizer step of its first visit, from 1, int32, shape (N,).
        last_step: of its last one, int32, shape (N,).
        first_loss: mean loss per answer token at its first visit, nats, shape (N,).
        last_loss: at its last one, shape (N,).
        mean_loss: mean of its visits, shape (N,).
        mean_probability: of its answer's tokens, mean of its visits, in [0, 1], shape (N,).
        lowest_probability: of its answer's least sure token, mean of its visits, in [0, 1], shape (N,).
    """

    visits: NDArray[np.uint8]
    first_step: RowArray
    last_step: RowArray
    first_loss: FloatArray
    last_loss: FloatArray
    mean_loss: FloatArray
    mean_probability: FloatArray
    lowest_probability: FloatArray

    @staticmethod
    def of(rows: IntArray, steps: IntArray, losses: RowLosses, n_rows: int) -> Learning:
        """Fold the visits of a run.

        Args:
            rows: of all visits, in the sequence of training, shape (V,).
            steps: optimizer step of each, from 1, shape (V,).
            losses: what each showed.
            n_rows: N.
        """
        loss = losses.per_row()
        counts = np.bincount(rows, minlength=n_rows)

        def first(values: IntArray | FloatArray, absent: float) -> FloatArray:
            return last(values[::-1], absent, rows[::-1])

        def last(values: IntArray | FloatArray, absent: float, of: IntArray = rows) -> FloatArray:
            found = np.full(n_rows, absent)
            found[of] = values  # of a row that comes again, the later value stays
            return found

        def mean(values: FloatArray) -> FloatArray:
            with np.errstate(invalid="ignore"):
                return np.asarray(np.bincount(rows, weights=values, minlength=n_rows) / counts, dtype=np.float64)

        return Learning(
            visits=np.minimum(counts, MOST_VISITS).astype(np.uint8),
            first_step=first(steps, -1).astype(np.int32),
            last_step=last(steps, -1).astype(np.int32),
            first_loss=first(loss, np.nan),
            last_loss=last(loss, np.nan),
            mean_loss=mean(loss),
            mean_probability=mean(losses.sureness / losses.tokens),
            lowest_probability=mean(np.exp(-losses.worst)),
        )

    @property
    def seen(self) -> BoolArray:
        """Rows that were trained at least once, shape (N,)."""
        return self.visits > 0

    def regions(self, cells: IntArray | RowArray) -> NDArray[np.int8]:
        """The region of each row as a place in `REGIONS`, shape (N,): what visits alone say.

        Args:
            cells: of the rows, from 0, shape (N,).
        """
        n_cells = int(cells.max(initial=-1)) + 1

        def middle(values: FloatArray, some: BoolArray) -> FloatArray:
            """The median of some rows' values in the cell of each row, shape (N,); NaN in a cell that has none."""
            return Sorted.of(values[some], cells[some], n_cells).medians()[cells]

        fall, again = self.first_loss - self.last_loss, self.visits > 1
        level, usual = middle(self.last_loss, self.seen), middle(fall, again)
        codes = np.full(len(cells), NEVER, dtype=np.int8)
        codes[(fall > 0) & (fall > MOSTLY * usual)] = STILL
        codes[self.visits == 1] = ONCE
        codes[self.last_loss <= level] = LEARNED
        codes[self.first_loss <= level] = EARLY
        codes[~self.seen] = UNSEEN
        return codes


def flagged(
    regions: NDArray[np.int8], *, duplicate: BoolArray, contradicting: BoolArray, suspect: BoolArray
) -> NDArray[np.int8]:
    """Regions with what else is known of the rows written over them, the later of these over the earlier, shape (N,).

    A row that was not seen stays so, for nothing of it was trained.

    Args:
        regions: of the rows, places in `REGIONS`, shape (N,).
        duplicate: rows with the words of an earlier one, shape (N,).
        contradicting: rows whose prompt has another answer elsewhere, shape (N,).
        suspect: rows that look wrong, shape (N,).

    >>> codes, no, yes = np.array([LEARNED, UNSEEN], dtype=np.int8), np.zeros(2, dtype=bool), np.ones(2, dtype=bool)
    >>> [REGIONS[code] for code in flagged(codes, duplicate=yes, contradicting=yes, suspect=no)]
    ['contradicting', 'not_seen']
    """
    found = regions.copy()
    for code, rows in ((DUPLICATE, duplicate), (CONTRADICTING, contradicting), (SUSPECT, suspect)):
        found[rows & (regions != UNSEEN)] = code
    return found
