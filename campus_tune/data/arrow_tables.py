"""The rows of a data set of `datasets` as Arrow's tables, and as plain Python, some thousand at a time.

TRL leaves a list of the rows that are kept upon every set that it has prepared, and through such a list `datasets`
gathers row by row: 6 µs each, more than all that is read of them. Here a stretch of rows that lie close together is
taken in one piece.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from campus_tune.words.types import IntArray, RowSource

if TYPE_CHECKING:
    import pyarrow as pa

AT_ONCE = 1 << 12  # rows
CLOSE = 4  # a stretch of the table has at most so many times the rows that are wanted of it


def is_arrow(dataset: RowSource) -> bool:
    """Whether rows lie in tables of Arrow."""
    return hasattr(dataset, "select_columns") and hasattr(dataset, "cache_files")


def chosen_rows(dataset: RowSource) -> IntArray | None:
    """Which rows of its table a data set has, in its sequence, shape (N,); None for all of them as they stand."""
    listed: Any = getattr(dataset, "_indices", None)
    return None if listed is None else np.asarray(listed.column(0).to_numpy(), dtype=np.int64)


def whole_table(dataset: Any) -> Any:
    """The data set with all rows of its table.

    Args:
        dataset: of `datasets`.
    """
    every = copy.copy(dataset)
    every._indices = None
    return every


def arrow_tables(dataset: Any, columns: Sequence[str], rows: int = AT_ONCE) -> Iterator[pa.Table]:
    """These columns of all rows, in the sequence of the data set.

    Args:
        dataset: of `datasets`.
        columns: names of columns that it has.
        rows: of a table.
    """
    told = dataset.select_columns(list(columns)).with_format("arrow")
    chosen = chosen_rows(told)
    if chosen is None:
        yield from told.iter(rows)
        return
    for start in range(0, len(chosen), rows):
        wanted = chosen[start : start + rows]
        first, last = int(wanted.min()), int(wanted.max())
        if last - first >= CLOSE * len(wanted):
            yield told[start : start + rows]
            continue
        stretch = told.data.fast_slice(first, last - first + 1).select(list(columns))
        as_they_stand = len(stretch) == len(wanted) and bool((np.diff(wanted) == 1).all())
        yield stretch if as_they_stand else stretch.combine_chunks().take(wanted - first)


def python_chunks(dataset: Any, columns: Sequence[str], rows: int = AT_ONCE) -> Iterator[dict[str, list[Any]]]:
    """The same as lists of plain Python, whatever format a user has set (`set_format("torch")` makes tensors).

    Args:
        dataset: of `datasets`.
        columns: names of columns that it has.
        rows: of a chunk.
    """
    encoded = getattr(dataset.features, "_column_requires_decoding", dict.fromkeys(columns, True))
    if any(encoded.get(name, True) for name in columns):  # images, JSON, …: `datasets` makes values of them
        yield from dataset.select_columns(list(columns)).with_format(None).iter(rows)
        return
    for table in arrow_tables(dataset, columns, rows):
        yield table.to_pydict()
