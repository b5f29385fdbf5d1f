"""What the map of the rows costs at the end of a run, part by part, of rows that were all trained once or more.

Generated rows of some 70 words lie memory-mapped on a disk, as `datasets` keeps them; what training showed of them lies
in one file for each of 100 stages. Processor seconds say more than the clock on a machine that does other things. The
forward of the twenty likeliest rows is not among them.

    python -m eval.bench_map                  # a million rows, 1 GB on the disk for a while, some minutes
    python -m eval.bench_map --rows 4e4 --passes 2
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.data.said_hashes import SaidHashes
from campus_tune.data.shapes import Shape
from campus_tune.method.cells import Cells
from campus_tune.method.learning import Learning
from campus_tune.method.suspicion import of_training
from campus_tune.run.book_keeping import read_losses
from campus_tune.run.row_map import RowMap
from campus_tune.scores.cache import write_columns
from campus_tune.words.types import Json, RowLosses
from eval.bench_rows import private_mb

STAGES, DOMAINS, WORDS = 100, 6, 70
T = TypeVar("T")


def main() -> None:
    """Measure, and print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, default=1e6, help="how many")
    parser.add_argument("--passes", type=int, default=1, help="visits of each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for line in measure(Path(folder), int(options.rows), options.passes):
            print(line, flush=True)


def measure(folder: Path, n_rows: int, passes: int) -> Iterator[str]:
    """The lines of the table."""
    dataset, tokens, domains = made_up(folder, n_rows, passes)
    yield f"| {n_rows} rows, {passes} visits each | processor | private memory |\n|---|---|---|"
    lines: list[str] = []

    def timed(what: str, act: Callable[[], T]) -> T:
        began = time.process_time()
        found = act()
        lines.append(f"| {what} | {time.process_time() - began:.2f} s | {private_mb():.0f} MB |")
        return found

    rows, losses = timed("losses read", lambda: read_visits(folder))
    steps = 1 + np.arange(len(rows)) // 8
    learning = timed("folded", lambda: Learning.of(rows, steps, losses, n_rows))
    named = [f"source {number}" for number in range(DOMAINS)]
    cells = timed(
        "cells", lambda: Cells.cut(tokens.astype(np.float64), domains=domains, domain_names=named, by="answer length")
    )
    suspicion = timed(
        "suspicion",
        lambda: of_training(rows, losses.per_row(), cells.codes, n_rows, tokens=tokens, groups=domains),
    )
    content = np.arange(n_rows, dtype=np.uint64)
    said = timed("texts as hashes", lambda: SaidHashes.read(dataset, Shape(), content))
    timed("duplicates, contradictions", lambda: (said.duplicate_of, said.contradicting))
    made = RowMap("training", content, learning, suspicion, Domains(domains, named), cells, said)
    timed("table written", lambda: write_columns(folder / "map.parquet", made.columns(), made.about()))
    yield from lines


def made_up(folder: Path, n_rows: int, passes: int) -> tuple[Any, Any, Any]:
    """(Rows on the disk, their answer tokens, their domains); and what training showed of them, stage by stage."""
    from datasets import Dataset, disable_progress_bars, load_from_disk

    disable_progress_bars()
    chance = np.random.default_rng(0)
    tokens, domains = chance.integers(10, 120, n_rows), chance.integers(0, DOMAINS, n_rows)

    def rows() -> Iterator[Json]:
        words = np.array([f"word{number}" for number in range(5000)])
        for number in range(n_rows):
            said = " ".join(words[np.random.default_rng(number).integers(0, len(words), WORDS)])
            yield {"prompt": said[: len(said) // 3], "completion": said[len(said) // 3 :]}

    order = np.concatenate([chance.permutation(n_rows) for _ in range(passes)])
    for stage, some in enumerate(np.array_split(order, STAGES)):
        counts = tokens[some]
        losses = RowLosses(
            counts * chance.gamma(4.0, 0.4, len(some)), counts, counts // 2, chance.random(len(some)) * 9, counts * 0.4
        )
        write_columns(folder / f"stage-{stage:05d}.parquet", {"row": some, **vars(losses)}, {})
    with tempfile.TemporaryDirectory() as cache:
        Dataset.from_generator(rows, cache_dir=cache).save_to_disk(folder / "rows")
    return load_from_disk(folder / "rows"), tokens, domains


def read_visits(folder: Path) -> tuple[Any, RowLosses]:
    """All visits in the sequence of training, and what they showed."""
    parts = [read_losses(path) for path in sorted(folder.glob("stage-*.parquet"))]
    names = vars(RowLosses.zeros(0))
    joined = {name: np.concatenate([getattr(losses, name) for _, losses in parts]) for name in names}
    return np.concatenate([rows for rows, _ in parts]), RowLosses(**joined)


if __name__ == "__main__":
    main()
