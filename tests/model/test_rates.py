from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.scheduler import AcceleratedScheduler
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, ReduceLROnPlateau
from transformers import TrainerCallback

from campus_tune.model.rates import rates_of

STEPS = 6
SCHEDULES: list[tuple[str, dict[str, Any]]] = [
    ("linear", {}),
    ("cosine", {}),
    ("cosine_with_min_lr", {"min_lr_rate": 0.1}),
    ("warmup_stable_decay", {"num_decay_steps": 2}),
    ("constant", {}),
    ("constant_with_warmup", {}),
    ("inverse_sqrt", {}),
    ("polynomial", {"power": 2.0}),
]


class AsksAtTheStart(TrainerCallback):
    """Notes what is known of the rates before the first step, and that asking changed nothing."""

    def __init__(self) -> None:
        self.trainer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        before = repr(self.trainer.lr_scheduler.state_dict()), self.trainer.optimizer.param_groups[0]["lr"]
        self.rates = rates_of(self.trainer, state.max_steps)
        assert before == (repr(self.trainer.lr_scheduler.state_dict()), self.trainer.optimizer.param_groups[0]["lr"])


def trained(make: Callable[..., Any], *, resume: bool = False, **settings: Any) -> tuple[Any, list[float]]:
    """What was foreseen, and the rates that the trainer logged."""
    asks = AsksAtTheStart()
    asks.trainer = make(config=False, callbacks=[asks], per_device_train_batch_size=2, max_steps=STEPS, **settings)
    asks.trainer.train(resume_from_checkpoint=resume)
    logged = [line["learning_rate"] for line in asks.trainer.state.log_history if "learning_rate" in line]
    return asks.rates, logged


@pytest.mark.parametrize(("kind", "options"), SCHEDULES)
def test_the_rates_are_those_that_the_trainer_will_log(
    tiny_trainer: Callable[..., Any], kind: str, options: dict[str, Any]
) -> None:
    schedule = {"lr_scheduler_type": kind, "lr_scheduler_kwargs": options, "warmup_steps": 2}
    rates, logged = trained(tiny_trainer, n=12, **schedule)
    assert rates.tolist() == logged
    assert len(logged) == STEPS


def test_after_a_resume_they_are_those_of_the_run_that_was_saved(
    tiny_trainer: Callable[..., Any], tmp_path: Path
) -> None:
    settings = {"n": 12, "lr_scheduler_type": "cosine", "warmup_steps": 1, "save_steps": 3}
    _, calm = trained(tiny_trainer, **settings)
    (tmp_path / "run" / f"checkpoint-{STEPS}").rename(tmp_path / "away")
    rates, logged = trained(tiny_trainer, resume=True, **settings, learning_rate=1.0)  # the scheduler keeps its own
    assert rates.tolist() == calm == logged


def test_a_gradient_accumulated_over_micro_batches_is_one_step_of_the_schedule(
    tiny_trainer: Callable[..., Any],
) -> None:
    rates, logged = trained(tiny_trainer, n=24, gradient_accumulation_steps=2, lr_scheduler_type="linear")
    assert rates.tolist() == logged


class _Accelerator:
    num_processes = 3


class _Trainer:
    """What `rates_of` looks at."""

    accelerator = _Accelerator()

    def __init__(self, scheduler: Any) -> None:
        self.lr_scheduler = scheduler


def optimizer() -> torch.optim.SGD:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)


def halves(step: int) -> float:
    return 0.5**step


def asked(scheduler: Any, n_steps: int = 3) -> list[float] | None:
    trainer: Any = _Trainer(scheduler)
    rates = rates_of(trainer, n_steps)
    return None if rates is None else rates.tolist()


@pytest.mark.usefixtures("_accelerates")
def test_accelerates_wrapper_steps_once_for_each_process() -> None:
    inner, opt = LambdaLR(optimizer(), halves), optimizer()
    assert asked(inner) == [2.0, 1.0, 0.5]
    assert asked(AcceleratedScheduler(inner, opt)) == [2.0, 0.25, 0.03125]
    assert asked(AcceleratedScheduler(inner, opt, split_batches=True)) == [2.0, 1.0, 0.5]
    assert asked(AcceleratedScheduler(inner, opt, step_with_optimizer=False)) == [2.0, 1.0, 0.5]


@pytest.fixture
def _accelerates() -> None:
    from accelerate.state import PartialState

    PartialState(cpu=True)


class Counts:
    """A function of the step that is no function."""

    asked = 0

    def __call__(self, step: int) -> float:
        Counts.asked += 1
        return 1.0 / (1 + step)


def grows(step: int, *, most: int) -> float:
    if step > most:
        raise ValueError(f"no rate after step {most}")
    return float(step)


def test_what_cannot_be_known_is_not_guessed() -> None:
    assert asked(CosineAnnealingLR(optimizer(), 3)) is None
    assert asked(ReduceLROnPlateau(optimizer())) is None
    assert asked(LambdaLR(optimizer(), partial(grows, most=2))) == [0.0, 2.0, 4.0]
    assert asked(LambdaLR(optimizer(), partial(grows, most=2)), 4) is None
    assert asked(LambdaLR(optimizer(), lambda step: float("nan") if step == 2 else 1.0)) is None
    assert asked(LambdaLR(optimizer(), lambda step: 1.0 - step)) is None


def test_a_function_that_may_have_a_state_is_not_asked() -> None:
    scheduler = LambdaLR(optimizer(), Counts())
    before = Counts.asked
    assert asked(scheduler) is None
    assert Counts.asked == before


def test_of_several_groups_the_first_one_counts_as_in_the_log() -> None:
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in (1.0, 4.0)]
    assert asked(LambdaLR(torch.optim.SGD(groups), [halves, lambda step: 1.0 + step])) == [1.0, 0.5, 0.25]
