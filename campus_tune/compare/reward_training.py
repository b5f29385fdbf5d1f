"""Trains one arm by reward with one seed after another: what `Bench` does, with a trainer of prompts.

A run is the run that `campus-tune grpo` or `rloo` would make of the same block and seed, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campus_tune.compare.arms import Arm
from campus_tune.compare.deciding_rows import read_test_prompts
from campus_tune.compare.plan import Plan
from campus_tune.compare.task import Task
from campus_tune.compare.training import Bench
from campus_tune.compare.verdict import REWARD
from campus_tune.recipe.config import CampusConfig
from campus_tune.run.ledger import FILE as LEDGER
from campus_tune.run.ledger import read_ledger
from campus_tune.run.make_reward_trainer import make_reward_trainer
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from campus_tune.compare.curve_recorder import CurveRecorder
    from campus_tune.data.held_out_prompts import HeldOutPrompts
    from campus_tune.run.driven import DrivenRun


def make_bench(plan: Plan, tick: Callable[[int], object] = lambda _: None) -> Bench:
    """What makes the runs of one process.

    Args:
        plan: of the comparison.
        tick: told the finished steps of the present run.
    """
    return RewardBench(plan, tick) if plan.by_reward else Bench(plan, tick)


class RewardBench(Bench):
    """Makes the runs of one process, of arms that are trained by reward.

    Args:
        plan: of the comparison.
        tick: told the finished steps of the present run.
    """

    def __init__(self, plan: Plan, tick: Callable[[int], object] = lambda _: None) -> None:
        super().__init__(plan, tick)
        self._prompts: HeldOutPrompts | None = None

    def deciding_rows(self) -> HeldOutPrompts:
        """The test prompts, read and checked once: held out of the training set.

        Raises:
            DataError: they cannot decide.
        """
        if self._prompts is None:
            self._prompts = read_test_prompts(self.plan)
        return self._prompts

    def _equipped(
        self, parsed: tuple[Any, ...], config: CampusConfig, arm: Arm, task: Task
    ) -> tuple[Any, DrivenRun, CurveRecorder]:
        from campus_tune.compare.reward_recorder import RewardRecorder
        from campus_tune.run.callback import CampusCallback
        from campus_tune.run.prompts import PromptRun

        del arm, task
        settings, callback = self.plan.settings, CampusCallback(config)
        recorder = RewardRecorder(self.deciding_rows(), settings.points, self.tick, samples=settings.samples)
        callbacks = [callback, recorder]
        trainer = make_reward_trainer(self.plan.trainer, *parsed, callbacks=callbacks, shared=self._prepared)
        assert isinstance(callback.run, PromptRun)  # it was made with the trainer
        recorder.follow(trainer, callback.run)
        return trainer, callback.run, recorder

    def _data_of(self, trainer: Any, run: Any) -> Json:
        now = run.situation
        return {
            "data": now.scoring.rows.fingerprint(),
            "global_batch": now.rounds.global_batch,
            "rewards": [str(name) for name in trainer.reward_func_names],
        }

    def _facts(self, trainer: Any, run: Any, recorder: CurveRecorder, seconds: float, start: str) -> Json:
        ledger = run.folder / LEDGER
        events = read_ledger(ledger) if ledger.exists() else []
        end = next((event for event in events if event["event"] == "end"), {})
        told: Json = {name: end[name] for name in ("groups", "pass_rate") if name in end}
        return {**super()._facts(trainer, run, recorder, seconds, start), "measure": REWARD, **told}

    def _last_looks(self, trainer: Any, folder: Path) -> Json:
        """The rewards of the test prompts have said all there is to say."""
        del trainer, folder
        return {}
