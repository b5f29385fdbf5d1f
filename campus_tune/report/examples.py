"""The easiest and the hardest rows of every metric, as text: what a metric calls hard, seen with one's own eyes.

The text of a row is known to a run while it trains and hardly afterwards: the trainer may have dropped rows or changed
their sequence. So a run writes those that its page will show, and a page of a run that did not shows row numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from campus_tune.files import atomic_write
from campus_tune.shapes import read_json
from campus_tune.types import FloatArray

FILE = "examples.json"
N_SHOWN = 10
LONGEST = 280  # characters of a row that are kept


@dataclass(frozen=True)
class Example:
    """One row.

    Args:
        row: its number in the prepared training set.
        score: by the metric, higher is harder.
        domain: "" where there are none.
        text: of its prompt and answer, shortened; "" where unknown.
    """

    row: int
    score: float
    domain: str = ""
    text: str = ""


@dataclass(frozen=True)
class Extremes:
    """The two ends of a metric's order.

    Args:
        easiest: the easiest first.
        hardest: the hardest first.
    """

    easiest: tuple[Example, ...]
    hardest: tuple[Example, ...]


def pick(scores: FloatArray, n: int = N_SHOWN) -> tuple[list[int], list[int]]:
    """Row numbers of the `n` easiest and `n` hardest rows, the most extreme first; no row is on both sides.

    >>> pick(np.array([3.0, 1.0, 2.0, 9.0]), n=2)
    ([1, 2], [3, 0])
    >>> pick(np.array([3.0, 1.0, 2.0]), n=10)
    ([1], [0])
    """
    order = np.argsort(scores, kind="stable")
    n = min(n, len(order) // 2)
    return order[:n].tolist(), order[::-1][:n].tolist()


def shorten(text: str, longest: int = LONGEST) -> str:
    """A text on one line, cut with an ellipsis.

    >>> shorten("one two   three", longest=8)
    'one two…'
    """
    text = " ".join(text[: 4 * longest].split())
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def write_examples(
    home: Path, scores: Mapping[str, FloatArray], texts: Sequence[str], domains: Sequence[str] | None = None
) -> None:
    """Keep the text of the rows that the page will show, in `examples.json` beside the ledger.

    Args:
        home: folder of the ledger.
        scores: metric → score of every row, shape (N,).
        texts: prompt and answer of every row; read only at the rows that are kept.
        domains: of every row; None where there are none.

    Raises:
        StorageError: the file cannot be written.
    """
    rows = sorted({row for values in scores.values() for side in pick(values) for row in side})
    kept = {
        str(row): {"text": shorten(texts[row]), "domain": str(domains[row]) if domains is not None else ""}
        for row in rows
    }
    atomic_write(home / FILE, json.dumps({"format": 1, "rows": kept}, ensure_ascii=False))


def read_extremes(home: Path, scores: Mapping[str, FloatArray]) -> dict[str, Extremes]:
    """Metric → its two ends, with their texts where the run kept them."""
    try:
        kept = read_json(home / FILE, {"rows": {str: {"text?": str, "domain?": str}}})["rows"]
    except (OSError, ValueError):  # row numbers are shown instead
        kept = {}

    def example(row: int, values: FloatArray) -> Example:
        known = kept.get(str(row), {})
        return Example(row, float(values[row]), known.get("domain", ""), known.get("text", ""))

    return {
        label: Extremes(*(tuple(example(row, values) for row in side) for side in pick(values)))
        for label, values in scores.items()
    }
