"""Suspicion: how much likelier than its like a row is to have a wrong answer, from losses that training shows anyway.

A wrong answer costs more than the right answers of its kind, at the same moment and of the same length. So a row is
never judged by its loss but by what it has above rows like it.

In training (`of_training`), at each visit of a row, its *local excess*

    e = (x − m) / max(d, 0.001),        x = ln(ℓ + 0.003)

ℓ the row's mean loss, m the median and d the mean absolute deviation from it, over the 61 visits of its cell that are
nearest in the sequence of training (all of the cell where it has fewer), inside one pass: the first visits of all rows
are compared with each other, then the second ones. It is taken three times: among rows whose answer is about as long
(the cells), among rows of the domain whose *prompt* is, and among those that are about as long altogether; e is their
mean. The length of a prompt tells kinds of questions apart that have answers of one length. The score of a row is
Σ j·e_j / Σ j over its passes j: a later pass says more, for the model has learned what is right by then.

Before training (`of_forward`), from one forward of the model, or two: the residual r of x on the logarithm of the
answer's tokens, and on ln(what the answer costs without its prompt + 0.003) where that is known (`residuals`), inside
the source; and the local excess of r among the 61 rows of the source that are nearest in the answer's length, and among
those nearest in the prompt's. The score is the mean of the three: a kind of question that the model cannot answer yet
is a tenth of a source, not wrong, and only its like shows that.

High is likelier wrong, 0 the middle of a row's kind, and the unit a mean absolute deviation of its kind: both scores
can be read on one scale, whatever the model, the data and the length of the run.

**Who is called suspect** (`stands_out`). Logarithms of clean losses lean to the left: some rows are known by heart, and
nothing is as far on the other side. So where nothing is wrong, the lower half of the scores, mirrored, has more rows
far out than the upper one. Suspect are the rows from the lowest score on beyond which there are three times as many as
beyond its mirror image, if that is more than chance allows.

Tried and not taken (`eval/LOG.md`): losses instead of their logarithms (as good a list, but clean losses lean to the
right, and the rule raised false alarms), the lowest probability joined in (so did that), equal weights of passes, the
last pass alone, cells of answer × prompt length (too few rows each), the rows nearest in all of that.

Reference:
    Weber-Genzel, Litschko, Artemova, Plank 2023, Donkii: Can Annotation Error Detection Methods Find Errors in
    Instruction-Tuning Datasets? (arXiv 2309.01669). Its four scores (perplexity, mean and lowest probability, AUM) are
    means over epochs of a row's own numbers.

    *Differs*: a row's number is compared with those of its kind at its time, and later passes weigh more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from campus_tune.method.cells import Cells
from campus_tune.method.excess import local_excess, residuals
from campus_tune.words.types import BoolArray, FloatArray, IntArray, RowArray

LOG_FLOOR = 0.003  # nats, added before a logarithm is taken: below it losses are alike
BANDS, PER_BAND = 8, 16  # of a domain at most; rows of each at least, on average
MIRRORED = 1 / 3  # rows below the mirror image for each one above a threshold, at most
CHANCE = 4.0  # standard deviations of a fair coin that the rows above are more than those below


@dataclass(frozen=True, eq=False)
class Suspicion:
    """How suspect each row is.

    Args:
        score: high is likelier wrong, 0 the middle of its kind, in mean absolute deviations; NaN where nothing is
            known of the row. Shape (N,).
        spread: standard deviation of what its passes said, shape (N,); NaN below two of them.
        suspects: who is called suspect, shape (N,).
        threshold: the least score of theirs; None where nobody is.
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
        suspects = np.zeros(len(score), dtype=bool) if threshold is None else score >= threshold
        return Suspicion(score, spread, suspects, threshold)


def of_training(
    rows: IntArray,
    losses: FloatArray,
    cells: IntArray | RowArray,
    n_rows: int,
    *,
    tokens: IntArray | FloatArray,
    groups: IntArray | RowArray | None,
    prompts: IntArray | FloatArray | None = None,
    alone: FloatArray | None = None,
    before: FloatArray | None = None,
) -> Suspicion:
    """What a run's own training forwards say of its rows.

    Visits without a finite loss leave no trace. Where it is known what answers cost without their prompts, the
    residual of the logarithm of the loss (`residuals`), pass by pass, takes the place of the logarithm.

    Args:
        rows: of all visits, in the sequence of training, shape (V,).
        losses: mean of each visit, nats per token, shape (V,).
        cells: of each row, from 0, shape (N,).
        n_rows: N.
        tokens: of each row's answer, shape (N,).
        groups: of each row, from 0, such as its domain, inside which lengths of prompts are compared and residuals
            are taken, shape (N,); None for one group.
        prompts: tokens of each row's prompt, shape (N,); None compares inside the cells alone.
        alone: mean loss of each answer without its prompt before training, nats per token, NaN where unknown, (N,).
        before: each row's score from before training, NaN where unknown, shape (N,): it counts as a first pass more.
    """
    shown = np.isfinite(losses)
    rows, losses = np.asarray(rows[shown], dtype=np.int64), np.asarray(losses[shown], dtype=np.float64)
    passes, values = _passes(rows), np.log(np.maximum(losses, 0.0) + LOG_FLOOR)
    kinds, group = [np.asarray(cells, dtype=np.int64)], _numbers(groups, n_rows)
    if prompts is not None and n_rows:
        asked, answered = (np.asarray(lengths, dtype=np.float64) for lengths in (prompts, tokens))
        kinds += [_bands(asked, group), _bands(asked + answered, group)]
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
        some, seen = rows[of_pass], values[of_pass]
        if alone is not None:
            seen = _residual_of_logs(losses[of_pass], tokens[some], group[some], alone[some])
        take(some, float(number), np.mean([local_excess(seen, kind[some]) for kind in kinds], axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, square = sums[1:] / sums[0]
    spread = np.where(counts > 1, np.sqrt(np.maximum(square - mean**2, 0.0)), np.nan)
    return Suspicion.of_scores(mean, spread)


def _numbers(groups: IntArray | RowArray | None, n: int) -> IntArray:
    """The group of each of n rows; one for all of them where there are none."""
    return np.zeros(n, dtype=np.int64) if groups is None else np.asarray(groups, dtype=np.int64)


def _bands(lengths: FloatArray, group: IntArray) -> IntArray:
    """Rows that are about as long, inside each group: a number for each of them, shape (N,)."""
    names = [str(number) for number in range(int(group.max()) + 1)]
    bands = min(BANDS, max(1, len(lengths) // (PER_BAND * len(np.unique(group)))))
    return Cells.cut(lengths, domains=group, domain_names=names, bands=bands).codes.astype(np.int64)


def of_forward(
    losses: FloatArray,
    tokens: IntArray | FloatArray,
    *,
    groups: IntArray | RowArray | None,
    alone: FloatArray | None,
    prompts: IntArray | FloatArray | None = None,
) -> Suspicion:
    """What one forward of a model says of rows before any training, or two.

    Args:
        losses: mean of each row's answer, nats per token, shape (N,); not finite where there is none.
        tokens: of each row's answer, shape (N,).
        groups: of each row, from 0, shape (N,), such as its source; None for one group.
        alone: mean loss of each answer without its prompt, nats per token, NaN where unknown, shape (N,).
        prompts: tokens of each row's prompt, shape (N,); None compares by the answers' lengths alone.
    """
    group = _numbers(groups, len(losses))
    left = _residual_of_logs(losses, tokens, group, alone)
    known = np.flatnonzero(~np.isnan(left))
    parts = [left]
    for lengths in (tokens, prompts):
        if lengths is not None:
            by_length = known[np.argsort(lengths[known], kind="stable")]
            near = np.full(len(left), np.nan)
            near[by_length] = local_excess(left[by_length], group[by_length])
            parts.append(near)
    return Suspicion.of_scores(np.mean(parts, axis=0), np.full(len(left), np.nan))


def _residual_of_logs(
    losses: FloatArray, tokens: IntArray | FloatArray, group: IntArray, alone: FloatArray | None
) -> FloatArray:
    """Residual of log loss on log tokens, and on the log loss without the prompt where that is known. Shape (n,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value, length = np.log(np.maximum(losses, 0.0) + LOG_FLOOR), np.log(tokens)
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
    """The least score of the rows that stand out of their kind; None where none do.

    The lowest score t of a row such that no more than a third as many rows lie at −t or below as at t or above, and
    the latter are more by four standard deviations of as many throws of a coin. Counted from the median.

    Args:
        scores: known ones, shape (n,).

    >>> clean = [*[0] * 200, *range(-20, 21)]
    >>> stands_out(np.array([*clean, *range(50, 75)])), stands_out(np.array(clean))
    (14.0, None)
    """
    if not len(scores):
        return None
    middle = np.median(scores)
    centred = np.sort(scores - middle)
    above = centred[centred > 0][::-1]  # the highest first
    below = np.sort(-centred[centred < 0])
    found = np.arange(1, len(above) + 1)
    mirrored = len(below) - np.searchsorted(below, above, side="left")
    fine = (mirrored <= MIRRORED * found) & (found - mirrored >= CHANCE * np.sqrt(found + mirrored))
    return float(above[np.flatnonzero(fine)[-1]] + middle) if fine.any() else None
