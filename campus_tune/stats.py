"""Rank statistics of scores, on whole arrays: average ranks, Spearman's correlation, share of ties. numpy only.

Difficulty scores have no common scale, so everything that compares them compares ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.types import FloatArray


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


def spearman(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Spearman's ρ: the Pearson correlation of the average ranks; NaN when one side is constant or empty.

    >>> round(spearman(np.array([1, 2, 3]), np.array([10, 40, 90])), 6)
    1.0

    Args:
        a: shape (N,).
        b: shape (N,).
    """
    return float(_pearson(np.stack([average_ranks(a), average_ranks(b)]))[0, 1])


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
