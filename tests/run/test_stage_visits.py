"""Visits of a stage: weights and parts divided out, one sequence whoever trained them, whole through a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.model.peers import Peers
from campus_tune.run.gradient_files import name_of, prune, read_gradients, write_gradients
from campus_tune.run.stage_visits import StageVisits
from campus_tune.run.stream.training_losses import file_of_stage
from campus_tune.run.stream.watch import Harvest
from campus_tune.scores.cache import read_columns
from campus_tune.words.errors import ResumeError
from campus_tune.words.types import RowLosses

GROUPS = ["a sums", "b sums"]


def harvest(rows: Any, steps: Any, values: Any, weights: Any = None) -> Harvest:
    losses = RowLosses.zeros(len(rows))
    losses.tokens[:] = np.asarray(rows) + 1
    weights = None if weights is None else np.array(weights, dtype=np.float64)
    shown = np.array(values, dtype=np.float32)
    return Harvest(np.array(rows, dtype=np.int32), losses, weights, None, shown, np.array(steps))


def visits(*parts: Harvest) -> StageVisits:
    made = StageVisits(GROUPS)
    for step in (1, 2, 3):
        made.note_step(step, 0.1 / step, 10 * step)
    for part in parts:
        made.add(part)
    made.share(Peers())
    return made


def columns_of(made: StageVisits, folder: Path) -> Any:
    made.write(folder / file_of_stage(7))
    return read_columns(folder / "stage-00007.parquet")[0]


def test_the_rows_weight_and_its_part_in_the_step_are_divided_out(tmp_path: Path) -> None:
    made = visits(harvest([4, 2], [2, 1], [[1.0, -2.0], [0.5, 0.25]], [2.0, 0.5]))
    left = columns_of(made, tmp_path)
    assert {name: values.tolist() for name, values in left.items()} == {
        "row": [2, 4],
        "tokens": [3, 5],
        "rate": [0.1, 0.05],
        "step_tokens": [10, 20],
        "a sums": [10.0, 10.0],
        "b sums": [5.0, -20.0],
    }


def test_what_has_no_value_is_nan_in_all_columns(tmp_path: Path) -> None:
    made = visits(harvest([0, 1, 2, 3], [1] * 4, [[0, 0], [np.nan, 1], [np.inf, 1], [1, 1]], [0.0, 1, 1, 1]))
    left = columns_of(made, tmp_path)
    for name in GROUPS:
        assert np.isnan(left[name]).tolist() == [True, True, True, False]
    assert made.counts() == {"visits": 4, "not_valued": 3}


def test_nothing_is_written_of_a_stage_that_was_not_valued(tmp_path: Path) -> None:
    made = visits(Harvest(np.array([1], dtype=np.int32), RowLosses.zeros(1)))
    made.write(tmp_path / file_of_stage(0))
    assert list(tmp_path.iterdir()) == []
    assert made.counts() == {"visits": 0, "not_valued": 0}


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3)), min_size=1, max_size=20, unique=True), st.data())
def test_the_sequence_hangs_neither_on_ranks_nor_on_checkpoints(lines: list[tuple[int, int]], data: Any) -> None:
    lines = sorted(lines, key=lambda line: line[1])  # as they are trained
    rows, steps = (np.array(column) for column in zip(*lines, strict=True))
    values = np.stack([rows + 0.5 * steps, -1.0 * rows], axis=1)
    whole = visits(harvest(rows, steps, values))
    ranks = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(lines), max_size=len(lines))))
    cut = data.draw(st.integers(0, 3))

    class Two(Peers):
        def gather(self, value: Any) -> list[Any]:
            return [value, other._own]

    made, other = StageVisits(GROUPS), StageVisits(GROUPS)
    for step in (1, 2, 3):
        made.note_step(step, 0.1 / step, 10 * step)
        other.note_step(step, 0.1 / step, 10 * step)
    for part in (steps <= cut, steps > cut):
        for one, rank in ((made, 0), (other, 1)):
            mine = part & (ranks == rank)
            one.add(harvest(rows[mine], steps[mine], values[mine]))
        made.share(Two())
        other.share(Peers())
        again = StageVisits(GROUPS)
        again.load(json.loads(json.dumps(made.state())))
        made = again
    assert made.state() == whole.state()


def test_a_state_of_other_probes_is_left_alone() -> None:
    state = visits(harvest([1], [1], [[1.0, 2.0]])).state()
    for other in (StageVisits(["a other", "b other"]), StageVisits(GROUPS, "other rows of the same domain")):
        assert not other.goes_on(state)
        other.load(state)
        assert other.counts()["visits"] == 0
    same = StageVisits(GROUPS)
    same.load(state)
    assert same.counts()["visits"] == 1


# -- files of gradients ----------------------------------------------------------------------------------------------


def test_gradients_come_back_as_they_were(tmp_path: Path) -> None:
    parts = {"a x/y": {"w.A": torch.randn(2, 3)}, "b x/y": {"w.A": torch.randn(2, 3)}}
    files = write_gradients(tmp_path, 40, parts)
    assert list(files) == [name_of(40)] == ["gradients-000040.safetensors"]
    found = read_gradients(tmp_path, files)
    assert {name: value.tolist() for name, value in found.items()} == {
        f"{group}/w.A": of["w.A"].tolist() for group, of in parts.items()
    }


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_gradients_that_are_not_as_they_were_are_named(damage: str, tmp_path: Path) -> None:
    files = write_gradients(tmp_path, 1, {"a": {"w": torch.ones(3)}})
    path = tmp_path / name_of(1)
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(
        ResumeError, match=r"gradients-000001.safetensors` must hold the probes' gradients .* Put the run"
    ):
        read_gradients(tmp_path, files)


def test_only_gradients_that_nobody_needs_are_removed(tmp_path: Path) -> None:
    for step in (1, 2):
        write_gradients(tmp_path, step, {"a": {"w": torch.ones(3)}})
    (tmp_path / "stage-00000.parquet").write_text("kept")
    (tmp_path / ".gradients-000003.safetensors.9.tmp").write_text("half written")
    prune(tmp_path, {name_of(2)})
    assert sorted(path.name for path in tmp_path.iterdir()) == [name_of(2), "stage-00000.parquet"]
