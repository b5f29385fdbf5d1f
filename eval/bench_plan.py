"""How long planning takes, and how its cost grows: four orders over N rows, and one epoch planned from them.

Each size runs in a fresh process, so that its peak memory is its own. Orders are built two at a time, one per core;
from 50 M rows on they lie in files and are memory-mapped, as they are too large to keep four of them around. On a
machine that others use too, look at the CPU seconds of both cores together: the wall clock counts the others' work.

    python eval/bench_plan.py                        # 1 M and 10 M rows
    python eval/bench_plan.py 1e6 1e7 1e8 --domains 4 --window slice

With `--policy` the same orders are planned twice more, by the curriculum alone: without a policy and with one, by a
made-up book. What it costs is the ratio of their CPU seconds, in one process.

    python eval/bench_plan.py 1e6 1e7 --policy shares       # four domains whose shares are not natural
    python eval/bench_plan.py 1e6 1e7 --policy thin         # and half of the rows passed over by percentile
    python eval/bench_plan.py 1e6 1e7 --policy review       # and a tenth of each stage comes back
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from campus_tune.method.book import Book
from campus_tune.method.curriculum import Curriculum, Schedule
from campus_tune.method.orders import order_rows
from campus_tune.method.pacing import build_pacing
from campus_tune.method.policy import Policy
from campus_tune.method.review import Review
from campus_tune.method.thin import Thin
from campus_tune.preview.simulate import simulate
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.types import FloatArray, IntArray, RowArray

METRICS = ("length", "mtld", "compression", "loss")
MAPPED = 50_000_000  # rows from which orders go to disk
THREADS = 2
POLICIES = ("shares", "thin", "review")
STRATA = ("math", "code", "chat", "text")
STAGES = 20


def main() -> None:
    """Measure the sizes asked for and print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", type=float, default=[1e6, 1e7], help="sizes to measure")
    parser.add_argument("--domains", type=int, default=1, help="more than 1 ranks inside domains")
    parser.add_argument("--window", default="prefix", choices=["prefix", "slice"])
    parser.add_argument("--selector", default="round_robin")
    parser.add_argument("--mix", type=float, default=0.0)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--policy", choices=POLICIES, help="what to plan the same orders by as well")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(int(options.rows[0]), options)))
        return
    print(
        "| rows | four orders, s | one epoch, s | together, s | CPU, s | peak memory, GB | CPU s per M rows | growth |"
    )
    print("|---|---|---|---|---|---|---|---|")
    before = None
    for n in options.rows:
        same = [f"--{name}={getattr(options, name)}" for name in ("domains", "window", "selector", "mix", "batch")]
        same += [f"--policy={options.policy}"] if options.policy else []
        command = [sys.executable, __file__, str(n), "--child", *same]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        total = found["orders"] + found["plan"]
        cpu = found["cpu"]
        growth = "" if before is None else f"rows × {n / before[0]:g}: CPU × {cpu / before[1]:.1f}"
        cells = [found["orders"], found["plan"], total, cpu, found["peak"], cpu / n * 1e6]
        if options.policy:
            without, under = found["without"], found["under"]
            growth += f"; {options.policy}: {under:.2f} s, without {without:.2f} s, × {under / without:.2f}"
        print(f"| {n:,.0f} | {' | '.join(f'{cell:.2f}' for cell in cells)} | {growth} |", flush=True)
        before = (n, cpu)


def measure(n_rows: int, options: argparse.Namespace) -> dict[str, float]:
    """Seconds, CPU seconds and peak memory of one size. Making the scores costs memory but counts as no time."""
    rng = np.random.default_rng(0)
    groups = rng.integers(options.domains, size=n_rows) if options.domains > 1 else None
    with tempfile.TemporaryDirectory() as folder:
        seconds, cpu, orders = build_orders(n_rows, groups, Path(folder))
        config = CampusConfig(
            metrics=METRICS, selector=options.selector, window=options.window, mix=options.mix, seed=0
        )
        start, cpu_start = time.perf_counter(), time.process_time()
        run = simulate(config, n_rows=n_rows, global_batch=options.batch, orders=orders, groups=groups)
        plan, cpu = time.perf_counter() - start, cpu + time.process_time() - cpu_start
        assert run.seen == n_rows, f"the plan trains {run.seen} of {n_rows} rows"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        found = {"orders": seconds, "plan": plan, "cpu": cpu, "peak": peak}
        if options.policy:
            found["without"] = curriculum_seconds(orders, n_rows, options, None)
            found["under"] = curriculum_seconds(orders, n_rows, options, made_up_policy(options.policy, n_rows))
    return found


def curriculum_seconds(
    orders: dict[str, RowArray], n_rows: int, options: argparse.Namespace, policy: Policy | None
) -> float:
    """CPU seconds of one epoch's stages, the orders in turn."""
    start = time.process_time()
    schedule = Schedule(build_pacing("root"), STAGES, options.window, mix=options.mix)
    steps = -(-n_rows // options.batch)
    made = Curriculum(schedule, orders, n_rows=n_rows, global_batch=options.batch, total_steps=steps, policy=policy)
    while not made.finished:
        names = made.names()
        stage = made.open(made.offer(names[made.n_stages % len(names)]))
        for _ in range(stage.n_steps):
            made.advance()
    return time.process_time() - start


def made_up_policy(name: str, n_rows: int) -> Policy:
    """Shares of four domains, and what is asked for beside them, by a book of a run that is well on its way."""
    rng = np.random.default_rng(1)
    codes = rng.integers(len(STRATA), size=n_rows, dtype=np.int32)
    losses = rng.random(n_rows)
    book = Book(n_rows, needs=("last", "stage", "interval"))
    book.columns["visits"][:], book.columns["last"][:], book.columns["interval"][:] = 1, losses, 2
    return Policy(
        n_rows,
        codes,
        STRATA,
        shares=np.array([0.4, 0.3, 0.2, 0.1]),
        thin=Thin("rank", "seen_loss", keep=0.5) if name == "thin" else None,
        review=Review(0.1) if name == "review" else None,
        scores=book.score,
        book=book,
    )


def build_orders(n_rows: int, groups: IntArray | None, folder: Path) -> tuple[float, float, dict[str, RowArray]]:
    """(seconds, CPU seconds, orders of made-up scores). Length has many ties, the others few."""
    seconds, cpu, orders = 0.0, 0.0, {}
    for pair in pairs(METRICS):
        scores = {name: made_up(name, n_rows) for name in pair}
        start, cpu_start = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(THREADS) as pool:
            built = pool.map(lambda values: order_rows(values, seed=0, groups=groups), scores.values())
            for name, order in zip(scores, built, strict=True):
                orders[name] = order if n_rows < MAPPED else on_disk(order, folder / f"{name}.npy")
        seconds, cpu = seconds + time.perf_counter() - start, cpu + time.process_time() - cpu_start
    return seconds, cpu, orders


def pairs(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """As many names at a time as there are threads."""
    for i in range(0, len(names), THREADS):
        yield names[i : i + THREADS]


def made_up(name: str, n_rows: int) -> FloatArray:
    """Scores as a metric of this name gives them."""
    rng = np.random.default_rng([METRICS.index(name)])
    return rng.integers(1, 2000, n_rows).astype(np.float64) if name == "length" else rng.standard_normal(n_rows)


def on_disk(order: RowArray, path: Path) -> RowArray:
    """The same order, memory-mapped."""
    np.save(path, order)
    mapped: RowArray = np.load(path, mmap_mode="r")
    return mapped


if __name__ == "__main__":
    main()
