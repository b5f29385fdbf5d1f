"""A data set by what it holds: one hash of every value of some columns, as Arrow has them in memory or on the disk.

The fingerprint that `datasets` gives is another one at each start where a function cannot be hashed, and says nothing
of a file that was changed in place. This hash is of the values: the same rows in the same sequence have the same one,
wherever they lie and however they are cut into files; one other label among a million rows gives
another. It is XXH3 with 128 bits, which `datasets` brings along: a million rows of 70 tokens take 0.1 s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from campus_tune.data.arrow_tables import arrow_tables, chosen_rows, is_arrow, whole_table
from campus_tune.words.types import RowSource

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 1 << 14  # hashed together
MOST = 32  # times the rows of a selection that the data set below it may have: hashing one of these is as fast


def content_hash(dataset: RowSource, columns: Sequence[str]) -> str | None:
    """32 hex digits that hang on every value of these columns, on its type and on its place.

    Args:
        dataset: of `datasets`.
        columns: names of columns that it has.

    Returns:
        None for rows of another kind, for columns of other things than numbers, texts, lists and structures, and for
        a few rows that were selected from very many.
    """
    if not is_arrow(dataset):
        return None
    hashed, chosen = xxhash.xxh3_128(), chosen_rows(dataset)
    if chosen is not None:  # which rows, and all that there were to choose from: one by one they cost 50 times as much
        dataset = whole_table(dataset)
        if len(dataset) > MOST * len(chosen):
            return None
        hashed.update(chosen.data)
        hashed.update(b"of these:")
    for table in arrow_tables(dataset, columns, ROWS):
        for name in columns:
            column = table[name].combine_chunks()
            hashed.update(f"{name}: {column.type}\n".encode())
            for part in _parts(column):
                if part is None:
                    return None
                hashed.update(part)
    return hashed.hexdigest()


def _parts(array: pa.Array) -> Iterator[Any]:
    """The bytes of all that an array is made of: how long it is, what is missing, and values; None for other arrays."""
    import pyarrow as pa

    kind = array.type
    yield np.array([len(array), array.null_count]).data
    if array.null_count:
        yield np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False)).data
    known = array.drop_null() if array.null_count else array  # what lies under a null is anything
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield known.value_lengths().to_numpy().data
        yield from _parts(known.flatten())
    elif pa.types.is_struct(kind):
        for part in known.flatten():
            yield from _parts(part)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        _, offsets, texts = known.buffers()
        ends = np.frombuffer(offsets or b"\0" * 8, np.int64 if pa.types.is_large_string(kind) else np.int32)
        ends = ends[known.offset : known.offset + len(known) + 1]
        yield np.diff(ends).data
        yield memoryview(texts or b"")[ends[0] : ends[-1]]
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        yield known.to_numpy(zero_copy_only=False).data
    elif not pa.types.is_null(kind):
        yield None
