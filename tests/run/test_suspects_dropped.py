"""Rows that look wrong are left out in the middle of a run: which, when, for good, and the same after any kill."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.data.domains import Domains
from campus_tune.method import suspicion
from campus_tune.read.finished import read_finished
from campus_tune.report.run_facts import read_run
from campus_tune.run.acting import cells_by_answer
from campus_tune.run.checkpoints import saved_curriculum
from campus_tune.run.manifest import FILE as MANIFEST
from campus_tune.words.errors import ResumeError, TrainerError
from campus_tune.words.types import Json
from tests.run.plain_run import plain_trainer
from tests.run.sealing import reseal
from tests.run.test_resume import SaveAt, StopAfter, StoppedError, assert_same, outcome
from tests.run.tiny_run import saved_state, tiny_trainer
from tests.run.witness import Witness, events, flat

N, BATCH, STEPS, ACTS = 80, 4, 60, 40  # 20 steps an epoch, 4 stages in each; two passes say who is wrong
WRONG = [row for row in range(N) if row % 7 == 3]  # 11 of them
ROWS = [
    {"prompt": f"Say {row}", "completion": " 9 7 8 6" if row in WRONG else " 1 1 1 1", "domain": "ab"[row % 2]}
    for row in range(N)
]
BASE: Json = {"selector": "shuffle", "stages": 4, "budget": 0.5}
RUN: Json = {"train": ROWS, "num_train_epochs": 3, "learning_rate": 1e-2, "lr_scheduler_type": "constant"}


def recipe(**entry: Any) -> Json:
    return {**BASE, "drop": [{"by": "suspects", "from": 0.6, **entry}]}


def run(out: Path, config: Json, **settings: Any) -> tuple[Any, Witness]:
    trainer = tiny_trainer(out, config=config, **{**RUN, **settings})
    witness = Witness(trainer)
    trainer.train()
    return trainer, witness


@pytest.fixture(scope="module", autouse=True)
def ten_stand_out() -> Iterator[None]:
    """Who stands out, the rule says of hundreds of rows (`tests/method/test_suspicion.py`): here the ten worst do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suspicion, "stands_out", lambda scores: float(np.sort(scores)[-10]))
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Witness]]:
    """A run of each word for `act`."""
    return {
        act: run(tmp_path_factory.mktemp(act), recipe(**entry))
        for act, entry in {"found": {}, "always": {"act": "always", "at_most": 0.1}, "never": {"act": "never"}}.items()
    }


def home_of(trainer: Any) -> Path:
    return Path(trainer.args.output_dir) / "curriculum"


def listed(trainer: Any) -> list[Json]:
    return [json.loads(line) for line in (home_of(trainer) / "dropped.jsonl").read_text("utf-8").splitlines()]


# -- what is left out --------------------------------------------------------------------------------------------------


def test_what_stands_out_once_all_rows_were_seen_is_never_drawn_again(runs: Any) -> None:
    trainer, witness = runs["found"]
    (told,) = events(home_of(trainer).parent, "suspects")
    assert (told["step"], told["stage"], told["act"]) == (ACTS, 8, "found")
    gone = told["rows"]
    assert len(set(gone) & set(WRONG)) >= 8
    assert len(set(gone) - set(WRONG)) <= 5
    assert told["dropped"] == told["would_drop"] == len(gone) == sum(told["by_domain"].values())
    assert told["found"] == len(gone) + told["bound"]["by_share"]
    assert set(flat(witness.steps[:ACTS])) == set(range(N))
    assert not set(flat(witness.steps[ACTS:])) & set(gone)
    assert [len(step) for step in witness.steps] == [BATCH] * STEPS
    (end,) = events(home_of(trainer).parent, "end")
    assert (end["dropped"], end["suspects"], end["audit"]["passed"]) == (len(gone), len(gone), STEPS)
    assert end["never_trained"]["rows"] == 0
    visits = np.bincount(witness.rows, minlength=N)
    assert set(visits[gone]) == {2}
    assert set(np.delete(visits, gone)) == {3, 4}  # the third pass is over sooner


def test_they_are_listed_with_text_for_a_person_and_for_the_page(runs: Any) -> None:
    trainer, _ = runs["found"]
    (told,) = events(home_of(trainer).parent, "suspects")
    lines = listed(trainer)
    assert [line["row"] for line in lines] == sorted(told["rows"])
    assert all(line["reason"] == "suspects" and f"Say {line['row']}" in line["text"] and line["key"] for line in lines)
    assert list(read_finished(home_of(trainer)).dropped) == lines
    draw = read_run(home_of(trainer)).draw
    assert draw is not None
    assert (draw.dropped, len(draw.dropped_rows)) == ({"suspects": len(lines)}, len(lines))


def test_always_drops_the_worst_share_whether_they_stand_out_or_not(runs: Any) -> None:
    trainer, witness = runs["always"]
    (told,) = events(home_of(trainer).parent, "suspects")
    assert told["dropped"] == 8
    assert set(told["rows"]) <= set(WRONG)
    assert not set(flat(witness.steps[ACTS:])) & set(told["rows"])


def test_never_says_who_would_go_and_changes_nothing(runs: Any, tmp_path: Path) -> None:
    trainer, witness = runs["never"]
    (told,) = events(home_of(trainer).parent, "suspects")
    (acted,) = events(home_of(runs["found"][0]).parent, "suspects")
    assert told == {**acted, "act": "never", "dropped": 0}
    assert (home_of(trainer) / "dropped.jsonl").read_text("utf-8") == ""
    assert read_finished(home_of(trainer)).dropped == ()
    late, later = run(tmp_path, recipe(**{"from": 0.99}))  # when the last stage has begun
    assert later.steps == witness.steps
    (told,) = events(home_of(late).parent, "suspects")
    assert told == {
        "event": "suspects",
        "stage": 12,
        "step": STEPS,
        "act": "found",
        "dropped": 0,
        "unseen": 0,
        "why": "every row was seen only at its end",
    }


def test_a_run_that_does_not_see_all_rows_drops_none_and_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer, witness = run(tmp_path, recipe(act="always"), max_steps=12)
    (told,) = events(home_of(trainer).parent, "suspects")
    assert (told["dropped"], told["unseen"], told["why"]) == (0, 32, "32 of 80 rows were never seen")
    assert len(set(witness.rows)) == 48
    said = [line for line in capsys.readouterr().out.splitlines() if "· suspects:" in line]
    assert said == ["campus: step 12/12 · suspects: no row was left out, for 32 of 80 rows were never seen"]


def test_the_control_leaves_out_as_many_of_each_cell_at_random(runs: Any, tmp_path: Path) -> None:
    trainer, witness = run(tmp_path, {**recipe(), "control": "random_drop", "cells": {"bands": 1}})
    (told,), (acted,) = (events(home_of(one).parent, "suspects") for one in (trainer, runs["found"][0]))
    assert told["by_domain"] == acted["by_domain"]
    assert told["dropped"] == acted["dropped"] == len(listed(trainer))
    assert set(told["rows"]) != set(acted["rows"])
    assert {line["reason"] for line in listed(trainer)} == {"random_drop"}
    assert not set(flat(witness.steps[ACTS:])) & set(told["rows"])


# -- resume ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("save", "stop"), [(7, 8), (39, 42), (40, 40), (40, 44), (43, 44)], ids=lambda steps: f"step {steps}"
)
def test_a_killed_run_goes_on_as_if_it_had_not_stopped(save: int, stop: int, runs: Any, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, config=recipe(), callbacks=[SaveAt(save), StopAfter(stop)], **RUN).train()
    trainer = tiny_trainer(tmp_path, config=recipe(), callbacks=[SaveAt(save)], **RUN)
    trainer.train(resume_from_checkpoint=True)
    assert_same(outcome(trainer), outcome(runs["found"][0]))
    assert listed(trainer) == listed(runs["found"][0])


def stopped(out: Path, at: int) -> Path:
    """A run that was stopped after a checkpoint; gives the checkpoint."""
    with pytest.raises(StoppedError):
        tiny_trainer(out, config=recipe(), callbacks=[SaveAt(at), StopAfter(at)], **RUN).train()
    return out / f"checkpoint-{at}"


def test_a_checkpoint_remembers_the_stage_and_needs_the_files_of_those_before(tmp_path: Path) -> None:
    checkpoint = stopped(tmp_path, 42)
    state = saved_curriculum(saved_state(checkpoint))
    assert state["suspects"]["stage"] == 8
    named = json.loads((checkpoint / MANIFEST).read_text("utf-8"))["beside"]
    assert [name for name in named if name.startswith("training_losses")] == [
        f"training_losses/stage-0000{stage}.parquet" for stage in range(8)
    ]
    (tmp_path / "curriculum" / "training_losses" / "stage-00002.parquet").unlink()
    with pytest.raises(ResumeError, match=r"training_losses/stage-00002\.parquet is missing"):
        tiny_trainer(tmp_path, config=recipe(), **RUN).train(resume_from_checkpoint=True)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    checkpoint = stopped(tmp_path, 42)
    path = tmp_path / "curriculum" / "training_losses" / "stage-00001.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    reseal(checkpoint)
    with pytest.raises(ResumeError, match=r"stage-00001\.parquet` must be the losses .* earlier checkpoint"):
        tiny_trainer(tmp_path, config=recipe(), **RUN).train(resume_from_checkpoint=True)


def test_files_that_make_other_rows_suspect_are_those_of_another_training(tmp_path: Path) -> None:
    checkpoint = stopped(tmp_path, 42)
    folder = tmp_path / "curriculum" / "training_losses"
    (folder / "stage-00001.parquet").write_bytes((folder / "stage-00002.parquet").read_bytes())
    reseal(checkpoint)
    with pytest.raises(ResumeError, match=r"training_losses` must be the losses .*: other rows are suspect"):
        tiny_trainer(tmp_path, config=recipe(), **RUN).train(resume_from_checkpoint=True)


def test_a_changed_recipe_chooses_again_and_one_without_the_entry_draws_all_rows(tmp_path: Path) -> None:
    stopped(tmp_path, 42)
    with pytest.raises(ResumeError, match=r"`campus: drop`"):
        tiny_trainer(tmp_path, config=recipe(at_most=0.05), **RUN).train(resume_from_checkpoint=True)
    fewer = {**recipe(at_most=0.05), "resume": "changed_future"}
    trainer = tiny_trainer(tmp_path, config=fewer, callbacks=[SaveAt(50), StopAfter(50)], **RUN)
    with pytest.raises(StoppedError):
        trainer.train(resume_from_checkpoint=True)
    (resumed,) = events(tmp_path, "resumed")
    assert resumed["dropped"] == {"suspects": 4}
    assert len(listed(trainer)) == 4
    trainer = tiny_trainer(tmp_path, config={**BASE, "resume": "changed_future"}, **RUN)
    trainer.train(resume_from_checkpoint=True)
    (end,) = events(tmp_path, "end")
    assert "suspects" not in end


# -- what is refused, and small data -----------------------------------------------------------------------------------


def test_training_that_shows_no_losses_of_rows_stops_a_run_that_would_drop_by_them(tmp_path: Path) -> None:
    trainer = plain_trainer(tmp_path, config=recipe(), label_smoothing_factor=0.1, num_train_epochs=3)
    with pytest.raises(
        TrainerError, match=r"training must show .*`drop: suspects` or `value`\), got none: .*label smoothing"
    ):
        trainer.train()


def test_ten_rows_are_compared_too(tmp_path: Path) -> None:
    trainer, _ = run(tmp_path, recipe(act="always"), train=ROWS[:10], per_device_train_batch_size=2)
    (told,) = events(home_of(trainer).parent, "suspects")
    assert told["dropped"] == 2


@pytest.mark.parametrize(("n_rows", "cells"), [(64, 8), (1000, 10), (20, 2), (15, 1)], ids=lambda n: f"{n}")
def test_cells_have_as_few_bands_as_there_are_rows_for(n_rows: int, cells: int) -> None:
    two = Domains(np.arange(n_rows) % 2, ["a", "b"])
    assert len(cells_by_answer(np.arange(n_rows), two).names) == cells
