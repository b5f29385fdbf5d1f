"""When a run measures its probes, and what they say of the model's competence."""

from __future__ import annotations

import math
from typing import Any

from campus_tune.budget import Budget
from campus_tune.competence import Competence
from campus_tune.integrations.domains import Domains
from campus_tune.integrations.peers import Peers
from campus_tune.integrations.probes import ProbeMeter, Source, load_probes, refuse_overlap
from campus_tune.integrations.rows import TokenRows
from campus_tune.recipe import CampusConfig
from campus_tune.types import Json

FEWEST = 4  # measurements that a run makes whatever its budget, besides the last one


class Probing:
    """The probes of one run: as many rows as the budget pays for, as often as it pays for them.

    Args:
        source: held-out rows; None for a run without probes, which measures nothing.
        config: resolved settings.
        trainer: whose model is measured.
        rows: training rows, none of which may be a probe.
        domains: of the training rows; competence is weighted by them.
        budget: charged for every measurement.
        peers: ranks.
        n_stages: about how many stages the run has.

    Raises:
        DataError: probes that cannot be read, or that are also trained.
    """

    def __init__(
        self,
        source: Source,
        config: CampusConfig,
        trainer: Any,
        rows: TokenRows,
        domains: Domains,
        budget: Budget,
        peers: Peers,
        *,
        n_stages: int,
    ) -> None:
        self.budget = budget
        self.competence = Competence({})
        self.fingerprint: str | None = None
        self.every = 1  # stages between two measurements
        self._meter: ProbeMeter | None = None
        if source is None:
            return
        probes = load_probes(source, config.probes, trainer)
        refuse_overlap(probes, rows)
        allowance = budget.per_probe(n_stages + 1)
        chosen = probes.subset(allowance, seed=config.seed or 0)
        self._meter = ProbeMeter(trainer, probes, chosen, peers)
        self.every = max(1, min(math.ceil(self._meter.tokens / allowance), n_stages // FEWEST))
        self.competence = Competence(domains.shares(list(chosen)))
        self.fingerprint = probes.rows.fingerprint()

    @property
    def tokens(self) -> int:
        """Forward tokens of one measurement."""
        return self._meter.tokens if self._meter else 0

    @property
    def loss(self) -> float | None:
        """Mean loss of all probes when they were measured last, nats; None without probes."""
        return self.competence.overall_loss() if self._meter else None

    def due(self, n_stages: int) -> bool:
        """Whether they belong before the decision on stage `n_stages`: regularly, and when some came with a resume."""
        unknown = self.competence.shares.keys() - self.competence.history.keys()
        return bool(unknown) or n_stages % self.every == 0

    def measure(self) -> dict[str, Json] | None:
        """Competence of each domain now, as the ledger has it, on the bill; None without probes."""
        if self._meter is None:
            return None
        before = self._meter.meter.seconds
        report = self.competence.update(self._meter.losses())
        self.budget.charge("probes", self._meter.tokens, self._meter.meter.seconds - before)
        return dict(report)
