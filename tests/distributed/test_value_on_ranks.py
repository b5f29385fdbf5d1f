"""Values on several ranks: the same of the same rows as on one, and the same bits when a run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.scores.cache import read_columns
from campus_tune.words.types import Json
from tests.distributed.ranks import Report, Warm
from tests.distributed.told import first_difference, lines, outcome, steps_of
from tests.run.tiny_run import task_rows

BATCH = 8
RECIPE: Json = {
    "selector": "shuffle",
    "stages": 3,
    "batching": "step",
    "budget": 0.5,
    "scores": "none",
    "value": {"budget": 10.0},
    "weights": [{"name": "column", "column": "weight"}],
}
ROWS = [
    {**row, "weight": float(i % 4)} for i, row in enumerate(task_rows(57))
]  # the last step has one: a rank has none
PROBES = [{**row, "weight": 1.0} for row in task_rows(150, seed=77) if row["domain"] == "arithmetic"]
RUN: Json = {"config": RECIPE, "train": ROWS, "probes": PROBES, "num_train_epochs": 2, "lora": True}


def life(warm: Warm, world: int, out: str, **more: Any) -> Report:
    """One life of a run on so many processes."""
    settings = {**RUN, "per_device_train_batch_size": BATCH // world, **more}
    return warm.run("train", world, out=out, resume=Path(out).exists(), **settings)


def told(out: str) -> list[Json]:
    """What each stage left of its rows' values."""
    return [read_columns(file)[0] for file in sorted((Path(out) / "curriculum" / "value").glob("stage-*.parquet"))]


@pytest.fixture(scope="module")
def alone(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Report]:
    """The run on one process."""
    out = str(tmp_path_factory.mktemp("alone") / "run")
    return out, life(warm, 1, out, dropout=False).ok


@pytest.mark.parametrize("flat", [False, True], ids=["padded", "flat"])
def test_two_ranks_value_rows_as_one_does(flat: bool, warm: Warm, alone: tuple[str, Report], tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    config = {**RECIPE, "batching": "flat"} if flat else RECIPE
    report = life(warm, 2, out, config=config, dropout=False).ok
    assert steps_of(report) == steps_of(alone[1])
    assert len(told(out)) == len(told(alone[0])) == 6
    for here, there in zip(told(out), told(alone[0]), strict=True):
        for name in ("row", "tokens", "rate", "step_tokens"):
            assert here[name].tolist() == there[name].tolist()
        for name in ("a arithmetic", "b arithmetic"):
            assert (np.isnan(here[name]) == np.isnan(there[name])).all()
            close = np.nanmax(np.abs(there[name]))
            np.testing.assert_allclose(here[name], there[name], atol=0.01 * close)
    counts = [end["value"]["not_valued"] for end in lines(out, "stage_end")]
    assert sum(counts) == 2 * sum(row["weight"] == 0 for row in ROWS)


def test_a_run_goes_on_by_the_same_gradients_from_inside_a_stage(warm: Warm, tmp_path: Path) -> None:
    calm, out = str(tmp_path / "calm"), str(tmp_path / "run")
    whole = life(warm, 2, calm, saves=[4]).ok
    life(warm, 2, out, saves=[4], stop=7)
    last = life(warm, 2, out, saves=[4]).ok
    assert first_difference(outcome(out, last), outcome(calm, whole)) is None
    for here, there in zip(told(out), told(calm), strict=True):
        assert {name: values.tobytes() for name, values in here.items()} == {
            name: values.tobytes() for name, values in there.items()
        }


def test_a_run_may_go_on_on_another_number_of_processes(warm: Warm, alone: tuple[str, Report], tmp_path: Path) -> None:
    out = str(tmp_path / "run")
    life(warm, 1, out, saves=[4], stop=5, dropout=False)
    life(warm, 2, out, saves=[4], dropout=False).ok  # noqa: B018  # raises what a rank has said
    for here, there in zip(told(out), told(alone[0]), strict=True):
        assert here["row"].tolist() == there["row"].tolist()
        close = np.nanmax(np.abs(there["a arithmetic"]))
        np.testing.assert_allclose(here["a arithmetic"], there["a arithmetic"], atol=0.01 * close)
