"""Weighted runs on several ranks: the same multipliers of the same rows, and the same training, as on one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.scores.cache import read_columns
from campus_tune.words.types import Json
from tests.distributed.ranks import Report, Warm
from tests.distributed.told import first_difference, history, lines, outcome, steps_of
from tests.run.tiny_run import task_rows

BATCH = 8
RECIPE: Json = {
    "selector": "shuffle",
    "stages": 3,
    "batching": "step",
    "weights": [{"name": "column", "column": "weight"}, {"name": "linupper"}, {"name": "focal"}],
}
ROWS = [
    {**row, "weight": 0.25 + i % 5} for i, row in enumerate(task_rows(57))
]  # the last step has one: a rank has none
RUN: Json = {"config": RECIPE, "train": ROWS, "num_train_epochs": 2, "dropout": False}


def life(warm: Warm, world: int, out: str, **more: Any) -> Report:
    """One life of a run on so many processes."""
    settings = {**RUN, "per_device_train_batch_size": BATCH // world, **more}
    return warm.run("train", world, out=out, resume=Path(out).exists(), **settings)


def told(out: str) -> list[Json]:
    """What each stage left of its rows."""
    return [read_columns(file)[0] for file in sorted((Path(out) / "curriculum" / "training_losses").glob("*.parquet"))]


@pytest.fixture(scope="module")
def alone(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Report]:
    """The run on one process."""
    out = str(tmp_path_factory.mktemp("alone") / "run")
    return out, life(warm, 1, out).ok


@pytest.mark.parametrize("flat", [False, True], ids=["padded", "flat"])
def test_two_ranks_multiply_and_train_what_one_does(
    flat: bool, warm: Warm, alone: tuple[str, Report], tmp_path: Path
) -> None:
    out = str(tmp_path / "run")
    config = {**RECIPE, "batching": "flat"} if flat else RECIPE
    report = life(warm, 2, out, config=config).ok
    assert steps_of(report) == steps_of(alone[1])
    assert lines(out, "end")[0]["weights_audit"] == [16, 16]
    ours, theirs = (np.array(history(one, "loss", "grad_norm")) for one in (report, alone[1]))
    np.testing.assert_allclose(ours, theirs, rtol=2e-3)
    for here, there in zip(told(out), told(alone[0]), strict=True):
        assert here["row"].tolist() == there["row"].tolist()
        np.testing.assert_allclose(here["weight"], there["weight"], rtol=5e-3)
        np.testing.assert_allclose(here["part"], there["part"], rtol=5e-3)


@pytest.mark.parametrize("world", [1, 2])
def test_a_weighted_run_goes_on_from_a_checkpoint_inside_a_stage(world: int, warm: Warm, tmp_path: Path) -> None:
    calm, out = str(tmp_path / "calm"), str(tmp_path / "run")
    whole = life(warm, world, calm, saves=[8]).ok
    life(warm, world, out, saves=[8], stop=11)
    last = life(warm, world, out, saves=[8]).ok
    found, wanted = outcome(out, last), outcome(calm, whole)
    assert first_difference(found, wanted) is None
    assert lines(out, "end")[0]["weights_audit"] == [16, 16]
