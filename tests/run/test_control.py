"""Every flag of `TrainerControl`, from every event, by a callback before ours and behind it: the run is as plain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

from campus_tune.demo.tiny import tiny_model
from campus_tune.run.callback import CampusCallback
from campus_tune.words.types import Json
from tests.run.tiny_run import dataset, tiny_trainer, tokenizer
from tests.run.witness import Witness, events, flat

ROWS = [{"input_ids": list(range(9, 9 + n)), "labels": list(range(9, 9 + n))} for n in range(4, 20)]  # 16 rows
SHUFFLE: Json = {"metrics": ["length"], "selector": "shuffle", "stages": 2}
EVENTS = [
    "on_train_begin",
    "on_epoch_begin",
    "on_step_begin",
    "on_substep_end",
    "on_pre_optimizer_step",
    "on_optimizer_step",
    "on_step_end",
    "on_log",
    "on_evaluate",
    "on_save",
    "on_epoch_end",
]
FLAGS = ["should_log", "should_evaluate", "should_save", "should_epoch_stop", "should_training_stop"]


class Asks(TrainerCallback):
    """Sets flags when an event comes at a step for the first time: (event, finished steps) → flags."""

    def __init__(self, when: Mapping[tuple[str, int], list[str]]) -> None:
        for name in {event for event, _ in when}:
            setattr(self, name, self._asker(name, dict(when)))

    @staticmethod
    def _asker(name: str, when: dict[tuple[str, int], list[str]]) -> Callable[..., None]:
        def ask(args: Any, state: Any, control: Any, **_: Any) -> None:
            del args
            for flag in when.pop((name, state.global_step), []):
                setattr(control, flag, True)

        return ask


class Hears(TrainerCallback):
    """What happened: every event, its step and epoch, and what was asked for by then."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        for name in EVENTS:
            setattr(self, name, self._hearer(name))

    def _hearer(self, name: str) -> Callable[..., None]:
        def hear(args: Any, state: Any, control: Any, **_: Any) -> None:
            del args
            asked = [flag for flag in FLAGS if getattr(control, flag)]
            self.heard.append((name, state.global_step, state.epoch, asked))

        return hear


def run(out: Path, when: Mapping[tuple[str, int], list[str]], place: str, **settings: Any) -> tuple[Json, Witness]:
    """One run, plain or with our callback before or behind the one that asks."""
    ours = [] if place == "plain" else [CampusCallback(SHUFFLE)]
    asks, hears = Asks(when), Hears()
    defaults = {"per_device_train_batch_size": 2, "num_train_epochs": 1, "logging_steps": 3, "save_strategy": "no"}
    args = {"use_cpu": True, "report_to": "none", "disable_tqdm": True, "per_device_eval_batch_size": 8}
    trainer = Trainer(
        tiny_model(),
        TrainingArguments(str(out), **{**args, **defaults, **settings}),
        DataCollatorForSeq2Seq(tokenizer()),
        dataset(ROWS),
        dataset(ROWS[:2]),
        callbacks=[*ours, asks, hears] if place == "ours first" else [asks, *ours, hears],
    )
    witness = Witness(trainer)
    trainer.train()
    lines = [[(key, key in ("step", "epoch") and line[key]) for key in sorted(line)] for line in without_ours(trainer)]
    return {
        "heard": hears.heard,
        "lines": lines,
        "saved": sorted(path.name for path in out.glob("checkpoint-*")),
        "end": (trainer.state.global_step, trainer.state.epoch),
    }, witness


def without_ours(trainer: Any) -> list[Json]:
    return [
        {key: value for key, value in line.items() if not key.startswith("campus/")}
        for line in trainer.state.log_history
    ]


def assert_as_plain(tmp_path: Path, when: Mapping[tuple[str, int], list[str]], **settings: Any) -> Json:
    plain, _ = run(tmp_path / "plain", when, "plain", **settings)
    for place in ("ours first", "ours last"):
        ours, _ = run(tmp_path / place, when, place, **settings)
        for what, value in plain.items():
            assert ours[what] == value, f"{what}, {place}"
    return plain


def test_what_a_callback_asks_for_in_any_event_happens_as_without_a_curriculum(tmp_path: Path) -> None:
    asked = ["should_log", "should_evaluate", "should_save"]
    when = {(event, 2 + k): asked for k, event in enumerate(EVENTS)}
    plain = assert_as_plain(tmp_path, when, num_train_epochs=4, gradient_accumulation_steps=2)
    assert len(plain["saved"]) > 5
    assert sum(name == "on_evaluate" for name, *_ in plain["heard"]) > 5


@pytest.mark.parametrize("accumulation", [1, 2])
def test_an_epoch_that_is_ended_in_any_event_is_left_as_without_a_curriculum(tmp_path: Path, accumulation: int) -> None:
    """One after the other, the events of a step at other steps: each of them ends the epoch that it falls into."""
    when = {(event, 2 + 3 * k): ["should_epoch_stop"] for k, event in enumerate(EVENTS)}
    for event, step in list(when):
        if event in ("on_evaluate", "on_save"):
            when["on_step_end", step] = ["should_evaluate", "should_save"]
    settings = {"num_train_epochs": 9, "gradient_accumulation_steps": accumulation, "logging_steps": 1}
    plain = assert_as_plain(tmp_path, when, **settings)
    assert 9 < plain["end"][0] < 9 * 8 // accumulation


@pytest.mark.parametrize("event", EVENTS)
def test_a_run_that_is_stopped_in_any_event_ends_as_without_a_curriculum(tmp_path: Path, event: str) -> None:
    step = {"on_train_begin": 0, "on_epoch_begin": 0, "on_epoch_end": 4}.get(event, 2)
    when = {("on_step_end", 2): ["should_evaluate", "should_save", "should_log"]}
    when[event, step] = ["should_training_stop", *when.get((event, step), [])]
    plain = assert_as_plain(tmp_path, when, num_train_epochs=2, gradient_accumulation_steps=2)
    assert plain["end"][0] < 8 or event == "on_train_begin"


def test_the_epoch_after_one_that_was_ended_has_all_rows_of_its_own(tmp_path: Path) -> None:
    when = {("on_step_end", 3): ["should_epoch_stop"]}
    seen, witness = run(tmp_path, when, "ours last", num_train_epochs=2, dataloader_num_workers=2)
    assert seen["end"] == (3 + 8, 2.0)
    first, second = Counter(flat(witness.forwards[:3])), Counter(flat(witness.forwards[3:]))
    assert (len(first), set(first.values())) == (6, {1})
    assert (len(second), set(second.values())) == (16, {1})
    (ended,) = events(tmp_path, "epoch_ended")
    assert (ended["step"], ended["epoch"], ended["steps_left_out"]) == (3, 0, 5)
    assert events(tmp_path, "end")[0]["visits"] == 22


@pytest.mark.parametrize("moment", ["on_substep_end", "on_step_end"])
def test_gradients_that_an_epoch_ended_inside_a_step_leaves_to_the_next_are_said(moment: str, tmp_path: Path) -> None:
    class Stops(TrainerCallback):
        def stop(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            del args
            control.should_epoch_stop = state.global_step == 1 and state.epoch < 1

    setattr(Stops, moment, Stops.stop)
    settings: Any = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2, "num_train_epochs": 2}
    tiny_trainer(tmp_path, n=16, config={"selector": "shuffle"}, callbacks=[Stops()], **settings).train()
    said = [warning for event in events(tmp_path, "warnings") for warning in event["warnings"]]
    assert any("between the micro batches of step 2" in warning for warning in said) == (moment == "on_substep_end")
