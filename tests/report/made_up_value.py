"""Values that no run has measured: the files as a run leaves them, of any size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.method.value import RowValues, ValuedVisits
from campus_tune.run.ledger import plain
from campus_tune.run.value_table import EXTREMES, TRANSFER, VALUES, ValueTable
from campus_tune.scores.cache import write_columns
from campus_tune.words.types import FloatArray, Json
from tests.report.made_up import EVIL

HELP = np.array([[2.0, 0.3, -1.0], [0.5, 1.5, 0.0], [-0.8, 0.0, 1.0]])  # domain × probe domain


def made_values(
    domains: tuple[str, ...], *, rows: int = 90, noise: float = 1.0, scale: float = 1.0, planted: FloatArray = HELP
) -> ValueTable:
    """Values of rows in turn of each domain; the last row has none."""
    rng, number = np.random.default_rng(rows), np.arange(rows)
    codes, ones = number % len(domains), np.ones(rows, dtype=np.int64)
    signal = planted[codes] + rng.normal(size=(rows, planted.shape[1]))
    halves = scale * (signal + noise * rng.normal(size=(2, *signal.shape)))
    halves[:, -1] = np.nan
    stage = ValuedVisits(number, 3 * ones, 0.001 * ones, 20 * ones, halves[0], halves[1])
    values = RowValues.fold([stage, stage], rows, domains)
    hashes = rng.integers(0, 1 << 63, rows, dtype=np.uint64)
    return ValueTable(values, Domains(codes, list(domains)), hashes, hashes + np.uint64(1))


def make_value(run: Path, made: ValueTable) -> ValueTable:
    """Leave them in the folder of a run, with a line of its ledger."""
    home = run / "curriculum"
    odd = [EVIL, "قل 12 بالعربية", "a\tb\x00\x1b[31m\x7f end", "line one\n  line two\n\nline four", "x" * 100_000]
    lines: list[Json] = []
    for place, (side, row) in enumerate(made.extremes()):
        text = odd[place % 10] if place % 10 < len(odd) else f"What is {row} + 1?"
        said = {"text": text} if place % 10 == 9 else {"prompt": text, "answer": f"{row + 1} 🙂"}
        lines.append({**made.line(side, row), **said})
    write_columns(home / VALUES, made.columns(), made.about())
    (home / TRANSFER).write_text(json.dumps(plain(made.told_transfer())), "utf-8")
    (home / EXTREMES).write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    tell(run, made.record())
    return made


def tell(run: Path, line: Json) -> None:
    """Put the ledger's line of values before its end."""
    ledger = run / "curriculum" / "ledger.jsonl"
    *lines, end = ledger.read_text("utf-8").splitlines()
    said = json.dumps(plain({"event": "value", "step": 12, **line}))
    ledger.write_text("\n".join([*lines, said, end]) + "\n", "utf-8")
