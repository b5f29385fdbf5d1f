"""`eval/bench_rows.py`: the rows that it writes, and one small run of each of its parts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from eval import bench_rows


def test_rows_are_as_trl_leaves_them(tmp_path: Path) -> None:
    bench_rows.write(tmp_path / "rows", 2500)
    dataset = bench_rows.prepared(tmp_path / "rows")
    assert len(dataset) == 2497  # a list of which are kept
    kinds = {name: str(dataset.features[name].feature.dtype) for name in ("input_ids", "labels")}
    assert kinds == {"input_ids": "int32", "labels": "int64"}
    for row in dataset.select(range(5)):
        ids, labels = np.array(row["input_ids"]), np.array(row["labels"])
        assert 20 <= len(ids) < 120
        assert (labels == np.where(np.arange(len(ids)) < len(ids) // 3, -100, ids)).all()
    assert bench_rows.bare_pass(dataset.select_columns(["input_ids"])) > 0


def test_each_part_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench_rows.write(tmp_path / "rows", 50)
    monkeypatch.setenv("ROWS", str(tmp_path / "rows"))
    for part in bench_rows.PARTS:
        found = bench_rows.start(tmp_path / "cache", part)
        assert found["cpu"] > 0
        assert found["mb"] > 1
    cells = bench_rows.compared(tmp_path, "domains", {"now": bench_rows.HERE}, 1)
    assert [cell.split()[-1] for cell in cells[:2]] == ["s", "s"]
    assert os.environ["ROWS"] == str(tmp_path / "rows")


def test_a_reading_is_compared_with_a_bare_pass_over_the_same_numbers() -> None:
    assert 0 < bench_rows.reading_against_a_bare_pass(2000, turns=1) < 10_000
