"""A weighted run tells what it did in every place that tells of runs, and a killed one tells the same."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import TrainerCallback

from campus_tune.read.finished import read_finished
from campus_tune.report.run_facts import read_run
from campus_tune.report.weight_page import weight_section
from campus_tune.run.ledger import comparable, read_ledger
from campus_tune.words.types import Json
from tests.run.tiny_run import tiny_trainer

RECIPE: Json = {
    "selector": "shuffle",
    "stages": 3,
    "budget": 0.5,
    "weights": [{"name": "self_paced", "form": "hard", "floor": 0.0, "until": 1.0}],
}
AUDIT = "weights audit: 20 of 20 checked steps multiplied the planned weights"


class StoppedError(Exception):
    """As an error or Ctrl-C would."""


class StopAt(TrainerCallback):
    """Ends training before a step."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        if state.global_step == 9:
            raise StoppedError


@dataclass(frozen=True)
class Told:
    """What one run has told."""

    out: Path
    said: str
    log: list[Json]

    def events(self, kind: str) -> list[Json]:
        return [event for event in read_ledger(self.out / "curriculum/ledger.jsonl") if event["event"] == kind]


def trainer_in(out: Path, *callbacks: Any) -> Any:
    return tiny_trainer(out, n=40, config=RECIPE, num_train_epochs=2, save_steps=8, callbacks=callbacks)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    out = tmp_path_factory.mktemp("told")
    trainer = trainer_in(out)
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("campus_tune.words.progress.say", said.append)
        trainer.train()
    return Told(out, "\n".join(said), trainer.state.log_history)


def test_a_stages_end_says_what_its_log_lines_say(told: Told) -> None:
    ends = told.events("stage_end")
    norms = [line["grad_norm"] for line in told.log if "grad_norm" in line]
    losses = [line["loss"] for line in told.log if "loss" in line]
    assert len(norms) == len(losses) == 20
    first = 0
    for end in ends:
        mine = norms[first : end["step"]]
        assert end["clipped_steps"] == [sum(norm > 1 for norm in mine), len(mine)]
        assert end["weights_audit"] == [end["step"]] * 2
        assert sum(end["weights"]["histogram"]) == end["rows_with_loss"]
        first = end["step"]
    assert ends[0]["weights"]["ess"] == 1.0  # no level yet
    assert ends[0]["weighted_loss"] == pytest.approx(ends[0]["train_loss"])
    assert any(end["weights"]["ess"] < 1 and end["weighted_loss"] < end["train_loss"] for end in ends[1:])


def test_trackers_get_what_the_ledger_says_of_each_stage(told: Told) -> None:
    shown = [line for line in told.log if "campus/weight_ess" in line]
    ends = told.events("stage_end")
    assert [line["campus/weight_ess"] for line in shown] == [end["weights"]["ess"] for end in ends]
    assert [line["campus/weighted_loss"] for line in shown] == [end["weighted_loss"] for end in ends]


def test_the_console_the_card_and_the_page_say_that_the_weights_were_audited(told: Told) -> None:
    assert AUDIT in told.said
    assert told.said.count("ess ") + told.said.count("all weights") >= len(told.events("stage_end"))
    assert AUDIT in (told.out / "README.md").read_text("utf-8")
    page = read_run(told.out).weights
    assert page is not None
    assert AUDIT[1:] in weight_section(page, []).sentence
    assert told.events("end")[0]["weights_audit"] == [20, 20]


def test_what_is_read_back_is_what_was_written(told: Told) -> None:
    ends, found, page = told.events("stage_end"), read_finished(told.out), read_run(told.out).weights
    assert found.weights["ess"].tolist() == [end["weights"]["ess"] for end in ends]
    assert page is not None
    assert [stage.most for stage in page.stages] == found.weights["max"].tolist()
    assert np.isfinite(found.weights["steps"]).all()


def test_a_run_that_was_killed_inside_of_a_stage_tells_the_same(told: Told, tmp_path: Path) -> None:
    ends = {end["step"] for end in told.events("stage_end")}
    assert 8 not in ends  # the checkpoint is inside of a stage
    with pytest.raises(StoppedError):
        trainer_in(tmp_path / "run", StopAt()).train()
    trainer_in(tmp_path / "run").train(resume_from_checkpoint=True)
    ours, theirs = (comparable(read_ledger(out / "curriculum/ledger.jsonl")) for out in (told.out, tmp_path / "run"))
    assert ours == theirs
    shutil.rmtree(tmp_path / "run")
