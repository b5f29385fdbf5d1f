"""When a run measures its probes, and what they say of the model's competence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from campus_tune.data.domains import Domains
from campus_tune.data.prepared import TokenRows
from campus_tune.method.budget import FEWEST, Budget
from campus_tune.method.competence import Competence
from campus_tune.method.probe_history import ProbeHistory, ProbeRows
from campus_tune.model.peers import Peers
from campus_tune.model.probes import ProbeMeter, Probes, Source, load_probes, refuse_overlap
from campus_tune.preview.cost_plan import FEWEST_TIMES, SMALLER, interval, measurements
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import Trainer


@dataclass(frozen=True)
class MeasuredAt:
    """When the probes are measured.

    Args:
        stage: stages decided before.
        step: optimizer steps finished.
        progress: of the whole run, in [0, 1].
        mass: part of the run's learning rates, added up, that is behind.
        tokens: trained before.
    """

    stage: int
    step: int
    progress: float
    mass: float
    tokens: int


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
        trainer: Trainer,
        rows: TokenRows,
        domains: Domains,
        budget: Budget,
        peers: Peers,
        *,
        n_stages: int,
    ) -> None:
        self.budget = budget
        self.competence, self.record = Competence({}), ProbeHistory()
        self.fingerprint: str | None = None
        self.report: Mapping[str, Json] = {}  # of the last measurement, by domain, as the ledger has it
        self.every = 1  # stages between two measurements
        self.n_stages = n_stages
        self.probes: Probes | None = None
        self._meter: ProbeMeter | None = None
        if source is None:
            return
        self.probes = load_probes(source, config.probes, trainer)
        refuse_overlap(self.probes, rows)
        self._seed = config.seed or 0
        self._make_meter = partial(ProbeMeter, trainer, self.probes, peers=peers)
        self.choose()
        self.competence = Competence(domains.shares(list(self.probes.domains)))
        self.fingerprint = self.probes.rows.fingerprint()

    def choose(self) -> None:
        """Which rows are measured, and how often: again where the budget was found to be too small for the usual."""
        if self.probes is None:
            return
        budget = self.budget
        if "probes" in budget.unpaid:
            self._meter, self.every, budget.to_end = None, self.n_stages, 0.0
            return
        allowance, fewest = budget.per_probe(self.n_stages + 1), budget.fewest("probes")
        # As many rows, as often, as cost no more than their cap together: rows are not all as long as their mean.
        cap, often = budget.part("probes"), [*range(1, max(1, self.n_stages // FEWEST_TIMES) + 1)]
        if budget.at_ends is not None:
            cap, often = budget.at_ends, [self.n_stages]
            allowance, fewest = cap / 2, FEWEST["probes"] // 2
        subset = partial(self.probes.subset, seed=self._seed, fewest=fewest)
        self._meter = self._make_meter(subset(allowance))
        self.every = interval(self.tokens, allowance, self.n_stages)
        if budget.caps is not None or budget.at_ends is not None:
            for share in SMALLER:
                self._meter = self._make_meter(subset(share * allowance))
                fits = [n for n in often if self.tokens * measurements(self.n_stages, n) <= cap]
                self.every = min(fits, default=often[-1])
                if fits:
                    break
        budget.to_end = float(self.tokens)

    def spare(self) -> None:
        """What is left after the scores before training does not pay for two measurements: fewer rows, at both ends."""
        if self._meter is not None and self.budget.left < 2 * self.tokens:
            self.budget.at_ends = self.budget.left
            self.choose()

    @property
    def tokens(self) -> int:
        """Forward tokens of one measurement."""
        return self._meter.tokens if self._meter else 0

    @property
    def loss(self) -> float | None:
        """Mean loss of all probes when they were measured last, nats; None without probes, or where that is long ago.

        Measured at both ends only, it is of a model that is gone when a decision would go by it.
        """
        old = self._meter is None or self.budget.at_ends is not None or self._unknown
        return None if old else self.competence.overall_loss()

    @property
    def _unknown(self) -> bool:
        """Some domain was never measured."""
        return bool(self.competence.shares.keys() - self.competence.history.keys())

    def due(self, n_stages: int) -> bool:
        """Whether they belong before the decision on stage `n_stages`: regularly, and when some came with a resume.

        What is left of the budget must pay for this measurement and for the last one.
        """
        wanted = self._unknown or n_stages % self.every == 0
        return wanted and self._meter is not None and self.tokens <= self.budget.room()

    def measure(self, when: MeasuredAt) -> bool:
        """Measure them now, on the bill, into `report` and `record`; False without probes, or where none are paid."""
        if self._meter is None or self.tokens > self.budget.left:
            return False
        before, spared = self._meter.meter.seconds, self._meter.meter.spared
        losses, calibration = self._meter.measure()
        self.report = self.competence.update(losses, calibration)
        rows = {
            domain: ProbeRows(self._meter.chosen[domain], one.nll_sum, one.tokens, one.top1)
            for domain, one in losses.items()
        }
        errors = {domain: one.error for domain, one in calibration.items()}
        self.record = self.record.taken(rows, **vars(when), calibration=errors)
        tokens = self._meter.tokens - (self._meter.meter.spared - spared)
        self.budget.charge("probes", tokens, self._meter.meter.seconds - before)
        return True

    def changes(self) -> dict[str, list[float]]:
        """Competence of each domain when it was measured first and last, where that was twice."""
        history = self.competence.history
        return {
            domain: [history[domain][0], last["competence"]]
            for domain, last in self.report.items()
            if len(history[domain]) > 1
        }

    def state(self) -> Json:
        """What was said of them when they were measured first and last, as JSON."""
        first = {domain: past[0] for domain, past in self.competence.history.items()}
        return {"probes": dict(self.report), "first": first}
