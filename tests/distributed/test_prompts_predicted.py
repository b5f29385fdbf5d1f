"""Two processes predict the same pass rates, and so draw the same prompts."""

from __future__ import annotations

from pathlib import Path

from campus_tune.words.types import Json
from tests.distributed.ranks import Warm
from tests.distributed.told import ledger
from tests.run.prompts.tiny_prompts import GROUP, prompts

MIDDLE: Json = {
    "metrics": ["loss"],
    "selector": "shuffle",
    "stages": 16,
    "within": "none",
    "thin": {"how": "top", "by": "middle", "keep": 0.5},
    "passes": {"answer": "answer"},
    "budget": 5,
}


def test_two_processes_expect_the_same_of_every_prompt(warm: Warm, tmp_path: Path) -> None:
    out = tmp_path / "run"
    rows = [{**row, "answer": str(row["level"])} for row in prompts(96)]
    cut: Json = {"per_device_train_batch_size": 8, "max_steps": 6}  # as many prompts as a pass gives: half
    ranks = warm.run("tests.distributed.prompt_runs:train", 2, out=str(out), config=MIDDLE, train=rows, **cut).ok
    one, two = ranks.results
    assert one["weights"] == two["weights"]
    asked = [first + second for first, second in zip(one["asked"], two["asked"], strict=True)]
    texts = [row["prompt"] for row in rows]
    once = [texts.index(prompt) for generation in asked for prompt in generation][::GROUP]
    assert len(set(once)) == len(once) == 48
    told = [event["prediction"] for event in ledger(str(out)) if event["event"] == "stage_end"]
    assert told[-1]["prompts"] == 48
    assert {"metric loss", "level", "cut"} & set(told[-1]["gains"])
    (scored,) = (event for event in ledger(str(out)) if event["event"] == "scores")
    assert scored["rows_measured"] == 96
