"""Messages that misled, or made a mess of the console: what they say now, and that their advice works."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.preview.health import health_table, score_health
from campus_tune.run.callback import CampusCallback
from campus_tune.run.told.decision_lines import decision_cells, decision_line
from campus_tune.words.errors import NoCheckpointError, RecipeError, TrainerError
from tests.run.tiny_run import RECIPE, tiny_trainer


def test_a_checkpoint_that_is_not_there_is_said_to_be_not_there(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path / "run", n=8)
    with pytest.raises(NoCheckpointError, match=r"'/none/such', which is not there\. Correct the path, write resume"):
        trainer.train(resume_from_checkpoint="/none/such")
    assert issubclass(NoCheckpointError, ValueError)  # the trainer's own kind
    trainer.train(resume_from_checkpoint=True)  # what it advises: there is none, so it starts at the first step
    assert trainer.state.global_step == 2


def test_a_misspelt_checkpoint_is_answered_with_those_that_are_there(tmp_path: Path) -> None:
    tiny_trainer(tmp_path, n=16, save_steps=2).train()
    known = f"In {tmp_path} there is checkpoint-2, checkpoint-4: name one of these"
    with pytest.raises(NoCheckpointError) as told:
        tiny_trainer(tmp_path, n=16).train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert known in str(told.value)
    again = tiny_trainer(tmp_path, n=16, save_steps=2)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again.state.global_step == 4


def test_a_second_call_of_train_says_how_to_train_on_and_that_works(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=16, save_steps=4)
    trainer.train()
    advice = (
        r"Make a new trainer\. To train on .* larger num_train_epochs and the block resume: changed_future, and call "
        r"train\(resume_from_checkpoint=True\)"
    )
    with pytest.raises(TrainerError, match=advice):
        trainer.train()
    on = tiny_trainer(tmp_path, n=16, num_train_epochs=2, config={**RECIPE, "resume": "changed_future"})
    on.train(resume_from_checkpoint=True)
    assert on.state.global_step == 8


def test_a_block_that_opens_orders_and_names_none_is_told_what_it_lacks() -> None:
    with pytest.raises(RecipeError, match=r"^`metrics` must name at least one metric where other .* Write for example"):
        CampusCallback({"window": "slice"})
    for advised in ({"metrics": ["length"]}, {"selector": "shuffle"}):
        CampusCallback({"window": "slice", **advised})
    assert CampusCallback().config == CampusCallback({}).config


@pytest.mark.parametrize(
    ("perplexity", "shown"), [(496.073, "496.07"), (1.0142e304, "1.01e+304"), (math.inf, "inf"), (math.nan, "nan")]
)
def test_the_perplexity_of_a_model_that_diverges_is_readable(perplexity: float, shown: str) -> None:
    record: Any = {"step": 2, "stage": 1, "chosen": "length", "outcome": "separated", "rows": 8, "scope": [0.0, 0.5]}
    record["offers"] = [{"name": "length", "perplexity": perplexity}]
    assert f"perplexity length {shown} · cost 1.0%" in decision_line(record, 8, {}, 0.01)
    assert decision_cells(record, 8, {}, 0.01)["perplexity"] == f"length {shown}"


def test_a_score_of_many_digits_does_not_make_a_wide_table() -> None:
    table = health_table(score_health({"mine": np.array([1.0, 2.0, 1e300, 1e301])}))
    assert max(map(len, table.splitlines())) < 80


def test_a_run_without_metrics_prints_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_trainer(tmp_path, n=8, config={"selector": "shuffle"}).train()
    printed = capsys.readouterr().out
    assert "median" not in printed
    assert next(line for line in printed.splitlines() if not line.startswith("campus: batching: ")).startswith(
        "campus: step 0/2 · stage 0 · shuffled"
    )
