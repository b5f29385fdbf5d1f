"""The history of the probes: every measurement's means, and the rows of the last few, for errors that are paired.

A history is data and grows by `taken`, which gives a new one. Of each domain it keeps the rows of the *best level* too:
the mean of the three neighbouring measurements whose loss was lowest, which a single lucky one cannot be.

>>> rows = {"math": ProbeRows(np.arange(2), np.array([3.0, 5.0]), np.array([4, 4]), np.array([1, 3]))}
>>> history = ProbeHistory().taken(rows, stage=0, step=0, progress=0.0, mass=0.0, tokens=0)
>>> history.last.loss["math"].value, history.last.accuracy["math"].value, history.last.rise
(1.0, 0.5, {})
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from campus_tune.method.estimates import Estimate, change, ratio
from campus_tune.words.arrays import pack, unpack
from campus_tune.words.types import FloatArray, IntArray, Json

KEPT = 8  # measurements whose rows are kept: no rule looks further back
NEIGHBOURS = 3  # measurements that a best level is the mean of


@dataclass(frozen=True, eq=False)
class ProbeRows:
    """What one measurement says of the rows of one domain.

    Args:
        ids: which rows of the probes, shape (n,).
        nll: nats of their answers, shape (n,).
        tokens: answer tokens, shape (n,).
        hits: of these, the model's most likely ones, shape (n,).
    """

    ids: IntArray
    nll: FloatArray
    tokens: IntArray
    hits: IntArray

    def state(self) -> Json:
        """It as JSON."""
        return {name: pack(values) for name, values in vars(self).items()}

    @staticmethod
    def of(state: Json) -> ProbeRows:
        """From `state()`."""
        kinds = {"ids": "i", "nll": "f", "tokens": "i", "hits": "i"}
        return ProbeRows(**{name: unpack(state[name], kind) for name, kind in kinds.items()})


@dataclass(frozen=True)
class Measurement:
    """One measurement of all probes.

    Args:
        stage: stages decided before it.
        step: optimizer steps finished.
        progress: of the whole run, in [0, 1].
        mass: part of the run's learning rates, added up, that is behind it, in [0, 1].
        tokens: trained before it.
        loss: domain → mean loss, nats per token.
        accuracy: domain → share of tokens that were the most likely ones.
        rise: domain → relative rise of the loss over its best level before, paired; of none that has no such level yet,
            or one of 0.
        left: domain → loss relative to its first measurement, paired.
        calibration: domain → expected calibration error, in [0, 1], where it was measured.
    """

    stage: int
    step: int
    progress: float
    mass: float
    tokens: int
    loss: Mapping[str, Estimate]
    accuracy: Mapping[str, Estimate]
    rise: Mapping[str, Estimate] = field(default_factory=dict)
    left: Mapping[str, Estimate] = field(default_factory=dict)
    calibration: Mapping[str, float] = field(default_factory=dict)

    @staticmethod
    def of(state: Json) -> Measurement:
        """From its fields as JSON."""
        estimates = {
            name: {domain: Estimate(*numbers) for domain, numbers in state[name].items()}
            for name in ("loss", "accuracy", "rise", "left")
        }
        return Measurement(**{**state, **estimates})


@dataclass(frozen=True)
class ProbeHistory:
    """All measurements so far.

    Args:
        measurements: in sequence.
        recent: rows of the last of them, at most `KEPT`, domain by domain.
        best: domain → nats of each of its rows at its best level, shape (n,).
        start: domain → nats of each of its rows at its first measurement, shape (n,).
    """

    measurements: Sequence[Measurement] = ()
    recent: Sequence[Mapping[str, ProbeRows]] = field(default=(), compare=False)
    best: Mapping[str, FloatArray] = field(default_factory=dict, compare=False)
    start: Mapping[str, FloatArray] = field(default_factory=dict, compare=False)

    def __len__(self) -> int:
        return len(self.measurements)

    @property
    def last(self) -> Measurement:
        """The newest one; there must be one."""
        return self.measurements[-1]

    def taken(
        self,
        rows: Mapping[str, ProbeRows],
        *,
        stage: int,
        step: int,
        progress: float,
        mass: float,
        tokens: int,
        calibration: Mapping[str, float] | None = None,
    ) -> ProbeHistory:
        """The history with one measurement more.

        A domain whose rows are others than before, because a recipe was changed, begins anew.

        Args:
            rows: of each domain.
            stage: stages decided before.
            step: optimizer steps finished.
            progress: of the whole run.
            mass: part of the learning rates that is behind.
            tokens: trained before.
            calibration: error of each domain, where it was measured.
        """
        same = {name for name, new in rows.items() if self._knows(name, new)}
        best = {name: level for name, level in self.best.items() if name in same}
        start = {name: self.start[name] if name in same else new.nll for name, new in rows.items()}
        rise = {name: change(level, rows[name].nll) for name, level in best.items() if level.any()}
        recent = (*({name: old[name] for name in old if name in same} for old in self.recent), dict(rows))[-KEPT:]
        for name in rows:
            latest = [old[name].nll for old in recent[-NEIGHBOURS:] if name in old]
            if len(latest) == NEIGHBOURS:
                level = np.mean(latest, axis=0)
                if name not in best or level.sum() < best[name].sum():
                    best[name] = level
        measurement = Measurement(
            stage,
            step,
            progress,
            mass,
            tokens,
            {name: ratio(new.nll, new.tokens) for name, new in rows.items()},
            {name: ratio(new.hits, new.tokens) for name, new in rows.items()},
            rise,
            {name: ratio(rows[name].nll, first) for name, first in start.items() if first.any()},
            dict(calibration or {}),
        )
        return ProbeHistory((*self.measurements, measurement), recent, best, start)

    def fall(self, name: str, window: int) -> Estimate | None:
        """The relative fall of a domain's loss over the last measurements, paired; None where it is not known.

        Nor is it of a loss that was 0: in float32 a model can be that sure of every token.

        Args:
            name: the domain.
            window: measurements, from 1 to `KEPT` − 1.
        """
        if len(self.recent) <= window or name not in self.recent[-1] or name not in self.recent[-1 - window]:
            return None
        before = self.recent[-1 - window][name].nll
        return change(before, self.recent[-1][name].nll).scaled(-1) if before.any() else None

    def mean_loss(self, shares: Mapping[str, float], index: int = -1) -> Estimate:
        """Of all domains of a measurement, by how much each counts."""
        loss = self.measurements[index].loss
        value = sum(share * loss[name].value for name, share in shares.items())
        variance = sum((share * loss[name].stderr) ** 2 for name, share in shares.items())
        return Estimate(value, math.sqrt(variance), sum(loss[name].n for name in shares))

    def _knows(self, name: str, rows: ProbeRows) -> bool:
        """The rows are those of the measurement before."""
        before = self.recent[-1].get(name) if self.recent else None
        return before is not None and np.array_equal(before.ids, rows.ids)

    def state(self) -> Json:
        """It as JSON."""
        return {
            "measurements": [dict(vars(one)) for one in self.measurements],
            "recent": [{name: rows.state() for name, rows in one.items()} for one in self.recent],
            **{
                key: {name: pack(level) for name, level in levels.items()}
                for key, levels in (("best", self.best), ("start", self.start))
            },
        }

    @staticmethod
    def of(state: Json) -> ProbeHistory:
        """From `state()`."""
        return ProbeHistory(
            tuple(Measurement.of(one) for one in state["measurements"]),
            tuple({name: ProbeRows.of(rows) for name, rows in one.items()} for one in state["recent"]),
            *({name: unpack(level, "f") for name, level in state[key].items()} for key in ("best", "start")),
        )
