"""What a comparison records of a run that is trained by reward: the rewards of test prompts over generated tokens.

The rewards are those of the run's own functions (`model.compat_answers`). Arms of equal steps generate more or fewer
tokens, as their answers are longer or shorter, so tokens are counted as they are generated, and the curve is drawn over
them. A generation may last several optimizer steps: of points between which nothing was generated the last one counts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from transformers import Trainer

from campus_tune.compare.curve_recorder import CurveRecorder
from campus_tune.data.held_out_prompts import HeldOutPrompts
from campus_tune.model.compat_answers import AnswerRewards, PromptAnswers
from campus_tune.run.prompts import PromptRun
from campus_tune.words.types import BoolArray, FloatArray, Json


class RewardRecorder(CurveRecorder):
    """Records one run.

    Args:
        rows: test prompts.
        points: of the curve besides the first, evenly over the steps.
        tick: told the steps that are finished.
        samples: answers to each prompt; 0 takes the likeliest one.
    """

    measure = "reward"

    def __init__(
        self, rows: HeldOutPrompts, points: int, tick: Callable[[int], object] = lambda _: None, *, samples: int = 0
    ) -> None:
        super().__init__(rows.domains, points, tick)
        self.rows, self.samples = rows, samples
        self.found: AnswerRewards | None = None  # as last measured

    def follow(self, trainer: Trainer, run: PromptRun) -> None:
        """The trainer and the run to record; call it before `trainer.train()`, when the clock starts."""
        self.trainer, self.run = trainer, run
        self._answers = PromptAnswers(trainer, self.rows.rows, self.rows.places, samples=self.samples)
        self._start_clock()

    def end(self) -> Json | None:
        """Every test prompt as it was measured last: its domain and its reward; None before the first point."""
        if self.found is None:
            return None
        return {
            "domains": self._names,
            "items": [f"{d} {n}" for d, n in zip(self.rows.domains, self.rows.numbers, strict=True)],
            "domain": self._codes.tolist(),
            "reward": self.found.rewards.tolist(),
            "by_function": {name: _mean(values) for name, values in self.found.by_function.items()},
            "generated": self.found.tokens,
        }

    def _note_step(self, step: int) -> None:
        del step
        self.visits.append(self.run.step_prompts())

    def _measure(self, step: int) -> None:
        self.tokens = self.run.generated_tokens
        if self._curve["tokens"][-1:] == [self.tokens]:
            for values in (*self._curve.values(), *self._domains.values()):
                values.pop()
        super()._measure(step)

    def _look(self) -> float:
        self.found = self._answers.measure()
        return float(self.found.rewards.mean())

    def _mean_of(self, some: BoolArray) -> float:
        assert self.found is not None  # just measured
        return float(self.found.rewards[some].mean())


def _mean(values: FloatArray) -> float | None:
    """Of those that are known."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
