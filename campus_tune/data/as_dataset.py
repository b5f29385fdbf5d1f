"""Rows of a file as a `datasets.Dataset`: every column of every row, or a sentence about the value that fits in none.

`Dataset.from_list` takes the columns of the first row alone and leaves out, in silence, what only later rows have; a
value that its column cannot hold it answers with Arrow's words, which name no row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import datasets
import pyarrow as pa

from campus_tune.data.refusals import SHORT
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json
from campus_tune.words.wording import shown

LARGEST = 2**63 - 1  # a whole number that a column holds
REFUSALS = (pa.ArrowException, OverflowError, TypeError, ValueError)


def as_dataset(rows: Sequence[Json], what: str) -> Any:
    """The rows with all their columns; what a row lacks is null.

    Args:
        rows: of a file.
        what: its name in messages.

    Raises:
        DataError: a value that its column cannot hold; row and column are named.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    try:
        return datasets.Dataset.from_dict(columns)
    except REFUSALS as error:
        for name, values in columns.items():
            if not _fits(name, values):
                raise DataError(f"`{what}` {_misfit(name, values)}") from error
        raise


def _fits(name: str, values: Sequence[Any]) -> bool:
    try:
        datasets.Dataset.from_dict({name: values})
    except REFUSALS:
        return False
    return True


def _misfit(name: str, values: Sequence[Any]) -> str:
    """The first value that does not fit to those before it, and what to do."""
    fits, fails = 0, len(values)  # so many of the first values make a column, so many do not
    while fails - fits > 1:
        middle = (fits + fails) // 2
        fits, fails = (middle, fails) if _fits(name, values[:middle]) else (fits, middle)
    value = values[fits]
    found = f"row {fits}: `{name}` must be"
    got = shown(value, SHORT)
    if isinstance(value, int) and abs(value) > LARGEST:
        return f"{found} a whole number of at most {LARGEST}, got {got}. Write text in all rows, or a float."
    if any("\ud800" <= letter <= "\udfff" for letter in json.dumps(value, ensure_ascii=False, default=str)):
        return f"{found} text that can be stored, got {got}, which has half a surrogate pair. Take it out of the row."
    before = next((_kind(other) for other in values[:fits] if other is not None), "nothing")
    return (
        f"{found} of the same kind in all rows, got {got} ({_kind(value)}) after {before}. Write one kind into the "
        "whole column, text for example, or leave the column out."
    )


def _kind(value: object) -> str:
    """What a value is, in a list what its entries are."""
    name = type(value).__name__
    return f"{name} of {_kind(value[0])}" if isinstance(value, list) and value else name
