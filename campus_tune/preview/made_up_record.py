"""The record of a simulated run: stages, made-up probes, and what the recipe's rules make of them, as a run keeps it.

The probes are the learner's (`learner.ForgetfulLearner.probes`), measured before every stage and at the end. What a
rule does to the plan is done: shares, orders, phases and review by the `Steering` that the curriculum asks, and two
things here. `rollback` takes the learner back to what it was at its best measurement; `stop` ends the plan.

The learner knows no learning rate, so of its mass as much is behind as of the steps.
"""

from __future__ import annotations

import math

import numpy as np

from campus_tune.method.curriculum import Curriculum
from campus_tune.method.decide import Chosen
from campus_tune.method.firing import Firing
from campus_tune.method.policy import ALL_ROWS
from campus_tune.method.probe_history import ProbeHistory
from campus_tune.method.rules import Shown
from campus_tune.method.stages import Stage
from campus_tune.method.view import History, PastStage
from campus_tune.preview.learner import ForgetfulLearner
from campus_tune.preview.scene import Scene
from campus_tune.words.types import Json, RowLosses


class MadeUpRecord:
    """What a simulated run remembers of itself.

    Args:
        scene: whose learner is measured, and whose steering judges.
        curriculum: that is planned.
    """

    def __init__(self, scene: Scene, curriculum: Curriculum) -> None:
        self.scene, self.curriculum, self.steering = scene, curriculum, scene.steering
        self.stages: list[PastStage] = []
        self.firings: list[Firing] = []
        self.measured = ProbeHistory()
        self.probes: dict[str, list[float]] = {}
        self.stopped_at: int | None = None
        domains = scene.given.domains
        self._names = list(domains.names) if domains.codes is not None and domains.names else [ALL_ROWS]
        self._shares = domains.shares(self._names)
        self._tokens = 0
        self._best: tuple[float, ForgetfulLearner] | None = None
        self._visited = np.zeros(scene.given.n_rows, dtype=np.bool_)

    @property
    def history(self) -> History:
        """All of it, as policies are shown it."""
        return History(self.stages, self.probes, self.measured, self.firings)

    def look(self) -> None:
        """Between two stages, or behind the last: measure, hear the rules, and do what they say."""
        if self.scene.probed is not None:
            self._measure(self.scene.probed)
        if self.steering is None:
            return
        if len(self.measured):
            ends = self.curriculum.finished
            shown = Shown(self.history, self._shares, self.curriculum.total_steps, ends=ends)
            for firing in self.steering.judge(shown):
                self.firings.append(firing)
                self._act(firing)
        self.steering.look(self.history)

    def losses(self) -> dict[str, list[float]]:
        """Mean loss of each domain's probes at each measurement."""
        return {name: [-math.log(value) for value in past] for name, past in self.probes.items()}

    def close(self, chosen: Chosen, losses: RowLosses | None, before: float | None) -> None:
        """A stage is over.

        Args:
            chosen: that was trained.
            losses: that its forwards have shown; None where nobody looked.
            before: what `Scene.own_loss` said of its rows before it.
        """
        stage, tokens = chosen.stage, self.scene.given.tokens
        trained = len(stage.rows) if tokens is None else int(tokens[stage.rows].sum())
        again = self._visited[stage.rows]
        self._visited[stage.rows] = True
        self._tokens += trained
        shown: Json = {}
        if losses is not None:
            shown = {
                "loss": losses.mean(),
                "sums": self._sums(stage, losses),
                "again": (int(losses.top1[again].sum()), int(losses.tokens[again].sum())),
            }
        after = self.scene.own_loss(stage.rows)
        policy = self.curriculum.apart.policy if self.curriculum.apart is not None else None
        draw = stage.draw
        self.stages.append(
            PastStage(
                stage.index,
                stage.chosen,
                self.curriculum.step,
                offered=chosen.offered,
                tokens=trained,
                lr_mass=float(stage.n_steps),
                lr_tokens=float(trained),
                shares={}
                if policy is None or draw is None
                else dict(zip(policy.strata_names, draw.shares, strict=True)),
                own_gain=None if before is None or after is None else before - after,
                **shown,
            )
        )

    def _measure(self, learner: ForgetfulLearner) -> None:
        """The probes as the learner has them now."""
        rows = dict(zip(self._names, learner.probes(), strict=False))  # of a last domain without rows there are none
        u = self.curriculum.step / self.curriculum.total_steps
        stage, step = self.curriculum.n_stages, self.curriculum.step
        self.measured = self.measured.taken(rows, stage=stage, step=step, progress=u, mass=u, tokens=self._tokens)
        for name, loss in self.measured.last.loss.items():
            self.probes.setdefault(name, []).append(math.exp(-loss.value))
        if self.steering is not None and any("rollback" in rule.then for rule in self.steering.rules):
            value = self.measured.mean_loss(self._shares).value
            if self._best is None or value < self._best[0]:
                self._best = value, learner.copied()

    def _act(self, firing: Firing) -> None:
        """What is done about a firing beside the plan."""
        if "rollback" in firing.actions and self._best is not None:
            self.scene.go_back_to(self._best[1])
        if "stop" in firing.actions and not self.curriculum.finished:
            self.stopped_at = self.curriculum.step

    def _sums(self, stage: Stage, losses: RowLosses) -> dict[str, tuple[float, int]]:
        """Nats and tokens of each stratum's rows; {} where rows have no strata."""
        if self.curriculum.apart is None:
            return {}
        policy = self.curriculum.apart.policy
        codes, n = policy.codes[stage.rows], len(policy.strata_names)
        nats, tokens = (np.bincount(codes, values, n) for values in (losses.nll_sum, losses.tokens))
        return {
            name: (nll, int(count))
            for name, nll, count in zip(policy.strata_names, nats.tolist(), tokens.tolist(), strict=True)
            if count
        }
