"""Prompts that two processes answer together are the planned ones, whatever a generation and an optimizer step are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from campus_tune.words.hashing import array_digest
from campus_tune.words.types import Json
from tests.distributed.ranks import Warm
from tests.distributed.told import ledger
from tests.run.prompts.tiny_prompts import GROUP, prompts

TRAIN = "tests.distributed.prompt_runs:train"
ORDERED: Json = {"metrics": ["length"], "stages": 3, "handover": 1.0, "mix": 0.25, "within": "none"}
SETTINGS: dict[str, Json] = {
    "a generation a step": {"kind": "grpo"},
    "a generation for two steps": {"kind": "rloo", "steps_per_generation": 4},
    "each answer twice": {"kind": "grpo", "num_iterations": 2},
    "two generations a step": {"kind": "rloo", "steps_per_generation": 1},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_two_processes_answer_the_planned_prompts(warm: Warm, tmp_path: Path, setting: str) -> None:
    out, given = tmp_path / "run", SETTINGS[setting]
    cut = {"per_device_train_batch_size": 6, "max_steps": 4}  # a group lies on both ranks
    one, two = warm.run(TRAIN, 2, out=str(out), config=ORDERED, train=48, **cut, **given).ok.results
    assert one["weights"] == two["weights"]
    texts = [row["prompt"] for row in prompts(48)]
    together = [first + second for first, second in zip(one["asked"], two["asked"], strict=True)]
    answered = [texts.index(prompt) for generation in together for prompt in generation]
    once = answered[::GROUP]
    assert answered == np.repeat(once, GROUP).tolist()
    assert len(set(once)) == len(once)
    events = ledger(str(out))
    for decision in (event for event in events if event["event"] == "decision"):
        stage, once = once[: decision["rows"]], once[decision["rows"] :]
        if len(stage) == decision["rows"]:
            assert array_digest(np.array(stage, dtype=np.int32)) == decision["rows_digest"]
    assert not once
    assert events[-1]["audit"]["generations"] == [len(together)] * 2
    assert events[-1]["audit"]["checked"] == events[-1]["audit"]["passed"] == 4
