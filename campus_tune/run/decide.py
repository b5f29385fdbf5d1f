"""One decision: what was offered, what was measured, what was chosen, and what the ledger says of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from campus_tune.data.prepared import digest
from campus_tune.method.budget import Budget
from campus_tune.method.curriculum import Curriculum, Offer, Stage
from campus_tune.method.selectors import START_LOSS, GreedySelector, Selector, View
from campus_tune.method.selectors.baselines import RoundRobin
from campus_tune.method.selectors.race import Outcome, RaceResult, race
from campus_tune.model.measure import LossMeter
from campus_tune.model.peers import Peers
from campus_tune.scores.run_scores import Scores
from campus_tune.words.types import IntArray, Json

NOT_PAID: Outcome = "not paid for"  # nothing is left to measure offers with: they take turns


@dataclass(frozen=True)
class Decision:
    """A stage and why it was chosen.

    Args:
        stage: what is trained next.
        record: what the ledger says of it.
    """

    stage: Stage
    record: Json


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
        seed: of the run.
    """

    selector: Selector
    meter: LossMeter
    scores: Scores
    budget: Budget
    row_tokens: IntArray
    peers: Peers
    seed: int

    def decide(
        self, curriculum: Curriculum, *, probe_loss: float | None, allowance: float, reserved: float = 0.0
    ) -> Decision:
        """Choose and open the next stage.

        Args:
            curriculum: whose offers are decided on.
            probe_loss: of the held-out probes now, nats; None without probes.
            allowance: forward tokens that this decision may spend.
            reserved: forward tokens that will be spent after it in any case.
        """
        offers = curriculum.offers()
        if not offers:
            outcome = "handed over" if curriculum.handed_over else "no order to offer"
            return Decision(stage := curriculum.open(), self._record(stage, curriculum, outcome))
        view = View(
            names=[offer.name for offer in offers],
            stage=curriculum.n_stages,
            times_chosen=curriculum.times_chosen,
            seed=self.seed,
            probe_loss=probe_loss,
        )
        result = self._measure(offers, view, allowance, reserved)
        if result is not None and result.outcome == NOT_PAID:
            outcome, result, name = NOT_PAID, None, RoundRobin().choose(view)
        elif result is None:
            outcome = "only one offer" if _all_alike(offers) else "not measured"
            name = offers[0].name if _all_alike(offers) else self.selector.choose(view)
        else:
            outcome = result.outcome
            view = replace(view, mean_loss=result.mean_loss, start_loss=result.start_loss)
            name = self.selector.choose(view)
        name = self.peers.from_leader(name)
        progress = curriculum.progress
        stage = curriculum.open(next(offer for offer in offers if offer.name == name))
        record = self._record(stage, curriculum, outcome)
        record["progress"] = round(progress, 6)
        record["offers"] = [self._offer_record(k, offer, view, result) for k, offer in enumerate(offers)]
        if result is not None:
            record |= {"rounds": result.rounds, "selection_tokens": result.tokens, **self._closeness(view)}
        return Decision(stage, record)

    def _measure(self, offers: list[Offer], view: View, allowance: float, reserved: float) -> RaceResult | None:
        """The race, if this selector asks for losses and there is something to choose."""
        if not isinstance(self.selector, GreedySelector) or _all_alike(offers):
            return None
        needs_start = START_LOSS in self.selector.needs
        before = self.meter.seconds
        result = race(
            offers,
            self.selector,
            view,
            lambda rows: self.meter.losses(rows.astype(np.int64)),
            row_tokens=self.row_tokens,
            budget_tokens=allowance,
            first_tokens=math.inf if self.budget.caps is None else allowance,
            most_tokens=self.budget.room(reserved),
            start_losses=self.scores.start if needs_start else None,
            known=self.scores.known if needs_start else None,
        )
        self.budget.charge("selection", result.tokens, self.meter.seconds - before)
        return result

    def _record(self, stage: Stage, curriculum: Curriculum, outcome: str) -> Json:
        return {
            "stage": stage.index,
            "step": stage.first_step,
            "epoch": stage.epoch,
            "chosen": stage.chosen,
            "outcome": outcome,
            "scope": [round(edge, 6) for edge in stage.scope],
            "steps": stage.n_steps,
            "rows": len(stage.rows),
            "random_rows": stage.n_random,
            "repeated_rows": stage.n_repeats,
            "widened": stage.widened,
            "tokens": int(self.row_tokens[stage.rows].sum()),
            "rows_digest": digest(stage.rows),
            "rows_by_choice": dict(curriculum.rows_by_choice),
        }

    def _closeness(self, view: View) -> Json:
        """How far ahead the nearest offer was, in nats, and which ones were no further away than noise.

        A decision whose margin lies near the resolution is one that other hardware could have decided otherwise.
        """
        assert isinstance(self.selector, GreedySelector)
        distances = self.selector.distances(view)
        finite = np.sort(distances[np.isfinite(distances)])
        margin = float(finite[1] - finite[0]) if len(finite) > 1 else None
        tied = self.selector.tied(view)
        return {"margin": margin, "tied": tied if len(tied) > 1 else []}

    def _offer_record(self, k: int, offer: Offer, view: View, result: RaceResult | None) -> Json:
        record: Json = {"name": offer.name, "scope": [round(edge, 6) for edge in offer.scope], "pool": len(offer.pool)}
        if result is not None and isinstance(self.selector, GreedySelector) and result.n_rows[k]:
            record |= {
                "sampled_rows": int(result.n_rows[k]),
                "loss": float(result.mean_loss[k]),
                "perplexity": perplexity(result.mean_loss[k]),
                "stderr": float(result.stderr[k]),
                "distance": float(self.selector.distances(view)[k]),
            }
        return record


def perplexity(loss: float) -> float:
    """exp(loss), cut before it overflows."""
    return math.exp(min(loss, 700.0))


def _all_alike(offers: list[Offer]) -> bool:
    """Nothing to choose: one offer, or all of them offer the same rows."""
    first = offers[0]
    if any(len(offer.pool) != len(first.pool) for offer in offers[1:]):
        return False
    return all(np.array_equal(np.sort(offer.pool), np.sort(first.pool)) for offer in offers[1:])
