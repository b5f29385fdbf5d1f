"""Standing: how a row's score stands among those of its cell. What selection by a score goes by.

Percentiles, ratios to the mean and differences from it, each over all rows of the cell that are known, so that a row's
chance does not hang on what kind of row it is. One sort of the known rows, O(N log N), for percentiles and medians;
O(N) else.

>>> scores, cells = np.array([1.0, 3.0, 70.0, 90.0, np.nan]), np.array([0, 0, 1, 1, 1])
>>> relative("percentile", scores, cells, np.arange(5)).tolist()
[0.25, 0.75, 0.25, 0.75, 0.5]
>>> relative("ratio", scores, cells, np.arange(5)).tolist()
[0.5, 1.5, 0.875, 1.125, 1.0]
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from campus_tune.method.sorting import stable_places
from campus_tune.words.cores import parts_of, side_by_side
from campus_tune.words.types import FloatArray, IntArray, RowArray

Scale: TypeAlias = Literal["percentile", "ratio", "difference"]  # how a score is seen beside those of its cell

MOST_DEALT = 1 << 12  # cells that are counted in each part
_ROUNDING = 1e-9


def relative(
    scale: Scale, scores: FloatArray, cells: IntArray | RowArray | None, rows: IntArray | RowArray
) -> FloatArray:
    """The scores of some rows beside those of all known rows of their cell, finite, shape (m,); see `CellStanding`.

    Args:
        scale: of the thinner.
        scores: of all rows, shape (N,); NaN is unknown.
        cells: cell of each row, shape (N,); None for one cell.
        rows: offered, shape (m,).
    """
    return CellStanding(scale, scores, cells).of(rows)


class CellStanding:
    """What it takes to see scores beside those of all known rows of their cell.

    - percentile: in (0, 1), equal scores share their middle one; an unknown row stands at the median, ½.
    - ratio: score ÷ the cell's mean. In a cell with scores below 0 they count from the smallest one on, for a chance
      cannot be negative. An unknown row has the cell's median; in a cell of which nothing is known, or whose mean is 0,
      all have 1.
    - difference: score − the cell's mean; what is off by rounding is 0. An unknown row has 0: it is not below.

    Args:
        scale: of the thinner.
        scores: of all rows, shape (N,); NaN is unknown.
        cells: cell of each row, shape (N,); None for one cell.
    """

    def __init__(self, scale: Scale, scores: FloatArray, cells: IntArray | RowArray | None) -> None:
        self.scale, self.scores = scale, scores
        self.cells = np.zeros(len(scores), dtype=np.int32) if cells is None else cells
        self.n_cells = int(self.cells.max(initial=0)) + 1
        known = ~np.isnan(scores)
        some = not known.all()
        self._values = scores.compress(known) if some else scores
        self._of: IntArray | RowArray = self.cells.compress(known) if some else self.cells
        self.lowest: FloatArray | None = None  # that the scores of each cell count from; None for 0
        if scale == "ratio" and self._values.min(initial=0.0) < 0:
            self.lowest = np.zeros(self.n_cells)
            np.minimum.at(self.lowest, self._of, self._values)
            self._values = self._values - self.lowest[self._of]

    @cached_property
    def ranked(self) -> Sorted:
        """The known scores, sorted inside their cells."""
        return Sorted.of(self._values, self._of, self.n_cells)

    @cached_property
    def means(self) -> FloatArray:
        """Of the known scores of each cell, shape (C,); 0 of a cell without any."""
        counts = np.maximum(1, np.bincount(self._of, minlength=self.n_cells))
        return sums_of_cells(self._values, self._of, self.n_cells) / counts

    def of(self, rows: IntArray | RowArray) -> FloatArray:
        """Where some rows stand, finite, shape (m,)."""
        scores, offered = self.scores[rows], self.cells[rows]
        unknown = np.isnan(scores)
        if self.scale == "percentile":
            if not unknown.any():
                return self.ranked.percentiles(scores, offered)
            stands = np.full(len(rows), 0.5)
            stands[~unknown] = self.ranked.percentiles(scores[~unknown], offered[~unknown])
            return stands
        means = self.means[offered]
        if self.scale == "difference":
            away = scores - means
            near = np.abs(away) <= _ROUNDING * np.maximum(1, np.abs(means))
            return np.where(unknown | near, 0.0, away)
        if self.lowest is not None:
            scores = scores - self.lowest[offered]
        if unknown.any():
            scores = np.where(unknown, self.ranked.medians()[offered], scores)
        flat = ~(means > 0)
        return np.where(flat, 1.0, scores / np.where(flat, 1.0, means))


def detrend(losses: FloatArray, stages: IntArray | RowArray) -> FloatArray:
    """Losses less the mean of the stage that they were seen in, with the mean of all put back. NaN stays NaN.

    Losses are seen at different times: early rows look hard because the model was worse. What is put back is the same
    for all rows, so that a loss is still one, which proportional divides by its mean.

    Args:
        losses: the last seen of each row, shape (N,); NaN is unknown.
        stages: in which stage that was, at least 0 where the loss is known, shape (N,).
    """
    known = ~np.isnan(losses)
    if not known.any():
        return losses.copy()
    seen, stage = losses[known].astype(np.float64), stages[known]
    means = np.bincount(stage, weights=seen) / np.maximum(1, np.bincount(stage))
    result = np.full(len(losses), np.nan)
    result[known] = seen - means[stage] + seen.mean()
    return result


@dataclass(frozen=True, eq=False)
class Sorted:
    """Values sorted inside their cells. Sorting values is several times as fast as sorting places.

    Args:
        values: rising inside each cell, cell by cell, shape (m,).
        ends: where each cell ends in them, after a 0, shape (C + 1,).
    """

    values: FloatArray
    ends: IntArray

    @staticmethod
    def of(values: FloatArray, cells: IntArray | RowArray, n_cells: int) -> Sorted:
        """Sort values, shape (m,), finite, whose cells are given, shape (m,), of `n_cells`."""
        ends = np.append(0, np.cumsum(np.bincount(cells, minlength=n_cells)))
        by_cell = dealt(values, cells, ends)
        side_by_side(np.ndarray.sort, np.split(by_cell, ends[1:-1]))
        return Sorted(by_cell, ends)

    def of_cell(self, cell: int) -> FloatArray:
        """The values of one cell, rising."""
        return self.values[self.ends[cell] : self.ends[cell + 1]]

    def percentiles(self, values: FloatArray, cells: IntArray | RowArray) -> FloatArray:
        """Where some values stand in their cells, in (0, 1) for those that are in it, shape (k,).

        `(values below + half of those equal) / values of the cell`: those that share a value share their middle
        percentile, and the mean over a cell is ½.

        >>> cell = np.zeros(4, dtype=np.int64)
        >>> Sorted.of(np.array([9.0, 7.0, 7.0, 5.0]), cell, 1).percentiles(np.array([5.0, 7.0, 9.0]), cell[:3]).tolist()
        [0.125, 0.5, 0.875]
        """
        result = np.empty(len(values), dtype=np.float64)
        n_cells = len(self.ends) - 1
        ends = np.cumsum(np.bincount(cells, minlength=n_cells))
        places_of = np.split(by_number(cells, n_cells), ends[:-1])

        def rank(cell: int) -> None:
            known, places = self.of_cell(cell), places_of[cell]
            asked = values[places]
            rising = stable_places(asked)  # what is looked for next is near by: several times as fast as at random
            places, asked = places[rising], asked[rising]
            both = known.searchsorted(asked, "left") + known.searchsorted(asked, "right")
            result[places] = both / (2 * max(1, len(known)))

        side_by_side(rank, range(n_cells))
        return result

    def medians(self) -> FloatArray:
        """The median of each cell, shape (C,); NaN of one without values."""
        result = np.full(len(self.ends) - 1, np.nan)
        sizes = np.diff(self.ends)
        some = np.flatnonzero(sizes)
        low, high = self.ends[some] + (sizes[some] - 1) // 2, self.ends[some] + sizes[some] // 2
        result[some] = (self.values[low].astype(np.float64) + self.values[high]) / 2
        return result


def by_number(cells: IntArray | RowArray, n_cells: int) -> IntArray:
    """Places by the number of their cell, in sequence inside each. 16 bits sort in linear time."""
    return np.argsort(cells.astype(np.uint16 if n_cells <= 1 << 16 else np.uint32), kind="stable")


def dealt(values: FloatArray, cells: IntArray | RowArray, ends: IntArray) -> FloatArray:
    """`values[by_number(cells)]`: part by part, so that what is looked up lies near by.

    >>> dealt(np.array([3.0, 1.0, 2.0]), np.array([1, 0, 1]), np.array([0, 1, 3])).tolist()
    [1.0, 3.0, 2.0]

    Args:
        values: shape (m,).
        cells: of the values, shape (m,).
        ends: where each cell ends in the result, after a 0, shape (C + 1,).
    """
    parts, n_cells = parts_of(len(values)), len(ends) - 1
    if len(parts) < 2 or n_cells > MOST_DEALT:
        return values[by_number(cells, n_cells)]
    counts = np.array(side_by_side(lambda part: np.bincount(cells[part], minlength=n_cells), parts))
    begins = ends[:-1] + np.cumsum(counts, axis=0) - counts  # of each cell's values of each part
    result = np.empty_like(values)

    def deal(number: int) -> None:
        own, here = cells[parts[number]], counts[number]
        places = np.arange(len(own)) + np.repeat(begins[number] - (np.cumsum(here) - here), here)
        result[places] = values[parts[number]][by_number(own, n_cells)]

    side_by_side(deal, range(len(parts)))
    return result


def sums_of_cells(values: FloatArray, cells: IntArray | RowArray, n_cells: int) -> FloatArray:
    """`np.bincount(cells, values, n_cells)`, to the last bit: added up in the same sequence, part by part.

    >>> sums_of_cells(np.array([3.0, 1.0, 2.0]), np.array([1, 0, 1]), 3).tolist()
    [1.0, 5.0, 0.0]
    """
    sums: FloatArray = np.zeros(n_cells)
    every = np.arange(n_cells)
    for part in parts_of(len(values)):
        told = np.bincount(np.append(every, cells[part]), np.append(sums, values[part]), n_cells)
        sums = told.astype(np.float64, copy=False)
    return sums
