"""Steps and learning rates of a training YAML, as the trainer will count them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from campus_tune.recipe.training_yaml import learning_rates, run_seed, run_size
from campus_tune.words.errors import RecipeError


@pytest.mark.parametrize(
    ("settings", "batch", "steps"),
    [
        ({}, 8, 39),  # 3 epochs of ceil(100 / 8) = 13
        ({"gradient_accumulation_steps": 4, "num_train_epochs": 1}, 32, 4),
        ({"per_device_train_batch_size": 10, "num_train_epochs": 0.25}, 10, 3),
        ({"max_steps": 7}, 8, 7),
    ],
)
def test_steps_are_counted_as_the_trainer_does(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], batch: int, steps: int
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    size = run_size(settings, 100)
    assert (size.n_rows, size.global_batch, size.total_steps) == (100, batch, steps)


def test_the_processes_of_this_launch_share_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert run_size({}, 100).global_batch == 32
    assert run_size({}, 100, global_batch=10).global_batch == 10
    assert run_size({"num_processes": 2}, 100).global_batch == 16  # what the recipe will launch


def test_a_batch_that_is_no_number_is_refused() -> None:
    with pytest.raises(RecipeError, match="`max_steps` must be a number, got 'many'"):
        run_size({"max_steps": "many"}, 100)


def test_a_run_of_no_steps_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"`per_device_train_batch_size` must be a number in \[1, 65536\], got 0"):
        run_size({"per_device_train_batch_size": 0}, 100)


def test_the_data_seed_goes_before_the_seed() -> None:
    assert [run_seed(s) for s in ({}, {"seed": 3}, {"seed": 3, "data_seed": 4})] == [42, 3, 4]


def test_the_linear_default_falls_to_nothing() -> None:
    assert learning_rates({}, 4) == pytest.approx(2e-5 * np.array([1, 0.75, 0.5, 0.25]))


def test_a_warm_up_below_one_is_a_share_of_the_run() -> None:
    settings = {"learning_rate": 1.0, "lr_scheduler_type": "constant_with_warmup"}
    expected = [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]
    assert learning_rates({**settings, "warmup_steps": 0.5}, 8).tolist() == expected
    assert learning_rates({**settings, "warmup_steps": 4}, 8).tolist() == expected
    assert learning_rates({**settings, "warmup_ratio": 0.5}, 8).tolist() == expected


def test_an_unknown_scheduler_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="is not a valid SchedulerType"):
        learning_rates({"lr_scheduler_type": "cosin"}, 8)
