"""The ledger keeps what it was told: through kills, resumes, full disks and folders that cannot be written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.run import ledger as module
from campus_tune.run.ledger import Ledger, comparable, plain, read_ledger
from campus_tune.words.errors import ResumeError, StorageError


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "curriculum")
    ledger.start()
    return ledger


def test_every_event_is_one_line_that_any_reader_of_json_reads(ledger: Ledger) -> None:
    ledger.add("decision", chosen="length", stage=0)
    ledger.add("probes", math={"loss": 1.5})
    lines = ledger.path.read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"event": "decision", "chosen": "length", "stage": 0},
        {"event": "probes", "math": {"loss": 1.5}},
    ]
    assert read_ledger(ledger.path) == [json.loads(line) for line in lines]


def test_a_line_is_with_the_operating_system_before_add_returns(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal; from campus_tune.run.ledger import Ledger;"
        f"ledger = Ledger(pathlib.Path({str(tmp_path)!r})); ledger.start(); ledger.add('last', n=1);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=Path(module.__file__).parents[2], check=False)
    assert killed.returncode == -9
    assert read_ledger(tmp_path / "ledger.jsonl") == [{"event": "last", "n": 1}]


def test_the_size_is_the_bytes_of_the_file(ledger: Ledger) -> None:
    for text in ("a", "é → 漢", "line\nbreak\u2028"):
        ledger.add("note", text=text)
        assert ledger.size == ledger.path.stat().st_size
    assert [event["text"] for event in read_ledger(ledger.path)] == ["a", "é → 漢", "line\nbreak\u2028"]


def test_numpy_values_paths_and_what_json_has_no_word_for(ledger: Ledger) -> None:
    ledger.add(
        "values",
        number=np.float64(0.5),
        count=np.int64(3),
        flag=np.bool_(True),
        array=np.array([1.0, np.nan]),
        nested={"a": [np.float32(0.25), (1, None)], 2: float("inf")},
        path=Path("runs/one"),
    )
    line = ledger.path.read_text("utf-8")
    assert "NaN" not in line
    assert "Infinity" not in line
    assert read_ledger(ledger.path) == [
        {
            "event": "values",
            "number": 0.5,
            "count": 3,
            "flag": True,
            "array": [1.0, None],
            "nested": {"a": [0.25, [1, None]], "2": None},
            "path": "runs/one",
        }
    ]


def test_a_value_json_cannot_hold_is_refused_before_anything_is_written(ledger: Ledger) -> None:
    with pytest.raises(TypeError, match=r"`ledger` values must be numbers, text, lists or mappings, got <object"):
        ledger.add("bad", value=[{"deep": object()}])
    assert ledger.path.stat().st_size == ledger.size == 0


def test_plain_leaves_plain_values_alone() -> None:
    value = {"a": [1, 2.5, "x", None, True]}
    assert plain(value) == value


# -- starting and resuming ----------------------------------------------------------------------------------------


def test_a_new_run_keeps_the_ledgers_before_it(tmp_path: Path) -> None:
    for run in range(3):
        ledger = Ledger(tmp_path)
        ledger.start()
        ledger.add("run", number=run)
    assert read_ledger(tmp_path / "ledger.jsonl") == [{"event": "run", "number": 2}]
    assert read_ledger(tmp_path / "ledger.1.jsonl") == [{"event": "run", "number": 0}]
    assert read_ledger(tmp_path / "ledger.2.jsonl") == [{"event": "run", "number": 1}]


def test_resuming_cuts_off_what_the_checkpoint_did_not_know_and_keeps_it_aside(ledger: Ledger) -> None:
    ledger.add("stage", n=0)
    known = ledger.size
    ledger.add("stage", n=1)
    with ledger.path.open("ab") as file:
        file.write(b'{"event": "stage", "n"')  # killed in the middle of a line
    resumed = Ledger(ledger.path.parent)
    resumed.resume(known)
    resumed.add("stage", n=2)
    assert read_ledger(resumed.path) == [{"event": "stage", "n": 0}, {"event": "stage", "n": 2}]
    abandoned = resumed.path.with_name("ledger.abandoned.jsonl")
    assert abandoned.read_bytes() == b'{"event": "stage", "n": 1}\n{"event": "stage", "n"\n'
    assert resumed.size == resumed.path.stat().st_size


def test_resuming_twice_abandons_both_futures(ledger: Ledger) -> None:
    ledger.add("stage", n=0)
    known = ledger.size
    for future in (1, 2):
        again = Ledger(ledger.path.parent)
        again.resume(known)
        again.add("future", n=future)
    Ledger(ledger.path.parent).resume(known)
    assert read_ledger(ledger.path) == [{"event": "stage", "n": 0}]
    assert [event["n"] for event in read_ledger(ledger.path.with_name("ledger.abandoned.jsonl"))] == [1, 2]


def test_resuming_at_the_end_abandons_nothing(ledger: Ledger) -> None:
    ledger.add("stage", n=0)
    Ledger(ledger.path.parent).resume(ledger.size)
    assert not ledger.path.with_name("ledger.abandoned.jsonl").exists()
    assert read_ledger(ledger.path) == [{"event": "stage", "n": 0}]


def test_a_ledger_shorter_than_the_checkpoint_says_is_not_this_runs(ledger: Ledger) -> None:
    ledger.add("stage", n=0)
    with pytest.raises(
        ResumeError, match=rf"must hold the 9999 bytes that the checkpoint counted, got {ledger.size}\."
    ):
        Ledger(ledger.path.parent).resume(9999)


def test_a_ledger_that_is_gone_is_not_this_runs(tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match=r"must hold the 10 bytes .*, got 0\. Put the run's own curriculum/ folder"):
        Ledger(tmp_path).resume(10)


def test_ranks_that_do_not_write_leave_no_file(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "curriculum", writes=False)
    ledger.start()
    ledger.add("stage", n=0)
    ledger.resume(5)
    assert list(tmp_path.iterdir()) == []


def test_two_ledgers_of_one_run_are_comparable_whatever_the_clock_said() -> None:
    whole = [{"event": "stage", "n": 0, "seconds": 1.0}, {"event": "stage", "n": 1, "seconds": 2.0}]
    resumed = [{"event": "stage", "n": 0, "seconds": 9.0}, {"event": "resumed", "step": 4}, {"event": "stage", "n": 1}]
    assert comparable(whole) == comparable(resumed) == [{"event": "stage", "n": 0}, {"event": "stage", "n": 1}]
    assert comparable(whole) != comparable(whole[:1])


def test_ledgers_with_unmeasured_offers_are_comparable_too(tmp_path: Path) -> None:
    """NaN equals nothing, itself included; as null it does."""
    events = []
    for run in ("one", "two"):
        ledger = Ledger(tmp_path / run)
        ledger.start()
        ledger.add("decision", mean_loss=np.array([1.0, np.nan]))
        events.append(comparable(read_ledger(ledger.path)))
    assert events[0] == events[1]


# -- disks that are full, folders that cannot be written ----------------------------------------------------------


def test_a_disk_that_fills_up_in_the_middle_of_a_line_takes_the_piece_back(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.add("stage", n=0)
    write, calls = os.write, []

    def half_then_full(descriptor: int, data: bytes) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    with monkeypatch.context() as full:
        full.setattr(os, "write", half_then_full)
        with pytest.raises(StorageError, match=r"must be writable, got No space left on device\. Free space"):
            ledger.add("stage", n=1)
    assert calls[1] == calls[0] - calls[0] // 2  # it asked for the rest, not for all of it again
    assert read_ledger(ledger.path) == [{"event": "stage", "n": 0}]
    assert ledger.size == ledger.path.stat().st_size
    ledger.add("stage", n=2)  # space was freed
    assert read_ledger(ledger.path) == [{"event": "stage", "n": 0}, {"event": "stage", "n": 2}]


def test_a_system_that_writes_in_pieces_still_gets_the_whole_line(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    ledger.add("stage", n=0)
    assert read_ledger(ledger.path) == [{"event": "stage", "n": 0}]


def test_a_real_limit_on_file_size_loses_only_the_line_that_did_not_fit(tmp_path: Path) -> None:
    code = f"""
import pathlib, resource
from campus_tune.words.errors import StorageError
from campus_tune.run.ledger import Ledger
ledger = Ledger(pathlib.Path({str(tmp_path)!r}))
ledger.start()
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
n = 0
try:
    while True:
        ledger.add("stage", n=n, filling="x" * 100)
        n += 1
except StorageError as error:
    print(n, ledger.size, error)
"""
    root = Path(module.__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True)
    n, size, message = run.stdout.split(" ", 2)
    events = read_ledger(tmp_path / "ledger.jsonl")
    assert [event["n"] for event in events] == list(range(int(n))) != []
    assert (tmp_path / "ledger.jsonl").stat().st_size == int(size) <= 1000
    assert "must be writable, got File too large. Free space or mend the folder's rights" in message


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "curriculum").write_text("a file, where the folder should be")
    with pytest.raises(StorageError, match=r"curriculum.ledger\.jsonl` must be writable, got File exists\."):
        Ledger(tmp_path / "curriculum").start()


@pytest.mark.parametrize("strerror", ["Read-only file system", "Permission denied"])
def test_a_ledger_that_can_no_longer_be_opened_says_why_and_keeps_its_lines(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, strerror: str
) -> None:
    ledger.add("stage", n=0)

    def refuse(*_: Any) -> int:
        raise OSError(errno.EROFS, strerror)

    with monkeypatch.context() as read_only:
        read_only.setattr(os, "open", refuse)
        with pytest.raises(StorageError, match=rf"got {strerror}\. Free space or mend the folder's rights"):
            ledger.add("stage", n=1)
    assert read_ledger(ledger.path) == [{"event": "stage", "n": 0}]


def test_a_resume_that_cannot_set_the_later_lines_aside_leaves_them_where_they_are(ledger: Ledger) -> None:
    ledger.add("stage", n=0)
    known = ledger.size
    ledger.add("stage", n=1)
    ledger.path.with_name("ledger.abandoned.jsonl").mkdir()
    with pytest.raises(StorageError, match=r"must be writable, got Is a directory\."):
        Ledger(ledger.path.parent).resume(known)
    assert len(read_ledger(ledger.path)) == 2
