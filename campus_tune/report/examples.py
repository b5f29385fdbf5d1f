"""The easiest and the hardest rows of every metric, as text: what a metric calls hard, seen with one's own eyes.

The text of a row is known to a run while it trains and hardly afterwards: the trainer may have dropped rows or changed
their sequence. So a run writes those that its page will show, and a page of a run that did not shows row numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from campus_tune.run.told import EXAMPLES, pick
from campus_tune.words.json_shapes import read_json
from campus_tune.words.types import FloatArray


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


def read_extremes(home: Path, scores: Mapping[str, FloatArray]) -> dict[str, Extremes]:
    """Metric → its two ends, with their texts where the run kept them."""
    try:
        kept = read_json(home / EXAMPLES, {"rows": {str: {"text?": str, "domain?": str}}})["rows"]
    except (OSError, ValueError):  # row numbers are shown instead
        kept = {}

    def example(row: int, values: FloatArray) -> Example:
        known = kept.get(str(row), {})
        return Example(row, float(values[row]), known.get("domain", ""), known.get("text", ""))

    return {
        label: Extremes(*(tuple(example(row, values) for row in side) for side in pick(values)))
        for label, values in scores.items()
    }
