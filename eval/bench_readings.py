"""What reading the rows of a data set costs: the first time, and again when what was read is kept.

Generated rows lie memory-mapped on a disk, as `datasets` keeps them: 20 to 119 tokens, a third of each a prompt. Both
starts are processes of their own, so that each one's memory is its own. Processor seconds say more than the clock on a
machine that does other things.

    python eval/bench_readings.py             # 1.2 M rows, 1 GB on the disk for a while, some minutes
    python eval/bench_readings.py --rows 4e4
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from campus_tune.data.prepared import read_rows
from campus_tune.data.readings import Readings
from campus_tune.words.types import Json


def main() -> None:
    """Measure, and print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, default=1.2e6, help="how many")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)  # a start, in a process of its own
    options = parser.parse_args()
    if options.read:
        print(start(options.read))
        return
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "rows"), int(options.rows))
        print(f"| {int(options.rows)} rows | processor | clock | private memory |\n|---|---|---|---|")
        for which in ("first", "second"):
            command = [sys.executable, __file__, "--read", folder]
            told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
            print(f"| {which} start | {told} |")


def write(folder: Path, n: int) -> None:
    """The rows, on the disk."""
    from datasets import Dataset

    def rows() -> Iterator[Json]:
        chance = np.random.default_rng(0)
        for length in chance.integers(20, 120, n):
            ids = chance.integers(0, 500, length)
            yield {"input_ids": ids, "labels": np.where(np.arange(length) < length // 3, -100, ids)}

    with tempfile.TemporaryDirectory() as cache:
        Dataset.from_generator(rows, cache_dir=cache).save_to_disk(folder)


def start(folder: Path) -> str:
    """What one start costs, as cells of a table."""
    from datasets import load_from_disk

    dataset = load_from_disk(folder / "rows")
    before, processor, clock = private_mb(), time.process_time(), time.perf_counter()
    read_rows(dataset, readings=Readings(folder / "scores", least=1))
    cells = f"{time.process_time() - processor:.2f} s", f"{time.perf_counter() - clock:.1f} s"
    return " | ".join([*cells, f"{before:.0f} → {private_mb():.0f} MB"])


def private_mb() -> float:
    """The process's own pages, in MB: what is mapped from a file is not among them."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1000


if __name__ == "__main__":
    main()
