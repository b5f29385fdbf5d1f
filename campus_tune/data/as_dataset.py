"""Rows of a file as a `datasets.Dataset`: every column of every row, or a sentence about the value that fits in none.

`Dataset.from_list` takes the columns of the first row alone and leaves out, in silence, what only later rows have; a
value that its column cannot hold it answers with Arrow's words, which name no row.

Of rows in memory `datasets` keeps nothing that it makes: a million rows would be tokenised at every start. So many rows
go through a file in its cache, found by what they hold, and what is made of that file `datasets` finds again itself.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from campus_tune.data.contents import content_hash
from campus_tune.data.refusals import SHORT
from campus_tune.words.errors import DataError
from campus_tune.words.files import STALE
from campus_tune.words.types import Json
from campus_tune.words.wording import shown

LARGEST = 2**63 - 1  # a whole number that a column holds
MANY = 10_000  # rows from which on they lie on the disk: tokenising fewer takes seconds
FOLDER = "campus_tune"  # in the cache of `datasets`
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


def found_again(dataset: Any) -> Any:
    """The same rows, many of them from a file: the next start finds what a trainer has made of them.

    Where that file is damaged it is written again; where none can be written, the rows stay as they are.

    Args:
        dataset: of `datasets`, in memory.
    """
    if len(dataset) < MANY or not datasets.is_caching_enabled():
        return dataset
    content = content_hash(dataset, dataset.column_names)
    if content is None:
        return dataset
    path = Path(datasets.config.HF_DATASETS_CACHE, FOLDER, content)
    there, found = path.exists(), _read_back(path, content)
    if found is None:
        written = path.with_name(f".{content}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
        try:
            dataset.save_to_disk(written)
            if there:  # and is damaged
                shutil.rmtree(path, ignore_errors=True)
            written.rename(path)
            _sweep(path.parent)
        except OSError:  # no room, not ours to write to, or another process was faster
            shutil.rmtree(written, ignore_errors=True)
        found = _read_back(path, content)
    return dataset if found is None else found


def _sweep(folder: Path) -> None:
    """Remove what killed writers left."""
    for left in folder.glob(".*.tmp"):
        with suppress(FileNotFoundError):  # another process was faster
            if time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left, ignore_errors=True)


def _read_back(path: Path, content: str) -> Any:
    """The rows in a folder, if they are those; else None."""
    with suppress(OSError, ValueError, KeyError, TypeError, pa.ArrowException):  # whatever a damaged file makes of it
        found = datasets.load_from_disk(path, keep_in_memory=False)
        if content_hash(found, found.column_names) == content:
            return found
    return None


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
