"""What it takes to read the rows of a prepared data set: the first time, and again when what was read is kept.

Generated rows lie memory-mapped on a disk as TRL leaves them: prompt and completion as texts, a domain, `input_ids` of
32 bits, `labels` of 64, 20 to 119 tokens, a third of each a prompt, and a list of the rows that are kept. Read are

    tokens    counts and hashes of every row: what the plan and the order audit hang on
    texts     keys of the decoded answers, which runs with text metrics ask for
    said      hashes of what rows say, for the map at the end of a run
    domains   which domain each row is of

Every start is a process of its own, so that each one's memory is its own: of a checkout of before (`--against`) and of
this one, in turns. Processor seconds say more than the clock on a machine that does other things.

    python -m eval.bench_rows                            # 1e5 and 1e6 rows, 1 GB on the disk for a while
    python -m eval.bench_rows 1e5 --against ../before    # both checkouts, in turns
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.words.types import Json

HERE = Path(__file__).resolve().parents[1]
PARTS = ("tokens", "texts", "said", "domains")
WORDS = np.array([f"w{i}" for i in range(2000)])
AT_ONCE = 1000  # rows made at a time: as many as `datasets` writes


def main() -> None:
    """Measure the sizes asked for, and print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", type=float, default=[1e5, 1e6], help="sizes to measure")
    parser.add_argument("--against", type=Path, help="a checkout of before")
    parser.add_argument("--turns", type=int, default=3, help="how often; medians are told")
    parser.add_argument("--start", nargs=2, metavar=("FOLDER", "PART"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.start:
        folder, part = options.start
        print(json.dumps(start(Path(folder), part)))
        return
    checkouts = {"before": options.against, "now": HERE} if options.against else {"now": HERE}
    heads = [f"{start} {name}" for start in ("first", "again") for name in checkouts]
    print(f"| rows | read | {' | '.join(heads)} | MB first {' | MB first '.join(checkouts)} |")
    print("|---|---|" + "---|" * (len(heads) + len(checkouts)))
    for n in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder, "rows"), int(n))
            for part in PARTS:
                print(f"| {n:,.0f} | {part} | {' | '.join(compared(Path(folder), part, checkouts, options.turns))} |")
                sys.stdout.flush()


def compared(folder: Path, part: str, checkouts: dict[str, Path], turns: int) -> list[str]:
    """Processor seconds and memory of each checkout's starts, as cells of a table."""
    found: dict[tuple[str, str], list[Json]] = {}
    for turn in range(turns):
        for name, checkout in checkouts.items():
            for which in ("first", "again"):
                cache = str(folder / f"{name}-{part}-{turn}")
                command = [sys.executable, __file__, "--start", cache, part]
                paths = {"PYTHONPATH": str(checkout), "ROWS": str(folder / "rows")}
                told = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ, **paths})
                found.setdefault((which, name), []).append(json.loads(told.stdout))
    medians = {key: statistics.median(one["cpu"] for one in starts) for key, starts in found.items()}
    cells = [f"{medians[which, name]:.2f} s" for which in ("first", "again") for name in checkouts]
    return [*cells, *(f"{max(one['mb'] for one in found['first', name]):.0f}" for name in checkouts)]


def write(folder: Path, n: int) -> None:
    """The rows, on the disk."""
    import pyarrow as pa
    from datasets import Dataset

    chance = np.random.default_rng(0)
    tables = [chunk(chance, min(AT_ONCE, n - first)) for first in range(0, n, AT_ONCE)]
    Dataset(pa.concat_tables(tables)).save_to_disk(folder)


def chunk(chance: np.random.Generator, n: int) -> Any:
    """Some rows as a table."""
    import pyarrow as pa

    lengths = chance.integers(20, 120, n)
    ends = np.append(0, np.cumsum(lengths)).astype(np.int32)
    ids = chance.integers(0, 500, ends[-1]).astype(np.int32)
    place = np.arange(ends[-1]) - np.repeat(ends[:-1], lengths)
    labels = np.where(place < np.repeat(lengths // 3, lengths), -100, ids.astype(np.int64))
    columns: dict[str, Any] = {
        name: [" ".join(WORDS[chance.integers(0, len(WORDS), words)]) for _ in range(n)]
        for name, words in (("prompt", 12), ("completion", 25))
    }
    columns["domain"] = [f"d{i}" for i in chance.integers(0, 10, n)]
    columns |= {name: pa.ListArray.from_arrays(ends, flat) for name, flat in (("input_ids", ids), ("labels", labels))}
    return pa.table(columns)


def prepared(folder: Path) -> Any:
    """The rows as they come from TRL, which lists those that are kept."""
    from datasets import load_from_disk

    dataset = load_from_disk(folder)
    return dataset.select(np.delete(np.arange(len(dataset)), np.arange(0, len(dataset), 1000)))


def start(folder: Path, part: str) -> Json:
    """Processor seconds and private memory in MB of one start."""
    from campus_tune.data.domains import Domains
    from campus_tune.data.prepared import AnswerTexts, read_rows
    from campus_tune.data.readings import Readings
    from campus_tune.data.said_hashes import SaidHashes
    from campus_tune.data.shapes import Shape
    from campus_tune.demo.tiny import tiny_tokenizer

    dataset = prepared(Path(os.environ["ROWS"]))
    view, readings, tokenizer = dataset.select_columns(["input_ids", "labels"]), Readings(folder), tiny_tokenizer()
    keeps = {"readings": readings} if "readings" in inspect.signature(SaidHashes.read).parameters else {}
    content = np.zeros(len(dataset), dtype=np.uint64)
    acts = {
        "tokens": lambda: read_rows(view, readings=readings),
        "texts": lambda: AnswerTexts(view, tokenizer).keys(readings),
        "said": lambda: SaidHashes.read(dataset, Shape(), content, **keeps),
        "domains": lambda: Domains.read(dataset, "domain"),
    }
    with most_private_mb() as most:
        began = time.process_time()
        acts[part]()
        seconds = time.process_time() - began
    return {"cpu": seconds, "mb": most[0]}


@contextmanager
def most_private_mb() -> Iterator[list[float]]:
    """The most private memory in MB meanwhile, as its one entry; looked at fifty times a second."""
    most, over = [private_mb()], threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            most[0] = max(most[0], private_mb())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def private_mb() -> float:
    """The process's own pages, in MB: what is mapped from a file is not among them."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1000


def reading_against_a_bare_pass(n_rows: int = 100_000, turns: int = 5) -> float:
    """How many times as long it takes to read rows as to add up their tokens: the median of pairs, in turns."""
    from campus_tune.data.prepared import read_rows

    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "rows"), n_rows)
        view = prepared(Path(folder, "rows")).select_columns(["input_ids", "labels"])
        pairs = [(seconds(lambda: read_rows(view)), seconds(lambda: bare_pass(view))) for _ in range(turns)]
    return statistics.median(ours / bare for ours, bare in pairs)


def bare_pass(view: Any) -> int:
    """The sum of all tokens and labels, column by column of the table on the disk."""
    flat: Iterator[Any] = (
        part.flatten().to_numpy() for name in view.column_names for part in view.data.column(name).chunks
    )
    return int(sum(values.sum(dtype=np.int64) for values in flat))


def seconds(act: Callable[[], object]) -> float:
    """Processor seconds."""
    began = time.process_time()
    act()
    return time.process_time() - began


if __name__ == "__main__":
    main()
