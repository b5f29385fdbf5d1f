"""Rank statistics of scores, on whole arrays: average ranks, Spearman's correlation, share of ties. numpy only.

Difficulty scores have no common scale, so everything that compares them compares ranks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.words.types import FloatArray, IntArray


def average_ranks(values: NDArray[Any]) -> FloatArray:
    """Rank of each value from 1; equal values share the mean of the ranks they cover. Shape as `values`, (N,).

    >>> average_ranks(np.array([10.0, 30.0, 10.0])).tolist()
    [1.5, 3.0, 1.5]
    """
    order = np.argsort(values, kind="stable")
    sizes = _run_sizes(values[order])
    starts = np.cumsum(sizes) - sizes
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(starts + (sizes + 1) / 2, sizes)
    return ranks


def ranks_within(values: NDArray[Any], groups: IntArray) -> FloatArray:
    """Average rank of each value inside its group, as a share of the group's size: in (0, 1], shape (N,).

    >>> ranks_within(np.array([10.0, 30.0, 2.0, 1.0]), np.array([0, 0, 1, 1])).tolist()
    [0.5, 1.0, 1.0, 0.5]

    Args:
        values: shape (N,).
        groups: group number of each value, from 0, shape (N,).
    """
    if not len(values):
        return np.zeros(0)
    sizes = np.bincount(groups)
    before = np.cumsum(sizes) - sizes  # values in earlier groups
    by_group_and_value = average_ranks(groups * (len(values) + 1.0) + average_ranks(values))
    return np.asarray((by_group_and_value - before[groups]) / sizes[groups], dtype=np.float64)


def spearman(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Spearman's ρ: the Pearson correlation of the average ranks; NaN when one side is constant or empty.

    >>> round(spearman(np.array([1, 2, 3]), np.array([10, 40, 90])), 6)
    1.0

    Args:
        a: shape (N,).
        b: shape (N,).
    """
    return float(_pearson(np.stack([average_ranks(a), average_ranks(b)]))[0, 1])


def mean_within(a: NDArray[Any], b: NDArray[Any], groups: IntArray) -> float:
    """Spearman's ρ inside each group, averaged over the rows; groups without a ρ are left out, NaN when all are.

    What is left of a correlation when the groups' own means are taken away: a metric that only tells the domains
    apart has a high pooled ρ with the level and none within.

    >>> mean_within(np.array([1, 2, 3, 7, 8, 9]), np.array([1, 2, 3, 3, 2, 1]), np.array([0, 0, 0, 1, 1, 1]))
    0.0

    Args:
        a: shape (N,).
        b: shape (N,).
        groups: group number of each row, shape (N,).
    """
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    rho = np.array([spearman(a[rows], b[rows]) for rows in parts])
    sizes, known = np.array([len(rows) for rows in parts]), np.isfinite(rho)
    return float((rho[known] * sizes[known]).sum() / sizes[known].sum()) if known.any() else math.nan


def correlation_matrix(scores: Mapping[str, NDArray[Any]]) -> tuple[list[str], FloatArray]:
    """Spearman's ρ between all pairs of named scores, each of shape (N,): the names, and a symmetric (n, n) matrix."""
    names = list(scores)
    if not names:
        return names, np.zeros((0, 0))
    return names, _pearson(np.stack([average_ranks(scores[name]) for name in names]))


def tie_share(values: NDArray[Any]) -> float:
    """Share of the values that at least one other value equals, in [0, 1].

    >>> tie_share(np.array([1.0, 1.0, 2.0, 3.0]))
    0.5
    """
    sizes = _run_sizes(np.sort(values))
    return float(sizes[sizes > 1].sum() / max(1, len(values)))


def largest_tie(values: NDArray[Any]) -> float:
    """Share of the values that the commonest one has, in [0, 1].

    >>> largest_tie(np.array([1.0, 1.0, 2.0, 2.0, 2.0]))
    0.6
    """
    return float(_run_sizes(np.sort(values)).max(initial=0) / max(1, len(values)))


def ties_within(values: NDArray[Any], groups: IntArray) -> tuple[float, float]:
    """(Share of the values that another one of their group equals, share with the commonest value of their group).

    A value that is alone in its group, or that no other equals, is no tie.

    >>> ties_within(np.array([1.0, 1.0, 2.0, 1.0, 3.0]), np.array([0, 0, 0, 1, 1]))
    (0.4, 0.4)

    Args:
        values: shape (N,).
        groups: group number of each value, shape (N,).
    """
    if not len(values):
        return 0.0, 0.0
    order = np.lexsort((values, groups))
    ordered, of = values[order], groups[order]
    starts = np.flatnonzero(np.append(True, (ordered[1:] != ordered[:-1]) | (of[1:] != of[:-1])))
    sizes = np.diff(np.append(starts, len(ordered)))
    largest = np.zeros(int(groups.max()) + 1, dtype=np.int64)
    np.maximum.at(largest, of[starts], np.where(sizes > 1, sizes, 0))
    return float(sizes[sizes > 1].sum() / len(values)), float(largest.sum() / len(values))


def _run_sizes(ordered: NDArray[Any]) -> NDArray[np.int64]:
    """How often each value stands in a sorted array."""
    if not len(ordered):
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return np.diff(np.append(starts, len(ordered)))


def _pearson(rows: FloatArray) -> FloatArray:
    """Pearson's r between the rows of an (n, N) array, within [−1, 1]; NaN for constant rows."""
    if not rows.shape[1]:
        return np.full((len(rows), len(rows)), np.nan)
    centred = rows - rows.mean(axis=1, keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (centred @ centred.T) / np.outer(norms, norms)
    return np.asarray(np.clip(r, -1.0, 1.0), dtype=np.float64)
