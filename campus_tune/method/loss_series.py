"""Losses of strata over time: what a reweighting goes by. Of the probes, or of what training shows for nothing.

>>> losses = Losses(["code", "math"], np.array([[2.0, 4.0], [1.0, np.nan]]), np.zeros((2, 2)))
>>> losses.left.tolist(), losses.first(2).loss.tolist()
([[1.0, 1.0], [0.5, 1.0]], [[2.0, 4.0], [1.0, nan]])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from campus_tune.method.view import History
from campus_tune.words.types import BoolArray, FloatArray, IntArray

_NOTHING = np.zeros((0, 0))


@dataclass(frozen=True, eq=False)
class Losses:
    """The loss of each stratum at each time.

    Args:
        names: of the S strata.
        loss: nats per token, shape (T, S), oldest first; NaN where it is not known.
        stderr: its standard errors, shape (T, S); NaN likewise.
        drawn: part of the rows that each stratum got between the time before and this one, shape (T, S); NaN where
            nobody counted. Nothing at all, shape (0, 0), stands for NaN throughout.
    """

    names: Sequence[str]
    loss: FloatArray
    stderr: FloatArray
    drawn: FloatArray = field(default_factory=lambda: _NOTHING)

    def __len__(self) -> int:
        return len(self.loss)

    def first(self, n: int) -> Losses:
        """As they were after `n` times."""
        return Losses(self.names, self.loss[:n], self.stderr[:n], self.drawn[:n])

    def of(self, strata: BoolArray) -> Losses:
        """Of some strata alone, mask of shape (S,)."""
        drawn = self.drawn[:, strata] if self.drawn.size else self.drawn
        names = [name for name, there in zip(self.names, strata.tolist(), strict=True) if there]
        return Losses(names, self.loss[:, strata], self.stderr[:, strata], drawn)

    @property
    def known(self) -> BoolArray:
        """Strata whose loss was ever known, shape (S,)."""
        return np.isfinite(self.loss).any(axis=0)

    @property
    def filled(self) -> FloatArray:
        """The losses, shape (T, S); where one is not known, the last that was. NaN before the first."""
        return _taken(self.loss, self._latest)

    @property
    def start(self) -> FloatArray:
        """The first loss of each stratum that is known, shape (S,); NaN without any."""
        return _taken(self.loss, self._first)[0]

    @property
    def left(self) -> FloatArray:
        """Loss ÷ first loss, shape (T, S), `filled`."""
        return self.filled / self.start

    @property
    def error(self) -> FloatArray:
        """Standard error of the newest loss, shape (S,)."""
        return _taken(self.stderr, self._latest)[-1]

    @property
    def left_error(self) -> FloatArray:
        """Standard error of `left[-1]`, shape (S,), as of two means that know nothing of each other."""
        parts = self.error / self.filled[-1], _taken(self.stderr, self._first)[0] / self.start
        return np.asarray(self.left[-1] * np.hypot(*parts), dtype=np.float64)

    @property
    def _latest(self) -> IntArray:
        """The last time at which the loss was known, up to each time, shape (T, S); 0 before."""
        times = np.arange(len(self.loss))[:, None]
        return np.maximum.accumulate(np.where(np.isfinite(self.loss), times, 0), axis=0)

    @property
    def _first(self) -> IntArray:
        """The first time at which it was known, shape (1, S)."""
        return np.isfinite(self.loss).argmax(axis=0)[None]


def _taken(values: FloatArray, times: IntArray) -> FloatArray:
    found: FloatArray = np.take_along_axis(values, times, axis=0)
    return found


def of_probes(history: History, names: Sequence[str]) -> Losses:
    """The losses of the strata's probes at each measurement; NaN throughout for one that has none.

    Args:
        history: of the run.
        names: of the strata: domains.
    """
    found = np.full((2, len(history.measured), len(names)), np.nan)
    for t, measurement in enumerate(history.measured.measurements):
        for s, name in enumerate(names):
            if name in measurement.loss:
                found[:, t, s] = measurement.loss[name][:2]
    return Losses(names, found[0], found[1])


def of_training(history: History, names: Sequence[str]) -> Losses:
    """The losses that training showed of the strata in each stage.

    Their rows are others each time and their errors are not measured: what neighbouring stages differ by is the error
    of two of them, `√(Σ (L_t − L_{t−1})² / 2n)` of a stratum with at least three. While losses fall it is too large, so
    a signal is taken for noise rather than noise for a signal.

    Args:
        history: of the run.
        names: of the strata: domains or cells.
    """
    stages = [stage for stage in history.stages if stage.sums]
    loss, drawn = np.full((2, len(stages), len(names)), np.nan)
    for t, stage in enumerate(stages):
        for s, name in enumerate(names):
            nats, tokens = stage.sums.get(name, (0.0, 0))
            loss[t, s] = nats / tokens if tokens else np.nan
            drawn[t, s] = stage.shares.get(name, 0.0) if stage.shares else np.nan
    stderr = np.full_like(loss, np.nan)
    for s, series in enumerate(loss.T):
        falls = np.diff(series[np.isfinite(series)])
        if len(falls) > 1:
            stderr[np.isfinite(series), s] = np.sqrt((falls**2).mean() / 2)
    return Losses(names, loss, stderr, drawn)
