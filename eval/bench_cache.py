"""How long a run waits for scores that are ready: load them from the cache, rank the rows, split them into stages.

The scores of every metric are first written as shards, as `campus-tune score` does while it goes on, then read in
another sequence of rows in a fresh process, so that its peak memory is its own. Rows are ranked within groups, and
each order is cut into stages by a curriculum. The goal is 5 s for 1 M rows.

    python eval/bench_cache.py                       # 1 M rows, 4 metrics of 5 columns, 4 groups, 20 stages
    python eval/bench_cache.py 1e5 1e6 --shard-rows 65536
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.method.curriculum import Curriculum, Schedule
from campus_tune.method.orders import order_rows
from campus_tune.method.pacing import build_pacing
from campus_tune.scores.cache import CacheKey, ScoreCache
from campus_tune.words.hashing import hash_rows
from campus_tune.words.types import Json, RowArray

METRICS = ("length", "mtld", "loss", "scorer")
COLUMNS = 5  # of each metric: what a loss keeps of a row
STAGES = 20
BATCH = 256


def main() -> None:
    """Measure the sizes asked for and print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", type=float, default=[1e6], help="sizes to measure")
    parser.add_argument("--shard-rows", type=int, default=16_384, help="rows written at a time")
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(int(options.rows[0]), options.groups, options.child)))
        return
    print("| rows | write, s | files | MB | load, s | rank, s | split, s | load + rank + split, s | peak memory, GB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for n in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            written = fill(int(n), options.shard_rows, Path(folder))
            command = [sys.executable, __file__, str(n), f"--groups={options.groups}", f"--child={folder}"]
            found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        together = found["load"] + found["rank"] + found["split"]
        cells = [f"{found[part]:.2f}" for part in ("load", "rank", "split")]
        print(f"| {n:,.0f} | {written} | {' | '.join(cells)} | {together:.2f} | {found['peak']:.2f} |", flush=True)


def fill(n_rows: int, shard_rows: int, folder: Path) -> str:
    """Write made-up scores of all metrics; the cells of the table on how that went."""
    rng, content = np.random.default_rng(0), hash_rows(np.arange(n_rows))
    cache, seconds = ScoreCache(folder), 0.0
    for metric in METRICS:
        values = {f"value_{i}": rng.standard_normal(n_rows) for i in range(COLUMNS)}
        values["value_0"] = rng.integers(1, 2000, n_rows).astype(np.float64)  # as many ties as a length has
        start = time.perf_counter()
        for first in range(0, n_rows, shard_rows):
            part = slice(first, first + shard_rows)
            cache.write(CacheKey(metric), content[part], {name: column[part] for name, column in values.items()})
        seconds += time.perf_counter() - start
    files = list(folder.glob("*/shard-*"))
    return f"{seconds:.2f} | {len(files)} | {sum(path.stat().st_size for path in files) / 1e6:.0f}"


def measure(n_rows: int, n_groups: int, folder: Path) -> Json:
    """Seconds of each part, and peak memory, of a process that finds all scores ready."""
    rng = np.random.default_rng(1)
    content = hash_rows(rng.permutation(n_rows))
    groups = rng.integers(n_groups, size=n_rows)
    import pyarrow.parquet  # noqa: F401  # a trainer has loaded it for the dataset

    seconds = {}
    start = time.perf_counter()
    scores = {metric: load(folder, metric, content) for metric in METRICS}
    seconds["load"] = time.perf_counter() - start
    start = time.perf_counter()
    orders = {metric: order_rows(values, seed=0, groups=groups) for metric, values in scores.items()}
    seconds["rank"] = time.perf_counter() - start
    start = time.perf_counter()
    rows = split(orders, n_rows, groups)
    seconds["split"] = time.perf_counter() - start
    assert len(np.unique(rows)) == n_rows, "a row is trained twice or not at all"
    return {**seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}


def load(folder: Path, metric: str, content: Any) -> Any:
    """All scores of a metric."""
    known, columns = ScoreCache(folder).read(CacheKey(metric), content)
    assert known.all(), f"{metric}: {known.sum()} of {len(known)} rows are known"
    return columns["value_0"]


def split(orders: dict[str, RowArray], n_rows: int, groups: Any) -> RowArray:
    """The rows of an epoch, stage by stage, each from the next order in turn."""
    schedule = Schedule(pacing=build_pacing("root"), stages=STAGES, window="prefix", coverage="exact", seed=0)
    steps = -(-n_rows // BATCH)
    curriculum = Curriculum(schedule, orders, n_rows=n_rows, global_batch=BATCH, total_steps=steps, groups=groups)
    rows = []
    while not curriculum.finished:
        offers = curriculum.offers()
        stage = curriculum.open(offers[curriculum.n_stages % len(offers)] if offers else None)
        for _ in range(stage.n_steps):
            rows.append(curriculum.step_rows())
            curriculum.advance()
    return np.concatenate(rows)


if __name__ == "__main__":
    main()
