"""One decision of a run: the model is asked on samples, rank 0's choice counts, and the ledger says what was chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from campus_tune.method.budget import Budget
from campus_tune.method.curriculum import Curriculum
from campus_tune.method.decide import FREE, NOT_MEASURED, NOT_PAID, Chosen, decide
from campus_tune.method.drawn import of_stage
from campus_tune.method.free_losses import FreeLosses
from campus_tune.method.selectors import LOSS, START_LOSS, Bandit, RaceResult, Selector, View, measure_offers
from campus_tune.method.view import History
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.scores.fresh import FreshScores
from campus_tune.scores.run_scores import Scores
from campus_tune.words.hashing import array_digest
from campus_tune.words.types import IntArray, Json, RowLosses


@dataclass
class Decider:
    """Chooses among a curriculum's offers.

    Args:
        selector: of the recipe.
        meter: of the training rows.
        scores: of the run.
        budget: charged for what is measured.
        row_tokens: tokens of every row, shape (N,).
        peers: ranks; rank 0's choice counts.
        fresh: measures the candidates of a stage; None where none are measured.
    """

    selector: Selector
    meter: LossMeter
    scores: Scores
    budget: Budget
    row_tokens: IntArray
    peers: Peers
    fresh: FreshScores | None = None

    def decide(
        self,
        curriculum: Curriculum,
        *,
        probe_loss: float | None,
        allowance: float,
        history: History | None = None,
        n_left: int = 1,
        shown: tuple[IntArray, RowLosses] | None = None,
    ) -> Json:
        """Choose and open the next stage; gives what the ledger says of it.

        Args:
            curriculum: whose offers are decided on.
            probe_loss: of the held-out probes now, nats; None without probes.
            allowance: forward tokens that this decision may spend.
            history: of the run so far.
            n_left: stages until thinning ends, this one included.
            shown: rows of the stage before and their losses in training; None before the first one.
        """
        left = room = self.budget.room()
        if self.fresh is not None and LOSS in self.selector.needs:
            allowance, left, room = allowance / 2, left / 2, room / 2  # the race has one half, candidates the other
        choice = decide(
            curriculum,
            self.selector,
            partial(self._measure, allowance=allowance, room=room),
            probe_loss=probe_loss,
            history=history,
            agree=self.peers.from_leader,
            fresh=self._paid_for(curriculum, left, n_left, room),
            free=None if shown is None else self._free(*shown),
        )
        return self._record(choice, dict(curriculum.rows_by_choice), of_stage(curriculum, choice.stage))

    def _free(self, rows: IntArray, losses: RowLosses) -> FreeLosses | None:
        """What training has shown, as far as it can be compared with what the selector compares with."""
        if START_LOSS not in self.selector.needs:
            return FreeLosses(rows, losses)
        return None if self.scores.start is None else FreeLosses(rows, losses, self.scores.start, self.scores.known)

    def _paid_for(self, curriculum: Curriculum, left: float, n_left: int, room: float) -> FreshScores | None:
        """What measures the candidates of the next stage, if what is left pays for them."""
        apart = curriculum.apart
        thin = None if apart is None else apart.policy.thin
        if self.fresh is None or apart is None or thin is None or not thin.holds(apart.u):
            return None
        n_rows = max((offer.stage_rows for offer in curriculum.offers()), default=curriculum.shuffled_rows())
        paid = self.fresh.pays(
            curriculum.n_stages, thin.thinner.most_offered(n_rows), available=left, n_left=n_left, room=room
        )
        return self.fresh if paid else None

    def _measure(self, view: View, *, allowance: float, room: float) -> RaceResult:
        """The race, on the bill."""
        needs_start = START_LOSS in self.selector.needs
        before, spared = self.meter.seconds, self.meter.spared
        result = measure_offers(
            self.selector,
            view,
            lambda rows: self.meter.losses(rows.astype(np.int64)),
            row_tokens=self.row_tokens,
            budget_tokens=allowance,
            first_tokens=math.inf if self.budget.caps is None else allowance,
            most_tokens=-1.0 if "selection" in self.budget.unpaid else room,  # left out: what is left is for others
            start_losses=self.scores.start if needs_start else None,
            known=self.scores.known if needs_start else None,
        )
        result = replace(result, tokens=result.tokens - (self.meter.spared - spared))
        self.budget.charge("selection", result.tokens, self.meter.seconds - before)
        return result

    def _record(self, choice: Chosen, rows_by_choice: dict[str, int], drawn: Json) -> Json:
        view, measured = choice.view, choice.measured
        tokens = int(self.row_tokens[choice.stage.rows].sum())
        record = record_of(choice, tokens=tokens, rows_by_choice=rows_by_choice, drawn=drawn)
        if not view.offers:
            return record
        if isinstance(self.selector, Bandit) and choice.outcome == NOT_MEASURED:
            record |= self.selector.told(view)
        if choice.outcome in (NOT_PAID, FREE):
            record["not_measured"] = self._why_not(choice)
        if measured is None:
            return record
        distances = self.selector.distances(view)
        rows = "trained_rows" if choice.outcome == FREE else "sampled_rows"  # of the stage before, or of the offer
        for k in np.flatnonzero(measured.n_rows):
            record["offers"][k] |= {
                rows: int(measured.n_rows[k]),
                "loss": float(measured.mean_loss[k]),
                "perplexity": perplexity(measured.mean_loss[k]),
                "stderr": float(measured.stderr[k]),
            }
            if distances is not None:
                record["offers"][k]["distance"] = float(distances[k])
        tied = self.selector.tied(view)
        closeness = {"margin": self.selector.margin(view), "tied": tied if len(tied) > 1 else []}
        return record | {"rounds": measured.rounds, "selection_tokens": measured.tokens, **closeness}

    def _why_not(self, choice: Chosen) -> Json:
        """By which numbers offers were not measured."""
        if choice.refused is None:
            level = {} if choice.measured is None else {"compared_with": choice.view.probe_loss}
            return {"why": "no probes to compare with", **level}
        numbers = {"tokens": choice.refused.asked, "left": int(self.budget.room())}
        return {"why": "the budget pays for no sample", **numbers}


def record_of(choice: Chosen, *, tokens: int, rows_by_choice: dict[str, int], drawn: Json) -> Json:
    """What the ledger says of a decision, however its offers were compared.

    Args:
        choice: that was made.
        tokens: of the stage's rows.
        rows_by_choice: rows that each sub-curriculum supplied so far.
        drawn: how the stage was drawn, where a policy drew it.
    """
    stage, view = choice.stage, choice.view
    record: Json = {
        "stage": stage.index,
        "step": stage.first_step,
        "epoch": stage.epoch,
        "chosen": stage.chosen,
        "outcome": choice.outcome,
        "scope": [round(edge, 6) for edge in stage.scope],
        "steps": stage.n_steps,
        "rows": len(stage.rows),
        "random_rows": stage.n_random,
        "repeated_rows": stage.n_repeats,
        "widened": stage.widened,
        "tokens": tokens,
        "rows_digest": array_digest(stage.rows),
        "rows_by_choice": rows_by_choice,
        **drawn,
    }
    if view.offers:
        record["progress"] = round(view.progress, 6)
        record["offers"] = [
            {"name": offer.name, "scope": [round(edge, 6) for edge in offer.scope], "pool": len(offer.pool)}
            for offer in view.offers
        ]
    return record


def perplexity(loss: float) -> float:
    """exp(loss), cut before it overflows."""
    return math.exp(min(loss, 700.0))
