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
    return make_run(tmp_path_factory.mktemp("finished") / "run", drawn=True, steered=True)


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
        ("stage_end", "weights", {"mean": 1.0}),
        ("stage_end", "weighted_loss", "low"),
        ("stage_end", "clipped_steps", [1]),
        ("stage_end", "weights_audit", None),
        ("stage_end", "level", {"mean": 1.0, "robust": 2.0, "focal": {"code": 1.0}}),
        ("end", "weights_audit", {"checked": 2, "passed": 2}),
        ("decision", "pi", {"length": None}),
        ("decision", "reward", 0.5),
        ("event", "actions", "stop"),
        ("event", "done", {"rollback": {"step": "two"}}),
        ("event", "probe", 3),
        ("shares", "after", {"code": None}),
        ("shares", "signal", [0.1]),
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


def test_the_weights_of_a_run_are_arrays_over_its_stages(tmp_path: Path) -> None:
    found = read_finished(make_run(tmp_path / "run", weighted=True))
    names = {"mean", "min", "max", "ess", "half", "weighted_loss", "clipped", "steps"}
    assert set(found.weights) == names
    assert all(len(numbers) == 6 and np.isnan(numbers[0]) for numbers in found.weights.values())
    assert found.weights["ess"][1:] == pytest.approx(1 - 0.6 * np.arange(2, 7) / 6)
    assert found.weights["clipped"][1:].tolist() == [1, 2, 0, 1, 2]
    assert found.weight_by_domain["code"][1:].tolist() == [1.0] * 5
    assert found.weight_bars["≤ 1"].tolist() == [0, 4, 4, 3, 3, 3]
    assert sum(found.weight_bars.values()).tolist() == [0, 8, 8, 8, 8, 8]


def test_a_run_without_weights_has_none_and_one_that_goes_on_those_until_now(tmp_path: Path) -> None:
    plain = read_finished(make_run(tmp_path / "plain"))
    assert (plain.weights, plain.weight_by_domain, plain.weight_bars) == ({}, {}, {})
    ledger = make_run(tmp_path / "run", weighted=True) / "curriculum/ledger.jsonl"
    lines = ledger.read_text("utf-8").splitlines()
    last = max(place for place, line in enumerate(lines) if '"stage_end"' in line)
    ledger.write_text("".join(f"{line}\n" for line in lines[:last]), "utf-8")
    going_on = read_finished(tmp_path / "run")
    assert np.isnan(going_on.weights["ess"]).tolist() == [True, False, False, False, False, True]


def test_what_a_stage_does_not_say_of_its_weights_is_not_known(tmp_path: Path) -> None:
    ledger = make_run(tmp_path / "run", weighted=True) / "curriculum/ledger.jsonl"
    events = [json.loads(line) for line in ledger.read_text("utf-8").splitlines()]
    for event in events:
        if event["event"] == "stage_end" and "weights" in event:
            event |= {"clipped_steps": None, "weighted_loss": None}
            del event["weights"]["half"]
    ledger.write_text("".join(json.dumps(event) + "\n" for event in events), "utf-8")
    found = read_finished(tmp_path / "run")
    assert all(np.isnan(found.weights[name]).all() for name in ("clipped", "steps", "half", "weighted_loss"))
    assert not np.isnan(found.weights["max"][1:]).any()


def test_two_runs_of_the_same_rows_say_how_far_their_weighted_losses_lie_apart(tmp_path: Path) -> None:
    ours, theirs = make_run(tmp_path / "a", weighted=True), make_run(tmp_path / "b", weighted=True)
    assert compare_runs(ours, theirs).largest["weighted loss"] == 0
    ledger = theirs / "curriculum/ledger.jsonl"
    ledger.write_text(ledger.read_text("utf-8").replace('"weighted_loss": 1', '"weighted_loss": 2'), "utf-8")
    assert "largest relative difference of a weighted loss: " in "\n".join(compare_runs(ours, theirs).lines())
    assert "weighted loss" not in compare_runs(ours, make_run(tmp_path / "plain")).largest


def test_what_rules_saw_and_what_moved_shares_are_lines_of_a_table(run: Path) -> None:
    found = read_finished(run)
    assert [(event["kind"], event["probe"], event["step"]) for event in found.events] == [
        ("regression", "code", 6),
        ("recovered", "code", 10),
        ("milestone", "text", 10),
        ("stagnation", None, 12),
    ]
    assert found.events[0]["done"] == {"rollback": {"step": 2}}
    assert "event" not in found.events[0]
    assert found.moved == [
        {"stage": 3, "step": 6, "stratum": "arithmetic", "before": 0.4, "after": 0.35, "signal": 0.1},
        {"stage": 3, "step": 6, "stratum": "code", "before": 0.2, "after": 0.3, "signal": 0.4},
        {"stage": 3, "step": 6, "stratum": "text", "before": 0.4, "after": 0.35, "signal": None},
    ]


def test_calibration_and_competence_are_arrays_over_the_measurements(run: Path) -> None:
    found = read_finished(run)
    assert found.probe_steps.tolist() == [2, 4, 6, 8, 10, 12]
    assert found.calibration["code"] == pytest.approx(0.05 + 0.1 * np.arange(1, 7) / 6)
    assert found.competence["code"][1] - found.competence["code"][2] > 0.05  # forgotten


def test_what_a_bandit_thought_is_arrays_over_the_stages(run: Path) -> None:
    found = read_finished(run)
    assert sum(found.pi.values()) == pytest.approx(np.ones(6))
    assert found.rewards["scaled"][:-1] == pytest.approx(0.6 - np.arange(1, 6) / 6)
    assert found.rewards["value"][:-1] == pytest.approx(30 - 50 * np.arange(1, 6) / 6)
    assert np.isnan(found.rewards["scaled"][-1])  # no decision came after it


def test_a_run_that_nothing_steered_has_none_of_it(tmp_path: Path) -> None:
    found = read_finished(make_run(tmp_path / "run"))
    assert (found.events, found.moved, found.pi, found.rewards, found.calibration) == ([], [], {}, {}, {})
    assert len(found.competence["code"]) == len(found.probe_steps) == 6
