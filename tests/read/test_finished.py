"""A run read back as arrays: what its ledger and its files say, by stage and by row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from campus_tune.read.finished import FinishedRun, read_finished
from campus_tune.read.same_stream import compare_runs
from campus_tune.report.run_facts import read_run
from campus_tune.words.errors import DataError
from tests.report.made_up import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("finished") / "run", drawn=True)


def test_a_stage_is_a_place_in_every_array(run: Path) -> None:
    found = read_finished(run)
    assert found.steps.tolist() == [0, 2, 4, 6, 8, 10]
    assert len(found.chosen) == len(found.passed_over) == 6
    assert {name: rows.tolist() for name, rows in found.lanes.items()} == {
        "offer": [5] * 6,
        "mix": [2] * 6,
        "review": [0, 1, 1, 1, 1, 1],
    }
    assert found.lanes["offer"].dtype == np.int64
    assert sum(found.shares.values()) == pytest.approx(np.ones(6))
    assert found.passes["text"][-1] == pytest.approx(2 * 10 / 12)
    assert found.passed_over.tolist() == [0, 7, 7, 7, 7, 7]


def test_rows_are_read_from_the_files(run: Path) -> None:
    found = read_finished(str(run))
    assert [(line["row"], line["reason"]) for line in found.dropped] == [
        (7, "duplicates: equal"),
        (9, "duplicates: equal"),
        (11, "judged"),
    ]
    assert found.book["row"].tolist() == list(range(len(found.book["visits"])))
    assert np.array_equal(np.isnan(found.book["last"]), found.book["visits"] == 0)
    assert found.cells["code/1"] == 10
    assert found.end["visits_most"] == 4
    assert found.map == {}


def test_a_run_that_drew_all_rows_alike_has_none_of_it(tmp_path: Path) -> None:
    found: FinishedRun = read_finished(make_run(tmp_path / "run") / "curriculum")
    assert (found.lanes, found.shares, found.passes, found.cells, found.dropped, found.book) == ({}, {}, {}, {}, (), {})
    assert found.passed_over.tolist() == [0] * len(found.steps)
    assert read_finished(make_run(tmp_path / "goes on", finished=False)).end == {}


def test_what_is_not_there_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must hold a run's curriculum/ledger\.jsonl, got none"):
        read_finished(tmp_path)
    run = make_run(tmp_path / "run", drawn=True)
    book = run / "curriculum/book.parquet"
    book.write_bytes(book.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"book\.parquet` must be the book .* remove it to read the rest"):
        read_finished(run)
    book.unlink()
    assert read_finished(run).book == {}
    (run / "curriculum/book").mkdir()
    (run / "curriculum/book/map.parquet").write_bytes(b"half")
    with pytest.raises(DataError, match=r"map\.parquet` must be the map .* remove it to read the rest"):
        read_finished(run)
    (run / "curriculum/book/map.parquet").unlink()
    assert read_finished(run).map == {}
    (run / "curriculum/dropped.jsonl").write_text("{half\n", "utf-8")
    with pytest.raises(DataError, match=r"dropped\.jsonl"):
        read_finished(run)


@pytest.mark.parametrize(
    ("event", "key", "value"),
    [
        ("run", "cells", {"code/1": "ten"}),
        ("decision", "lanes", {"offer": "five"}),
        ("decision", "shares", {"code": "much"}),
        ("decision", "passes", []),
        ("decision", "shortage", {"text": 3}),
        ("decision", "thin", {"how": 3, "by": "loss"}),
        ("decision", "passed_over", None),
        ("end", "never_trained", {"rows": 3}),
        ("end", "review_rows", 0.5),
    ],
)
def test_a_line_with_another_shape_is_named(event: str, key: str, value: object, run: Path, tmp_path: Path) -> None:
    lines = (run / "curriculum/ledger.jsonl").read_text("utf-8").splitlines()
    number = next(i for i, line in enumerate(lines) if f'"event": "{event}"' in line)
    line = json.loads(lines[number])
    lines[number] = json.dumps({**line, key: value})
    (tmp_path / "ledger.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    for reader in (read_finished, read_run, lambda path: compare_runs(path, path)):
        with pytest.raises(DataError, match=rf"line {number + 1} must be one whole JSON object .*`{key}"):
            reader(tmp_path)
