"""Competence: how well the model does on held-out probes, per domain, over the run. numpy only.

    competence(domain) = exp(−mean token loss on its probe)  in (0, 1]

the geometric mean of the probabilities that the model gives to the reference answers' tokens. Next to it stand the
loss itself, the teacher-forced token accuracy, whether the model's confidence fits it (`Calibration`), an exponential
moving average, and the slope (competence gained per measurement over the last few), which later parts read as plateau
or progress.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from campus_tune.method.calibration import Calibration
from campus_tune.words.types import Json, RowLosses

EMA_KEEP = 0.7  # weight of the past in the moving average
SLOPE_OVER = 5  # measurements that the slope is fitted through


@dataclass
class Competence:
    """The measurements so far. `shares`: how much each domain counts in the overall loss; sums to 1."""

    shares: Mapping[str, float]
    history: dict[str, list[float]] = field(default_factory=dict)
    ema: dict[str, float] = field(default_factory=dict)

    def update(
        self, losses: Mapping[str, RowLosses], calibration: Mapping[str, Calibration] | None = None
    ) -> dict[str, Json]:
        """Take one measurement of every domain; gives back what the ledger writes of it.

        Args:
            losses: of its rows.
            calibration: on them, where it was measured.
        """
        report = {}
        for domain, measured in losses.items():
            value = math.exp(-measured.mean())
            past = self.history.setdefault(domain, [])
            past.append(value)
            self.ema[domain] = value if len(past) == 1 else EMA_KEEP * self.ema[domain] + (1 - EMA_KEEP) * value
            report[domain] = {
                "loss": measured.mean(),
                "competence": value,
                "token_accuracy": measured.accuracy(),
                "ema": self.ema[domain],
                "slope": slope(past[-SLOPE_OVER:]),
                "rows": len(measured.tokens),
                "tokens": int(measured.tokens.sum()),
            }
            if calibration is not None:
                told = calibration[domain]
                report[domain] |= {"ece": told.error, "confidence": told.confidence}
        return report

    def overall_loss(self) -> float:
        """The domains' latest losses, weighted by their shares, in nats; one beyond 708 nats counts as that."""
        latest = {domain: max(self.history[domain][-1], sys.float_info.min) for domain in self.shares}
        return sum(share * -math.log(latest[domain]) for domain, share in self.shares.items())

    def state(self) -> Json:
        """The measurements, as JSON."""
        return {"history": {domain: list(past) for domain, past in self.history.items()}, "ema": dict(self.ema)}

    def load(self, state: Json) -> None:
        """Continue from `state()`."""
        self.history = {domain: list(past) for domain, past in state["history"].items()}
        self.ema = dict(state["ema"])


def slope(values: list[float]) -> float:
    """Least-squares slope per measurement; 0 for a single one.

    >>> round(slope([0.1, 0.2, 0.3]), 6)
    0.1
    """
    if len(values) < 2:
        return 0.0
    x = np.arange(len(values)) - (len(values) - 1) / 2
    return float((x * np.asarray(values)).sum() / (x * x).sum())
