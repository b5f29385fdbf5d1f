"""Rows of the training set that a person has marked in a file.

A marked row is found by what it says, never by its number: by the columns `on` that both sides share, by the `key` that
`campus-tune suspects` and `curriculum/dropped.jsonl` give each row, or by its words, where the file's rows are those of
the training file. What a person marked and nobody finds is an error: it would be trained on.

A mark is `keep` (true stays, false is dropped, null was not judged: what `campus-tune suspects --judge` writes), or a
`verdict` (wrong, right, unsure). In a file that has neither every row is wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.row_keys import row_keys, short_key
from campus_tune.data.said import Said
from campus_tune.data.shapes import Shape
from campus_tune.data.word_hashes import row_hashes
from campus_tune.words.errors import DataError
from campus_tune.words.files import read_table
from campus_tune.words.hashing import hex_keys, text_keys
from campus_tune.words.registry import nearest
from campus_tune.words.types import Json, RowArray
from campus_tune.words.wording import cut, listed, shown

KEY, CONTENT, VERDICT, KEEP = "key", "content", "verdict", "keep"  # columns of the file
WRONG = "wrong"  # of the verdicts: the row is dropped
VERDICTS = (WRONG, "right", "unsure")
KEPT = {WRONG: False, "right": True, "unsure": None}  # what each verdict says of keeping the row
IN_CSV = {"true": True, "false": False, "": None}  # all cells of a CSV are text
SHOWN = 3  # rows that a message names
FEW = 0.5  # part of a file's rows below which it was judged in another data set


@dataclass(frozen=True)
class Known:
    """What the training rows can be found by.

    Args:
        columns: of the training set by name, each of length N.
        said: in each of them; None where they came as tokens.
        shape: what the trainer's settings say of rows.
        content: 64-bit hashes of their tokens, shape (N,).
    """

    columns: Mapping[str, Sequence[Any]]
    said: Said | None
    shape: Shape
    content: NDArray[np.uint64]

    def keys(self) -> list[str]:
        """16 hex digits for each row that say which it is, by its text, or by its tokens where it came as such."""
        return self.contents() if self.said is None else keys_of(self.said.whole)

    def contents(self) -> list[str]:
        """16 hex digits for each row that say which tokens it has."""
        return hex_keys(self.content)


def keys_of(texts: Sequence[str]) -> list[str]:
    """16 hex digits for each text that say what stands in it."""
    return hex_keys(text_keys(texts))


def judged_wrong(path: str | Path, known: Known, *, on: Sequence[str] = ()) -> RowArray:
    """The training rows that a file marks as wrong, in its sequence, each once.

    Args:
        path: JSON lines, CSV or parquet; a column `keep` says true, false or null, or a column `verdict` wrong, right
            or unsure, and only wrong rows count. Without both every row is one.
        known: what training rows are found by.
        on: columns that both share; () finds rows by `key` or by what they say.

    Raises:
        DataError: a file that cannot be read, another mark, two marks of one row that disagree, columns that are not
            there, rows that are no training rows.
    """
    rows = read_table(path)
    kept = kept_of(path, rows)
    theirs, ours = _both(path, rows, known, on)
    places: dict[object, list[int]] = defaultdict(list)
    for place, key in enumerate(ours):
        places[key].append(place)
    # A row that nobody judged is not missed, unless all of them are of other data.
    has_keep = any(KEEP in row for row in rows)
    lost = [number for number, key in enumerate(theirs) if key is None or key not in places]
    if lost and len(lost) > (1 - FEW) * len(rows):
        raise _lost(path, rows, lost, "judged in another data set")
    lost = [number for number in lost if not has_keep or kept[number] is not None]
    if lost:
        raise _lost(path, rows, lost, "changed since or not there any more")
    marks: dict[object, int] = {}
    for number, key in enumerate(theirs):
        if kept[number] is None:
            continue
        first = marks.setdefault(key, number)
        if kept[first] is not kept[number]:
            raise DataError(
                f"`{path}` must judge each row once, got both answers in its rows {first} and {number}: "
                f"{cut(str(rows[number]), 60)}. Remove one of them."
            )
    wrong = [key for key, number in marks.items() if kept[number] is False]
    return np.array([place for key in wrong for place in places[key]], dtype=np.int32)


def kept_of(path: str | Path, rows: Sequence[Json]) -> list[bool | None]:
    """What a file says of keeping each of its rows: true it stays, false it is wrong, None nobody has judged.

    Args:
        path: of the file, for messages.
        rows: of it, as they were read.

    Raises:
        DataError: another mark, or `verdict` and `keep` that disagree.
    """
    has_keep = any(KEEP in row for row in rows)
    found: list[bool | None] = []
    for number, row in enumerate(rows):
        verdict = row.get(VERDICT) or None
        if verdict not in (*VERDICTS, None):
            said = str(verdict)
            raise DataError(
                f"`{path}` row {number} must have a {VERDICT} of {', '.join(VERDICTS)}, got {shown(said)}."
                f"{nearest(said, VERDICTS)} Correct it, or leave the column out."
            )
        told = _keep(path, number, row)
        by_verdict = KEPT.get(verdict or WRONG) if verdict or not has_keep else None
        if None not in (told, by_verdict) and told is not by_verdict:
            raise DataError(
                f"`{path}` row {number} must have a {VERDICT} and a {KEEP} that agree, got {verdict} and "
                f"{str(told).lower()}. Leave one of the columns out, or set {KEEP} to {str(by_verdict).lower()}."
            )
        found.append(by_verdict if told is None else told)
    return found


def _keep(path: str | Path, number: int, row: Json) -> bool | None:
    """What the column `keep` of one row says."""
    value = row.get(KEEP)
    if str(path).endswith(".csv") and isinstance(value, str):
        value = IN_CSV.get(value.strip().lower(), value)
    if value is None or isinstance(value, bool):
        return value
    raise DataError(
        f"`{path}` row {number} must have a {KEEP} of true, false or null, got {shown(value)}. Write false for a row "
        "that is wrong, true for one that stays."
    )


def _lost(path: str | Path, rows: Sequence[Json], lost: Sequence[int], why: str) -> DataError:
    """Rows of a file that are no training rows."""
    first = listed([f"row {number}: {cut(str(rows[number]), 60)}" for number in lost], SHOWN)
    return DataError(
        f"`{path}` must hold rows of the training set, got {len(lost)} of {len(rows)} that are none ({first}): {why}. "
        "Remove them, name the columns that both have in `on`, or give the training file that they were judged in."
    )


def _both(
    path: str | Path, rows: Sequence[Json], known: Known, on: Sequence[str]
) -> tuple[Sequence[object], Sequence[object]]:
    """What tells rows apart, of the file's rows and of the training rows; None is like no other."""
    if on:
        _refuse_missing(on, list(dict.fromkeys(name for row in rows for name in row)), f"`{path}`")
        _refuse_missing(on, list(known.columns), "the training set")
        as_text = str(path).endswith(".csv")
        table = {name: [row.get(name) for row in rows] for name in on}
        both = (row_keys(one, on, as_text=as_text) for one in (table, known.columns))
        theirs, ours = ([None if key is None else short_key(key) for key in keys] for keys in both)
        return theirs, ours
    if all(row.get(KEY) for row in rows):
        keys = known.keys()
        by_content = dict(zip(reversed(known.contents()), reversed(keys), strict=True))  # of equal ones the first
        there = set(keys)
        named = [str(row[KEY]) for row in rows]
        found = [by_content.get(str(row.get(CONTENT)), key) for key, row in zip(named, rows, strict=True)]
        return [key if key in there else other for key, other in zip(named, found, strict=True)], keys
    if known.said is None:
        raise DataError(
            f"`{path}` must have a column {KEY} (curriculum/dropped.jsonl has it), or share columns with the training "
            f"set that `on` names, for the training rows came as tokens, got the columns {', '.join(rows[0])}. Add one."
        )
    said = Said.of_rows(rows, known.shape)
    both = (row_hashes(texts).tolist() for texts in (said.whole, known.said.whole))
    theirs, ours = ([key or None for key in keys] for keys in both)
    return theirs, ours


def _refuse_missing(on: Sequence[str], columns: Sequence[str], where: str) -> None:
    for name in on:
        if name not in columns:
            raise DataError(
                f"`drop: on` must name columns of {where} ({', '.join(columns)}), got {name!r}."
                f"{nearest(name, columns)} Name columns that both have."
            )
