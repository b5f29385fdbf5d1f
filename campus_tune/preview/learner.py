"""A learner made of four lines of arithmetic, so that selectors that ask a model can be planned without one.

Each row has a hidden difficulty `d ~ N(0, 1)`. A metric sees it through noise, `r·d + √(1−r²)·ε` with r = 0.5, so any
two metrics correlate at 0.25. The loss of row j, in nats per token, after `v_j` visits of it and a total of `p`
passes over the data, is

    loss_j = 0.2 + e^(0.5·z_j) · e^(−0.5·p) · e^(−0.7·v_j)          z_j the loss's own noisy view of d

so it falls for everything as training goes on, and more for what was trained. A `loss` order is this very loss, fresh
at each decision. The numbers are plausible and nothing more: what a simulation shows with them is what follows from
the *rules* of a schedule (which slices compete, what is left over), not how a real model will learn.

Where a recipe says who is drawn, by what training shows or by what comes back, rows have domains and the learner
forgets. A domain g learns at a rate r_g of its own, spread evenly over 0.5 to 1.5, from its own rows alone, and what a
visit teaches fades with its age, in passes over all rows:

    loss_j = 0.2 + e^(0.5·z_j) · e^(−0.5·a_g) · e^(−0.7·m_j)
    m_j = Σ e^(−0.5·age)              over the visits of row j
    a_g = r_g · Σ e^(−0.5·age) / N_g  over the visits of the domain's N_g rows

so a domain that a phase leaves out gets worse again, and a row that comes back has something to show. A training
forward sees the loss before its own visit. Row j has T_j = 100·e^(0.5·z) tokens, a fresh view of d, and its surprise is
T_j · (1 − e^(−loss_j)): as if the model were equally sure of each of them.

Probes are 32 rows of each domain that are never visited. What their domain learns helps them at a pace of their own,
κ_j = e^(0.3·ε), so that a change of their mean has an error as that of real rows has:

    loss_j = 0.2 + e^(0.5·z_j) · e^(−0.5·κ_j·a_g)
"""

from __future__ import annotations

import copy
from functools import cached_property

import numpy as np

from campus_tune.method.probe_history import ProbeRows
from campus_tune.words.types import FloatArray, IntArray, RowArray, RowLosses

SEEN_THROUGH_NOISE = 0.5  # correlation of each metric with the hidden difficulty
FLOOR = 0.2  # nats that no training removes
SPREAD = 0.5  # of the rows' starting losses, on a log scale
GENERAL, MEMORY = 0.5, 0.7  # how fast a pass teaches all rows, and a visit its own row
FADES = 0.5  # per pass: what a visit taught
SLOWEST, FASTEST = 0.5, 1.5  # of the domains' rates
TOKENS = 100  # of a row of middling length
PROBES = 32  # rows of a domain
PACES = 0.3  # of the probes' paces, on a log scale


class Learner:
    """Losses of N made-up rows under training.

    Args:
        n_rows: N.
        seed: of the rows' difficulties.
    """

    def __init__(self, n_rows: int, *, seed: int) -> None:
        self._seed = seed
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


class ForgetfulLearner(Learner):
    """The same with domains that learn at rates of their own, and with forgetting.

    Args:
        n_rows: N.
        seed: of the rows' difficulties.
        domains: number of each row's domain, shape (N,); None for one.
    """

    def __init__(self, n_rows: int, *, seed: int, domains: IntArray | RowArray | None = None) -> None:
        super().__init__(n_rows, seed=seed)
        self._domains = np.zeros(n_rows, dtype=np.int64) if domains is None else domains.astype(np.int64)
        self._sizes = np.bincount(self._domains)
        n = len(self._sizes)
        self._rates = SLOWEST + (FASTEST - SLOWEST) * (np.arange(n) + 0.5) / n  # r, (G,): the mean is 1
        self._skill = np.zeros(n)  # a, (G,)
        self._memory = np.zeros(n_rows)  # m, as it was at the row's last visit, (N,)
        self._visited = np.zeros(n_rows)  # passes at that visit, (N,)
        self._tokens = np.maximum(1, np.rint(TOKENS * np.exp(SPREAD * self.metric()))).astype(np.int64)

    def loss(self) -> FloatArray:
        """Every row's loss now, nats per token, shape (N,)."""
        return self._loss(np.arange(len(self._start)), self._skill[self._domains], self._passes)

    def probe_loss(self) -> float:
        """Mean loss now of rows like these that are never trained."""
        return float(FLOOR + np.mean(self._start * np.exp(-GENERAL * self._skill[self._domains])))

    def train(self, rows: RowArray) -> None:
        """One visit of each of `rows`."""
        self.visit(rows)

    def visit(self, rows: RowArray) -> RowLosses:
        """One visit of each of `rows`, each once, and what its forward shows.

        Args:
            rows: in the sequence of training, shape (n,).
        """
        n, domains = len(rows), self._domains[rows]
        passes = self._passes + np.arange(n) / len(self._start)  # at each visit
        worth = np.exp(FADES * (passes - self._passes))  # of a visit, in units of what is faded since the first
        gain = (self._rates / np.maximum(1, self._sizes))[domains] * worth
        loss = self._loss(rows, (self._skill[domains] + _before(gain, domains)) / worth, passes)
        self._memory[rows] = self._memory[rows] * np.exp(-FADES * (passes - self._visited[rows])) + 1
        self._visited[rows] = passes
        self._passes += n / len(self._start)
        self._skill = self._skill + np.bincount(domains, gain, len(self._skill))
        self._skill *= np.exp(-FADES * n / len(self._start))
        return self._shown(rows, loss)

    def probes(self) -> list[ProbeRows]:
        """What the probes of each domain show now, by its number."""
        start, pace, tokens = self._probes
        loss = FLOOR + start * np.exp(-GENERAL * pace * self._skill[:, None])
        hits = np.rint(tokens * np.exp(-loss)).astype(np.int64)
        ids = np.arange(PROBES)
        return [ProbeRows(ids, *shown) for shown in zip(loss * tokens, tokens, hits, strict=True)]

    def copied(self) -> ForgetfulLearner:
        """It as it is now, to go back to."""
        return copy.deepcopy(self)

    @cached_property
    def _probes(self) -> tuple[FloatArray, FloatArray, IntArray]:
        """Starting losses above the floor, paces and tokens of the probes, each of shape (G, 32)."""
        rng = np.random.default_rng([self._seed, 0x9B0])
        difficulty, noise, paces, lengths = rng.standard_normal((4, len(self._sizes), PROBES))
        seen = SEEN_THROUGH_NOISE * difficulty + np.sqrt(1 - SEEN_THROUGH_NOISE**2) * noise
        tokens = np.maximum(1, np.rint(TOKENS * np.exp(SPREAD * lengths))).astype(np.int64)
        return np.exp(SPREAD * seen), np.exp(PACES * paces), tokens

    def _loss(self, rows: IntArray | RowArray, skill: FloatArray, passes: FloatArray | float) -> FloatArray:
        """Of some rows at some moment."""
        memory = self._memory[rows] * np.exp(-FADES * (passes - self._visited[rows]))
        return np.asarray(FLOOR + self._start[rows] * np.exp(-GENERAL * skill - MEMORY * memory), dtype=np.float64)

    def _shown(self, rows: RowArray, loss: FloatArray) -> RowLosses:
        """The sums of a forward over rows of these losses."""
        tokens = self._tokens[rows]
        sure = tokens * np.exp(-loss)
        return RowLosses(loss * tokens, tokens, sure.astype(np.int64), loss, sure)


def _before(gain: FloatArray, groups: IntArray) -> FloatArray:
    """What earlier entries of the same group add up to, shape (n,).

    >>> _before(np.array([1.0, 2.0, 4.0, 8.0]), np.array([0, 1, 0, 0])).tolist()
    [0.0, 0.0, 1.0, 5.0]
    """
    by_group = np.argsort(groups, kind="stable")
    sums = np.cumsum(gain[by_group]) - gain[by_group]
    first = np.searchsorted(groups[by_group], groups[by_group])
    before = np.empty(len(gain))
    before[by_group] = sums - sums[first]
    return before
