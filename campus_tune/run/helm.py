"""The helm: the record of one run that all steering goes by, and what is done when a rule has fired.

    measured    the probes were measured: the rules look, and what they see is told and done
    look        what steers is handed the record as it is, before a decision

What a firing changes of the plan (`method/steering`) is a function of the record. What it does to the model or to the
trainer is done here, once, between two stages: weights go back to the best that was measured, or training ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.method.firing import Firing
from campus_tune.method.policy import Policy
from campus_tune.method.reweighted import at_most_five
from campus_tune.method.rules import Regression, Rule, Shown, power_line
from campus_tune.method.steering import Steering
from campus_tune.method.view import History
from campus_tune.run.activity import SAVING
from campus_tune.run.best_weights import BestWeights
from campus_tune.run.early_stop import EarlyStop, stop_after_saving
from campus_tune.run.probing import MeasuredAt
from campus_tune.run.told.events import Fired, SharesMoved, Warned
from campus_tune.run.told.shares_file import leave_shares
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray, Json

if TYPE_CHECKING:
    from campus_tune.run.situation import Situation


UNSEEN = 1000.0  # times its loss: a rise that no probe is said to show


class Helm:
    """At the helm of one run.

    Args:
        steering: what steers; None where nothing does.
        rates: learning rate of every optimizer step of the run, shape (T,); None where the schedule does not say it.
        total_steps: T.
    """

    def __init__(self, steering: Steering | None, rates: FloatArray | None, total_steps: int) -> None:
        self.steering, self.rates, self.total_steps = steering, rates, total_steps
        self.firings: list[Firing] = []
        self.stops = False  # a rule has ended training

    def at(self, now: Situation) -> MeasuredAt:
        """Where the run is when its probes are measured."""
        step, past = now.curriculum.step, now.training_losses.past
        progress = mass = min(1.0, step / self.total_steps)
        if self.rates is not None and self.rates.sum() > 0:
            mass = float(np.sum(self.rates[:step]) / np.sum(self.rates))
        return MeasuredAt(now.curriculum.n_stages, step, progress, mass, sum(stage.tokens for stage in past))

    def history(self, now: Situation) -> History:
        """The record as it is now."""
        probing = now.probing
        return History(tuple(now.training_losses.past), probing.competence.history, probing.record, tuple(self.firings))

    def measured(self, now: Situation, *, ends: bool) -> None:
        """The probes were measured: tell and do what the rules see in them.

        Args:
            now: the run.
            ends: it is over.

        Raises:
            RecipeError: the start model has reached a milestone, or the clock's target.
        """
        shares = now.probing.competence.shares
        if self.steering is None:
            return
        if not now.curriculum.step and (met := now.config.steer.already_met(now.probing.record.last)):
            raise RecipeError(met)  # before anything is kept
        if now.best is not None:
            with _on_the_clock(now, now.best):
                now.best.noted(now.probing.record, shares)
        shown = Shown(self.history(now), shares, self.total_steps, ends)
        gone_back: Json | None = None  # once, however many domains ask for it
        for firing in now.peers.from_leader(self.steering.judge(shown)):
            done: Json = {}
            if "rollback" in firing.actions and now.best is not None:
                if gone_back is None:
                    with _on_the_clock(now, now.best):
                        gone_back = now.best.roll_back()
                done["rollback"] = gone_back
            if "stop" in firing.actions:
                done["stop"] = EarlyStop.at(now.curriculum.step, self.total_steps, self.rates).line()
                self.stops = True
                stop_after_saving(now.trainer.control)
            self.firings.append(firing)
            now.journal.take(Fired(firing, done))

    def look(self, now: Situation) -> History:
        """Hand the record to what steers; gives the record."""
        history = self.history(now)
        if self.steering is not None:
            self.steering.look(history)
        return history

    def tell_shares(self, now: Situation) -> None:
        """Say so where the record has moved shares since the stage before, and where a bound holds them back."""
        by = now.drawing.shares_by
        if self.steering is None or by is None or not self.steering.moves_shares:
            return
        base = self._base(by, now.curriculum.step)
        record = self.steering.shares_record(base)
        if record["before"] != record["after"]:
            now.journal.take(SharesMoved(**record))
        if (held := at_most_five(self.steering, base)) is not None:
            now.journal.take(Warned([held]))

    def power(self, now: Situation) -> Json:
        """Domain → the smallest rise of its loss that the probes could show at the end; {} where nobody watches."""
        rule = next((one for one in self.rules if isinstance(one, Regression)), None)
        rises = {} if rule is None else power_line(now.probing.record, over=rule.over, hold=rule.hold)
        return {name: round(rise, 6) for name, rise in rises.items() if math.isfinite(rise) and rise < UNSEEN}

    @property
    def rules(self) -> Sequence[Rule]:
        """Of the recipe."""
        return () if self.steering is None else self.steering.rules

    def leave_shares(self, now: Situation) -> None:
        """Leave the shares that a run was made to find."""
        by = now.drawing.shares_by
        if by is not None:
            leave_shares(now.folder, self.steering, partial(self._base, by))

    def _base(self, by: Policy, step: int) -> FloatArray:
        """What is drawn from a step on where nothing steers."""
        base = by.unsteered(step / self.total_steps)
        return by.natural if base is None else base

    def load(self, firings: list[Firing]) -> None:
        """Go on after these firings."""
        self.firings = firings

    def state(self) -> Json:
        """What a checkpoint remembers of it, as JSON; {} of a run in which nothing was seen."""
        return {"firings": [firing.line() for firing in self.firings]} if self.firings else {}


@contextmanager
def _on_the_clock(now: Situation, best: BestWeights) -> Iterator[None]:
    """What weights are kept and brought back in counts with what looks after a run's checkpoints."""
    before = best.seconds
    with now.activities(SAVING):
        yield
    now.budget.seconds["checking"] += best.seconds - before
