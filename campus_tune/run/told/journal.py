"""What a run says while it runs: to the ledger, to the trainer's own log, to a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from campus_tune.method.budget import Budget
from campus_tune.model.peers import Peers
from campus_tune.preview.health import ScoreHealth, health_record, health_table
from campus_tune.run.ledger import Ledger
from campus_tune.run.told import console
from campus_tune.words.console import say
from campus_tune.words.types import Json

OTHER_WORLD = "the same rows in every step; sums are rounded in another sequence, and dropout draws other noise"


class Journal:
    """One event, all its readers.

    Args:
        folder: the run's `curriculum/` folder.
        peers: only the leader writes and speaks.
        budget: whose state is shown with every decision.
        total_steps: of the run.
    """

    def __init__(self, folder: Path, peers: Peers, budget: Budget, total_steps: int) -> None:
        self.folder, self.peers, self.budget, self.total_steps = folder, peers, budget, total_steps
        self.ledger = Ledger(folder, writes=peers.leads)
        self._decisions = console.Decisions(total_steps)
        self.pending: dict[str, float] = {}  # scalars for the trainer's next log line
        self._probes: Mapping[str, Json] = {}  # the last report
        self._first: Mapping[str, float] = {}  # each domain's competence when it was first measured

    def started(self, identity: Json, domains: Mapping[str, int]) -> None:
        """A new run."""
        self.put_aside()
        self.ledger.add("run", **identity, rows_by_domain=domains)

    def put_aside(self) -> None:
        """Begin an empty ledger; that of an earlier run is kept under the next free number, with its losses."""
        kept = self.ledger.start()
        losses = self.folder / "training_losses"
        if kept and losses.exists():
            losses.rename(kept.with_name(f"training_losses{kept.suffixes[0]}"))

    def resumed(self, state: Json, step: int, stage: int, world: tuple[int, int]) -> None:
        """A run goes on from a checkpoint that held `state()`.

        Args:
            state: of the journal.
            step: optimizer steps finished.
            stage: that is being trained.
            world: processes before, and now.
        """
        self.ledger.resume(state["size"])
        self.pending, self._probes, self._first = state["pending"], state["probes"], state["first"]
        before, now = world
        lines = [f"resumed at step {step} of {self.total_steps}, inside stage {stage}"]
        fields: Json = {"world": {"before": before, "now": now}}
        if before != now:
            fields["differs"] = OTHER_WORLD
            lines.append(f"on {now} processes, {before} before: {OTHER_WORLD}")
        self.ledger.add("resumed", step=step, **fields)
        self._say(lines)

    def warned(self, warnings: list[str]) -> None:
        """What the person should know before the first step."""
        self.ledger.add("warnings", warnings=warnings)
        self._say(f"warning: {warning}" for warning in warnings)

    def scored(self, metric: str, quantiles: list[float], notes: Json) -> None:
        """The scores of one metric."""
        self.ledger.add("scores", metric=metric, quantiles=quantiles, **notes)

    def examined(self, health: ScoreHealth, found: float) -> None:
        """How the scores look, and how much of them was found in the cache (a share of the training compute)."""
        self.ledger.add("health", **health_record(health))
        if health.bad:  # plain shuffling has no scores
            self._say(line for line in health_table(health).splitlines() if line)
        if found:
            self._say([f"scores worth {found:.1%} of the training compute were found in the cache, not measured"])

    def rescored(self, record: Json, warnings: list[str]) -> None:
        """Rows that wait were scored anew, and orders sorted again."""
        self.ledger.add("rescored", **record, warnings=warnings)
        self._say([console.rescored_line(record), *(f"warning: {warning}" for warning in warnings)])
        for label, order in record["orders"].items():
            self.pending[f"campus/order_kept/{label}"] = order["correlation"]
        if "scorer" in record:
            self.pending["campus/scorer_accuracy"] = record["scorer"]["accuracy"]

    def probed(self, step: int, report: Mapping[str, Json]) -> None:
        """Competence was measured."""
        self._probes = report
        self._first = {domain: values["competence"] for domain, values in report.items()} | dict(self._first)
        self.ledger.add("probes", step=step, domains=report)
        for domain, values in report.items():
            self.pending[f"campus/competence/{domain}"] = values["competence"]
            self.pending[f"campus/probe_loss/{domain}"] = values["loss"]

    def evaluated(self, record: Json) -> None:
        """Official tasks were evaluated."""
        self.ledger.add("evaluation", **record)
        self._say([console.evaluation_line(record)])
        for task, metrics in record["scores"].items():
            for metric, found in metrics.items():
                self.pending[f"campus/eval/{task}/{metric}"] = found["value"]

    def decided(self, record: Json) -> None:
        """A stage was chosen."""
        self.ledger.add("decision", **record)
        share = self.budget.shares()["all"]
        self.pending |= {
            "campus/stage": record["stage"],
            "campus/scope": record["scope"][1],
            "campus/cost_share": share,
        }
        for offer in record.get("offers", []):
            self.pending[f"campus/chosen/{offer['name']}"] = int(offer["name"] == record["chosen"])
            if "perplexity" in offer:
                self.pending[f"campus/perplexity/{offer['name']}"] = offer["perplexity"]
        if self.peers.leads:
            self._decisions.show(record, self._probes, share)

    def stage_ended(self, summary: Json) -> None:
        """A stage was trained."""
        self.ledger.add("stage_end", **summary, cost=self.budget.shares(), seconds=self._seconds())

    def epoch_ended(self, epoch: int, *, step: int, left_out: int) -> None:
        """An epoch was ended early: its last `left_out` steps are not trained."""
        self.ledger.add("epoch_ended", step=step, epoch=epoch, steps_left_out=left_out)
        self._say(
            [f"step {step}/{self.total_steps} · epoch {epoch} was ended by a callback, {left_out} steps are left out"]
        )

    def ended(self, summary: Json) -> None:
        """The run is over."""
        competence = {domain: [self._first[domain], values["competence"]] for domain, values in self._probes.items()}
        end: dict[str, Any] = {
            **summary,
            "competence": competence,
            "cost": self.budget.shares(),
            "found": self.budget.found_share(),
            "seconds": self._seconds(),
        }
        self.ledger.add("end", **end)
        self._say(console.last_lines(end, str(self.folder)))

    def state(self) -> Json:
        """How much of the ledger is this run's, and the scalars that no log line has carried yet."""
        return {
            "size": self.ledger.size,
            "pending": dict(self.pending),
            "probes": dict(self._probes),
            "first": dict(self._first),
        }

    def _seconds(self) -> dict[str, float]:
        return {"share": self.budget.clock_share(), **self.budget.seconds}

    def _say(self, lines: Iterable[str]) -> None:
        if self.peers.leads:
            for line in lines:
                say(line)
