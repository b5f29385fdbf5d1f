"""A comparison that is killed leaves no process behind that trains on."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

PARENT = """
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import threading
from campus_tune.compare.processes import end_with_parent

def begin():
    threading.Thread(target=end_with_parent, daemon=True).start()

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, get_context("spawn"), begin)
    pool.submit(time.sleep, 600)
    print(*pool._processes, flush=True)
    time.sleep(600)
"""


def test_a_worker_ends_when_its_parent_is_killed(tmp_path_factory: pytest.TempPathFactory) -> None:
    script = tmp_path_factory.mktemp("orphans") / "parent.py"
    script.write_text(PARENT, "utf-8")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert worker in psutil.wait_procs([worker], timeout=60)[0]
