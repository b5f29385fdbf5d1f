"""One decision: what is offered, whether it must be measured, what is chosen, and the stage that follows.

A run and `simulate` decide by this same function. How losses are measured is handed in: by the model, on samples that
grow (`selectors.race`), or by a made-up learner. Its outcome says how it came about:

    separated            the best offer is ahead of every other, by two standard errors
    all rows measured    every row of the offers was measured: there is no chance in it
    budget spent         the next round of measuring was not paid for: the best so far is taken
    not measured         the selector goes by something else than losses
    only one offer       there is one, or all of them offer the same rows
    losses of training   of rows like those offered, in place of a measurement that is not paid for
    not paid for         nothing is left to measure offers with, nor is anything known: they take turns
    no order to offer    no sub-curriculum has anything to offer: the stage is drawn at random
    handed over          orders are over, and rows are plainly shuffled
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from campus_tune.method.curriculum import Curriculum, Offer, Stage
from campus_tune.method.free_losses import FreeLosses
from campus_tune.method.selectors import LOSS, PROBES, Outcome, RaceResult, RoundRobin, Selector
from campus_tune.method.thinning import MeasureRows
from campus_tune.method.view import History, View

ONE_OFFER: Outcome = "only one offer"  # or all of them offer the same rows
NOT_MEASURED: Outcome = "not measured"  # the selector has chosen, and no offer was measured for it
NOT_PAID: Outcome = "not paid for"  # nothing is left to measure offers with, nor is anything known: they take turns
FREE: Outcome = "losses of training"  # of rows like those offered, in place of a measurement

MeasureOffers: TypeAlias = Callable[[View], RaceResult]


@dataclass(frozen=True)
class Chosen:
    """A stage, and why it was chosen.

    Args:
        stage: what is trained next.
        outcome: how it came to that.
        view: what the selector was shown; without offers nothing was asked.
        measured: how the offers were measured, where they were, or what training has shown of rows like them.
        refused: what measuring them would have taken, where that is not paid for; None too where there was nothing to
            compare with.
    """

    stage: Stage
    outcome: str
    view: View
    measured: RaceResult | None = None
    refused: RaceResult | None = None

    @property
    def offered(self) -> tuple[str, ...]:
        """The sub-curricula that there were to choose from; none where there was nothing to choose."""
        return () if self.outcome == ONE_OFFER else tuple(self.view.names)


def decide(
    curriculum: Curriculum,
    selector: Selector,
    measure: MeasureOffers,
    *,
    probe_loss: float | None = None,
    history: History | None = None,
    agree: Callable[[str], str] = str,
    fresh: MeasureRows | None = None,
    free: FreeLosses | None = None,
) -> Chosen:
    """Choose and open the next stage.

    Where measuring the offers is not paid for, the losses of the rows just trained stand for theirs (and their mean for
    the loss of probes that nobody has measured); where these say nothing, offers take turns.

    Args:
        curriculum: whose offers are decided on.
        selector: that is asked, where there is something to choose.
        measure: losses of the offers, for a selector that needs them.
        probe_loss: of the held-out probes now, nats; None without probes.
        history: of the run so far.
        agree: what all ranks choose, given what this one would.
        fresh: scores of candidates now, for a policy that thins by them; None where they cannot be paid for.
        free: what training has shown of the stage before; None of the first one.
    """
    offers = curriculum.offers()
    view = View(
        names=[offer.name for offer in offers],
        offers=offers,
        stage=curriculum.n_stages,
        step=curriculum.step,
        total_steps=curriculum.total_steps,
        n_decisions=curriculum.n_decisions,
        epoch=curriculum.epoch,
        progress=curriculum.progress,
        times_chosen=dict(curriculum.times_chosen),
        rows_by_choice=dict(curriculum.rows_by_choice),
        history=history or History(),
        seed=curriculum.schedule.seed,
        probe_loss=probe_loss,
    )
    if not offers:
        outcome = "handed over" if curriculum.handed_over else "no order to offer"
        return Chosen(curriculum.open(measure=fresh), outcome, view)
    measured = refused = None
    if all_alike(offers):
        outcome, name = ONE_OFFER, view.names[0]
    elif LOSS not in selector.needs:
        outcome, name = NOT_MEASURED, selector.choose(view)
    else:
        compares = probe_loss is not None or PROBES not in selector.needs
        measured = measure(view) if compares else None
        if measured is None or measured.outcome == NOT_PAID:
            refused, measured = measured, None if free is None else free.of(view, curriculum.orders)
            view = view if compares or free is None else replace(view, probe_loss=free.level)
        if measured is None:
            outcome, name = NOT_PAID, RoundRobin().choose(view)
        else:
            outcome = measured.outcome
            view = replace(view, mean_loss=measured.mean_loss, start_loss=measured.start_loss)
            name = selector.choose(view)
    name = agree(name)
    return Chosen(curriculum.open(offers[view.names.index(name)], fresh), outcome, view, measured, refused)


def all_alike(offers: Sequence[Offer]) -> bool:
    """Nothing to choose: one offer, or all of them offer the same rows, in whatever sequence."""
    first, *others = offers
    totals = {(len(offer.pool), int(offer.pool.sum(dtype=np.int64))) for offer in offers}
    if len(totals) > 1:  # the usual case, without sorting
        return False
    rows = np.sort(first.pool)
    return all(np.array_equal(np.sort(offer.pool), rows) for offer in others)
