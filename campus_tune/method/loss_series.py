"""Losses of strata over time: what a reweighting goes by. Of the probes, or of what training shows for nothing.

>>> losses = Losses.unpaired(["code", "math"], np.array([[2.0, 4.0], [1.0, np.nan]]), np.zeros((2, 2)))
>>> losses.left.tolist(), losses.filled(losses.loss).tolist(), losses.first(1).loss.tolist()
([[1.0, 1.0], [0.5, nan]], [[2.0, 4.0], [1.0, 4.0]], [[2.0, 4.0]])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from campus_tune.method.view import History
from campus_tune.words.types import BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class Losses:
    """The loss of each stratum at each time.

    Args:
        names: of the S strata.
        loss: L, nats per token, shape (T, S), oldest first; NaN where it is not known, as is all else there.
        stderr: its standard errors, shape (T, S).
        left: L ÷ L(0), the first one above 0, shape (T, S).
        left_stderr: its standard errors, shape (T, S).
        drawn: part of the rows that each stratum got between the time before and this one, shape (T, S); NaN where
            nobody counted.
    """

    names: Sequence[str]
    loss: FloatArray
    stderr: FloatArray
    left: FloatArray
    left_stderr: FloatArray
    drawn: FloatArray

    def __len__(self) -> int:
        return len(self.loss)

    @staticmethod
    def unpaired(names: Sequence[str], loss: FloatArray, stderr: FloatArray, drawn: FloatArray | None = None) -> Losses:
        """Losses of other rows at each time; the first one is taken to be as sure as the one that it is compared with.

        Args:
            names: of the S strata.
            loss: shape (T, S).
            stderr: of the losses.
            drawn: part of the rows of each; None where nobody counted.
        """
        start = np.full(loss.shape[1], np.nan)
        for row in loss[::-1]:
            start = np.where(np.isfinite(row) & (row > 0), row, start)
        loss = np.where(np.isnan(start), np.nan, loss)  # one that was always 0 says nothing
        left, later = loss / start, np.cumsum(np.isfinite(loss), axis=0) > 1
        left_stderr = np.where(later, np.hypot(stderr, left * stderr) / start, 0 * left)
        return Losses(names, loss, stderr, left, left_stderr, np.full_like(loss, np.nan) if drawn is None else drawn)

    def first(self, n: int) -> Losses:
        """As they were after `n` times."""
        arrays = (self.loss, self.stderr, self.left, self.left_stderr, self.drawn)
        return Losses(self.names, *(values[:n] for values in arrays))

    def of(self, strata: BoolArray) -> Losses:
        """Of some strata alone, mask of shape (S,)."""
        arrays = (self.loss, self.stderr, self.left, self.left_stderr, self.drawn)
        names = [name for name, there in zip(self.names, strata.tolist(), strict=True) if there]
        return Losses(names, *(values[:, strata] for values in arrays))

    @property
    def known(self) -> BoolArray:
        """Strata whose loss was ever known, shape (S,)."""
        return np.asarray(np.isfinite(self.loss).any(axis=0), dtype=np.bool_)

    def filled(self, values: FloatArray) -> FloatArray:
        """Some of its arrays, with what was last known where a loss is not; NaN before the first. Shape (T, S)."""
        times = np.where(np.isfinite(self.loss), np.arange(len(self.loss))[:, None], 0)
        found: FloatArray = np.take_along_axis(values, np.maximum.accumulate(times, axis=0), axis=0)
        return found


def of_probes(history: History, names: Sequence[str]) -> Losses:
    """The losses of the strata's probes at each measurement; NaN throughout for one that has none.

    The rows are the same ones each time, and the errors of what is left of their losses are paired.

    Args:
        history: of the run.
        names: of the strata: domains.
    """
    found = np.full((5, len(history.measured), len(names)), np.nan)
    for t, measurement in enumerate(history.measured.measurements):
        for s, name in enumerate(names):
            if name in measurement.loss and name in measurement.left:
                found[:4, t, s] = *measurement.loss[name][:2], *measurement.left[name][:2]
    return Losses(names, *found)


def of_training(history: History, names: Sequence[str]) -> Losses:
    """The losses that training showed of the strata in each stage.

    Their rows are others each time and their errors are not measured: what neighbouring stages differ by is the error
    of two of them, so it is `√(Σ (L_t − L_{t−1})² / 2n)` over the n differences up to each time, from two on. While
    losses fall it is too large: a signal is taken for noise rather than noise for a signal.

    Args:
        history: of the run.
        names: of the strata: domains or cells.
    """
    stages = [stage for stage in history.stages if stage.sums]
    loss, stderr, drawn = np.full((3, len(stages), len(names)), np.nan)
    for t, stage in enumerate(stages):
        for s, name in enumerate(names):
            nats, tokens = stage.sums.get(name, (0.0, 0))
            loss[t, s] = nats / tokens if tokens else np.nan
            drawn[t, s] = stage.shares.get(name, 0.0) if stage.shares else np.nan
    for s, series in enumerate(loss.T):
        there = np.flatnonzero(np.isfinite(series))
        n = np.arange(1, len(there))
        stderr[there[2:], s] = np.sqrt(np.cumsum(np.diff(series[there]) ** 2) / (2 * n))[1:]
    return Losses.unpaired(names, loss, stderr, drawn)
