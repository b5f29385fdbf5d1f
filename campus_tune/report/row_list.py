"""The rows that a page lists one by one, to be searched: all where they are few, else those that its map shows.

A page of a million rows counts them all and lists two thousand: every suspect as far as half of these go, and others by
the hash of their content. It stays one file of a few hundred kilobytes, and opens at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.method.orders import group_codes
from campus_tune.report.characters import visible
from campus_tune.run.row_map import SHORT
from campus_tune.words.errors import DataError
from campus_tune.words.files import read_jsonl
from campus_tune.words.json_shapes import misshapen
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json
from campus_tune.words.wording import cut

if TYPE_CHECKING:
    from markupsafe import Markup

NUMBERS = ("excess", "spread", "visits", "mean_loss")  # columns of the map that are listed, where they are there
HEADS = {
    "row": "row", "domain": "domain", "region": "region", "excess": "excess", "spread": "spread", "visits": "trained",
    "mean_loss": "mean loss", "text": "text",
}  # fmt: skip
KEPT: dict[Any, Any] = {"row": int, **dict.fromkeys(("prompt?", "answer?", "text?"), (str, None))}
DIGITS = 3


@dataclass(frozen=True, eq=False)
class RowList:
    """Rows of the training set with all that the page says of each.

    Args:
        rows: their numbers, shape (n,).
        domain: places in `domains`, shape (n,); None without domains.
        domains: names.
        region: places in `regions`, shape (n,).
        regions: names.
        suspect: shape (n,).
        numbers: columns of the map, shape (n,) each, NaN where nothing is known.
        texts: row → its beginning, of those that the run has kept.
        n_rows: of the training set.
        n_suspects: of the training set.
    """

    rows: IntArray
    domain: IntArray | None
    domains: Sequence[str]
    region: IntArray
    regions: Sequence[str]
    suspect: BoolArray
    numbers: Mapping[str, FloatArray]
    texts: Mapping[int, str]
    n_rows: int
    n_suspects: int


@dataclass(frozen=True)
class RowSection:
    """The part of the page that lists them.

    Args:
        note: which rows these are.
        filters: what is chosen from, and its values.
        columns: of the list, and their heads.
        numeric: those that are numbers.
        data: the rows as JSON that HTML may hold.
    """

    note: str
    filters: Mapping[str, Sequence[str]]
    columns: Mapping[str, str]
    numeric: Sequence[str]
    data: Markup


def listed(
    columns: Mapping[str, NDArray[Any]],
    shown: IntArray,
    region: IntArray,
    regions: Sequence[str],
    texts: Mapping[int, str],
) -> RowList:
    """The rows of a map that its page lists.

    Args:
        columns: of the map.
        shown: numbers of the rows.
        region: of every row a place in `regions`, shape (N,).
        regions: names.
        texts: what rows say, of those of which it is known.
    """
    suspect = columns["suspect"].astype(bool)
    names, domain = group_codes(columns["domain"][shown]) if "domain" in columns else ([], None)
    numbers = {name: columns[name][shown].astype(np.float64) for name in NUMBERS if name in columns}
    known = {name: values for name, values in numbers.items() if np.isfinite(values).any()}
    return RowList(
        shown, domain, names, region[shown], regions, suspect[shown], known, texts, len(suspect), int(suspect.sum())
    )


def read_texts(path: Path) -> dict[int, str]:
    """Row → what it says, from lines that a run has kept; {} where there is no such file.

    Raises:
        DataError: it is damaged.
    """
    if not path.exists() or not path.stat().st_size:
        return {}
    found = {}
    for number, line in enumerate(read_jsonl(path), 1):
        if problem := misshapen(line, KEPT):
            raise DataError(
                f"`{path}` line {number} must be a row and its text, got something else ({problem}). Put the run's own "
                "list back, or remove it to see the rest of the run."
            )
        found[line["row"]] = in_short(*(line.get(name) or "" for name in ("prompt", "answer", "text")))
    return found


def in_short(*parts: str) -> str:
    """A row on one line: its prompt and its answer, or its text; what there is not is "".

    >>> in_short("2 + 2?", "4", "")
    '2 + 2? → 4'
    """
    short = (cut(" ".join(part.split()), SHORT, tail=SHORT // 4) for part in parts if part)
    return " → ".join(map(visible, short))


def row_section(found: RowList) -> RowSection:
    """What the page needs to list and search them.

    Args:
        found: the rows.
    """
    columns = {
        "row": found.rows.tolist(),
        **({} if found.domain is None else {"domain": found.domain.tolist()}),
        "region": found.region.tolist(),
        **{name: _rounded(values) for name, values in found.numbers.items()},
    }
    data = {
        **columns,
        "excess": columns.get("excess", [None] * len(found.rows)),
        "domain": columns.get("domain", []),
        "domains": [visible(name) for name in found.domains],
        "regions": [_words(name) for name in found.regions],
        "suspect": found.suspect.astype(int).tolist(),
        "text": [found.texts.get(row, "") for row in found.rows.tolist()],
    }
    heads = {name: words for name, words in HEADS.items() if name in columns or (name == "text" and any(data["text"]))}
    filters = {} if found.domain is None else {"domain": data["domains"]}
    return RowSection(
        note=_note(found, sum(map(bool, data["text"]))),
        filters={**filters, "region": data["regions"]},
        columns=heads,
        numeric=[name for name in heads if name not in ("domain", "region", "text")],
        data=as_json(data),
    )


def as_json(content: Json) -> Markup:
    r"""JSON that ends no element of HTML and begins none.

    >>> print(as_json({"a": "</script>"}))
    {"a":"\u003c/script>"}
    """
    from markupsafe import Markup

    return Markup(json.dumps(content, separators=(",", ":")).replace("<", "\\u003c"))


def _rounded(values: Iterable[float]) -> list[float | None]:
    """As few digits as a person reads; null where nothing is known."""
    short = (round(float(value), DIGITS) if np.isfinite(value) else None for value in values)
    return [int(value) if value is not None and value.is_integer() else value for value in short]


def _words(region: str) -> str:
    return region.replace("_", " ")


def _note(found: RowList, n_texts: int) -> str:
    n, wrong = len(found.rows), int(found.suspect.sum())
    if n == found.n_rows:
        note = f"All {n:,} rows of the training set."
    else:
        suspects = f"{wrong:,} of {found.n_suspects:,}" if wrong < found.n_suspects else f"all {wrong:,}"
        note = (
            f"{n:,} of {found.n_rows:,} rows: {suspects} suspects, and others drawn by the hash of their content. "
            "The table above counts all rows."
        )
    if 0 < n_texts < n:
        note += f" {n_texts:,} of them have their text here."
    elif not n_texts:
        note += " Their texts were not kept with this run."
    return f"{note} A click on a point of the map finds its row."
