from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from campus_tune.run.lock import RunLock
from campus_tune.words.errors import StorageError, TrainerError

HOLD = """
import os, sys, time
from pathlib import Path
from campus_tune.run.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.take()
if os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(100)
"""


def holder(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """A process that has the lock, and the worker that it has forked, which runs."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_a_second_process_is_refused_and_a_killed_one_frees_the_folder(tmp_path: Path) -> None:
    process, worker = holder(tmp_path)
    lock = RunLock(tmp_path)
    try:
        with pytest.raises(TrainerError, match=rf"one run at a time.*process {process.pid} on .* has been training"):
            lock.take()
        process.kill()
        process.wait()
        os.kill(worker, 0)  # it has outlived its parent, as data loader workers do for some seconds
        lock.take()
    finally:
        os.kill(worker, signal.SIGKILL)
        process.kill()
        process.communicate()
        lock.release()


def test_two_in_one_process_are_two(tmp_path: Path) -> None:
    first, second = RunLock(tmp_path / "made"), RunLock(tmp_path / "made")
    first.take()
    with pytest.raises(TrainerError, match="Choose another output_dir, or wait"):
        second.take()
    first.release()
    second.take()
    second.release()
    second.release()


def test_a_holder_that_has_not_said_who_it_is_is_refused_too(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.take()
    (tmp_path / ".lock").write_text("")
    with pytest.raises(TrainerError, match="in which another process is training"):
        RunLock(tmp_path).take()
    lock.release()


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unknown)
    RunLock(tmp_path).take()
    assert "lies on a file system without locks (No locks available)" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/curriculum.* must be writable.*Choose another output_dir"):
        RunLock(tmp_path / "file" / "curriculum").take()


def test_a_worker_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.take()
    hears, says = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.write(says, b"!")
        time.sleep(100)
        os._exit(0)
    assert os.read(hears, 1) == b"!"  # it runs
    lock.release()
    again = RunLock(tmp_path)
    again.take()
    again.release()
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
