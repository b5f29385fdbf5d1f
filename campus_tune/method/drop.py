"""Drop: how much of what a recipe wants to leave out may be left out. A bound for all rows, and one for each domain.

Scores that say which rows are bad are wrong now and then, and more often about one domain than about another. So no
entry drops more than its `at_most`, and all of them together leave each domain at least half of its rows.

>>> cut = bounded(np.array([5, 0, 1, 2]), 6, at_most=0.5, domains=np.array([0, 0, 0, 0, 1, 1]))
>>> cut.rows.tolist(), cut.wanted, cut.by_domain, cut.by_share
([5, 0, 1], 4, {0: 1}, 0)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from campus_tune.words.types import BoolArray, IntArray, RowArray

SALT = 0xD20B  # of the rows that the control drops
HALF = 2  # of a domain's rows one in so many may be dropped


@dataclass(frozen=True, eq=False)
class Bounded:
    """What may be dropped of what was wanted, and what the others owe their stay to.

    Args:
        rows: to drop, worst first, shape (k,).
        wanted: how many a score or a file named.
        by_domain: domain → rows that stay because half of it is gone.
        by_share: rows that stay because `at_most` of all rows are.
    """

    rows: RowArray
    wanted: int
    by_domain: Mapping[int, int]
    by_share: int


def bounded(
    worst_first: IntArray | RowArray,
    n_rows: int,
    *,
    at_most: float,
    domains: IntArray | RowArray | None = None,
    dropped: BoolArray | None = None,
) -> Bounded:
    """The worst of some rows, as many as both bounds allow: first that of each domain, then that of all rows.

    Args:
        worst_first: rows that are to be dropped, each once, shape (w,).
        n_rows: N.
        at_most: share of all N rows that this entry may drop, in [0, 1].
        domains: domain of each row, shape (N,); None for one.
        dropped: rows that other entries drop already, shape (N,): they are not dropped again, and count for their
            domain.
    """
    codes = np.zeros(n_rows, dtype=np.int64) if domains is None else domains
    gone = np.zeros(n_rows, dtype=np.bool_) if dropped is None else dropped
    rows = worst_first[~gone[worst_first]].astype(np.int32)
    sizes = np.bincount(codes)
    room = np.maximum(0, sizes // HALF - np.bincount(codes[gone], minlength=len(sizes)))
    spared = _place_in_domain(codes[rows]) >= room[codes[rows]]
    counts = np.bincount(codes[rows[spared]], minlength=len(sizes))
    within = rows[~spared]
    most = int(at_most * n_rows + 1e-9)
    return Bounded(
        within[:most],
        len(rows),
        {int(domain): int(counts[domain]) for domain in np.flatnonzero(counts)},
        max(0, len(within) - most),
    )


def at_random(dropped: BoolArray, cells: IntArray | RowArray, *, seed: int, gone: BoolArray | None = None) -> BoolArray:
    """As many rows of each cell as were dropped of it, but which of them is chance: the control of dropping.

    Args:
        dropped: shape (N,).
        cells: of each row, shape (N,).
        seed: of the draw.
        gone: rows that were dropped before and are none of them, shape (N,); of a cell with fewer others all go.

    Returns:
        Shape (N,), as many true of each cell.
    """
    mixed = np.random.default_rng([seed, SALT]).permutation(len(cells))
    return as_many(dropped, cells, mixed if gone is None else mixed[~gone[mixed]])


def as_many(dropped: BoolArray, cells: IntArray | RowArray, first: IntArray) -> BoolArray:
    """As many rows of each cell as were dropped of it, the first ones of a sequence.

    >>> as_many(np.array([True, False, False]), np.array([0, 0, 1]), np.array([2, 1, 0])).tolist()
    [False, True, False]

    Args:
        dropped: shape (N,).
        cells: of each row, shape (N,).
        first: rows that may go, in their sequence; of a cell with fewer of them all go.

    Returns:
        Shape (N,), as many true of each cell.
    """
    n = np.bincount(cells[dropped], minlength=int(cells.max(initial=0)) + 1)
    by_cell = first[np.argsort(cells[first], kind="stable")]
    result = np.zeros(len(cells), dtype=np.bool_)
    result[by_cell[_place_in_domain(cells[by_cell]) < n[cells[by_cell]]]] = True
    return result


def _place_in_domain(codes: IntArray | RowArray) -> IntArray:
    """How many of the same code stand before each, shape (w,)."""
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    place = np.empty(len(codes), dtype=np.int64)
    place[order] = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return place
