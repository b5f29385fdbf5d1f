"""How the rows of a data map lie, counted: what its picture is drawn from.

The map has a line for every row. Here it becomes a histogram, a density and a sample of points, so that the picture of
a million rows is drawn as quickly as that of a few thousand, and shows as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.run.row_map import sample_of
from campus_tune.words.types import BoolArray, FloatArray, IntArray

MANY = 5000  # rows, above which their density is drawn, and a sample of them
BINS = 48  # of each axis
FAR = 6.0  # times the range of nine tenths of the rows: what is further out is drawn at the edge, or flattens the rest


@dataclass(frozen=True, eq=False)
class MapPoints:
    """Rows to be drawn one by one, at most `MANY`.

    Args:
        row: its number, shape (n,).
        excess: shape (n,), inside the limits of the picture.
        spread: of it over the passes, shape (n,); 0 where a row was seen once.
        region: shape (n,), places in the regions' names.
        suspect: shape (n,).
    """

    row: IntArray
    excess: FloatArray
    spread: FloatArray
    region: IntArray
    suspect: BoolArray


@dataclass(frozen=True, eq=False)
class MapShape:
    """How the rows with a score lie, counted.

    Args:
        excess: edges of the bins of the excess, shape (BINS + 1,).
        spread: those of the spread, shape (BINS + 1,); None where fewer than half of the rows have one.
        by_region: rows in each bin of the excess, shape (regions, BINS).
        density: rows in each field, shape (BINS of the excess, BINS of the spread); None for few rows.
        n_rows: with a score.
        n_once: of them, without a spread.
        n_suspects: of them.
        points: rows to be drawn one by one: all where they are few, else a sample.
    """

    excess: FloatArray
    spread: FloatArray | None
    by_region: IntArray
    density: IntArray | None
    n_rows: int
    n_once: int
    n_suspects: int
    points: MapPoints


def shape_of(
    columns: Mapping[str, NDArray[Any]], region: IntArray, suspect: BoolArray, threshold: float | None
) -> MapShape | None:
    """How the rows lie that have a score; None without any.

    Args:
        columns: of the map.
        region: of each row, a place among the regions, shape (N,).
        suspect: shape (N,).
        threshold: that the picture should have in it.
    """
    excess = columns["excess"].astype(np.float64)
    rows = np.flatnonzero(np.isfinite(excess))
    if not len(rows):
        return None
    spread = columns["spread"].astype(np.float64)
    n_once = int((~np.isfinite(spread[rows])).sum())
    spread = np.where(np.isfinite(spread), spread, 0.0)
    low, high = _limits(excess[rows])
    if threshold is not None and high < threshold < high + (high - low):
        high = 1.05 * threshold
    edges, excess = np.linspace(low, high, BINS + 1), np.clip(excess, low, high)
    bins = np.clip(np.searchsorted(edges, excess[rows], side="right") - 1, 0, BINS - 1)
    n_regions = int(region.max()) + 1
    by_region = np.bincount(region[rows] * BINS + bins, minlength=n_regions * BINS).reshape(n_regions, BINS)
    sides, density = None, None
    if 2 * n_once <= len(rows):
        furthest = _limits(spread[rows])[1]
        sides, spread = np.linspace(0.0, furthest, BINS + 1), np.clip(spread, 0.0, furthest)
        if len(rows) > MANY:
            density = np.histogram2d(excess[rows], spread[rows], [edges, sides])[0].astype(np.int64)
    shown = rows if len(rows) <= MANY else sample_of(rows, columns["content"], suspect)
    points = MapPoints(shown, excess[shown], spread[shown], region[shown], suspect[shown])
    return MapShape(edges, sides, by_region, density, len(rows), n_once, int(suspect[rows].sum()), points)


def _limits(values: FloatArray) -> tuple[float, float]:
    """Between which values are drawn where they are; the others at the edge.

    >>> _limits(np.array([0.0, 1.0, 2.0, 3.0, 4.0]))
    (0.0, 4.0)
    >>> _limits(np.array([*range(100), 1e9]))
    (0.0, 590.0)
    """
    low, middle, high = np.percentile(values, [5, 50, 95])
    least, most = float(values.min()), float(values.max())
    if high > low:
        reach = FAR * (high - low)
        least, most = max(least, float(middle - reach)), min(most, float(middle + reach))
    return (least, most) if most > least else (least - 0.5, most + 0.5)
