"""Standing: how a row's score stands among those of its cell. What selection by a score goes by.

Percentiles, ratios to the mean and differences from it, each over all rows of the cell that are known, so that a row's
chance does not hang on what kind of row it is. Vectorised over cells: one sort of the known rows, O(N log N), for
percentiles and medians, O(N) else.

>>> scores, cells = np.array([1.0, 3.0, 70.0, 90.0, np.nan]), np.array([0, 0, 1, 1, 1])
>>> relative("percentile", scores, cells, np.arange(5)).tolist()
[0.25, 0.75, 0.25, 0.75, 0.5]
>>> relative("ratio", scores, cells, np.arange(5)).tolist()
[0.5, 1.5, 0.875, 1.125, 1.0]
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from campus_tune.words.types import FloatArray, IntArray, RowArray

Scale: TypeAlias = Literal["percentile", "ratio", "difference"]  # how a score is seen beside those of its cell

_ROUNDING = 1e-9


def relative(
    scale: Scale, scores: FloatArray, cells: IntArray | RowArray | None, rows: IntArray | RowArray
) -> FloatArray:
    """The scores of some rows beside those of all known rows of their cell.

    - percentile: in (0, 1), equal scores share their middle one; an unknown row stands at the median, ½.
    - ratio: score ÷ the cell's mean. In a cell with scores below 0 they count from the smallest one on, for a chance
      cannot be negative. An unknown row has the cell's median; in a cell of which nothing is known, or whose mean is 0,
      all have 1.
    - difference: score − the cell's mean; what is off by rounding is 0. An unknown row has 0: it is not below.

    Args:
        scale: of the thinner.
        scores: of all rows, shape (N,); NaN is unknown.
        cells: cell of each row, shape (N,); None for one cell.
        rows: offered, shape (m,).

    Returns:
        Finite, shape (m,).
    """
    cells = np.zeros(len(scores), dtype=np.int64) if cells is None else cells
    known = np.flatnonzero(~np.isnan(scores))
    values, cell = scores[known].astype(np.float64), cells[known]
    n_cells = int(cells.max(initial=0)) + 1
    offered = cells[rows]
    unknown = np.isnan(scores[rows])
    if scale == "percentile":
        seen = np.full(len(scores), 0.5)
        seen[known] = percentiles(values, cell)
        return seen[rows]
    counts = np.maximum(1, np.bincount(cell, minlength=n_cells))
    if scale == "ratio" and values.min(initial=0.0) < 0:
        lowest = np.zeros(n_cells)
        np.minimum.at(lowest, cell, values)
        values = values - lowest[cell]
        scores = scores - lowest[cells]
    means = np.bincount(cell, weights=values, minlength=n_cells) / counts
    if scale == "difference":
        away = scores[rows] - means[offered]
        near = np.abs(away) <= _ROUNDING * np.maximum(1, np.abs(means[offered]))
        return np.where(unknown | near, 0.0, away)
    middle = medians(values, cell, n_cells) if unknown.any() else means
    scored = np.where(unknown, middle[offered], scores[rows])
    flat = ~(means[offered] > 0)
    return np.where(flat, 1.0, scored / np.where(flat, 1.0, means[offered]))


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


def percentiles(values: FloatArray, cells: IntArray | RowArray) -> FloatArray:
    """Where each value stands in its cell, in (0, 1): the middle one of those that it shares its value with.

    `(values below + half of those equal) / values of the cell`; the mean over a cell is ½.

    >>> percentiles(np.array([5.0, 7.0, 7.0, 9.0]), np.zeros(4, dtype=np.int64)).tolist()
    [0.125, 0.5, 0.5, 0.875]

    Args:
        values: shape (m,), finite.
        cells: number of each one's cell, shape (m,).
    """
    order, starts, sizes = sorted_in_cells(values, cells)
    ordered, cell = values[order], cells[order]
    new = np.append(True, (ordered[1:] != ordered[:-1]) | (cell[1:] != cell[:-1]))
    first = np.flatnonzero(new)
    run = np.cumsum(new) - 1  # which run of equal values each place is in
    middle = (first + np.append(first[1:], len(values))) / 2
    result = np.empty(len(values), dtype=np.float64)
    result[order] = (middle[run] - starts[cell]) / sizes[cell]
    return result


def medians(values: FloatArray, cells: IntArray | RowArray, n_cells: int) -> FloatArray:
    """The median of each cell, shape (C,); NaN of one without values.

    Args:
        values: shape (m,), finite.
        cells: number of each one's cell, shape (m,).
        n_cells: C.
    """
    order, starts, sizes = sorted_in_cells(values, cells, n_cells)
    result = np.full(n_cells, np.nan)
    some = np.flatnonzero(sizes)
    low, high = starts[some] + (sizes[some] - 1) // 2, starts[some] + sizes[some] // 2
    result[some] = (values[order[low]] + values[order[high]]) / 2
    return result


def sorted_in_cells(
    values: FloatArray, cells: IntArray | RowArray, n_cells: int = 0
) -> tuple[IntArray, IntArray, IntArray]:
    """(Places by cell, then by value; where each cell begins in them; how many each has)."""
    sizes = np.bincount(cells, minlength=n_cells)
    small = cells.astype(np.uint16 if len(sizes) <= 1 << 16 else np.uint32)  # 16 bits sort in linear time
    by_value = np.argsort(values)
    return by_value[np.argsort(small[by_value], kind="stable")], np.cumsum(sizes) - sizes, sizes
