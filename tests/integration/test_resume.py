from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from campus_tune.errors import ResumeError
from campus_tune.integrations import checkpoints
from campus_tune.types import Json
from tests.integration.tiny_run import (
    RECIPE,
    dataset,
    history_of,
    ledger_of,
    saved_state,
    task_rows,
    tiny_trainer,
    weights_of,
)

REPOSITORY = Path(__file__).parents[2]
LOSSY = {**RECIPE, "metrics": ["length", "mtld", "loss"], "mix": 0.25, "handover": 0.8}
EXACT = {**LOSSY, "selector": "matched"}
REVISIT = {**LOSSY, "coverage": "revisit", "window": "slice", "selector": "lowest_perplexity"}
SHORT: Json = {"n": 24, "num_train_epochs": 2, "save_steps": 1}  # 12 steps, stages of 2


class Stopped(Exception):
    pass


class StopAfter(TrainerCallback):
    """Ends training like an error or Ctrl-C would, after the checkpoint of `step` was saved."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        if state.global_step == self.step:
            raise Stopped


def outcome(trainer: Any) -> Json:
    """All that must not depend on whether a run was stopped."""
    out = Path(trainer.args.output_dir)
    free = sorted((out / "curriculum" / "training_losses").glob("*.parquet"))
    return {
        "ledger": ledger_of(out),
        "history": history_of(trainer),
        "weights": {name: value.tolist() for name, value in weights_of(trainer).items()},
        "training losses": {path.name: path.read_bytes() for path in free},
    }


def assert_equal_outcomes(resumed: Any, calm: Any) -> None:
    ours, theirs = outcome(resumed), outcome(calm)
    for what in theirs:  # one after the other: the first that differs says most
        if isinstance(theirs[what], list):
            for place, (a, b) in enumerate(zip(ours[what], theirs[what], strict=False)):
                assert a == b, f"{what}, entry {place}"
        assert ours[what] == theirs[what], what


def trained(make: Callable[..., Any], out: Path, *, stops: tuple[int, ...] = (), **settings: Any) -> Any:
    """A finished run that was stopped after these steps and resumed each time."""
    callbacks = settings.pop("callbacks", [])
    for step in stops:
        trainer = make(out, callbacks=[*callbacks, StopAfter(step)], **settings)
        with pytest.raises(Stopped):
            trainer.train(resume_from_checkpoint=True)
    trainer = make(out, callbacks=callbacks, **settings)
    trainer.train(resume_from_checkpoint=True)
    return trainer


# -- goes on as if it had never stopped ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"config": EXACT, "probes": 10, "lora": True}, id="exact, prefix, LoRA with dropout"),
        pytest.param(
            {"config": REVISIT, "gradient_accumulation_steps": 4, "per_device_train_batch_size": 1}, id="revisit, slice"
        ),
        pytest.param(
            {
                "config": {**EXACT, "window": "slice", "selector": "relative_perplexity"},
                "lora": True,
                "dataloader_num_workers": 2,
                "trainer_args": {"eval_dataset": dataset(task_rows(5, seed=5))},
                "eval_strategy": "steps",
                "eval_steps": 1,
            },
            id="workers, evaluation while training",
        ),
    ],
)
def test_a_run_stopped_inside_a_stage_at_its_end_and_at_an_epochs_end_goes_on_as_if_it_had_not(
    tmp_path: Path, settings: Json
) -> None:
    calm = trained(tiny_trainer, tmp_path / "calm", **SHORT, **settings)
    resumed = trained(tiny_trainer, tmp_path / "stopped", stops=(1, 4, 6), **SHORT, **settings)
    assert_equal_outcomes(resumed, calm)


def test_steps_after_the_last_checkpoint_are_trained_again_and_leave_no_trace(tmp_path: Path) -> None:
    settings = {**SHORT, "save_steps": 3, "config": EXACT, "probes": 10}
    calm = trained(tiny_trainer, tmp_path / "calm", **settings)
    resumed = trained(tiny_trainer, tmp_path / "stopped", stops=(2, 5, 8), **settings)
    assert_equal_outcomes(resumed, calm)
    abandoned = (tmp_path / "stopped" / "curriculum" / "ledger.abandoned.jsonl").read_text()
    assert '"event": "decision"' in abandoned


def test_a_run_that_saves_at_epoch_ends_goes_on_from_there(tmp_path: Path) -> None:
    settings = {**SHORT, "save_strategy": "epoch", "config": REVISIT, "gradient_accumulation_steps": 2}
    settings |= {"per_device_train_batch_size": 2}
    calm = trained(tiny_trainer, tmp_path / "calm", **settings)
    resumed = trained(tiny_trainer, tmp_path / "stopped", stops=(8,), **settings)
    assert_equal_outcomes(resumed, calm)


def test_scalars_that_no_log_line_had_carried_yet_come_with_the_next_line(tmp_path: Path) -> None:
    settings = {**SHORT, "save_steps": 2, "logging_steps": 3, "config": EXACT, "probes": 10}
    calm = trained(tiny_trainer, tmp_path / "calm", **settings)
    resumed = trained(tiny_trainer, tmp_path / "stopped", stops=(4,), **settings)
    ours, theirs = ([{k: v for k, v in line.items() if "campus/" in k} for line in history_of(t)] for t in (resumed, calm))
    assert ours == theirs


def test_callbacks_that_transformers_makes_anew_from_the_checkpoint_take_over_the_run(tmp_path: Path) -> None:
    settings = {**SHORT, "config": EXACT, "probes": 10, "restore_callback_states_from_checkpoint": True}
    calm = trained(tiny_trainer, tmp_path / "calm", **settings)
    resumed = trained(tiny_trainer, tmp_path / "stopped", stops=(3, 4), **settings)
    assert_equal_outcomes(resumed, calm)


def test_the_same_trainer_can_go_on_after_it_was_interrupted(tmp_path: Path) -> None:
    calm = trained(tiny_trainer, tmp_path / "calm", config=EXACT, probes=10, lora=True, **SHORT)
    stop = StopAfter(5)
    trainer = tiny_trainer(tmp_path / "stopped", callbacks=[stop], config=EXACT, probes=10, lora=True, **SHORT)
    with pytest.raises(Stopped):
        trainer.train()
    stop.step = -1
    trainer.train(resume_from_checkpoint=True)
    assert_equal_outcomes(trainer, calm)


class StopPolitely(TrainerCallback):
    """Asks the trainer to stop, so that `on_train_end` is reached before the last step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, kwargs
        control.should_training_stop |= state.global_step == self.step


def test_a_run_that_was_asked_to_stop_goes_on(tmp_path: Path) -> None:
    calm = trained(tiny_trainer, tmp_path / "calm", config=REVISIT, **SHORT)
    out = tmp_path / "stopped"
    tiny_trainer(out, callbacks=[StopPolitely(5)], config=REVISIT, **SHORT).train()
    assert ledger_of(out)[-1]["event"] == "end"
    assert_equal_outcomes(trained(tiny_trainer, out, config=REVISIT, **SHORT), calm)


class SaveFirst(TrainerCallback):
    """Saves in its own on_step_end, before the curriculum has heard of the step; as JITCheckpointCallback does."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.trainer: Any = None

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, kwargs
        if state.global_step == self.step:
            self.trainer._save_checkpoint(self.trainer.model, trial=None)
            control.should_training_stop = True
            control.should_save = False


@pytest.mark.parametrize("step", [3, 4], ids=["inside a stage", "at a stage's end"])
def test_a_checkpoint_saved_before_the_curriculum_heard_of_the_step_catches_up(tmp_path: Path, step: int) -> None:
    settings = {**SHORT, "config": EXACT, "probes": 10, "lora": True, "save_strategy": "no"}
    calm = trained(tiny_trainer, tmp_path / "calm", **settings)
    saver = SaveFirst(step)
    trainer = tiny_trainer(tmp_path / "stopped", **settings)
    saver.trainer = trainer
    trainer.callback_handler.callbacks.insert(0, saver)
    trainer.train()
    state = saved_state(tmp_path / "stopped" / f"checkpoint-{step}")
    assert state["stateful_callbacks"]["CampusCallback"]["attributes"]["curriculum"]["curriculum"]["step"] == step - 1
    assert_equal_outcomes(trained(tiny_trainer, tmp_path / "stopped", **settings), calm)


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    calm = trained(tiny_trainer, tmp_path, config=EXACT, probes=10, **SHORT)
    before = outcome(calm)
    again = trained(tiny_trainer, tmp_path, config=EXACT, probes=10, **SHORT)
    assert outcome(again)["ledger"] == before["ledger"]
    assert outcome(again)["weights"] == before["weights"]


@pytest.mark.slow
def test_a_killed_process_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "eval" / "kill_resume.py"), "--only", "w2-a4-exact", "--kills", "3"]
    path = {"PYTHONPATH": str(REPOSITORY)}
    import os

    result = subprocess.run(
        [*command, "--keep", str(tmp_path)], env={**os.environ, **path}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    assert "| 3 |" in result.stdout


# -- a checkpoint of another run is refused with the difference named ----------------------------------------------


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stopped") / "run"
    trainer = tiny_trainer(out, callbacks=[StopAfter(4)], config=EXACT, probes=10, **{**SHORT, "save_steps": 2})
    with pytest.raises(Stopped):
        trainer.train()
    return out


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """A run of 12 steps, stopped with checkpoints at steps 2 and 4."""
    return Path(shutil.copytree(stopped_once, tmp_path / "run"))


def resume(out: Path, *, from_: str | bool = True, **changes: Any) -> Any:
    settings = {"config": EXACT, "probes": 10, **SHORT, "save_steps": 2, **changes}
    trainer = tiny_trainer(out, **settings)
    trainer.train(resume_from_checkpoint=from_)
    return trainer


def other_rows() -> list[Json]:
    rows = [json.loads(json.dumps(row)) for row in task_rows(SHORT["n"])]
    rows[7]["completion"][0]["content"] += " indeed"
    return rows


def moved_to_another_domain() -> list[Json]:
    rows = [dict(row) for row in task_rows(SHORT["n"])]
    rows[0]["domain"] = next(row["domain"] for row in rows if row["domain"] != rows[0]["domain"])
    return rows


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"train": other_rows()}, "training rows"),
        ({"train": moved_to_another_domain()}, "domains of the training rows"),
        ({"n": 23}, "number of training rows: 24 in the checkpoint, 23 now"),
        ({"config": {**EXACT, "metrics": ["length", "loss"]}}, "`campus: metrics`"),
        ({"config": {**EXACT, "coverage": "revisit"}}, "`campus: coverage`: 'exact' in the checkpoint, 'revisit' now"),
        ({"seed": 4}, "`campus: seed`: 3 in the checkpoint, 4 now"),
        ({"gradient_accumulation_steps": 2}, r"global batch .*: 4 in the checkpoint, 8 now"),
        ({"dataloader_drop_last": True, "per_device_train_batch_size": 5, "max_steps": 12}, "optimizer steps of an epoch"),
        ({"num_train_epochs": 3}, r"optimizer steps of the whole run: 12 in the checkpoint, 18 now.*changed_future"),
        ({"config": {**EXACT, "selector": "random"}}, r"`campus: selector`: 'matched' in the checkpoint, 'random' now"),
        ({"probes": 9}, "probe rows"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*do not match those passed:UserWarning")  # transformers' own remark on batches
def test_a_checkpoint_of_another_run_is_refused_by_the_difference(stopped: Path, changes: Json, named: str) -> None:
    with pytest.raises(ResumeError, match=named):
        resume(stopped, **changes)


def test_a_checkpoint_of_another_number_of_processes_is_refused(stopped: Path) -> None:
    edit_curriculum_state(stopped / "checkpoint-4", lambda state: state["identity"]["past"].update(world=2))
    with pytest.raises(ResumeError, match="number of processes: 2 in the checkpoint, 1 now"):
        resume(stopped)


def test_a_refused_resume_leaves_the_run_resumable(stopped: Path, tmp_path: Path) -> None:
    with pytest.raises(ResumeError):
        resume(stopped, config={**EXACT, "metrics": ["length"]})
    calm = trained(tiny_trainer, tmp_path / "calm", config=EXACT, probes=10, **{**SHORT, "save_steps": 2})
    assert_equal_outcomes(resume(stopped), calm)


def edit_curriculum_state(checkpoint: Path, edit: Callable[[Json], object]) -> None:
    state = saved_state(checkpoint)
    edit(state["stateful_callbacks"]["CampusCallback"]["attributes"]["curriculum"])
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))


def test_a_checkpoint_without_a_curriculum_is_refused(tmp_path: Path) -> None:
    plain = tiny_trainer(tmp_path, config=False, callbacks=[StopAfter(4)], **SHORT)
    with pytest.raises(Stopped):
        plain.train()
    with pytest.raises(ResumeError, match="step 4 must hold a curriculum state, got none"):
        resume(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {**EXACT, "resume": "changed_future", "selector": "random", "stages": 6, "mix": 0.0}},
        {"config": {**EXACT, "resume": "changed_future"}, "num_train_epochs": 3},
        {"config": {**EXACT, "resume": "changed_future", "selector": "shuffle"}, "probes": 15},
        {"config": {**EXACT, "resume": "changed_future", "selector": "relative_perplexity"}, "probes": None},
    ],
    ids=["selector, stages, mix", "more epochs", "shuffled from here on, other probes", "no probes"],
)
def test_a_changed_future_is_allowed_when_asked_for(stopped: Path, changes: Json) -> None:
    before = ledger_of(stopped)
    trainer = resume(stopped, **changes)
    assert trainer.state.global_step == trainer.state.max_steps
    events = ledger_of(stopped)
    assert events[: len(before) - 1] == before[:-1]  # the past stands as it was
    end = events[-1]
    assert end["audit"]["passed"] == end["audit"]["checked"]
    assert end["rows_seen"] == 24


def test_a_changed_future_does_not_allow_a_changed_past(stopped: Path) -> None:
    with pytest.raises(ResumeError, match="`campus: metrics`") as refusal:
        resume(stopped, config={**EXACT, "resume": "changed_future", "metrics": ["length", "loss"]})
    assert "changed_future" not in str(refusal.value)  # it would not help


# -- what lies in the folder is damaged ------------------------------------------------------------------------------


def test_a_missing_score_file_is_named(stopped: Path) -> None:
    (stopped / "curriculum" / "scores" / "mtld.parquet").unlink()
    with pytest.raises(ResumeError, match=r"mtld\.parquet.*Put the run's curriculum/ folder back"):
        resume(stopped)


def test_a_damaged_score_file_is_named(stopped: Path) -> None:
    path = stopped / "curriculum" / "scores" / "mtld.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ResumeError, match=r"mtld\.parquet"):
        resume(stopped)


def test_a_score_file_of_another_run_is_found_out(stopped: Path) -> None:
    folder = stopped / "curriculum" / "scores"
    shutil.copyfile(folder / "length.parquet", folder / "mtld.parquet")
    with pytest.raises(ResumeError, match=r"mtld\.parquet` must hold the scores that the checkpoint was planned with"):
        resume(stopped)


def test_a_ledger_shorter_than_the_checkpoint_says_is_refused(stopped: Path) -> None:
    path = stopped / "curriculum" / "ledger.jsonl"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ResumeError, match=r"must hold the \d+ bytes that the checkpoint counted, got 200"):
        resume(stopped)


# -- which checkpoint counts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_text(p.read_text()[:500])], ids=["no", "half"])
def test_an_interrupted_save_is_skipped_for_the_last_complete_checkpoint(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], Any]
) -> None:
    damage(stopped / "checkpoint-4" / "trainer_state.json")
    resumed = resume(stopped)
    said = capsys.readouterr().out
    assert "skipping checkpoint-4: its save was interrupted" in said
    assert "resumed at step 2 of 12" in said
    calm = trained(tiny_trainer, tmp_path / "calm", config=EXACT, probes=10, **{**SHORT, "save_steps": 2})
    assert_equal_outcomes(resumed, calm)


def test_without_a_complete_checkpoint_the_run_starts_anew_and_says_so(
    stopped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in stopped.glob("checkpoint-*/trainer_state.json"):
        path.unlink()
    trainer = tiny_trainer(stopped, callbacks=[StopAfter(2)], config=EXACT, probes=10, **SHORT)
    with pytest.raises(Stopped):
        trainer.train(resume_from_checkpoint=True)
    assert "no complete checkpoint to resume from: starting at the first step" in capsys.readouterr().out
    assert (stopped / "curriculum" / "ledger.1.jsonl").exists()  # what the first attempt said is kept
    assert [event["step"] for event in ledger_of(stopped) if event["event"] == "decision"] == [0, 2]


def test_checkpoints_of_an_earlier_run_in_the_folder_no_longer_count(
    stopped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"config": EXACT, "probes": 10, "learning_rate": 1e-3, **SHORT, "save_steps": 2}
    anew = tiny_trainer(stopped, callbacks=[StopAfter(3)], **settings)
    with pytest.raises(Stopped):
        anew.train()  # without resuming: checkpoint-4 is the earlier run's, checkpoint-2 is ours
    resumed = trained(tiny_trainer, stopped, **settings)
    said = capsys.readouterr().out
    assert "checkpoint-2, checkpoint-4 no longer count" in said
    assert "skipping checkpoint-4: its run was given up" in said
    assert "resumed at step 2 of 12" in said
    assert_equal_outcomes(resumed, trained(tiny_trainer, tmp_path / "calm", **settings))


def test_resuming_before_the_last_checkpoint_gives_up_the_later_one(stopped: Path) -> None:
    trainer = tiny_trainer(stopped, callbacks=[StopAfter(3)], config=EXACT, probes=10, **{**SHORT, "save_steps": 2})
    with pytest.raises(Stopped):
        trainer.train(resume_from_checkpoint=str(stopped / "checkpoint-2"))
    assert checkpoints.last_complete(stopped) == str(stopped / "checkpoint-2")


def test_a_checkpoint_named_by_its_path_goes_on_as_if_it_had_not_stopped(stopped: Path, tmp_path: Path) -> None:
    calm = trained(tiny_trainer, tmp_path / "calm", config=EXACT, probes=10, **{**SHORT, "save_steps": 2})
    assert_equal_outcomes(resume(stopped, from_=str(stopped / "checkpoint-2")), calm)


def test_a_checkpoint_in_another_output_dir_brings_its_ledger_and_scores(stopped: Path, tmp_path: Path) -> None:
    calm = trained(tiny_trainer, tmp_path / "calm", config=EXACT, probes=10, **{**SHORT, "save_steps": 2})
    resumed = resume(tmp_path / "elsewhere", from_=str(stopped / "checkpoint-4"))
    assert ledger_of(tmp_path / "elsewhere") == ledger_of(tmp_path / "calm")
    assert history_of(resumed) == history_of(calm)
    assert all(torch.equal(value, weights_of(calm)[name]) for name, value in weights_of(resumed).items())


def test_a_checkpoint_without_its_curriculum_folder_is_refused(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped / "checkpoint-4", tmp_path / "alone" / "checkpoint-4")
    with pytest.raises(ResumeError, match=r"curriculum.*Put the run's"):
        resume(tmp_path / "elsewhere", from_=str(tmp_path / "alone" / "checkpoint-4"))


@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_text("{")], ids=["no state", "half a state"])
def test_an_interrupted_save_named_by_its_path_is_refused(stopped: Path, damage: Callable[[Path], Any]) -> None:
    damage(stopped / "checkpoint-4" / "trainer_state.json")
    with pytest.raises(ResumeError, match=r"saved to its end.*resume_from_checkpoint=True"):
        resume(stopped, from_=str(stopped / "checkpoint-4"))


def test_an_empty_or_absent_folder_has_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / "checkpoint-3").write_text("a file")
    assert checkpoints.last_complete(tmp_path) is None
    assert checkpoints.last_complete(tmp_path / "absent") is None


def test_checkpoints_are_ordered_by_number_not_by_name(tmp_path: Path) -> None:
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    assert checkpoints.last_complete(tmp_path) == str(tmp_path / "checkpoint-10")
