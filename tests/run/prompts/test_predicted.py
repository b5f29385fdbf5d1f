"""Pass rates of prompts that were never tried, in runs: draws follow a column that says them, the ledger tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json
from tests.run.prompts.tiny_prompts import RATES, prompts, reward_trainer
from tests.run.witness import events

MIDDLE: Json = {
    "selector": "shuffle",
    "stages": 16,
    "thin": {"how": "top", "by": "middle", "keep": 0.5},
    "within": "none",
    "mix": 0.0,
}
N = 256
MIDDLE_KINDS = (2, 3, 4, 5)  # of `RATES`, between 0.1 and 0.9


def drawn_kinds(trainer: Any, out: Path, config: Json, **args: Any) -> tuple[list[Json], list[int]]:
    """The ends of the stages, and the kind of every prompt that was drawn, one after the other."""
    import pyarrow.parquet as pq

    made = trainer(out, config=config, train=prompts(N), max_steps=32, learning_rate=1e-4, **args)
    made.train()
    files = sorted((out / "curriculum" / "prompt_rewards").glob("stage-*.parquet"))
    rows = [row for file in files for row in pq.read_table(file)["row"].to_pylist()]
    return events(out, "stage_end"), [row % len(RATES) for row in rows]


def middle(kinds: list[int]) -> float:
    return float(np.isin(kinds, MIDDLE_KINDS).mean())


def test_prompts_never_tried_are_drawn_by_what_a_column_says_of_them(tmp_path: Path) -> None:
    """Half of an epoch, no prompt twice: their own pass rates say nothing of which comes next."""
    ends, kinds = drawn_kinds(reward_trainer, tmp_path / "predicted", {**MIDDLE, "passes": {"forget": 0.0}})
    blind = {**MIDDLE, "passes": {"predict": False, "forget": 0.0}}
    untold, chance = drawn_kinds(reward_trainer, tmp_path / "own", blind)
    first, last = slice(0, len(kinds) // 3), slice(len(kinds) // 2, None)
    assert middle(kinds[last]) > middle(chance[last]) + 0.15
    assert middle(kinds[last]) > middle(kinds[first])
    told = [end["prediction"] for end in ends]
    assert told[-1]["of"] == "pass_rate"
    assert told[-1]["prompts"] == len(kinds)
    assert {"level", "cut"} & set(told[-1]["used"])  # either says the kind
    assert told[-1]["correlation"] > 0.6
    assert all(end["prediction"] is None for end in untold)
    assert ends[-1]["cost"]["prediction"] == 0
    assert ends[-1]["seconds"]["prediction"] > 0


def test_prompts_are_ordered_by_the_loss_of_their_answers(tmp_path: Path) -> None:
    rows = [{**row, "answer": f"the answer is {row['level']}"} for row in prompts(32)]
    recipe = {"metrics": ["loss"], "stages": 4, "within": "none", "budget": 5, "passes": {"answer": "answer"}}
    trainer = reward_trainer(tmp_path, config=recipe, train=rows)
    trainer.train()
    (scored,) = events(tmp_path, "scores")
    assert scored["rows_measured"] == 32
    (end,) = events(tmp_path, "end")
    assert end["cost"]["scoring"] > 0


def test_a_metric_of_losses_without_answers_is_refused_when_the_trainer_is_made(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="`metrics: loss` must have a reference answer of each prompt"):
        reward_trainer(tmp_path, config={"metrics": ["loss"], "within": "none"})


def test_scores_that_order_nothing_are_told_before_the_first_step(tmp_path: Path) -> None:
    rows = [{**row, "level": int(n == 0)} for n, row in enumerate(prompts(32))]
    recipe = {"metrics": ["length", {"name": "column", "column": "level"}], "stages": 4, "within": "none"}
    reward_trainer(tmp_path, config=recipe, train=rows, max_steps=2).train()
    assert len(events(tmp_path, "health")) == 1
    (warned, *_) = events(tmp_path, "warnings")
    assert any("`level` gives 97% of the rows one and the same score" in one for one in warned["warnings"])
