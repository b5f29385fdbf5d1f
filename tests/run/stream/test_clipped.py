"""Clipped steps are counted from the trainer's own norms: those of its log lines, read by nobody in between."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from campus_tune.model import compat
from campus_tune.run.stream.clipped import ClippedSteps
from tests.run.plain_run import plain_trainer
from tests.run.tiny_run import tiny_trainer


class Counts(TrainerCallback):
    """Does what a weighted run does before each update."""

    def __init__(self) -> None:
        self.trainer: Any = None
        self.clipped: Any = None
        self.norms: list[Any] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control, kwargs
        self.clipped = ClippedSteps.of(self.trainer)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state, control, kwargs
        self.norms.append(compat.gradient_norm(self.trainer))
        if self.clipped is not None:
            self.clipped.add(self.norms[-1])


def counted(make: Callable[..., Any], out: Path, **settings: Any) -> tuple[Counts, list[float]]:
    """What was counted, and the norms in the log."""
    counts = Counts()
    counts.trainer = make(out, **settings)
    counts.trainer.add_callback(counts)
    counts.trainer.train()
    return counts, [line["grad_norm"] for line in counts.trainer.state.log_history if "grad_norm" in line]


@pytest.mark.parametrize("make", [tiny_trainer, plain_trainer])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_clipped_steps_are_those_whose_logged_norm_is_above_the_bound(
    make: Callable[..., Any], accumulation: int, tmp_path: Path
) -> None:
    counts, norms = counted(make, tmp_path, max_grad_norm=1.0, gradient_accumulation_steps=accumulation)
    assert [float(norm) for norm in counts.norms] == pytest.approx(norms)
    middle = sorted(norms)[len(norms) // 2]
    bound = ClippedSteps(middle)
    for norm in counts.norms:
        bound.add(norm)
    assert bound.take() == [sum(norm > middle for norm in norms), len(norms)]
    assert counts.clipped.take() == [sum(norm > 1 for norm in norms), len(norms)]
    assert counts.clipped.take() is None  # the next stage's, of which nothing is known yet


def test_a_trainer_that_clips_nothing_is_asked_for_nothing(tmp_path: Path) -> None:
    counts, _ = counted(plain_trainer, tmp_path, max_grad_norm=0)
    assert counts.clipped is None


@pytest.mark.parametrize(
    ("settings", "most"), [({}, 0.5), ({"max_grad_norm": None}, None), ({"is_deepspeed_enabled": True}, None)]
)
def test_only_where_the_trainer_itself_clips(settings: dict[str, Any], most: float | None) -> None:
    args = SimpleNamespace(max_grad_norm=settings.get("max_grad_norm", 0.5))
    trainer: Any = SimpleNamespace(args=args, is_deepspeed_enabled=settings.get("is_deepspeed_enabled", False))
    found = ClippedSteps.of(trainer)
    assert (None if found is None else found.most) == most


@pytest.mark.parametrize("number", [float, torch.tensor])
def test_a_norm_that_is_not_finite_is_a_step_and_no_clipping(number: Callable[[float], Any]) -> None:
    clipped = ClippedSteps(1.0)
    for norm in (0.5, 1.0, 1.5, math.inf, math.nan):
        clipped.add(number(norm))
    clipped.add(None)  # a loop that tells nothing
    assert clipped.take() == [1, 5]


def test_a_count_goes_on_where_a_checkpoint_was_written() -> None:
    whole, killed = ClippedSteps(1.0), ClippedSteps(1.0)
    norms = [torch.tensor(norm) for norm in (2.0, 0.5, 3.0, 4.0)]
    for norm in norms:
        whole.add(norm)
    for norm in norms[:2]:
        killed.add(norm)
    resumed = ClippedSteps(1.0)
    resumed.load(killed.state())
    for norm in norms[2:]:
        resumed.add(norm)
    assert killed.state() == {"clipped": 1, "steps": 2}
    assert resumed.take() == whole.take() == [3, 4]


def test_outside_of_a_trainers_loop_no_norm_is_known(tmp_path: Path) -> None:
    assert compat.gradient_norm(plain_trainer(tmp_path)) is None
