"""How long planning takes, and how its cost grows: four orders over N rows, and one epoch planned from them.

Each size runs in a fresh process, so that its peak memory is its own: what is anonymous, looked at every 20 ms, for
mapped files give way to whoever needs the memory. From 50 M rows on scores and orders lie in such files. On a machine
that others use too, look at the CPU seconds of all cores together: the wall clock counts the others' work.

    python eval/bench_plan.py                        # 1 M and 10 M rows
    python eval/bench_plan.py 1e6 1e7 1e8 --domains 4 --window slice
    python eval/bench_plan.py 1e7 --against OLD_CHECKOUT --turns 3     # in turns with another one: ratios

With `--policy` the same orders are planned twice more, by the curriculum alone: without a policy and with one, by a
made-up book. What it costs is the ratio of their CPU seconds, in one process.

    python eval/bench_plan.py 1e6 1e7 --policy shares       # four domains whose shares are not natural
    python eval/bench_plan.py 1e6 1e7 --policy thin         # and half of the rows passed over by percentile
    python eval/bench_plan.py 1e6 1e7 --policy review       # and a tenth of each stage comes back
    python eval/bench_plan.py 1e6 1e7 --policy full         # five cells of length and shares of them, and thinned
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from campus_tune.method.book import Book
from campus_tune.method.cells import Cells
from campus_tune.method.curriculum import Curriculum, Schedule
from campus_tune.method.orders import order_rows
from campus_tune.method.pacing import build_pacing
from campus_tune.method.policy import Policy
from campus_tune.method.review import Review
from campus_tune.method.stages import Offer, Stage
from campus_tune.method.thin import Thin
from campus_tune.preview.simulate import simulate
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.types import FloatArray, IntArray, RowArray

METRICS = ("length", "mtld", "compression", "loss")
MAPPED = 50_000_000  # rows from which scores and orders lie in files
AT_ONCE = 1_000_000  # scores that are made up at once
POLICIES = ("shares", "thin", "review", "full")
STRATA = ("math", "code", "chat", "text")
CELL_SHARES = (0.3, 0.25, 0.2, 0.15, 0.1)
STAGES = 20
LOOKS = 0.02  # seconds between two looks at the memory
COLUMNS = (
    ("four orders, s", "orders"),
    ("one epoch, s", "plan"),
    ("longest opening, s", "opening"),
    ("CPU, s", "cpu"),
    ("anonymous, GB", "peak"),
)


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
    parser.add_argument("--against", type=Path, help="another checkout, measured in turns with this one")
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--pairs", action="store_true", help=argparse.SUPPRESS)  # orders two at a time
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(int(options.rows[0]), options)))
        return
    extra = " under the policy, s |" if options.policy else ""
    print(f"| rows | code | {' | '.join(title for title, _ in COLUMNS)} |{extra} growth |")
    print("|---" * (len(COLUMNS) + 3 + bool(options.policy)) + "|")
    before = None
    for n in options.rows:
        mine, other = turns(n, options)
        growth = "" if before is None else f"rows × {n / before[0]:g}: CPU × {mine['cpu'] / before[1]:.1f}"
        print(line(n, "this", mine, options, growth), flush=True)
        if other:
            ratios = ", ".join(f"{name} × {mine[name] / other[name]:.2f}" for name in other)
            print(line(n, "other", other, options, f"this ÷ other: {ratios}"), flush=True)
        before = (n, mine["cpu"])


def line(n: float, code: str, found: dict[str, float], options: argparse.Namespace, growth: str) -> str:
    """One line of the table."""
    cells = [found[name] for _, name in COLUMNS] + ([found["under"]] if options.policy else [])
    return f"| {n:,.0f} | {code} | {' | '.join(f'{cell:.2f}' for cell in cells)} | {growth} |"


def turns(n: float, options: argparse.Namespace) -> tuple[dict[str, float], dict[str, float]]:
    """Medians of what both codes measure, in turns; nothing of the other one where there is none."""
    mine, others = [], []
    for _ in range(options.turns):
        mine.append(run(n, options, None))
        if options.against is not None:
            others.append(run(n, options, options.against))
    return medians(mine), medians(others)


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Of each number."""
    return {name: statistics.median(run[name] for run in runs) for name in (runs[0] if runs else ())}


def run(n: float, options: argparse.Namespace, checkout: Path | None) -> dict[str, float]:
    """One size, in a process of its own, by the code of a checkout."""
    same = [f"--{name}={getattr(options, name)}" for name in ("domains", "window", "selector", "mix", "batch")]
    same += [f"--policy={options.policy}"] if options.policy else []
    same += ["--pairs"] if checkout is not None else []  # the code of before takes one core for an order
    root = Path(__file__).parents[1] if checkout is None else checkout
    command = [sys.executable, __file__, str(n), "--child", *same]
    env = {**os.environ, "PYTHONPATH": str(root.resolve())}
    found: dict[str, float] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout
    )
    return found


def measure(n_rows: int, options: argparse.Namespace) -> dict[str, float]:
    """Seconds, CPU seconds and peak memory of one size. Making the scores counts for nothing."""
    rng = np.random.default_rng(0)
    groups = rng.integers(options.domains, size=n_rows) if options.domains > 1 else None
    with tempfile.TemporaryDirectory() as folder, watched() as peak, timed_openings() as openings:
        seconds, cpu, orders = build_orders(n_rows, groups, Path(folder), at_once=2 if options.pairs else 1)
        config = CampusConfig(
            metrics=METRICS, selector=options.selector, window=options.window, mix=options.mix, seed=0
        )
        start, cpu_start = time.perf_counter(), time.process_time()
        run = simulate(config, n_rows=n_rows, global_batch=options.batch, orders=orders, groups=groups)
        plan, cpu = time.perf_counter() - start, cpu + time.process_time() - cpu_start
        assert run.seen == n_rows, f"the plan trains {run.seen} of {n_rows} rows"
        found = {"orders": seconds, "plan": plan, "cpu": cpu}
        if options.policy:
            openings.clear()
            found["without"], _ = curriculum_seconds(orders, n_rows, options, None)
            openings.clear()
            policy = made_up_policy(options.policy, n_rows, Path(folder))
            found["under_cpu"], found["under"] = curriculum_seconds(orders, n_rows, options, policy)
    return {**found, "opening": max(openings), "peak": max(peak)}


@contextmanager
def watched() -> Iterator[list[float]]:
    """The anonymous memory of this process, GB, every 20 ms."""
    seen, done = [0.0], threading.Event()

    def look() -> None:
        while not done.wait(LOOKS):
            status = Path("/proc/self/status").read_text()
            seen.append(int(status.split("RssAnon:")[1].split()[0]) * 1024 / 1e9)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


@contextmanager
def timed_openings() -> Iterator[list[float]]:
    """Seconds that each stage's opening takes, the offers included."""
    seconds, asked = [], [0.0]
    offer, opened = Curriculum.offer, Curriculum.open

    def timed_offer(self: Curriculum, name: str) -> Offer:
        start = time.perf_counter()
        found = offer(self, name)
        asked[0] += time.perf_counter() - start
        return found

    def timed_open(self: Curriculum, *args: Offer, **kwargs: Offer) -> Stage:
        start = time.perf_counter()
        stage = opened(self, *args, **kwargs)  # type: ignore[arg-type]
        seconds.append(asked[0] + time.perf_counter() - start)
        asked[0] = 0.0
        return stage

    Curriculum.offer, Curriculum.open = timed_offer, timed_open  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        Curriculum.offer, Curriculum.open = offer, opened  # type: ignore[method-assign]


def curriculum_seconds(
    orders: dict[str, RowArray], n_rows: int, options: argparse.Namespace, policy: Policy | None
) -> tuple[float, float]:
    """(CPU seconds, seconds) of one epoch's stages, the orders in turn."""
    start, wall = time.process_time(), time.perf_counter()
    schedule = Schedule(build_pacing("root"), STAGES, options.window, mix=options.mix)
    steps = -(-n_rows // options.batch)
    made = Curriculum(schedule, orders, n_rows=n_rows, global_batch=options.batch, total_steps=steps, policy=policy)
    while not made.finished:
        names = made.names()
        stage = made.open(made.offer(names[made.n_stages % len(names)]))
        for _ in range(stage.n_steps):
            made.advance()
    return time.process_time() - start, time.perf_counter() - wall


def made_up_policy(name: str, n_rows: int, folder: Path) -> Policy:
    """Shares of four domains, and what is asked for beside them, by a book of a run that is well on its way."""
    rng = np.random.default_rng(1)
    cells, codes, names, shares = None, rng.integers(len(STRATA), size=n_rows, dtype=np.int32), STRATA, None
    if name == "full":
        cells = Cells.cut(scores_of("length", n_rows, folder), bands=len(CELL_SHARES))
        codes, names, shares = cells.codes, cells.names, np.array(CELL_SHARES)
    needs = ("last", "stage", "interval") if name == "review" else ("last", "stage")
    book = Book(n_rows, needs=needs, folder=folder / "book" if n_rows >= MAPPED else None)
    book.columns["visits"][:] = 1
    if name == "review":
        book.columns["interval"][:] = 2
    rng.random(out=book.columns["last"], dtype=np.float32)
    return Policy(
        n_rows,
        codes,
        names,
        cells=cells,
        shares=np.array([0.4, 0.3, 0.2, 0.1]) if shares is None else shares,
        thin=Thin("rank", "seen_loss", keep=0.5) if name in ("thin", "full") else None,
        review=Review(0.1) if name == "review" else None,
        scores=book.score,
        book=book,
    )


def build_orders(
    n_rows: int, groups: IntArray | None, folder: Path, at_once: int = 1
) -> tuple[float, float, dict[str, RowArray]]:
    """(seconds, CPU seconds, orders of made-up scores). Length has many ties, the others few."""
    seconds, cpu, orders = 0.0, 0.0, {}
    for first in range(0, len(METRICS), at_once):
        names = METRICS[first : first + at_once]
        scores = [scores_of(name, n_rows, folder) for name in names]
        start, cpu_start = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(at_once) as pool:
            built = list(pool.map(lambda values: order_rows(values, seed=0, groups=groups), scores))
        for name in names:
            order = built.pop(0)
            orders[name] = order if n_rows < MAPPED else on_disk(order, folder / f"{name}.npy")
            del order
            (folder / f"{name}.scores.npy").unlink(missing_ok=True)
        seconds, cpu = seconds + time.perf_counter() - start, cpu + time.process_time() - cpu_start
    return seconds, cpu, orders


def scores_of(name: str, n_rows: int, folder: Path) -> FloatArray:
    """Scores of a metric; of many rows in a file, as scores that were kept are."""
    if n_rows < MAPPED:
        return made_up(name, n_rows)
    path = folder / f"{name}.scores.npy"
    values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(n_rows,))
    for start in range(0, n_rows, AT_ONCE):
        values[start : start + AT_ONCE] = made_up(name, min(AT_ONCE, n_rows - start), start)
    values.flush()
    mapped: FloatArray = np.load(path, mmap_mode="r")
    return mapped


def made_up(name: str, n_rows: int, start: int = 0) -> FloatArray:
    """Scores as a metric of this name gives them, from a row on."""
    rng = np.random.default_rng([METRICS.index(name), start])
    return rng.integers(1, 2000, n_rows).astype(np.float64) if name == "length" else rng.standard_normal(n_rows)


def on_disk(order: RowArray, path: Path) -> RowArray:
    """The same order, memory-mapped."""
    np.save(path, order)
    mapped: RowArray = np.load(path, mmap_mode="r")
    return mapped


if __name__ == "__main__":
    main()
