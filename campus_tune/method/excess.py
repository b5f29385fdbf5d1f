"""Excess: what a value has above those of rows like it, in their mean absolute deviations. The arithmetic of suspicion.

`local_excess` compares a value with its neighbours in a sequence, cell by cell; `residuals` with what other columns of
the rows let one expect, group by group. In both, 0 is the middle of what a row is compared with, and the unit how far
such rows are from it on average: no unit of the values is left, and none of the cells and groups either.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from campus_tune.method.standing import by_number
from campus_tune.words.types import FloatArray, IntArray

WIDTH = 61  # values that one is compared with, itself among them
LEAST_SPREAD = 0.001  # of values that are all alike
FEW = 8  # rows of a group, up to which nothing can be fitted to it
PRIOR = 30  # rows: how much all groups together say of one group's slopes and spread
AT_ONCE = 1 << 15  # windows that are in memory at a time: 16 MB


def local_excess(losses: FloatArray, cells: IntArray) -> FloatArray:
    """What each visit's loss has above those of its cell around it, in their mean absolute deviations. Shape (V,).

    A visit at either end of the sequence is compared with the 61 visits at that end.

    Args:
        losses: of the visits of one pass in the sequence of training, finite, shape (V,).
        cells: of their rows, from 0, shape (V,).

    >>> local_excess(np.array([1.0, 2.0, 3.0, 12.0]), np.zeros(4, dtype=np.int64)).tolist()
    [-0.5, -0.16666666666666666, 0.16666666666666666, 3.1666666666666665]
    """
    excess = np.empty(len(losses))
    n_cells = int(cells.max(initial=-1)) + 1
    ends = np.cumsum(np.bincount(cells, minlength=n_cells))
    for places in np.split(by_number(cells, n_cells), ends[:-1]):
        if len(places):
            excess[places] = _excess_of_cell(losses[places])
    return excess


def _excess_of_cell(losses: FloatArray) -> FloatArray:
    """Local excess of the visits of one cell, shape (m,), m ≥ 1."""
    m = len(losses)
    width = min(WIDTH, m)
    windows = np.lib.stride_tricks.sliding_window_view(losses, width)  # (m − width + 1, width), a view
    middle, spread = np.empty(len(windows)), np.empty(len(windows))
    for start in range(0, len(windows), AT_ONCE):
        some = windows[start : start + AT_ONCE]
        found = np.median(some, axis=1)
        middle[start : start + AT_ONCE] = found
        spread[start : start + AT_ONCE] = np.abs(some - found[:, None]).mean(axis=1)
    window = np.clip(np.arange(m) - width // 2, 0, len(windows) - 1)  # the one around each visit, (m,)
    return np.asarray((losses - middle[window]) / np.maximum(spread[window], LEAST_SPREAD), dtype=np.float64)


def residuals(values: FloatArray, columns: Sequence[FloatArray], groups: IntArray) -> FloatArray:
    """What the columns do not explain of the values, inside each group, in its mean absolute deviations. Shape (n,).

    Least squares with a level of each group; its slopes and its spread are drawn to those of all groups as if thirty
    further rows said so, for a source of twenty rows has no slopes of its own to show (on real text, 11 sources of 600
    rows: .54 → .59 of the list right). Groups of up to eight rows have the level of all rows, and where there are no
    more than eight rows at all nothing but their mean is taken away. NaN where a value or a column is not finite: such
    a row is not fitted to either.

    Args:
        values: shape (n,).
        columns: what may explain them, each of shape (n,).
        groups: of the rows, from 0, shape (n,).

    >>> line = np.arange(10.0)
    >>> residuals(2 * line + (line == 9), [line], np.zeros(10, dtype=np.int64)).round(2).tolist()
    [0.78, 0.49, 0.2, -0.1, -0.39, -0.69, -0.98, -1.27, -1.57, 3.53]
    """
    result = np.full(len(values), np.nan)
    table = np.stack([values, *columns], axis=1)  # (n, 1 + k)
    known = np.flatnonzero(np.isfinite(table).all(axis=1))
    if not len(known):
        return result
    table = table[known]
    members = _groups(groups[known])
    level = np.broadcast_to(table.mean(axis=0), table.shape).copy()
    for rows in members:
        level[rows] = table[rows].mean(axis=0)
    left, within = table[:, 0] - level[:, 0], table[:, 1:] - level[:, 1:]
    if len(known) > FEW:
        scale = np.sqrt((within**2).mean(axis=0))
        within = within / np.where(scale > 0, scale, 1.0)
        left = left - within @ np.linalg.lstsq(within, left, rcond=None)[0]
        for rows in members:
            own = within[rows]
            slopes = np.linalg.solve(own.T @ own + PRIOR * np.eye(own.shape[1]), own.T @ left[rows])
            left[rows] = left[rows] - own @ slopes
    overall = float(np.abs(left).mean())
    spread = np.full(len(known), overall)
    for rows in members:
        spread[rows] = (np.abs(left[rows]).sum() + PRIOR * overall) / (len(rows) + PRIOR)
    result[known] = left / np.maximum(spread, LEAST_SPREAD)
    return result


def _groups(groups: IntArray) -> list[IntArray]:
    """The places of each group of more than eight rows."""
    by_group = np.argsort(groups, kind="stable")
    parts = np.split(by_group, np.flatnonzero(np.diff(groups[by_group])) + 1)
    return [part for part in parts if len(part) > FEW]
