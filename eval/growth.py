"""How seconds and memory grow: with the rows of a set, with metrics, with domains, with stages; exponents of each.

Every measurement is a process of its own: processor seconds of the part alone, and the most private memory that it
had beyond what was there before (what is mapped from a file is not in it). An exponent is that between the last two
sizes, ln(seconds ratio) / ln(size ratio): 1 is as much for each, N log N is 1.08 from a hundred thousand to a million,
and 2 would be a part that nobody can use. Where two measurements differ by less than the clock shows, there is none.

    orders      an order by each metric, ranked inside domains
    epoch       one epoch planned from them (`round_robin`)
    drawn       the same where domains have shares, rows are thinned by the book's losses, and some come back
    health      ties, quantiles and rank correlations of the scores: of pairs of metrics, so it may grow as their square
    check       `campus-tune check` of files without a model: texts, scores, duplicates, probes, a plan
    said        hashes of what rows say; which repeat an earlier one, which contradict one another
    map         the map of the rows from the losses of training, written; and its section of the page
    report      the page of a run, by its stages: the ledger read, tables, pictures
    simulate    a plan of many stages
    kept        what a checkpoint keeps of a curriculum and its book, packed

    python -m eval.growth                                 all, some minutes
    python -m eval.growth --parts check said --rows 1e3 1e4 1e5
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from campus_tune.words.files import atomic_write
from campus_tune.words.tables import table
from campus_tune.words.types import Json
from eval.bench_rows import most_private_mb

ROOT = Path(__file__).parents[1]
ALLOWED = 1.2  # of an exponent: N log N, and the noise of two measurements
SQUARE = {("health", "metrics")}  # correlations are of pairs
CLOCK, REUSED = 0.02, 20.0  # seconds and MB below which two measurements say nothing of each other
WORDS = np.array([f"word{number}" for number in range(5000)])
NAMES = [
    f"{sign}{name}"
    for name in ("length", "mtld", "compression", "loss", "random", "readability", "ifd", "confidence")
    for sign in ("", "-")
]


@dataclass(frozen=True)
class Size:
    """How much there is of everything.

    Args:
        rows: of the training set.
        metrics: that order it.
        domains: that it is of.
        stages: of the run.
    """

    rows: int
    metrics: int = 4
    domains: int = 10
    stages: int = 20


@dataclass(frozen=True)
class Cost:
    """What a part took.

    Args:
        seconds: of the processor.
        mb: private memory beyond what was there before, at the most.
    """

    seconds: float
    mb: float


# -- the parts: each makes what it needs, and gives back what is measured ----------------------------------------------

Act = Callable[[], object]


def _groups(size: Size) -> np.ndarray:
    return np.random.default_rng(1).integers(size.domains, size=size.rows).astype(np.int32)


def _scores(size: Size) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(size.rows) for name in NAMES[: size.metrics]}


def _orders(size: Size) -> dict[str, np.ndarray]:
    from campus_tune.method.orders import order_rows

    groups = _groups(size) if size.domains > 1 else None
    return {name: order_rows(values, seed=0, groups=groups) for name, values in _scores(size).items()}


def orders(size: Size, folder: Path) -> Act:
    """An order by each metric."""
    from campus_tune.method.orders import order_rows

    del folder
    scores, groups = _scores(size), _groups(size) if size.domains > 1 else None
    return lambda: [order_rows(values, seed=0, groups=groups) for values in scores.values()]


def epoch(size: Size, folder: Path) -> Act:
    """One epoch planned from orders."""
    from campus_tune.preview.simulate import simulate
    from campus_tune.recipe.config import CampusConfig

    del folder
    config = CampusConfig(metrics=tuple(NAMES[: size.metrics]), selector="round_robin", stages=size.stages, seed=0)
    made, groups = _orders(size), _groups(size)
    batch = max(1, min(256, size.rows // size.stages // 4))
    named = tuple(f"d{number}" for number in range(size.domains))
    return lambda: simulate(config, n_rows=size.rows, global_batch=batch, orders=made, groups=groups, domains=named)


def simulated(size: Size, folder: Path) -> Act:
    """A plan of many stages of as many rows, whatever the stages: each of them looks at all rows once."""
    return epoch(replace(size, rows=max(size.rows, 16 * SIZES["stages"][-1])), folder)


def drawn(size: Size, folder: Path) -> Act:
    """One epoch under a policy."""
    from campus_tune.method.book import Book
    from campus_tune.method.policy import Policy
    from campus_tune.method.review import Review
    from campus_tune.method.thin import Thin
    from eval.bench_plan import curriculum_seconds

    del folder
    made, rng = _orders(size), np.random.default_rng(2)
    book = Book(size.rows, needs=("last", "stage", "interval"))
    book.columns["visits"][:], book.columns["last"][:], book.columns["interval"][:] = 1, rng.random(size.rows), 2
    shares = rng.dirichlet(np.full(size.domains, 10.0))
    policy = Policy(
        size.rows,
        _groups(size),
        tuple(f"d{number}" for number in range(size.domains)),
        shares=shares,
        thin=Thin("rank", "seen_loss", keep=0.5),
        review=Review(0.1),
        scores=book.score,
        book=book,
    )
    options = argparse.Namespace(window="prefix", mix=0.0, batch=256)
    return lambda: curriculum_seconds(made, size.rows, options, policy)


def health(size: Size, folder: Path) -> Act:
    """What `check` and the run say of scores."""
    from campus_tune.preview.health import health_table, score_findings, score_health

    del folder
    scores, groups = _scores(size), _groups(size)
    lengths = np.random.default_rng(3).integers(10, 500, size.rows).astype(np.float64)

    def told() -> object:
        found = score_health(scores, lengths=lengths, groups=groups)
        return score_findings(found), health_table(found)

    return told


def _texts(size: Size, seed: int = 0) -> Iterator[Json]:
    rng = np.random.default_rng(seed)
    for number in range(size.rows):
        said = WORDS[rng.integers(0, len(WORDS), 70)]
        yield {
            "prompt": " ".join(said[:25]),
            "completion": " ".join(said[25:]),
            "domain": f"d{number % size.domains}",
        }


def check(size: Size, folder: Path) -> Act:
    """`campus-tune check` without a model. Of metrics, those of texts; others are the user's own columns."""
    from campus_tune.preview.check import check as check_recipe

    lines = list(_texts(size))
    more = max(0, size.metrics - 3)
    rng = np.random.default_rng(4)
    for line in lines:
        line |= {f"own{number}": float(rng.random()) for number in range(more)}
    probes = list(_texts(replace(size, rows=max(2 * size.domains, 100)), seed=9))
    for name, rows in (("train", lines), ("probes", probes)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    metrics: list[Json] = ["length", "mtld", "compression"][: size.metrics]
    metrics += [{"name": "column", "column": f"own{number}"} for number in range(more)]
    block = {"metrics": metrics, "stages": size.stages, "probes": {"path": str(folder / "probes.jsonl")}}
    recipe = {"dataset_name": str(folder / "train.jsonl"), "output_dir": str(folder / "out"), "campus": block}
    (folder / "recipe.yaml").write_text(json.dumps(recipe), "utf-8")
    return lambda: check_recipe(folder / "recipe.yaml")


def said(size: Size, folder: Path) -> Act:
    """Hashes of what rows say, and which say the same."""
    from datasets import Dataset, disable_progress_bars, load_from_disk

    from campus_tune.data.said_hashes import SaidHashes
    from campus_tune.data.shapes import Shape

    disable_progress_bars()
    Dataset.from_list(list(_texts(size))).save_to_disk(folder / "rows")
    dataset, content = load_from_disk(folder / "rows"), np.arange(size.rows, dtype=np.uint64)

    def looked_at() -> object:
        found = SaidHashes.read(dataset, Shape(), content)
        return found.duplicate_of, found.contradicting

    return looked_at


def mapped(size: Size, folder: Path) -> Act:
    """The map of the rows made, written, read back and drawn."""
    from campus_tune.data.domains import Domains
    from campus_tune.data.said_hashes import SaidHashes
    from campus_tune.method.cells import Cells
    from campus_tune.method.learning import Learning
    from campus_tune.method.suspicion import of_training
    from campus_tune.report.map_facts import read_map
    from campus_tune.report.map_page import map_section
    from campus_tune.report.map_plots import map_picture
    from campus_tune.run.row_map import FILE, RowMap
    from campus_tune.scores.cache import write_columns
    from campus_tune.words.types import RowLosses

    chance, n = np.random.default_rng(0), size.rows
    tokens, groups = chance.integers(10, 120, n), _groups(size)
    rows = np.concatenate([chance.permutation(n) for _ in range(2)])
    counts = tokens[rows]
    losses = RowLosses(
        counts * chance.gamma(4.0, 0.4, 2 * n), counts, counts // 2, chance.random(2 * n) * 9, counts * 0.4
    )
    named = [f"d{number}" for number in range(size.domains)]
    content, nothing = np.arange(n, dtype=np.uint64), np.zeros(n, dtype=np.uint64)
    hashes = SaidHashes(content, content, nothing, nothing)

    def made() -> object:
        learning = Learning.of(rows, 1 + np.arange(2 * n) // 8, losses, n)
        cells = Cells.cut(tokens.astype(np.float64), domains=groups, domain_names=named, by="answer length")
        suspicion = of_training(rows, losses.per_row(), cells.codes, n, tokens=tokens, groups=groups)
        whole = RowMap("training", content, learning, suspicion, Domains(groups, named), cells, hashes)
        (folder / FILE).parent.mkdir(parents=True, exist_ok=True)
        write_columns(folder / FILE, whole.columns(), whole.about())
        facts = read_map(folder, [{"event": "map", **whole.about()}])
        assert facts is not None, "it was written"
        return map_section(facts, [picture] if (picture := map_picture(facts)) else [])

    return made


def report(size: Size, folder: Path) -> Act:
    """The page of a run of many stages, of a made-up ledger."""
    from campus_tune.report.write import write_report

    if "tests" not in sys.modules:  # textstat installs a package of that name, which would be found first
        sys.modules["tests"] = package = ModuleType("tests")
        package.__path__ = [str(ROOT / "tests")]
    from tests.report.made_up import make_run

    out = make_run(folder / "run", stages=size.stages, rows=size.rows)
    return lambda: write_report(out)


def kept(size: Size, folder: Path) -> Act:
    """The state of a curriculum in the middle of an epoch, and of its book, as a checkpoint has it."""
    from campus_tune.method.curriculum import Curriculum, Schedule
    from campus_tune.method.pacing import build_pacing

    del folder
    steps = -(-size.rows // 256)
    schedule = Schedule(build_pacing("root"), size.stages, "prefix")
    made = Curriculum(schedule, _orders(size), n_rows=size.rows, global_batch=256, total_steps=steps)
    while made.step < steps // 2:
        stage = made.open(made.offer(made.names()[0]))
        for _ in range(min(stage.n_steps, steps // 2 - made.step)):
            made.advance()
    return lambda: json.dumps(made.state())


# which parts grow with what; the sizes of the part's rows beside those that all have
PARTS: dict[str, tuple[Callable[[Size, Path], Act], tuple[str, ...]]] = {
    "orders": (orders, ("rows", "metrics", "domains")),
    "epoch": (epoch, ("rows", "metrics", "domains")),
    "drawn": (drawn, ("rows", "metrics", "domains")),
    "health": (health, ("rows", "metrics", "domains")),
    "check": (check, ("rows", "metrics", "domains")),
    "said": (said, ("rows",)),
    "map": (mapped, ("rows", "domains")),
    "kept": (kept, ("rows", "metrics")),
    "report": (report, ("stages",)),
    "simulate": (simulated, ("stages",)),
}
TEXTS = ("check", "said")  # a tenth of the rows: making them takes longer than looking at them
SIZES = {"metrics": (1, 4, 16), "domains": (1, 10, 50), "stages": (20, 200, 2000)}


def sizes_of(part: str, grows: str, rows: Sequence[int]) -> list[Size]:
    """What is measured of a part: three sizes, all else as usual.

    Args:
        part: of `PARTS`.
        grows: what becomes more.
        rows: at once, ten and a hundred times.
    """
    fewer = 10 if part in TEXTS else 1
    if grows == "rows":
        return [Size(n // fewer) for n in rows]
    middle = Size(rows[len(rows) // 2] // fewer) if part not in ("report", "simulate") else Size(640)
    return [replace(middle, **{grows: n}) for n in SIZES[grows]]


# -- measuring --------------------------------------------------------------------------------------------------------


def measure(part: str, size: Size) -> Cost:
    """What a part takes, in a process of its own."""
    command = [sys.executable, "-m", "eval.growth", "--child", part, json.dumps(asdict(size))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    return Cost(**json.loads(told.stdout.splitlines()[-1]))


def in_this_process(part: str, size: Size) -> Cost:
    """The same here; what it prints goes to stderr."""
    with tempfile.TemporaryDirectory() as folder:
        small, n_rows = Path(folder, "small"), min(size.rows, 1000)
        small.mkdir()
        PARTS[part][0](replace(size, rows=n_rows, stages=min(size.stages, 20)), small)()  # libraries are loaded by this
        act = PARTS[part][0](size, Path(folder))
        with most_private_mb() as most:
            before, began = most[0], processor()
            act()
            seconds = processor() - began
    return Cost(seconds, most[0] - before)


def processor() -> float:
    """Processor seconds of this process and of those that it started and that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


# -- telling ----------------------------------------------------------------------------------------------------------


def exponent(sizes: Sequence[float], values: Sequence[float], least: float) -> float:
    """How a value grows between the last two sizes; NaN where the last is below what can be told from nothing.

    >>> exponent([1, 10, 100], [5.0, 2.0, 200.0], 0.1)
    2.0
    """
    if values[-1] < least:
        return math.nan
    return math.log(values[-1] / max(values[-2], least)) / math.log(sizes[-1] / sizes[-2])


def line(part: str, grows: str, sizes: Sequence[Size], costs: Sequence[Cost]) -> tuple[list[str], bool]:
    """(A line of the table, whether the part grows by more than it may)."""
    counts = [getattr(size, grows) for size in sizes]
    seconds = exponent(counts, [cost.seconds for cost in costs], CLOCK)
    memory = exponent(counts, [cost.mb for cost in costs], REUSED)
    most = 2.0 if (part, grows) in SQUARE else ALLOWED
    bad = seconds > most or memory > most
    return [
        part,
        f"{grows} {', '.join(f'{count:,}' for count in counts)}",
        " ".join(f"{cost.seconds:.2f}" for cost in costs),
        "-" if math.isnan(seconds) else f"{seconds:.2f}",
        " ".join(f"{cost.mb:.0f}" for cost in costs),
        "-" if math.isnan(memory) else f"{memory:.2f}",
        "WORSE THAN N LOG N" if bad else "",
    ], bad


def main() -> int:
    """Measure and print a table; 1 where something grows by more than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what is measured (all)")
    parser.add_argument("--rows", nargs=3, type=float, default=[1e4, 1e5, 1e6], help="once, ten and a hundred times")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    parser.add_argument("--child", nargs=2, metavar=("PART", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        part, size = options.child
        print(json.dumps(asdict(in_this_process(part, Size(**json.loads(size))))))
        return 0
    rows, lines, bad, kept_numbers = [int(n) for n in options.rows], [], False, []
    for part in options.parts:
        for grows in PARTS[part][1]:
            sizes = sizes_of(part, grows, rows)
            costs = [measure(part, size) for size in sizes]
            cells, worse = line(part, grows, sizes, costs)
            bad |= worse
            lines.append(cells)
            kept_numbers += [
                {"part": part, **asdict(size), **asdict(cost)} for size, cost in zip(sizes, costs, strict=True)
            ]
            print(" | ".join(cells), file=sys.stderr, flush=True)
    print(table(["part", "sizes", "CPU s", "exponent", "MB more", "exponent", ""], lines))
    if options.json:
        atomic_write(options.json, json.dumps(kept_numbers, indent=1))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
