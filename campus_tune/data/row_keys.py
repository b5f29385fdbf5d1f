"""Rows of a table and rows of a training set, told to be the same by what stands in some columns of both.

Never by row number, for preparation drops and reorders rows. Values are compared as JSON with sorted keys, without null
fields (`datasets` adds those to messages); in a CSV, where all is text, an id 12 equals the cell "12".

>>> row_keys({"id": [12, None]}, ["id"], as_text=True)
['12', None]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from campus_tune.words.hashing import blake2
from campus_tune.words.wording import cut

SHOWN = 60  # characters of a key in a message


def row_keys(columns: Mapping[str, Sequence[Any]], on: Sequence[str], *, as_text: bool) -> list[str | None]:
    """One text per row that equal rows share; None for a row in which every key column is empty.

    Args:
        columns: by name, each of length N.
        on: the columns that the key is made of.
        as_text: texts stand for the numbers that they spell, for the other side is a CSV.
    """

    def plain(value: object) -> object:  # of numpy what it holds; of dates and the like their text
        return value.tolist() if isinstance(value, np.generic | np.ndarray) else str(value)

    def key(parts: tuple[Any, ...]) -> str | None:
        if all(part is None for part in parts):
            return None
        texts = [
            part
            if as_text and isinstance(part, str)
            else json.dumps(_without_nulls(part), sort_keys=True, ensure_ascii=False, default=plain)
            for part in parts
        ]
        return texts[0] if len(texts) == 1 else json.dumps(texts, ensure_ascii=False)

    return [key(parts) for parts in zip(*(columns[name] for name in on), strict=True)]


def _without_nulls(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list | tuple) else value


def short_key(key: str) -> str:
    """Content keys are whole conversations: remember 16 bytes of hash for each, not the text."""
    return key if len(key) <= 64 else blake2(key, 32)


def shown_keys(keys: Sequence[str | None]) -> str:
    """The first of them, for a message."""
    return ", ".join("null" if key is None else cut(key, SHOWN) for key in keys[:3])
