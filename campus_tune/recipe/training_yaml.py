"""What a training YAML says of the run itself: how many steps of how many rows, and the learning rate of each."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from campus_tune.method.rounds import Rounds
from campus_tune.recipe.schedule import make_schedule
from campus_tune.recipe.trl_values import number_problem
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray, Json
from campus_tune.words.wording import shown

MOST_STEPS = 300_000  # whose learning rates are asked of the scheduler: 10 seconds

# What SFTConfig has where a YAML says nothing.
_DEFAULTS: Json = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "num_train_epochs": 3.0,
    "max_steps": -1,
    "learning_rate": 2e-5,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0,
    "seed": 42,
    "warmup_ratio": 0.0,
    # what GRPOConfig has
    "num_generations": 8,
    "num_iterations": 1,
}


@dataclass(frozen=True)
class RunSize:
    """How large a run is, as the trainer will count it.

    Args:
        n_rows: N, before preparation drops any.
        global_batch: rows per optimizer step, over all processes and accumulation.
        total_steps: optimizer steps of the run.
    """

    n_rows: int
    global_batch: int
    total_steps: int


def run_size(settings: Mapping[str, Any], n_rows: int, *, global_batch: int | None = None) -> RunSize:
    """Batch and steps of a run over `n_rows` rows.

    Args:
        settings: the training YAML.
        n_rows: of the training set.
        global_batch: rows per optimizer step; None takes the YAML's, times the processes of this launch.

    Raises:
        RecipeError: a trainer setting is not a number.
    """
    accumulation = setting_whole(settings, "gradient_accumulation_steps")
    micro = setting_whole(settings, "per_device_train_batch_size")
    batch = global_batch or micro * accumulation * _processes(settings)
    max_steps = setting_whole(settings, "max_steps")
    per_epoch = math.ceil(n_rows / batch) if batch > 0 else 0
    total = max_steps if max_steps > 0 else math.ceil(setting_number(settings, "num_train_epochs") * per_epoch)
    if batch < 1 or total < 1:
        raise RecipeError(f"The batch and the steps of a run must be at least 1, got {batch} and {total}. Raise them.")
    return RunSize(n_rows, batch, total)


def rounds_of(settings: Mapping[str, Any]) -> Rounds:
    """How a run by reward cuts its prompts, as GRPOConfig reads the YAML.

    Args:
        settings: the training YAML.

    Raises:
        RecipeError: a trainer setting is no number, or a generation is no whole number of prompts.
        TrainerError: a generation and an optimizer step do not divide one another.
    """
    micro, world = setting_whole(settings, "per_device_train_batch_size"), _processes(settings)
    accumulation, group = (setting_whole(settings, name) for name in ("gradient_accumulation_steps", "num_generations"))
    per_generation = accumulation
    if settings.get("steps_per_generation"):
        per_generation = setting_whole(settings, "steps_per_generation")
    elif settings.get("generation_batch_size"):
        per_generation = setting_whole(settings, "generation_batch_size") // (micro * world)
    prompts, over = divmod(micro * world * per_generation, group)
    if over or prompts < 1:
        raise RecipeError(
            f"`num_generations` must divide the {micro * world * per_generation} answers of a generation, got {group}. "
            "Change it, or per_device_train_batch_size."
        )
    iterations = setting_whole(settings, "num_iterations")
    return Rounds(prompts, group, micro, world, per_generation, iterations, accumulation)


def in_rounds(size: RunSize, rounds: Rounds, epochs: float) -> RunSize:
    """The size of a run by reward as the curriculum counts it: a round is to it what a step is to others.

    >>> rounds = Rounds(8, 8, 16, 1, 4, iterations=1, accumulation=2)
    >>> in_rounds(RunSize(n_rows=960, global_batch=32, total_steps=100), rounds, 0.0)
    RunSize(n_rows=960, global_batch=8, total_steps=50)

    Args:
        size: with the optimizer steps of the run.
        rounds: how it cuts its prompts.
        epochs: that it trains, where they say how long it is; else 0.
    """
    steps = epochs * (size.n_rows // rounds.global_batch) if epochs else size.total_steps / rounds.steps
    return RunSize(size.n_rows, rounds.global_batch, max(1, math.ceil(steps)))


def _processes(settings: Mapping[str, Any]) -> int:
    """How many the YAML asks for, or this launch has."""
    launch = {"num_processes": settings.get("num_processes") or os.environ.get("WORLD_SIZE", "1")}
    return setting_whole(launch, "num_processes")


def setting_number(settings: Mapping[str, Any], name: str) -> float:
    """A number of the YAML, or the trainer's default for it.

    Raises:
        RecipeError: it is there and no number, or out of its range.
    """
    value = settings.get(name, _DEFAULTS.get(name, 0))
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise RecipeError(f"`{name}` must be a number, got {shown(value)}. Write a number.") from error
    if problem := number_problem(name, number):
        raise RecipeError(problem)
    return number


def setting_whole(settings: Mapping[str, Any], name: str) -> int:
    """A whole number of the YAML, or the trainer's default for it.

    Raises:
        RecipeError: it is there and no whole number, or out of its range.
    """
    number = setting_number(settings, name)
    if number != int(number):
        raise RecipeError(f"`{name}` must be a whole number, got {number:g}. Write one.")
    return int(number)


def run_seed(settings: Mapping[str, Any]) -> int:
    """The seed of the trainer's data: `data_seed`, else `seed`, else its default.

    Raises:
        RecipeError: it is no number.
    """
    return setting_whole(settings, "seed" if settings.get("data_seed") is None else "data_seed")


def learning_rates(settings: Mapping[str, Any], total_steps: int) -> FloatArray:
    """The learning rate at each optimizer step of the YAML's schedule, shape (total_steps,).

    Args:
        settings: the training YAML; what it does not say is SFTConfig's default.
        total_steps: of the run.

    Raises:
        RecipeError: a number is none, or the run is longer than a schedule is worth stepping through.
        ValueError: unknown `lr_scheduler_type`.
    """
    if total_steps > MOST_STEPS:
        raise RecipeError(f"`steps` must be at most {MOST_STEPS} to be gone through one by one, got {total_steps}.")
    rate = setting_number(settings, "learning_rate")
    warmup = setting_number(settings, "warmup_steps")
    ratio = setting_number(settings, "warmup_ratio") if warmup == 0 else (warmup if warmup < 1 else 0.0)
    optimizer, scheduler = make_schedule(
        settings.get("lr_scheduler_type", _DEFAULTS["lr_scheduler_type"]),
        rate,
        warmup_steps=math.ceil(total_steps * ratio) if ratio else int(warmup),
        total_steps=total_steps,
        options=settings.get("lr_scheduler_kwargs") or {},
    )
    rates = np.empty(total_steps)
    for step in range(total_steps):
        rates[step] = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
    return rates
