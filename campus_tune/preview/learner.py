"""A learner made of four lines of arithmetic, so that selectors that ask a model can be planned without one.

Each row has a hidden difficulty `d ~ N(0, 1)`. A metric sees it through noise, `r·d + √(1−r²)·ε` with r = 0.5, so any
two metrics correlate at 0.25. The loss of row j, in nats per token, after `v_j` visits of it and a total of `p`
passes over the data, is

    loss_j = 0.2 + e^(0.5·z_j) · e^(−0.5·p) · e^(−0.7·v_j)          z_j the loss's own noisy view of d

so it falls for everything as training goes on, and more for what was trained. A `loss` order is this very loss, fresh
at each decision. The numbers are plausible and nothing more: what a simulation shows with them is what follows from
the *rules* of a schedule (which slices compete, what is left over), not how a real model will learn.
"""

from __future__ import annotations

import numpy as np

from campus_tune.words.types import FloatArray, RowArray

SEEN_THROUGH_NOISE = 0.5  # correlation of each metric with the hidden difficulty
FLOOR = 0.2  # nats that no training removes
SPREAD = 0.5  # of the rows' starting losses, on a log scale
GENERAL, MEMORY = 0.5, 0.7  # how fast a pass teaches all rows, and a visit its own row


class Learner:
    """Losses of N made-up rows under training.

    Args:
        n_rows: N.
        seed: of the rows' difficulties.
    """

    def __init__(self, n_rows: int, *, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 0x1EA])
        self._difficulty = self._rng.standard_normal(n_rows)
        self._start = np.exp(SPREAD * self.metric())
        self._kept = np.ones(n_rows)  # what the row's own visits have left of its loss
        self._passes = 0.0

    def metric(self) -> FloatArray:
        """The scores of a new metric, shape (N,): the hidden difficulty through fresh noise."""
        noise = self._rng.standard_normal(len(self._difficulty))
        noise *= np.sqrt(1 - SEEN_THROUGH_NOISE**2)
        noise += SEEN_THROUGH_NOISE * self._difficulty
        return noise

    def loss(self) -> FloatArray:
        """Every row's loss now, nats per token, shape (N,)."""
        return np.asarray(FLOOR + self._start * self._kept * np.exp(-GENERAL * self._passes), dtype=np.float64)

    def start_loss(self) -> FloatArray:
        """Every row's loss before training, shape (N,)."""
        return FLOOR + self._start

    def probe_loss(self) -> float:
        """Mean loss now of rows like these that are never trained."""
        return float(FLOOR + self._start.mean() * np.exp(-GENERAL * self._passes))

    def train(self, rows: RowArray) -> None:
        """One visit of each of `rows`, which may repeat."""
        np.multiply.at(self._kept, rows, np.exp(-MEMORY))
        self._passes += len(rows) / len(self._kept)
