"""Steering: what the record has made of a plan. Rules that fired, the clock, shares that follow the losses.

All of it is a function of the history, which the run, or `simulate`, hands over before each decision (`look`). So a
resumed run needs the history alone, and nothing changes inside a stage.

    widen             the orders are open a pacing step further
    back_off          the orders are open a pacing step less far
    hand_over         rows are plainly shuffled from the step of the firing on
    next_phase        the phase of that moment ends there; those behind it keep their `until`
    raise             the domain's share × 1.5 at each firing, at most × `most`
    review            the domain's rows in the review lane × 2 at each firing, until it has recovered
    reweight          shares follow losses (`reweight`), whatever rules see

Three change nothing of the plan:

    note              it is written into the ledger and said, and nothing else is done
    rollback          the weights of the best measurement of the probes come back, and the run goes on from them
    stop              the run ends, with the weights that it has

>>> steering = Steering(n_stages=10)
>>> seen = Firing("stagnation", "stagnation", None, 3, 3, 30, 0.3, 0.0, 0.001, 0.005, ("widen",))
>>> steering.look(History(firings=[seen]))
>>> steering.progress(0.25, 0.0), steering.ends([0.5, 1.0])
(0.35, [0.5, 1.0])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

import numpy as np

from campus_tune.method.clock import Clock
from campus_tune.method.firing import Action, Firing
from campus_tune.method.loss_series import Losses, of_probes, of_training
from campus_tune.method.probe_history import ProbeHistory
from campus_tune.method.reweight import Reweight, check_names
from campus_tune.method.rules import Rule, Shown, judged
from campus_tune.method.shares import SharePhase
from campus_tune.method.view import History
from campus_tune.words.types import FloatArray, Json

RAISED = 1.5  # times its share that a domain gets at each firing
REVIEWED = 2.0  # times its rows in the review lane
MOST_RAISED = 3.0  # times its share in all
_ROUNDING = 1e-9
_DIGITS = 9  # of a share that is told


class Steering:
    """What steers a curriculum beside its settings.

    Args:
        rules: in the recipe's sequence.
        clock: what progress is read from.
        reweight: how shares follow losses; None where they do not.
        names: of the strata whose shares follow.
        n_stages: about how many stages there are up to the handover: a pacing step is one of them.
        handover_tokens: that the steps up to the handover train on average; of the clock of tokens.
        domain_of: stratum → domain, for cells; empty for domains, which are their own.
        least: smallest share of any stratum, but of one that has less without steering.

    Raises:
        RecipeError: the reweighting names a stratum that there is not.
    """

    def __init__(
        self,
        *,
        rules: Sequence[Rule] = (),
        clock: Clock | None = None,
        reweight: Reweight | None = None,
        names: Sequence[str] = (),
        n_stages: int = 1,
        handover_tokens: float = 0.0,
        domain_of: Mapping[str, str] | None = None,
        least: float = 0.0,
    ) -> None:
        self.rules, self.clock, self.reweight = tuple(rules), clock or Clock(), reweight
        self.names, self.n_stages, self.handover_tokens = tuple(names), max(1, n_stages), handover_tokens
        self.domain_of, self.least = dict(domain_of or {}), least
        self.history = History()
        if reweight is not None:
            check_names(reweight, self.names)

    def look(self, history: History) -> None:
        """The record as it is now: between two stages."""
        self.history = history

    def judge(self, shown: Shown) -> list[Firing]:
        """What the rules see at the newest measurement; at the run's end nothing is done about it."""
        found = judged(self.rules, shown)
        return [replace(firing, actions=("note",)) for firing in found] if shown.ends else found

    # -- how far the orders are open ----------------------------------------------------------------------------

    @property
    def shift(self) -> int:
        """Pacing steps that the orders are open further than the clock says; less where it is below 0."""
        return self._times("widen") - self._times("back_off")

    @property
    def handed_over_at(self) -> int | None:
        """The step from which rows are shuffled because a rule said so; None where none has."""
        return min((one.step for one in self.history.firings if "hand_over" in one.actions), default=None)

    def progress(self, steps: float, ahead: float) -> float:
        """The clock's progress towards the handover, in [0, 1], moved by what rules have widened.

        Args:
            steps: progress by steps.
            ahead: of it, what lies ahead of now: the record says nothing of it.
        """
        tokens = sum(stage.tokens for stage in self.history.stages) / max(1.0, self.handover_tokens)
        by_clock = self.clock.at(steps, self.competence(), tokens + ahead)
        return min(1.0, max(0.0, by_clock + self.shift / self.n_stages))

    def competence(self) -> list[float]:
        """Mean competence over the probes' domains at each measurement so far."""
        probes = [past for past in self.history.probes.values() if len(past)]
        n = min((len(past) for past in probes), default=0)
        return [float(np.mean([past[i - n] for past in probes])) for i in range(n)]

    # -- who is drawn -------------------------------------------------------------------------------------------

    def ends(self, untils: Sequence[float]) -> list[float]:
        """Where the user's phases end, in progress: one that a rule has ended ends there."""
        ends = list(untils)
        for firing in self.history.firings:
            for _ in range(firing.actions.count("next_phase")):
                now = next((i for i, end in enumerate(ends) if firing.progress < end - _ROUNDING), len(ends) - 1)
                if now < len(ends) - 1:
                    ends[now] = firing.progress
        return ends

    def phases(self, phases: Sequence[SharePhase]) -> list[SharePhase]:
        """The shares of the user's phases as these hold now: one that was ended is not faded."""
        ends = self.ends([phase.until for phase in phases])
        found: list[SharePhase] = []
        for phase, end in zip(phases, ends, strict=True):
            cut = end < phase.until
            if cut and found and found[-1].fade[1] > end:
                found[-1] = replace(found[-1], overlap=0.0)
            found.append(replace(phase, until=end, overlap=0.0) if cut else phase)
        return found

    @property
    def moves_shares(self) -> bool:
        """The record has moved some."""
        return self.reweight is not None or bool(self._times("raise"))

    def shares(self, base: FloatArray) -> FloatArray:
        """Shares of the strata as the record has moved them, shape (S,).

        Args:
            base: what would be drawn without it.
        """
        if self.reweight is not None:
            base = self.reweight.shares(base, self.losses(), least=self.least)
        raised = self._factors("raise", RAISED)
        if not raised:
            return base
        factor = np.array([min(MOST_RAISED, raised.get(self._domain(name), 1.0)) for name in self.names])
        moved: FloatArray = base * factor / (base * factor).sum()
        return moved

    def reviewed(self) -> dict[str, float]:
        """Domain → how many times its part of the review lane it gets now; of those alone that get more."""
        return self._factors("review", REVIEWED)

    # -- shares that follow losses ------------------------------------------------------------------------------

    def losses(self) -> Losses:
        """What the reweighting goes by, up to the last time at which shares changed.

        Over cells it is what training shows of them; over domains the method says which.
        """
        assert self.reweight is not None, "losses are looked at where shares follow them"
        training = self.reweight.signal == "training" or bool(self.domain_of)
        found = (of_training if training else of_probes)(self.history, self.names)
        return found.first(len(found) // self.reweight.every * self.reweight.every)

    def shares_record(self, base: FloatArray) -> Json:
        """How the record has moved the shares since the stage before; `before` is `after` where it has not.

        Args:
            base: what is drawn without it, shape (S,).

        Returns:
            `{"stage": …, "step": …, "before": {stratum: share}, "after": …, "signal": {stratum: what pulls at it}}`.
        """
        stages = self.history.stages
        then_and_now = self.at_stage(len(stages) - 1).shares(base), self.shares(base)
        before, after = (dict(zip(self.names, np.round(one, _DIGITS).tolist(), strict=True)) for one in then_and_now)
        return {
            "stage": len(stages),
            "step": stages[-1].end if stages else 0,
            "before": before,
            "after": after,
            "signal": {} if self.reweight is None else self.reweight.pulls(base, self.losses()),
        }

    def at_stage(self, k: int) -> Steering:
        """It as it was when stage `k` was decided."""
        then, now = copy(self), self.history
        then.look(
            History(
                now.stages[: max(0, k)],
                measured=ProbeHistory(tuple(one for one in now.measured.measurements if one.stage <= k)),
                firings=[one for one in now.firings if one.stage <= k],
            )
        )
        return then

    # -- over the firings ---------------------------------------------------------------------------------------

    def _domain(self, stratum: str) -> str:
        return self.domain_of.get(stratum, stratum)

    def _times(self, action: Action) -> int:
        return sum(firing.actions.count(action) for firing in self.history.firings)

    def _factors(self, action: Action, factor: float) -> dict[str, float]:
        """Domain → product of an action's factors over its firings; a domain that has recovered has none."""
        found: dict[str, float] = {}
        for firing in self.history.firings:
            if firing.probe is None:
                continue
            if firing.kind == "recovered" and action == "review":
                found.pop(firing.probe, None)
            elif action in firing.actions:
                found[firing.probe] = found.get(firing.probe, 1.0) * factor
        return found
