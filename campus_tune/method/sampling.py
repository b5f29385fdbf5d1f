"""Random draws that keep the domains in proportion: the `mix` share of a stage, and plain shuffling.

>>> quotas(np.array([60, 30, 10]), 10).tolist()
[6, 3, 1]
"""

from __future__ import annotations

import numpy as np

from campus_tune.words.types import FloatArray, IntArray, RowArray


def quotas(sizes: IntArray, n: int) -> IntArray:
    """How many of `n` draws each group gets, in proportion to `sizes`, by largest remainder. Sums to `n`.

    Args:
        sizes: rows that each group still has, shape (G,).
        n: at most `sizes.sum()`.
    """
    total = int(sizes.sum())
    if n == 0 or total == 0:
        return np.zeros_like(sizes)
    exact = sizes * (n / total)
    whole = np.floor(exact).astype(np.int64)
    left = n - int(whole.sum())
    first = np.lexsort((np.arange(len(sizes)), -(exact - whole)))[:left]
    whole[first] += 1
    given: IntArray = np.minimum(whole, sizes)
    return given


def draw(rng: np.random.Generator, pool: RowArray, n: int, groups: IntArray | None = None) -> RowArray:
    """`n` different rows of `pool` at random, domains in proportion to their share of the pool.

    Args:
        rng: the stage's own generator.
        pool: rows to draw from, shape (L,).
        n: how many; from L on, the whole pool in its own sequence.
        groups: group number of every row of the training set, shape (N,); None draws without strata.
    """
    if n >= len(pool):
        return pool
    if groups is None:
        return pool[rng.choice(len(pool), size=n, replace=False, shuffle=False)]
    codes = groups[pool]
    sizes = np.bincount(codes)
    parts = []
    for group, quota in enumerate(quotas(sizes, n)):
        members = np.flatnonzero(codes == group)
        parts.append(pool[members[rng.choice(len(members), size=int(quota), replace=False, shuffle=False)]])
    return np.concatenate(parts)


def highest(scores: FloatArray, n: int, keys: FloatArray) -> IntArray:
    """Places of the `n` highest scores, rising; among equal ones those of the lowest keys.

    A file is often sorted by source, so the number of a row must not decide.

    Args:
        scores: shape (m,).
        n: how many; all from m on.
        keys: random, shape (m,).
    """
    if n >= len(scores) or n <= 0:
        return np.arange(len(scores) if n > 0 else 0)
    least = np.partition(scores, -n)[-n]
    equal = np.flatnonzero(scores == least)
    above = np.flatnonzero(scores > least)
    lowest = np.argpartition(keys[equal], n - len(above) - 1)[: n - len(above)]
    return np.sort(np.concatenate([above, equal[lowest]]))
