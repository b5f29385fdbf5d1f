"""Masks: what holds of all rows, asked for some of them; part by part and side by side, in memory that is warm.

>>> mask = np.array([True, False, True, True])
>>> held(np.array([3, 1, 0], dtype=np.int32), mask.take).tolist(), rows_where(mask).tolist()
([3, 0], [0, 2, 3])
>>> how_far(np.array([1, 3, 0], dtype=np.int32), mask.take, 1), how_far(np.array([1], dtype=np.int32), mask.take, 1)
(2, None)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from campus_tune.words.cores import parts_of, side_by_side
from campus_tune.words.types import BoolArray, RowArray


def held(rows: RowArray, holds: Callable[[RowArray], BoolArray]) -> RowArray:
    """Those of some rows that something holds of, in the same sequence.

    Args:
        rows: shape (m,).
        holds: of some rows, which of them.
    """
    return _whole(side_by_side(lambda part: rows[part].compress(holds(rows[part])), parts_of(len(rows))))


def rows_where(mask: BoolArray) -> RowArray:
    """The rows that a mask of all rows, shape (N,), holds, rising."""

    def of_part(part: slice) -> RowArray:
        places = np.flatnonzero(mask[part])
        places += part.start
        return places.astype(np.int32)

    return _whole(side_by_side(of_part, parts_of(len(mask))))


def how_far(rows: RowArray, holds: Callable[[RowArray], BoolArray], n: int) -> int | None:
    """How many of the first rows hold `n` of those that something holds of; None where all do not.

    Args:
        rows: shape (m,).
        holds: of some rows, which of them.
        n: at least 1.
    """
    for part in parts_of(len(rows)):
        met = np.flatnonzero(holds(rows[part]))
        if len(met) >= n:
            return int(part.start + met[n - 1] + 1)
        n -= len(met)
    return None


def _whole(parts: list[RowArray]) -> RowArray:
    """The parts as one array; a single one is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, dtype=np.int32), *parts])
