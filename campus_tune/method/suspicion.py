"""Suspicion: how much likelier than its like a row is to have a wrong answer, from losses that training shows anyway.

A wrong answer costs more than the right answers of its kind, at the same moment and of the same length. So a row is
never judged by its loss but by what it has above rows like it.

In training (`of_training`), at each visit of a row, its *local excess*

    e = (ℓ − m) / max(d, 0.001)

ℓ the row's mean loss, m the median and d the mean absolute deviation from it, over the 61 visits of its cell that are
nearest in the sequence of training (all of the cell where it has fewer), inside one pass: the first visits of all rows
are compared with each other, then the second ones. The score of a row is Σ j·e_j / Σ j over its passes j: a later pass
says more, for the model has learned what is right by then.

Before training (`of_forward`), from one forward of the model, or two: the residual of ln(ℓ + 0.01) on the logarithm of
the answer's tokens, and on ln(what the answer costs without its prompt + 0.01) where that is known, by least squares
inside each group of more than eight rows, divided by the residuals' mean absolute deviation.

High is likelier wrong, 0 the middle of a row's kind, and the unit a mean absolute deviation of its kind: both scores
can be read on one scale, whatever the model, the data and the length of the run.

Reference:
    Weber-Genzel, Litschko, Artemova, Plank 2023, Donkii: Can Annotation Error Detection Methods Find Errors in
    Instruction-Tuning Datasets? (arXiv 2309.01669). Its four scores (perplexity, mean and lowest probability, AUM) are
    means over epochs of a row's own numbers.

    *Differs*: a row's number is compared with those of its kind at its time, and later passes weigh more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from campus_tune.method.standing import by_number
from campus_tune.words.types import BoolArray, FloatArray, IntArray, RowArray

WIDTH = 61  # visits that one is compared with, itself among them
LEAST_SPREAD = 0.001  # nats; of a cell whose losses are all alike
LOG_FLOOR = 0.01  # nats, added before a logarithm is taken: below it losses are alike
FEW = 8  # rows of a group, up to which nothing can be fitted to it
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

    Groups of up to eight rows are fitted together with all other rows, and all rows by their mean alone where there
    are no more than eight of them. NaN where a value or a column is not finite: such a row is not fitted to either.

    Args:
        values: shape (n,).
        columns: what may explain them beside a constant, each of shape (n,).
        groups: of the rows, from 0, shape (n,).

    >>> line = np.arange(10.0)
    >>> residuals(2 * line + (line == 9), [line], np.zeros(10, dtype=np.int64)).round(2).tolist()
    [0.78, 0.49, 0.2, -0.1, -0.39, -0.69, -0.98, -1.27, -1.57, 3.53]
    """
    result = np.full(len(values), np.nan)
    design = np.stack([np.ones(len(values)), *columns], axis=1)
    known = np.flatnonzero(np.isfinite(values) & np.isfinite(design).all(axis=1))
    sizes = np.bincount(groups[known], minlength=int(groups.max(initial=-1)) + 1)
    large = sizes[groups[known]] > FEW
    if not large.all():
        few = known[~large]
        result[few] = _residuals_of(values[known], design[known])[~large]
    for group in np.flatnonzero(sizes > FEW):
        rows = known[groups[known] == group]
        result[rows] = _residuals_of(values[rows], design[rows])
    return result


def _residuals_of(values: FloatArray, design: FloatArray) -> FloatArray:
    """Residuals of one least-squares fit in their mean absolute deviations, shape (n,), n ≥ 1."""
    if len(values) <= FEW:
        design = design[:, :1]
    left = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    return np.asarray(left / max(float(np.abs(left).mean()), LEAST_SPREAD), dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Suspicion:
    """How suspect each row is.

    Args:
        score: high is likelier wrong, 0 the middle of its kind, in mean absolute deviations; NaN where nothing is
            known of the row. Shape (N,).
        spread: standard deviation of what its passes said, shape (N,); NaN below two of them.
        suspects: who is called suspect, shape (N,).
        threshold: the score above which they are; None where nobody is.
    """

    score: FloatArray
    spread: FloatArray
    suspects: BoolArray
    threshold: float | None

    @property
    def worst_first(self) -> RowArray:
        """The rows that have a score, the likeliest wrong first, ties by row."""
        first = np.argsort(-self.score, kind="stable")  # NaN comes last
        return first[: np.count_nonzero(~np.isnan(self.score))].astype(np.int32)

    @staticmethod
    def of_scores(score: FloatArray, spread: FloatArray) -> Suspicion:
        """Call those suspect that stand out of these scores."""
        threshold = stands_out(score[~np.isnan(score)])
        suspects = np.zeros(len(score), dtype=bool) if threshold is None else score > threshold
        return Suspicion(score, spread, suspects, threshold)


def of_training(
    rows: IntArray,
    losses: FloatArray,
    cells: IntArray | RowArray,
    n_rows: int,
    *,
    tokens: IntArray | FloatArray,
    groups: IntArray | RowArray | None,
    alone: FloatArray | None = None,
    before: FloatArray | None = None,
) -> Suspicion:
    """What a run's own training forwards say of its rows.

    Visits without a finite loss leave no trace. Where it is known what answers cost without their prompts, the
    residual of the logarithm of the loss (`residuals`), pass by pass, takes the place of the loss.

    Args:
        rows: of all visits, in the sequence of training, shape (V,).
        losses: mean of each visit, nats per token, shape (V,).
        cells: of each row, from 0, shape (N,).
        n_rows: N.
        tokens: of each row's answer, shape (N,).
        groups: of each row, from 0, inside which residuals are taken, shape (N,); None for one group.
        alone: mean loss of each answer without its prompt before training, nats per token, NaN where unknown, (N,).
        before: each row's score from before training, NaN where unknown, shape (N,): it counts as a first pass more.
    """
    shown = np.isfinite(losses)
    rows, losses = np.asarray(rows[shown], dtype=np.int64), np.asarray(losses[shown], dtype=np.float64)
    cell = np.asarray(cells, dtype=np.int64)[rows]
    passes = _passes(rows)
    sums = np.zeros((3, n_rows))  # of weights, weight · excess, weight · excess²
    counts = np.zeros(n_rows, dtype=np.int64)

    def take(some: IntArray, weight: float, excess: FloatArray) -> None:
        counts[some] += 1
        for power in range(3):
            sums[power, some] += weight * excess**power

    if before is not None:
        known = np.flatnonzero(np.isfinite(before))
        take(known, 1.0, before[known])
    for number in range(1, int(passes.max(initial=0)) + 1):
        of_pass = np.flatnonzero(passes == number)
        some, values = rows[of_pass], losses[of_pass]
        if alone is not None:
            values = _residual_of_logs(values, tokens[some], None if groups is None else groups[some], alone[some])
        take(some, float(number), local_excess(values, cell[of_pass]))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, square = sums[1:] / sums[0]
    spread = np.where(counts > 1, np.sqrt(np.maximum(square - mean**2, 0.0)), np.nan)
    return Suspicion.of_scores(mean, spread)


def of_forward(
    losses: FloatArray,
    tokens: IntArray | FloatArray,
    *,
    groups: IntArray | RowArray | None,
    alone: FloatArray | None,
) -> Suspicion:
    """What one forward of a model says of rows before any training, or two.

    Args:
        losses: mean of each row's answer, nats per token, shape (N,); not finite where there is none.
        tokens: of each row's answer, shape (N,).
        groups: of each row, from 0, shape (N,), such as its source; None for one group.
        alone: mean loss of each answer without its prompt, nats per token, NaN where unknown, shape (N,).
    """
    score = _residual_of_logs(losses, tokens, groups, alone)
    return Suspicion.of_scores(score, np.full(len(score), np.nan))


def _residual_of_logs(
    losses: FloatArray,
    tokens: IntArray | FloatArray,
    groups: IntArray | RowArray | None,
    alone: FloatArray | None,
) -> FloatArray:
    """Residual of log loss on log tokens, and on the log loss without the prompt where that is known. Shape (n,)."""
    group = np.zeros(len(losses), dtype=np.int64) if groups is None else np.asarray(groups, dtype=np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        value, length = np.log(losses + LOG_FLOOR), np.log(tokens)
        free = residuals(value, [length], group)
        if alone is None:
            return free
        known = residuals(value, [length, np.log(alone + LOG_FLOOR)], group)
    return np.where(np.isnan(known), free, known)


def _passes(rows: IntArray) -> IntArray:
    """The how manieth visit of its row each visit is, from 1, shape (V,).

    >>> _passes(np.array([3, 0, 3, 3, 0])).tolist()
    [1, 1, 2, 3, 2]
    """
    by_row = np.argsort(rows, kind="stable")
    ordered = rows[by_row]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])[: len(rows)])
    result = np.empty(len(rows), dtype=np.int64)
    result[by_row] = np.arange(len(rows)) - np.repeat(starts, np.diff(np.append(starts, len(rows)))) + 1
    return result


def stands_out(scores: FloatArray) -> float | None:
    """The score above which rows stand out of their kind; None where none do.

    The lower half of the scores, mirrored at their median, says how many rows would lie above a score if nothing were
    wrong. The threshold is the lowest score above which no more than a tenth of the rows are expected there, and
    None where the rows above it are no more than three standard deviations above those expected.

    Args:
        scores: known ones, shape (n,).
    """
    centred = np.sort(scores - np.median(scores)) if len(scores) else np.zeros(0)
    above = centred[centred > 0][::-1]  # the highest first
    below = np.searchsorted(np.sort(-centred[centred < 0]), above, side="left")
    mirrored = np.count_nonzero(centred < 0) - below  # below the median by at least as much
    found = np.arange(1, len(above) + 1)
    fine = np.flatnonzero((mirrored <= 0.1 * found) & (found - mirrored >= 3 * np.sqrt(mirrored + 1.0) + 5))
    return float(above[fine[-1]] + np.median(scores)) - 1e-9 if len(fine) else None
