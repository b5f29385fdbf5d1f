from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from campus_tune.demo.tiny import tiny_model
from campus_tune.model.peers import Peers
from campus_tune.recipe.config import load_recipe
from campus_tune.run import checkpoints
from campus_tune.run.callback import CampusCallback
from campus_tune.run.ledger import read_ledger
from campus_tune.words.errors import ResumeError, TrainerError
from campus_tune.words.types import Json
from tests.run.sealing import reseal, unseal
from tests.run.tiny_run import (
    RECIPE,
    dataset,
    history_of,
    last_line_of,
    ledger_of,
    saved_state,
    task_rows,
    tiny_trainer,
    tokenizer,
    weights_of,
)

REPOSITORY = Path(__file__).parents[2]
LOSSY = {**RECIPE, "metrics": ["length", "mtld", "loss"], "stages": 2, "mix": 0.25, "handover": 0.8, "budget": 10.0}
PLAIN = {**LOSSY, "selector": "relative_perplexity"}
MATCHED = {**LOSSY, "selector": "matched"}
REVISIT = {**LOSSY, "coverage": "revisit", "window": "slice", "selector": "lowest_perplexity"}
SHORT: Json = {"config": PLAIN, "n": 20, "num_train_epochs": 2}  # 10 steps, stages of 2, 3, 2, 1 and 2


class StoppedError(Exception):
    pass


class StopAfter(TrainerCallback):
    """Ends training like an error or Ctrl-C would, after the checkpoint of `step` was saved."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        if state.global_step == self.step:
            raise StoppedError


class SaveAt(TrainerCallback):
    """Saves after these steps, and no others: every save costs a quarter of a second."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, kwargs
        control.should_save |= state.global_step in self.steps


def outcome(trainer: Any) -> Json:
    """All that must not depend on whether a run was stopped."""
    out = Path(trainer.args.output_dir)
    free = sorted((out / "curriculum" / "training_losses").glob("*.parquet"))
    return {
        "ledger": ledger_of(out),
        "history": [*history_of(trainer), last_line_of(trainer)],
        "training losses": {path.name: path.read_bytes() for path in free},
        "map": {path.name: path.read_bytes() for path in sorted((out / "curriculum" / "book").iterdir())},
        "learning rate by decile": (out / "curriculum" / "learning_rate.json").read_text("utf-8"),
        "weights": {name: value.tolist() for name, value in weights_of(trainer).items()},
    }


def assert_same(ours: Json, calm: Json) -> None:
    for what in calm:  # one after the other: the first that differs says most
        if isinstance(calm[what], list):
            for place, (a, b) in enumerate(zip(ours[what], calm[what], strict=False)):
                assert a == b, f"{what}, entry {place}"
        assert ours[what] == calm[what], what


def resumed(out: Path, *, stops: tuple[int, ...] = (), saves: tuple[int, ...] = (), **settings: Any) -> Json:
    """The outcome of a run that saves after `saves`, is stopped after each of `stops` and resumed each time."""
    for step in (*stops, None):
        callbacks = [SaveAt(*saves), *([] if step is None else [StopAfter(step)])]
        trainer = tiny_trainer(out, callbacks=callbacks, **{**SHORT, **settings})
        if step is None:
            trainer.train(resume_from_checkpoint=True)
        else:
            with pytest.raises(StoppedError):
                trainer.train(resume_from_checkpoint=True)
    return outcome(trainer)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Json]:
    """The outcome of the same run in peace, trained once for each choice of settings."""
    known: dict[str, Json] = {}

    def train(**settings: Any) -> Json:
        if repr(settings) not in known:
            trainer = tiny_trainer(tmp_path_factory.mktemp("calm"), **{**SHORT, **settings})
            trainer.train()
            known[repr(settings)] = outcome(trainer)
        return known[repr(settings)]

    return train


# -- goes on as if it had never stopped ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stops", "settings"),
    [
        pytest.param(
            (2, 4, 5),
            {"config": MATCHED, "probes": 10, "lora": True, "eval_strategy": "steps", "eval_steps": 3},
            id="prefix, LoRA with dropout, evaluation while training",
        ),
        pytest.param(
            (2, 4, 5),
            {"config": REVISIT, "gradient_accumulation_steps": 4, "per_device_train_batch_size": 1},
            id="slice, revisit, accumulation",
        ),
        pytest.param(
            (4,),
            {"config": {**PLAIN, "window": "slice"}, "dataloader_num_workers": 2, "lora": True},
            id="slice, workers",
        ),
    ],
)
def test_a_run_stopped_inside_a_stage_at_its_end_and_at_an_epochs_end_goes_on_as_if_it_had_not(
    tmp_path: Path, calm: Callable[..., Json], stops: tuple[int, ...], settings: Json
) -> None:
    if "eval_steps" in settings:
        settings = {**settings, "trainer_args": {"eval_dataset": dataset(task_rows(4, seed=5))}}
    assert_same(resumed(tmp_path, stops=stops, saves=stops, **settings), calm(**settings))


def test_steps_after_the_last_checkpoint_are_trained_again_and_leave_no_trace(
    tmp_path: Path, calm: Callable[..., Json]
) -> None:
    assert_same(resumed(tmp_path, stops=(1, 4, 9), saves=(3, 6)), calm())
    abandoned = (tmp_path / "curriculum" / "ledger.abandoned.jsonl").read_text()
    assert '"event": "decision"' in abandoned


def test_a_run_that_saves_at_epoch_ends_goes_on_from_there(tmp_path: Path, calm: Callable[..., Json]) -> None:
    settings = {"config": REVISIT, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}
    assert_same(resumed(tmp_path, stops=(7,), save_strategy="epoch", **settings), calm(**settings))


def test_scalars_that_no_log_line_had_carried_yet_come_with_the_next_line(
    tmp_path: Path, calm: Callable[..., Json]
) -> None:
    runs = resumed(tmp_path, stops=(2,), saves=(2,), logging_steps=5), calm(logging_steps=5)
    ours, theirs = ([{k: v for k, v in line.items() if "campus/" in k} for line in run["history"]] for run in runs)
    assert ours == theirs


def test_callbacks_that_transformers_makes_anew_from_the_checkpoint_take_over_the_run(
    tmp_path: Path, calm: Callable[..., Json]
) -> None:
    ours = resumed(tmp_path, stops=(3, 4), saves=(3,), restore_callback_states_from_checkpoint=True)
    assert_same(ours, calm())


def test_the_same_trainer_can_go_on_after_it_was_interrupted(tmp_path: Path, calm: Callable[..., Json]) -> None:
    stop = StopAfter(5)
    trainer = tiny_trainer(tmp_path, callbacks=[stop, SaveAt(4)], lora=True, **SHORT)
    with pytest.raises(StoppedError):
        trainer.train()
    stop.step = -1
    trainer.train(resume_from_checkpoint=True)
    assert_same(outcome(trainer), calm(lora=True))


class StopPolitely(TrainerCallback):
    """Asks the trainer to stop, so that `on_train_end` is reached before the last step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, kwargs
        control.should_training_stop |= state.global_step == 3


def test_a_run_that_was_asked_to_stop_goes_on(tmp_path: Path, calm: Callable[..., Json]) -> None:
    tiny_trainer(tmp_path, callbacks=[StopPolitely(), SaveAt(3)], **SHORT).train()
    assert ledger_of(tmp_path)[-1]["event"] == "end"
    assert_same(resumed(tmp_path), calm())


class SaveIn(TrainerCallback):
    """Saves by itself in one event of one step, as JITCheckpointCallback does; then the process is gone."""

    def __init__(self, event: str, step: int) -> None:
        self.step, self.trainer = step, None
        setattr(self, event, self._save)

    def _save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        if state.global_step == self.step:
            self.trainer._save_checkpoint(self.trainer.model, trial=None)
            raise StoppedError


SEEN: Json = {"lora": True, "logging_steps": 2, "num_train_epochs": 2, "n": 20, "gradient_accumulation_steps": 2}
SEEN |= {"per_device_train_batch_size": 2, "include_num_input_tokens_seen": "all", "eval_strategy": "steps"}
SEEN |= {"eval_steps": 2, "trainer_args": {"eval_dataset": dataset(task_rows(4, seed=5))}}


@pytest.mark.parametrize(
    ("event", "step", "first"),
    [
        ("on_step_begin", 3, False),
        ("on_substep_end", 3, True),
        ("on_pre_optimizer_step", 3, False),
        ("on_step_end", 3, True),
        ("on_step_end", 4, True),
        ("on_step_end", 4, False),
        ("on_epoch_end", 5, True),
        ("on_step_end", 10, True),
    ],
)
def test_a_save_that_a_callback_makes_in_any_event_is_resumed_as_if_the_run_had_not_stopped(
    tmp_path: Path, calm: Callable[..., Json], event: str, step: int, first: bool
) -> None:
    """Steps 2, 4, 6, … are logged and evaluated; step 5 ends an epoch, step 10 the run."""
    saver = SaveIn(event, step)
    saver.trainer = tiny_trainer(tmp_path, **SHORT | SEEN)
    saver.trainer.callback_handler.callbacks.insert(0 if first else 99, saver)
    with pytest.raises(StoppedError):
        saver.trainer.train()
    assert_same(resumed(tmp_path, **SEEN), calm(**SEEN))


def test_the_last_line_of_a_run_that_was_cut_behind_its_last_save_is_the_same(
    tmp_path: Path, calm: Callable[..., Json]
) -> None:
    """Evaluated at its last step, and not logged: trl then leaves its metrics out of the last line."""
    settings = {**SEEN, "logging_steps": 4, "eval_steps": 5}
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, callbacks=[SaveAt(10), Goes("on_save", 10)], **SHORT | settings).train()
    ours = resumed(tmp_path, **settings)
    assert "entropy" not in ours["history"][-1]
    assert_same(ours, calm(**settings))


class Goes(TrainerCallback):
    """Ends training like an error would, in one event of one step."""

    def __init__(self, event: str, step: int) -> None:
        self.step = step
        setattr(self, event, self._go)

    def _go(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        if state.global_step == self.step:
            raise StoppedError


@pytest.mark.parametrize("step", [5, 10], ids=["of an epoch", "of the run"])
def test_what_an_epochs_end_logs_and_evaluates_is_not_lost_with_a_save_of_its_last_step(
    tmp_path: Path, calm: Callable[..., Json], step: int
) -> None:
    settings = {**SEEN, "eval_strategy": "epoch", "logging_strategy": "epoch"}
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, callbacks=[SaveAt(step), Goes("on_epoch_end", step)], **SHORT | settings).train()
    assert_same(resumed(tmp_path, **settings), calm(**settings))


def test_a_save_whose_weights_are_a_step_ahead_is_refused(tmp_path: Path) -> None:
    saver = SaveIn("on_optimizer_step", 3)
    saver.trainer = tiny_trainer(tmp_path, callbacks=[saver], **SHORT)
    with pytest.raises(TrainerError, match=r"got a save in on_optimizer_step at step 3.*Save in on_step_end"):
        saver.trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))


def test_means_and_counts_of_a_log_line_that_was_cut_are_those_of_the_whole_window(
    tmp_path: Path, calm: Callable[..., Json]
) -> None:
    settings = {"logging_steps": 3, "lora": True, "max_steps": 10}
    ours = resumed(tmp_path, stops=(2, 4, 7), saves=(2, 4, 5, 7), **settings)
    assert_same(ours, calm(**settings))
    assert {"loss", "entropy", "mean_token_accuracy", "num_tokens"} <= set(ours["history"][0])
    assert "train_loss" in ours["history"][-1]


def test_what_train_gives_back_after_a_resume_is_the_loss_of_the_whole_run(tmp_path: Path) -> None:
    whole = tiny_trainer(tmp_path, callbacks=[SaveAt(4)], **SHORT).train()
    again = tiny_trainer(tmp_path, **SHORT).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert again.training_loss == whole.training_loss == again.metrics["train_loss"]


class EndEpoch(TrainerCallback):
    """Ends the epoch after some steps."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, kwargs
        control.should_epoch_stop |= state.global_step in self.steps


@pytest.mark.parametrize("config", [PLAIN, REVISIT], ids=["exact", "revisit"])
def test_a_run_with_epochs_that_were_ended_early_goes_on_as_if_it_had_not_stopped(tmp_path: Path, config: Json) -> None:
    """15 steps were planned; the epochs end after 3, 3 + 4 and 7 + 5. Stopped where one ended, and inside of others."""
    settings = {"config": config, "num_train_epochs": 3, "n": 20, "logging_steps": 2, "save_strategy": "epoch"}
    out, ends = tmp_path, EndEpoch(3, 7)
    for stop in (3, 5, 7, 8, None):
        saves = SaveAt(*([] if stop is None else [stop]))
        stops = [] if stop is None else [StopAfter(stop)]
        trainer = tiny_trainer(out, callbacks=[ends, saves, *stops], **settings)
        if stop is None:
            trainer.train(resume_from_checkpoint=True)
        else:
            with pytest.raises(StoppedError):
                trainer.train(resume_from_checkpoint=True)
    whole = tiny_trainer(tmp_path / "calm", callbacks=[EndEpoch(3, 7)], **settings)
    whole.train()
    assert (whole.state.global_step, whole.state.epoch) == (12, 3.0)
    assert_same(outcome(trainer), outcome(whole))


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path) -> None:
    finished = resumed(tmp_path, saves=(10,))
    again = resumed(tmp_path)
    assert again["ledger"] == finished["ledger"]
    assert again["weights"] == finished["weights"]


@pytest.mark.parametrize("budget", [0.0, 0.5, 1.0], ids=["nothing", "too small", "kept by fewer rows"])
def test_a_run_whose_budget_does_not_pay_for_the_usual_rows_goes_on_and_ends_once(
    tmp_path: Path, calm: Callable[..., Json], budget: float, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: Json = {"config": {**MATCHED, "budget": budget}, "probes": 10}
    ended = resumed(tmp_path, stops=(2, 4), saves=(2, 4, 10), **settings)
    assert_same(ended, calm(**settings))
    capsys.readouterr()
    assert resumed(tmp_path, **settings)["ledger"] == ended["ledger"]  # nothing is left to pay for
    assert "budget is too small" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_process_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "eval" / "kill_resume.py"), "--only", "w2-a1-exact", "--kills", "1"]
    result = subprocess.run(
        [*command, "--keep", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    assert "| w2-a1-exact-slice | 24 | 1 | 1 |" in result.stdout


# -- a checkpoint of another run is refused with the difference named ----------------------------------------------


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stopped") / "run"
    trainer = tiny_trainer(out, callbacks=[SaveAt(2, 4), StopAfter(4)], **SHORT)
    with pytest.raises(StoppedError):
        trainer.train()
    return out


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """A run of 10 steps, stopped with checkpoints after steps 2 (a stage's end) and 4 (inside one)."""
    return Path(shutil.copytree(stopped_once, tmp_path / "run"))


def resume(out: Path, *, from_: str | bool = True, **changes: Any) -> Any:
    trainer = tiny_trainer(out, **{**SHORT, **changes})
    trainer.train(resume_from_checkpoint=from_)
    return trainer


def rows_with_one_other_answer() -> list[Json]:
    rows = [json.loads(json.dumps(row)) for row in task_rows(SHORT["n"])]
    rows[7]["completion"][0]["content"] += " indeed"
    return rows


def rows_with_one_other_domain() -> list[Json]:
    rows = [dict(row) for row in task_rows(SHORT["n"])]
    rows[0]["domain"] = next(row["domain"] for row in rows if row["domain"] != rows[0]["domain"])
    return rows


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"train": rows_with_one_other_answer()}, "training rows"),
        ({"train": rows_with_one_other_domain()}, "domains of the training rows"),
        (
            {"completion_only_loss": False},
            "which tokens of the training rows carry loss.*prepared with `completion_only_loss`: True in .*, False now",
        ),
        ({"max_length": 100}, "training rows .*prepared with `max_length`: 1024 in the checkpoint, 100 now"),
        ({"n": 19}, "number of training rows: 20 in the checkpoint, 19 now"),
        ({"config": {**PLAIN, "metrics": ["length", "loss"]}}, "`campus: metrics`"),
        ({"config": {**PLAIN, "coverage": "revisit"}}, "`campus: coverage`: 'exact' in the checkpoint, 'revisit' now"),
        ({"seed": 4}, "`campus: seed`: 3 in the checkpoint, 4 now"),
        (
            {"gradient_accumulation_steps": 2},
            r"global batch: 4 \(4 rows × 1 processes × accumulation 1\) in the checkpoint, 8 \(",
        ),
        ({"num_train_epochs": 3}, r"optimizer steps of the whole run: 10 in the checkpoint, 15 now.*changed_future"),
        (
            {"config": {**PLAIN, "selector": "random"}},
            "`campus: selector`: 'relative_perplexity' in the .*, 'random' now",
        ),
        ({"probes": 10}, "probe rows .*: None in the checkpoint"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_the_difference(stopped: Path, changes: Json, named: str) -> None:
    with pytest.raises(ResumeError, match=named):
        resume(stopped, **changes)


def test_another_template_is_named_where_it_makes_other_rows(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = copy.deepcopy(tokenizer())
    other.chat_template = other.chat_template.replace("message['role'] +", "message['role'] + ':' +")
    assert other.chat_template != tokenizer().chat_template
    monkeypatch.setattr("tests.run.tiny_run.tokenizer", lambda: other)
    with pytest.raises(ResumeError, match=r"training rows .*prepared with `chat_template`"):
        resume(stopped)


def test_settings_that_make_the_same_rows_may_differ(stopped: Path, calm: Callable[..., Json]) -> None:
    assert_same(outcome(resume(stopped, max_length=900)), calm())


def mask_first(items: list[Json]) -> Json:
    """A collator that makes the labels, and leaves the first three tokens out of them."""
    batch = keep_all(items)
    batch["labels"][:, :3] = -100
    return batch


def keep_all(items: list[Json]) -> Json:
    """A collator that makes the labels: all tokens."""
    longest = max(len(item["input_ids"]) for item in items)
    ids = torch.tensor([item["input_ids"] + [0] * (longest - len(item["input_ids"])) for item in items])
    real = torch.tensor([[i < len(item["input_ids"]) for i in range(longest)] for item in items])
    return {"input_ids": ids, "labels": ids.masked_fill(~real, -100), "attention_mask": real.long()}


def test_another_collator_that_makes_the_labels_is_named(tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    def trainer(collator: Any, *callbacks: Any) -> Any:
        args = TrainingArguments(
            str(tmp_path), per_device_train_batch_size=4, report_to="none", use_cpu=True, disable_tqdm=True,
            save_strategy="no",
        )  # fmt: skip
        rows = dataset([{"input_ids": list(range(9, 9 + n))} for n in range(6, 26)])
        ours = CampusCallback({"metrics": ["length"], "stages": 2})
        return Trainer(tiny_model(), args, collator, rows, callbacks=[ours, *callbacks])

    with pytest.raises(StoppedError):
        trainer(keep_all, SaveAt(2), StopAfter(2)).train()
    with pytest.raises(ResumeError, match=r"`collator`: 'keep_all' in the checkpoint, 'mask_first' now"):
        trainer(mask_first).train(resume_from_checkpoint=True)


def test_all_differences_are_named_at_once(stopped: Path) -> None:
    with pytest.raises(ResumeError, match=r"global batch.*`campus: seed`.*optimizer steps of the whole run"):
        resume(stopped, seed=4, gradient_accumulation_steps=2)


def test_other_epochs_of_the_same_rows_are_refused(tmp_path: Path) -> None:
    settings = {**SHORT, "n": 18, "max_steps": 10}
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, callbacks=[SaveAt(2), StopAfter(2)], **settings).train()
    with pytest.raises(ResumeError, match="optimizer steps of an epoch: 5 in the checkpoint, 4 now"):
        resume(tmp_path, **settings, dataloader_drop_last=True)


def edit_curriculum_state(checkpoint: Path, edit: Callable[[Json], None]) -> None:
    state = saved_state(checkpoint)
    edit(state["stateful_callbacks"]["CampusCallback"]["attributes"]["curriculum"])
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    reseal(checkpoint)


def test_a_checkpoint_of_a_run_of_prompts_is_refused(stopped: Path) -> None:
    edit_curriculum_state(stopped / "checkpoint-4", lambda state: state.update(version="prompts 1"))
    with pytest.raises(ResumeError, match=r"got 'prompts 1'\. Resume with the trainer and the campus_tune"):
        resume(stopped)


@pytest.mark.parametrize("version", [5, 3, 0], ids=["without the budget's caps", "without learning rates", "unknown"])
def test_a_checkpoint_of_another_version_of_the_state_is_refused(stopped: Path, version: int) -> None:
    edit_curriculum_state(stopped / "checkpoint-4", lambda state: state.update(version=version))
    with pytest.raises(ResumeError, match=rf"version 6, got {version}\. Resume with the campus_tune that wrote it"):
        resume(stopped)


def test_a_checkpoint_of_another_number_of_processes_goes_on_and_the_ledger_says_what_may_differ(
    stopped: Path, calm: Callable[..., Json]
) -> None:
    def on_two(state: Json) -> None:
        state["identity"]["batch"] = {"micro": 2, "world": 2, "accumulation": 1}

    edit_curriculum_state(stopped / "checkpoint-4", on_two)
    resumed = outcome(resume(stopped))
    assert_same(resumed, calm())
    line = next(event for event in read_ledger(stopped / "curriculum/ledger.jsonl") if event["event"] == "resumed")
    assert line["world"] == {"before": 2, "now": 1}
    assert "rounded in another sequence" in line["differs"]


def test_the_way_to_the_global_batch_of_the_checkpoint_is_named(stopped: Path) -> None:
    with pytest.raises(ResumeError, match=r"its global batch is gradient_accumulation_steps: 2\."):
        resume(stopped, per_device_train_batch_size=2)
    with pytest.raises(ResumeError, match=r"choose per_device_train_batch_size and .* that give 4 together"):
        resume(stopped, per_device_train_batch_size=3)


def test_a_refused_resume_leaves_the_run_resumable(stopped: Path, calm: Callable[..., Json]) -> None:
    with pytest.raises(ResumeError):
        resume(stopped, config={**PLAIN, "metrics": ["length"]})
    assert_same(outcome(resume(stopped)), calm())


def test_a_checkpoint_without_a_curriculum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, callbacks=[SaveAt(2), StopAfter(2)], **{**SHORT, "config": False}).train()
    with pytest.raises(ResumeError, match=r"checkpoint-2.*not of this run: it was written without a"):
        resume(tmp_path, from_=str(tmp_path / "checkpoint-2"))


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {**PLAIN, "selector": "random", "stages": 5, "mix": 0.0, "pacing": "linear"}},
        {"num_train_epochs": 3},
        {"config": {**PLAIN, "selector": "shuffle"}},
        {"config": MATCHED, "probes": 10},
    ],
    ids=["selector, stages, mix, pacing", "more epochs", "shuffled from here on", "probes"],
)
def test_a_changed_future_is_allowed_when_asked_for(stopped: Path, changes: Json) -> None:
    before = ledger_of(stopped)
    changes = {**changes, "config": {**changes.get("config", PLAIN), "resume": "changed_future"}}
    trainer = resume(stopped, **changes)
    assert trainer.state.global_step == trainer.state.max_steps
    events = ledger_of(stopped)
    assert events[: len(before)] == before  # the past stands as it was
    assert events[-1]["event"] == "end"
    assert events[-1]["audit"] == {
        "checked": trainer.state.max_steps,
        "passed": trainer.state.max_steps,
        "labels": True,
    }
    assert events[-1]["rows_seen"] == SHORT["n"]
    assert load_recipe(stopped / "curriculum" / "recipe.yaml").selector == changes["config"]["selector"]


def test_a_changed_future_does_not_allow_a_changed_past(stopped: Path) -> None:
    config = {**PLAIN, "resume": "changed_future", "metrics": ["length", "loss"], "stages": 5}
    with pytest.raises(ResumeError, match="`campus: metrics`") as refusal:
        resume(stopped, config=config)
    assert "changed_future" not in str(refusal.value)  # it would not help


def test_a_selector_that_needs_losses_from_before_training_cannot_come_later(tmp_path: Path) -> None:
    config = {**RECIPE, "selector": "random"}
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path, callbacks=[SaveAt(2), StopAfter(2)], **{**SHORT, "config": config}).train()
    with pytest.raises(ResumeError, match=r"losses before training.*got 'relative_perplexity'"):
        resume(tmp_path, config={**config, "selector": "relative_perplexity", "resume": "changed_future"})


# -- what lies in the folder is damaged ------------------------------------------------------------------------------


def test_a_missing_score_file_is_named(stopped: Path) -> None:
    (stopped / "curriculum" / "scores" / "mtld.parquet").unlink()
    with pytest.raises(ResumeError, match=r"scores/mtld\.parquet is missing.*Put the run's curriculum/ folder back"):
        resume(stopped)


def test_a_damaged_score_file_is_named(stopped: Path) -> None:
    path = stopped / "curriculum" / "scores" / "mtld.parquet"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ResumeError, match=r"mtld\.parquet"):
        resume(stopped)


def test_a_score_file_of_another_run_is_found_out(stopped: Path) -> None:
    folder = stopped / "curriculum" / "scores"
    shutil.copyfile(folder / "length.parquet", folder / "mtld.parquet")
    with pytest.raises(ResumeError, match=r"curriculum/scores/mtld\.parquet (has|is damaged, or of another run)"):
        resume(stopped)
    reseal(stopped / "checkpoint-4")  # as if it had been so when the run was saved
    with pytest.raises(ResumeError, match=r"mtld.*must hold the scores that the checkpoint was planned with"):
        resume(stopped)


def test_a_ledger_shorter_than_the_checkpoint_says_is_refused(stopped: Path) -> None:
    path = stopped / "curriculum" / "ledger.jsonl"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ResumeError, match=r"curriculum/ledger\.jsonl has 200 bytes, not \d+"):
        resume(stopped)


# -- which checkpoint counts -----------------------------------------------------------------------------------------


def lose(path: Path) -> None:
    path.unlink()


def cut_off(path: Path) -> None:
    path.write_text(path.read_text()[:500])


def break_off(state: Path) -> None:
    """The save was killed before the trainer wrote its state."""
    unseal(state.parent)
    state.unlink()


def not_sealed(state: Path) -> None:
    """The process was killed while the files were hashed."""
    unseal(state.parent)


@pytest.mark.parametrize("damage", [break_off, not_sealed])
def test_an_interrupted_save_is_skipped_for_the_last_complete_checkpoint(
    stopped: Path, calm: Callable[..., Json], capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None]
) -> None:
    damage(stopped / "checkpoint-4" / "trainer_state.json")
    assert_same(outcome(resume(stopped)), calm())
    said = capsys.readouterr().out
    assert "skipping checkpoint-4: its save was interrupted" in said
    assert "resumed at step 2 of 10" in said


def test_without_a_complete_checkpoint_the_run_starts_anew_and_says_so(
    stopped: Path, calm: Callable[..., Json], capsys: pytest.CaptureFixture[str]
) -> None:
    for path in stopped.glob("checkpoint-*/trainer_state.json"):
        break_off(path)
    first_attempt = (stopped / "curriculum" / "ledger.jsonl").read_text()
    assert_same(outcome(resume(stopped)), calm())
    assert "no complete checkpoint to resume from: starting at the first step" in capsys.readouterr().out
    assert (stopped / "curriculum" / "ledger.1.jsonl").read_text() == first_attempt


def test_checkpoints_of_an_earlier_run_in_the_folder_no_longer_count(
    stopped: Path, calm: Callable[..., Json], capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"learning_rate": 1e-3}
    with pytest.raises(StoppedError):  # without resuming: checkpoint-4 is the earlier run's, checkpoint-2 is ours
        tiny_trainer(stopped, callbacks=[SaveAt(2), StopAfter(3)], **SHORT, **settings).train()
    ours = resumed(stopped, **settings)
    said = capsys.readouterr().out
    assert "checkpoint-2, checkpoint-4 no longer count" in said
    assert "skipping checkpoint-4: its run was given up: another one was begun here since" in said
    assert "resumed at step 2 of 10" in said
    assert_same(ours, calm(**settings))


def test_resuming_before_the_last_checkpoint_gives_up_the_later_one(stopped: Path) -> None:
    with pytest.raises(StoppedError):
        tiny_trainer(stopped, callbacks=[StopAfter(3)], **SHORT).train(str(stopped / "checkpoint-2"))
    found = checkpoints.last_complete(stopped, stopped / "curriculum", Peers())
    assert found is not None
    assert found.path == stopped / "checkpoint-2"
    with pytest.raises(ResumeError, match="its run was given up: it was resumed from step 2 since"):
        resume(stopped, from_=str(stopped / "checkpoint-4"))


EARLIER = '{"event": "run", "of": "an earlier attempt"}\n'


def test_a_checkpoint_in_another_output_dir_brings_its_ledger_and_scores(
    stopped: Path, tmp_path: Path, calm: Callable[..., Json]
) -> None:
    (tmp_path / "elsewhere" / "curriculum").mkdir(parents=True)
    (tmp_path / "elsewhere" / "curriculum" / "ledger.jsonl").write_text(EARLIER)
    ours = outcome(resume(tmp_path / "elsewhere", from_=str(stopped / "checkpoint-4")))
    for what in ("ledger", "history", "weights"):
        assert_same({what: ours[what]}, {what: calm()[what]})
    assert (tmp_path / "elsewhere" / "curriculum" / "ledger.1.jsonl").read_text() == EARLIER


def test_a_checkpoint_without_its_curriculum_folder_is_refused(stopped: Path, tmp_path: Path) -> None:
    alone = shutil.copytree(stopped / "checkpoint-4", tmp_path / "alone" / "checkpoint-4")
    with pytest.raises(ResumeError, match=r"elsewhere/curriculum/lineage\.json, which says whose.*is missing"):
        resume(tmp_path / "elsewhere", from_=str(alone))


@pytest.mark.parametrize("damage", [break_off, not_sealed, lose, cut_off])
def test_an_interrupted_save_named_by_its_path_is_refused(stopped: Path, damage: Callable[[Path], None]) -> None:
    damage(stopped / "checkpoint-4" / "trainer_state.json")
    with pytest.raises(ResumeError, match=r"saved to its end.*resume_from_checkpoint=True"):
        resume(stopped, from_=str(stopped / "checkpoint-4"))


def test_an_empty_or_absent_folder_has_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / "checkpoint-3").write_text("a file")
    assert checkpoints.last_complete(tmp_path, tmp_path / "curriculum", Peers()) is None
    assert checkpoints.last_complete(tmp_path / "absent", tmp_path / "absent" / "curriculum", Peers()) is None


def test_checkpoints_are_ordered_by_number_not_by_name(tmp_path: Path) -> None:
    for step in (9, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (tmp_path / "checkpoint-11").write_text("a file")
    assert [step for step, _ in checkpoints.checkpoints_in(tmp_path)] == [9, 10]
