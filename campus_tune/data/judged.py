"""Rows of the training set that a person has marked in a file.

A marked row is found by what it says, never by its number: by the columns `on` that both sides share, by the `key` that
`curriculum/dropped.jsonl` gives each row, or by its words, where the file's rows are those of the training file. What a
person marked and nobody finds is an error: it would be trained on.
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
from campus_tune.words.hashing import text_keys
from campus_tune.words.registry import nearest
from campus_tune.words.types import Json, RowArray
from campus_tune.words.wording import cut, listed, shown

KEY, VERDICT = "key", "verdict"  # columns of the file
WRONG = "wrong"  # of the verdicts: the row is dropped
VERDICTS = (WRONG, "right", "unsure")
SHOWN = 3  # rows that a message names


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
        keys = self.content if self.said is None else text_keys(self.said.whole)
        return [f"{key:016x}" for key in keys.tolist()]


def judged_wrong(path: str | Path, known: Known, *, on: Sequence[str] = ()) -> RowArray:
    """The training rows that a file marks as wrong, in its sequence, each once.

    Args:
        path: JSON lines, CSV or parquet; a column `verdict` says wrong, right or unsure, and only wrong rows count.
            Without it every row is one.
        known: what training rows are found by.
        on: columns that both share; () finds rows by `key` or by what they say.

    Raises:
        DataError: a file that cannot be read, another verdict, columns that are not there, rows that are no training
            rows.
    """
    rows = read_table(path)
    for number, row in enumerate(rows):
        if row.get(VERDICT) not in (*VERDICTS, None, ""):
            said = str(row[VERDICT])
            raise DataError(
                f"`{path}` row {number} must have a {VERDICT} of {', '.join(VERDICTS)}, got {shown(said)}."
                f"{nearest(said, VERDICTS)} Correct it, or leave the column out."
            )
    theirs, ours = _both(path, rows, known, on)
    places: dict[object, list[int]] = defaultdict(list)
    for place, key in enumerate(ours):
        places[key].append(place)
    lost = [number for number, key in enumerate(theirs) if key is None or key not in places]
    if lost:
        first = listed([f"row {number}: {cut(str(rows[number]), 60)}" for number in lost], SHOWN)
        raise DataError(
            f"`{path}` must hold rows of the training set, got {len(lost)} of {len(rows)} that are none ({first}). "
            "Remove them, name the columns that both have in `on`, or give the training file that they were judged in."
        )
    wrong = [theirs[number] for number, row in enumerate(rows) if row.get(VERDICT) in (WRONG, None, "")]
    return np.array([place for key in dict.fromkeys(wrong) for place in places[key]], dtype=np.int32)


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
        return [str(row[KEY]) for row in rows], known.keys()
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
