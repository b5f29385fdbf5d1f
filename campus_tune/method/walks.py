"""Walks: the first rows of a sequence that each stratum needs, without looking further than needed.

A lane's rows lie in tiers: what its sub-curriculum offers, what lies beyond it, and the rows of the next pass. A walk
goes through them in sequence until every stratum has as many as it needs. Rows are read in blocks of doubling size, so
a stage of few rows reads few, and each block is cut by one stable sort of small codes: there is no loop over rows.

>>> codes = np.array([0, 1, 0, 1, 0], dtype=np.int16)
>>> tier = Tier(np.array([4, 3, 2, 1, 0], dtype=np.int32), np.ones(5, dtype=np.bool_).take)
>>> walk([lambda: tier], codes, np.array([2.0, 1.0])).rows.tolist()
[4, 2, 3]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from campus_tune.method.masks import held
from campus_tune.words.types import BoolArray, FloatArray, IntArray, RowArray

LEAST_BLOCK = 4096  # rows that are read at once at least
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Tier:
    """Some rows in a sequence.

    Args:
        rows: each at most once, shape (L,).
        ok: which of some rows may be drawn.
    """

    rows: RowArray
    ok: Callable[[RowArray], BoolArray]


@dataclass(frozen=True, eq=False)
class Walk:
    """What a walk found.

    Args:
        rows: by stratum, in the sequence of the walk inside it, shape (m,).
        tier: number of the tier that each came from, uint8, shape (m,).
        ends: where each stratum's rows end, shape (S,).
    """

    rows: RowArray
    tier: NDArray[np.uint8]
    ends: IntArray

    @property
    def sizes(self) -> IntArray:
        """Rows of each stratum, shape (S,)."""
        return np.diff(self.ends, prepend=0)


def walk(
    tiers: Iterable[Callable[[], Tier]],
    codes: RowArray | None,
    need: FloatArray | IntArray,
    weight: FloatArray | None = None,
) -> Walk:
    """The first rows of each stratum.

    Args:
        tiers: in sequence, without a row in common; one is made only where those before it are not enough.
        codes: stratum of each row, shape (N,); None for one.
        need: how many rows, or how much weight, each stratum needs, shape (S,).
        weight: of each row, shape (N,); None for 1.
    """
    left, rows, tier = need.astype(np.float64), [np.zeros(0, dtype=np.int32)], [np.zeros(0, dtype=np.uint8)]
    for number, make in enumerate(tiers):
        if not (left > _ROUNDING).any():
            break
        for block in _blocks(make(), max(LEAST_BLOCK, 2 * int(left.sum()))):
            found = _needed(block, codes, left, weight)
            rows.append(found)
            tier.append(np.full(len(found), number, dtype=np.uint8))
            of = np.zeros(len(found), dtype=np.int16) if codes is None else codes[found]
            left = left - np.bincount(of, None if weight is None else weight[found], len(need))
            if not (left > _ROUNDING).any():
                break
    every = np.concatenate(rows)
    walked = Walk(every, np.concatenate(tier), np.array([len(every)]))
    return walked if codes is None else grouped(walked, codes, len(need))


def grouped(found: Walk, codes: RowArray, n: int) -> Walk:
    """The same rows by stratum, in the sequence of the walk inside it.

    Args:
        found: in one group.
        codes: stratum of each row, shape (N,).
        n: strata.
    """
    of = codes[found.rows]
    by_code = np.argsort(of, kind="stable")
    return Walk(found.rows[by_code], found.tier[by_code], np.cumsum(np.bincount(of, minlength=n)))


def _blocks(tier: Tier, size: int) -> Iterable[RowArray]:
    """The rows of a tier that may be drawn, some at a time, each time twice as many."""
    start = 0
    while start < len(tier.rows):
        block = tier.rows[start : start + size]
        yield held(block, tier.ok)
        start, size = start + size, 2 * size


def _needed(rows: RowArray, codes: RowArray | None, need: FloatArray, weight: FloatArray | None) -> RowArray:
    """Those of `rows` before which their stratum still lacked something."""
    if codes is None and weight is None:
        return rows[: int(np.ceil(need[0] - _ROUNDING))]
    of = np.zeros(len(rows), dtype=np.int16) if codes is None else codes.take(rows)
    lacking = need > _ROUNDING
    if not lacking.all():
        some = lacking.take(of)
        rows, of = rows.compress(some), of.compress(some)
    order = np.argsort(of, kind="stable")
    sizes = np.bincount(of, minlength=len(need))
    starts = np.cumsum(sizes) - sizes
    if weight is None:
        before = np.arange(len(rows)) - np.repeat(starts, sizes)
    else:
        ends = np.append(0.0, np.cumsum(weight[rows[order]]))
        before = ends[:-1] - np.repeat(ends[starts], sizes)
    return rows[order[before < np.repeat(need, sizes) - _ROUNDING]]
