"""What a run's values say: how far they can be trusted, what domains do to each other, the furthest rows.

Read from `curriculum/value/` of a run that is over; the page has a matrix and twenty rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.report.heat_map import Heat
from campus_tune.run.ledger_lines import MAYBE
from campus_tune.run.value_table import EXTREMES, HARMFUL, HELPFUL, TRANSFER
from campus_tune.words.errors import DataError
from campus_tune.words.files import read_jsonl
from campus_tune.words.json_shapes import misshapen, read_json
from campus_tune.words.types import FloatArray, Json

_MATRIX = [[MAYBE]]
SHAPE: dict[Any, Any] = {
    "domains": [str],
    "probes": [str],
    **dict.fromkeys(("mean", "low", "high", "a", "b"), _MATRIX),
    "clear": [[bool]],
    "visits": [int],
    "rows": [int],
    "split_half": {str: {"value": MAYBE, "low": MAYBE, "high": MAYBE, "inside": MAYBE}},
}
LINE: dict[Any, Any] = {
    "side": str,
    "row": int,
    "value": float,
    "halves": [float, float],
    "by_probe": {str: float},
    "visits": int,
    "negative": int,
    **dict.fromkeys(("domain?", "prompt?", "answer?", "text?"), str),
}


@dataclass(frozen=True)
class SplitHalf:
    """How far the halves of the probes agree on the rows; None where it is not known.

    Args:
        value: split-half reliability.
        low: lower end of its interval.
        high: upper end.
        inside: of values per token inside of the domains.
    """

    value: float | None
    low: float | None
    high: float | None
    inside: float | None


@dataclass(frozen=True)
class FarRow:
    """One of the rows that helped or harmed the probes most.

    Args:
        side: helpful or harmful.
        row: its number in the prepared training set.
        value: φ, over all probe domains.
        halves: φ by both halves of the probes.
        by_probe: φ for each probe domain.
        visits: that were measured.
        negative: of these, in how many both halves were below 0.
        domain: "" where the run knows none.
        prompt: cut.
        answer: cut.
        text: the whole row, cut, where the two cannot be told apart.
    """

    side: str
    row: int
    value: float
    halves: Sequence[float]
    by_probe: Mapping[str, float]
    visits: int
    negative: int
    domain: str = ""
    prompt: str = ""
    answer: str = ""
    text: str = ""


@dataclass(frozen=True, eq=False)
class ValueFacts:
    """What the page says of the values of a run's rows.

    Args:
        sentence: what the run says of them in a line, or why it has none.
        rows: that have a value; 0 where there are none.
        negative: of these, rows that harm the probes altogether.
        not_valued: rows that have none.
        split_half: of `all`, and of each probe domain.
        transfer: what domains do to each other; None where there are no values.
        visits: measured ones of each trained domain.
        far: rows, those that helped most first, then those that harmed most.
    """

    sentence: str
    rows: int = 0
    negative: int = 0
    not_valued: int = 0
    split_half: Mapping[str, SplitHalf] = field(default_factory=dict)
    transfer: Heat | None = None
    visits: Mapping[str, int] = field(default_factory=dict)
    far: tuple[FarRow, ...] = ()

    def of_side(self, side: str) -> tuple[FarRow, ...]:
        """The rows of one side, the furthest first."""
        return tuple(row for row in self.far if row.side == side)


def read_value(home: Path, lines: Sequence[Json]) -> ValueFacts | None:
    """What a run's folder and its ledger say of the values of its rows; None of a run that measured none.

    Args:
        home: folder of the ledger.
        lines: of the ledger that speak of values; the last one counts.

    Raises:
        DataError: a file is missing or damaged, or of another version.
    """
    if not lines:
        return None
    said = lines[-1]
    if not said["rows"]:
        return ValueFacts(f"There are no values: {said.get('why', 'no row was measured')}")
    path = home / TRANSFER
    try:
        told = read_json(path, SHAPE)
        heat = _heat(told)
    except (OSError, ValueError) as error:
        raise DataError(
            f"`{path}` must be what the run left of its values, got {error}. Put the run's own {path.parent.name}/ "
            "folder back."
        ) from error
    return ValueFacts(
        sentence=str(said.get("sentence", f"{said['rows']} rows have values")),
        rows=said["rows"],
        negative=said.get("negative", 0),
        not_valued=said.get("not_valued", 0),
        split_half={name: SplitHalf(**{key: one[key] for key in _KEYS}) for name, one in told["split_half"].items()},
        transfer=heat,
        visits=dict(zip(told["domains"], told["visits"], strict=True)),
        far=read_far_rows(home / EXTREMES),
    )


_KEYS = ("value", "low", "high", "inside")


def _heat(told: Json) -> Heat:
    domains, probes = tuple(told["domains"]), tuple(told["probes"])

    def matrix(name: str) -> FloatArray:
        return np.array(told[name], dtype=np.float64).reshape(len(domains), len(probes))

    sure = np.array(told["clear"], dtype=np.bool_).reshape(len(domains), len(probes))
    return Heat(domains, probes, matrix("mean"), matrix("low"), matrix("high"), sure)


def read_far_rows(path: Path) -> tuple[FarRow, ...]:
    """The rows of the list; none where none was left, or an empty one.

    Args:
        path: of the list.

    Raises:
        DataError: it is damaged.
    """
    if not path.exists() or not path.stat().st_size:
        return ()
    lines = read_jsonl(path)
    for number, line in enumerate(lines, 1):
        problem = misshapen(line, LINE)
        if problem is None and line["side"] not in (HELPFUL, HARMFUL):
            problem = f"side {line['side']!r}"
        if problem is not None:
            raise DataError(
                f"`{path}` line {number} must be a row of the run, got something else ({problem}). Put the run's own "
                "list back, or remove it to see the rest of the run."
            )
    known = FarRow.__dataclass_fields__
    return tuple(FarRow(**{name: value for name, value in line.items() if name in known}) for line in lines)
