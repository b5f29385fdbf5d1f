"""What is left of an order when rows are ranked inside groups: the grouping is judged before anything is trained by it.

Take two rows that a metric tells apart. Ranked inside their groups and interleaved, they stand in the metric's sequence
or in the other one; a random order keeps half of all pairs. So

    left = 2 · (share of the pairs that keep their sequence) − 1                 1: the same order, 0: a random one

A pair inside one group keeps its sequence; a pair of two groups keeps it as far as the groups are alike. Hence

- groups of like difficulty, however many: near 1. Five groups of 600 rows drawn from one distribution: 0.96.
- groups of one row each: 0. The grouped order is a random one. Groups of 2, 3, 4, 8 rows: 0.33, 0.46, 0.55, 0.69.
- groups that are the stages of a difficulty, each harder than the one before: pairs inside groups alone are left, the
  others are a coin toss. Two stages of n rows: (n − 1) / (2n − 1), three: (n − 1) / (3n − 1).

Below a half, the grouping decides more than the metric does. Up to 512 rows all pairs are looked at, else 131 072 drawn
by a seed: three standard errors are below 0.01.

>>> round(order_left(np.array([1.0, 2.0, 9.0, 8.0]), np.array([0, 0, 1, 1])), 2) in (0.0, 0.33, 0.67)
True
>>> order_left(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0, 0, 0, 0]))
1.0
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from campus_tune.method.orders import order_rows, rank_of_rows
from campus_tune.words.types import FloatArray, IntArray

PAIRS = 1 << 17  # looked at
HALF = 0.51  # of an order: a half, and three standard errors of the pairs that are drawn
NO_GROUPS = "none"  # `within: none`: rank all rows together
FEW = 8  # rows of a group, below which ranks inside it say little


@dataclass(frozen=True)
class Grouping:
    """The groups that rows are ranked in.

    Args:
        column: that they were read from.
        chosen: the recipe names it; else it was found by its name.
        n_groups: how many.
        typical: rows in the group of the median row: half of the rows are in groups of this size or smaller ones.
        left: per metric, what is left of its order, in [-1, 1]; NaN where it tells no two rows apart.
    """

    column: str
    chosen: bool
    n_groups: int
    typical: int
    left: Mapping[str, float]

    @staticmethod
    def of(scores: Mapping[str, FloatArray], groups: IntArray, *, column: str, chosen: bool) -> Grouping:
        """What a grouping leaves of the orders by some scores, each of shape (N,), as is `groups`."""
        sizes = np.bincount(groups)
        typical = int(np.sort(sizes[groups])[(len(groups) - 1) // 2])
        left = {name: order_left(values, groups) for name, values in scores.items()}
        return Grouping(column, chosen, int(np.count_nonzero(sizes)), typical, left)

    @property
    def lost(self) -> dict[str, float]:
        """What is left of the orders of which less than a half is."""
        return {name: left for name, left in self.left.items() if left < HALF}


def order_left(scores: FloatArray, groups: IntArray) -> float:
    """What ranking inside groups leaves of the order by `scores`; NaN where no two rows differ in them.

    Args:
        scores: shape (N,), finite.
        groups: group number of each row, shape (N,).
    """
    n = len(scores)
    if n * (n - 1) // 2 <= PAIRS:
        first, second = np.triu_indices(n, 1)
    else:
        rng = np.random.default_rng(0)
        first = rng.integers(0, n, PAIRS)
        second = (first + rng.integers(1, n, PAIRS)) % n  # never itself
    differ = scores[first] != scores[second]
    first, second = first[differ], second[differ]
    if not len(first):
        return math.nan
    rank = rank_of_rows(order_rows(scores, seed=0, groups=groups))
    kept = (rank[first] < rank[second]) == (scores[first] < scores[second])
    return float(2 * kept.mean() - 1)
