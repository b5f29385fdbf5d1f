"""Prompts are answered and trained as they were planned, whatever a generation and an optimizer step are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import TrainerCallback

from tests.run.prompts.tiny_prompts import GROUP, reward_trainer
from tests.run.witness import events

SETTINGS: dict[str, dict[str, Any]] = {
    "a generation a step": {},
    "a generation for two steps": {"steps_per_generation": 4},
    "each answer twice": {"num_iterations": 2},
    "two generations a step": {"steps_per_generation": 1},
}
ORDERED = {"metrics": ["length"], "stages": 4, "handover": 1.0, "mix": 0.25, "within": "none"}


class Answered(TrainerCallback):
    """The prompts that the model was asked, seen by a wrapper of the tests' own, and what each stage had planned."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.planned: list[list[int]] = []

    def watch(self, trainer: Any) -> Answered:
        generate = trainer._generate

        def seen(prompts: list[str]) -> Any:
            self.asked.append(list(prompts))
            return generate(prompts)

        trainer._generate = seen
        self.run = next(one.run for one in trainer.callback_handler.callbacks if hasattr(one, "begun"))
        trainer.add_callback(self)
        return self

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Which prompts the coming step trains."""
        self.planned.append(self.run.step_prompts().tolist())


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_prompts_are_answered_as_planned(kind: str, setting: str, tmp_path: Path) -> None:
    trainer = reward_trainer(tmp_path, kind, config=ORDERED, max_steps=6, **SETTINGS[setting])
    seen = Answered().watch(trainer)
    trainer.train()
    texts, rounds = trainer.train_dataset["prompt"], seen.run.situation.rounds
    asked = [row for prompts in seen.asked for row in map(texts.index, prompts)]
    every = seen.planned[:: rounds.steps]  # of several steps of one generation, the first
    assert asked == np.repeat([row for rows in every for row in rows], GROUP).tolist()
    assert len(set(asked)) == len(asked) // GROUP  # one epoch: none comes twice
    (end,) = events(tmp_path, "end")
    assert end["step"] == 6
    assert end["audit"]["checked"] == end["audit"]["passed"] == 6
    assert end["visits"] == len(asked) // GROUP
