"""Tokenised rows that lie one after the other, column by column: as Arrow has them, so that no row is a Python object.

A list column of Arrow is its values in one piece and where each row ends. What is asked of every token is asked of the
whole piece, and only counts and hashes are per row. Lists that Arrow holds in another way (nested, with nulls, texts),
and rows that are no data set of `datasets`, come as one array a row; the same arrays are made of them, or it is said
which row has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.token_hashes import IGNORED
from campus_tune.words.errors import DataError
from campus_tune.words.types import BoolArray, IntArray
from campus_tune.words.wording import shown

if TYPE_CHECKING:
    import pyarrow as pa

MASKS = ("completion_mask", "assistant_masks")  # how trl < 1.7 says which tokens are the answer
PADDING = "attention_mask"  # leaves out the padding of rows that were tokenised with padding=…
PIECE = 1 << 14  # tokens looked at together: larger arrays than that the kernel hands out anew, page by page


@dataclass(frozen=True)
class FlatRows:
    """Some rows.

    Args:
        lengths: tokens of each row, shape (n,).
        columns: a value of each token by column, `input_ids` among them, all of shape (T,).
    """

    lengths: IntArray
    columns: Mapping[str, NDArray[Any]]

    @staticmethod
    def of_table(table: pa.Table) -> FlatRows:
        """The rows of an Arrow table.

        Raises:
            DataError: as for `of_rows`.
        """
        lists = {name: _list_of_numbers(table[name]) for name in table.column_names}
        lengths, _ = lists["input_ids"] or (None, None)
        columns: dict[str, NDArray[Any]] = {}
        for name, found in lists.items():
            if lengths is None or found is None or not np.array_equal(found[0], lengths):
                rows = {name: table[name].to_pylist() for name in table.column_names}
                return FlatRows.of_rows({name: [np.asarray(row) for row in column] for name, column in rows.items()})
            columns[name] = found[1]
        assert lengths is not None
        return FlatRows(lengths, columns)

    @staticmethod
    def of_rows(chunk: Mapping[str, Sequence[NDArray[Any]]]) -> FlatRows:
        """The same of one array for each row.

        Args:
            chunk: by column.

        Raises:
            DataError: a row's columns are of several lengths, or a column has what is no number (the row is named).
        """
        _refuse_uneven(chunk)
        lengths = np.array([len(ids) for ids in chunk["input_ids"]], dtype=np.int64)
        none = [np.zeros(0, dtype=np.int64)]
        return FlatRows(lengths, {name: np.concatenate([*none, *rows]) for name, rows in chunk.items()})

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def ends(self) -> IntArray:
        """Where each row ends among the tokens, shape (n,)."""
        return np.cumsum(self.lengths)

    @property
    def ids(self) -> NDArray[Any]:
        """Token ids, shape (T,)."""
        return self.columns["input_ids"]

    @property
    def labels(self) -> NDArray[Any]:
        """Their labels, shape (T,); the tokens themselves where no column says otherwise."""
        return self.columns.get("labels", self.ids)

    @cached_property
    def real(self) -> BoolArray | None:
        """Which tokens are no padding, shape (T,); None where nothing says that any is."""
        return self.columns[PADDING] != 0 if PADDING in self.columns else None

    @cached_property
    def carries_loss(self) -> BoolArray:
        """Which tokens carry loss, shape (T,); the first of a row never does, for nothing predicts it."""
        if "labels" in self.columns:
            mask: BoolArray = self.columns["labels"] != IGNORED
        else:
            mask = np.ones(len(self.ids), dtype=np.bool_)
            for name in (*MASKS, PADDING):
                if name in self.columns:
                    mask &= self.columns[name] != 0
        mask[(self.ends - self.lengths)[self.lengths > 0]] = False
        return mask

    def counts(self, which: BoolArray) -> IntArray:
        """How many tokens of each row are among these, shape (n,).

        Args:
            which: of the tokens, shape (T,).
        """
        sums = np.append(0, np.cumsum(which, dtype=np.int64))
        return np.asarray(sums[self.ends] - sums[self.ends - self.lengths], dtype=np.int64)

    def runs(self) -> tuple[list[NDArray[Any]], IntArray]:
        """(The labels of each unbroken run of tokens that carry loss, how many runs each row has, shape (n,))."""
        edges = np.flatnonzero(np.diff(self.carries_loss, prepend=False, append=False)).reshape(-1, 2)
        rows = np.searchsorted(self.ends, edges[:, 0], side="right")  # none crosses a row: its first token is in none
        return [self.labels[start:end] for start, end in edges], np.bincount(rows, minlength=len(self))

    def pieces(self) -> Iterator[FlatRows]:
        """The same rows, some at a time: about `PIECE` tokens, one row at least."""
        start = 0
        while start < len(self):
            first = int(self.ends[start] - self.lengths[start])
            stop = max(start + 1, int(np.searchsorted(self.ends, first + PIECE, side="right")))
            tokens = slice(first, int(self.ends[stop - 1]))
            yield FlatRows(self.lengths[start:stop], {name: flat[tokens] for name, flat in self.columns.items()})
            start = stop

    def each(self, *arrays: NDArray[Any]) -> Iterator[tuple[Any, ...]]:
        """Row by row what these arrays, each of shape (T,), say of its tokens."""
        for start, end in zip((self.ends - self.lengths).tolist(), self.ends.tolist(), strict=True):
            yield tuple(array[start:end] for array in arrays)


def _list_of_numbers(column: pa.ChunkedArray) -> tuple[IntArray, NDArray[Any]] | None:
    """(Length of each list, all values) of a column; None where that is not all there is to it."""
    import pyarrow as pa

    kind = column.type
    known = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not known or not (pa.types.is_integer(kind.value_type) or pa.types.is_boolean(kind.value_type)):
        return None
    lists = column.combine_chunks()
    values = lists.flatten()
    if lists.null_count or values.null_count:
        return None
    return lists.value_lengths().to_numpy().astype(np.int64), values.to_numpy(zero_copy_only=False)


def _refuse_uneven(chunk: Mapping[str, Sequence[NDArray[Any]]]) -> None:
    """Every token of a row has a number in each of its columns; a collator would pad what is missing, or break."""
    for name, values in chunk.items():
        for ids, value in zip(chunk["input_ids"], values, strict=True):
            if value.shape != ids.shape or value.ndim != 1:
                raise DataError(
                    f"`{name}` of a tokenised row must have one number for each of its tokens, got the shape "
                    f"{value.shape} for input_ids of shape {ids.shape}. Tokenise again the rows that this names: [i "
                    f"for i, row in enumerate(dataset) if len(row[{name!r}]) != len(row['input_ids'])]"
                )
            if value.dtype.kind not in "iubf" and len(value):
                odd = next(one for one in value.tolist() if not isinstance(one, Number))
                raise DataError(
                    f"`{name}` of a tokenised row must have a number for each of its tokens, got {shown(odd)}. "
                    "Tokenise again the rows that this names: [i for i, row in enumerate(dataset) if any(not "
                    f"isinstance(one, int) for one in row[{name!r}])]"
                )
