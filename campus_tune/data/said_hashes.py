"""What is said in all rows of a training set as hashes, some thousand rows at a time: which say the same again.

The words of a million rows are some GB; their hashes are 32 MB, and say which row equals an earlier one and which
prompts are answered in two ways (`duplicates`). 200 000 rows of 70 words took 11 s of one core and 15 MB
(`eval/bench_map.py`), so there is no number of rows from which on it is not done; the next run finds them (`readings`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.arrow_tables import is_arrow, python_chunks
from campus_tune.data.duplicates import contradicting, first_of_each
from campus_tune.data.prepared import CHUNK, SLOW, TOKEN_COLUMNS, column_names, items
from campus_tune.data.readings import Readings
from campus_tune.data.said import Said
from campus_tune.data.shapes import Shape, columns_read
from campus_tune.data.word_hashes import Hashes, row_hashes
from campus_tune.words.errors import DataError
from campus_tune.words.hashing import digest, hex_keys, text_keys
from campus_tune.words.progress import bar
from campus_tune.words.types import BoolArray, Json, RowArray, RowSource

HASHES = ("keys", "whole", "asked", "answered")


@dataclass(frozen=True, eq=False)
class SaidHashes:
    """The rows of a training set, known by hashes.

    Args:
        keys: of what each row says, as `Known.keys` has them: of its text, or of its tokens where it came as such,
            shape (N,).
        whole: of the words of each row, 0 for none, shape (N,); of its tokens where it came as such.
        asked: of the words of its prompt, 0 for none, shape (N,).
        answered: of the words of its answer, shape (N,).
    """

    keys: NDArray[np.uint64]
    whole: Hashes
    asked: Hashes
    answered: Hashes

    @staticmethod
    def read(
        dataset: RowSource,
        shape: Shape,
        content: NDArray[np.uint64],
        *,
        end: str = "",
        readings: Readings | None = None,
    ) -> SaidHashes:
        """Read a prepared training set.

        Args:
            dataset: with the columns that its user gave it.
            shape: what the trainer's settings say of the rows.
            content: 64-bit hashes of their tokens, shape (N,).
            end: of sequence: TRL appends it to plain texts, and no user's file has it.
            readings: what was read of data sets before.
        """
        names = _names(dataset, shape)

        def hashes(part: RowSource) -> dict[str, Hashes]:
            columns: list[tuple[Hashes, ...]] = []
            with bar(total=len(part), desc="comparing texts", unit="row", delay=SLOW) as progress:
                for rows in _chunks(part, names):
                    said = Said.of_rows(rows, shape, end=end)
                    of_words = map(row_hashes, (said.whole, said.prompts, said.answers))
                    columns.append((text_keys(said.whole), *of_words))
                    progress.update(len(rows))
            return dict(zip(HASHES, map(np.concatenate, zip(*columns, strict=True)), strict=True))

        if names:
            what = f"said-{digest([vars(shape), end], 16)}"
            with suppress(DataError):  # what the columns are called was chance
                return SaidHashes(**(readings or Readings()).take(what, dataset, hashes, names))
        nothing = np.zeros(len(content), dtype=np.uint64)
        return SaidHashes(content, content, nothing, nothing)

    def hex_keys(self) -> list[str]:
        """The keys as files have them: 16 hex digits each."""
        return hex_keys(self.keys)

    @cached_property
    def duplicate_of(self) -> RowArray:
        """The first row with the words of each row where that is an earlier one, else −1, shape (N,)."""
        first = first_of_each(self.whole, unlike=self.whole == 0)
        return np.where(first == np.arange(len(first)), -1, first).astype(np.int32)

    @cached_property
    def contradicting(self) -> BoolArray:
        """Rows whose prompt has another answer in another row, shape (N,)."""
        found = np.zeros(len(self.whole), dtype=np.bool_)
        found[[row for rows in contradicting(self.asked, self.answered) for row in rows]] = True
        return found


def said_in(dataset: RowSource, rows: Sequence[int], shape: Shape, *, end: str = "") -> Said | None:
    """What some rows of a training set say; None where they came as tokens.

    Args:
        dataset: as for `SaidHashes.read`.
        rows: positions in it.
        shape: what the trainer's settings say of the rows.
        end: of sequence, as above.
    """
    names = _names(dataset, shape)
    try:
        picked = items(_plain(dataset), rows) if names else []
        return Said.of_rows([{name: row[name] for name in names} for row in picked], shape, end=end) if names else None
    except DataError:
        return None


def _names(dataset: RowSource, shape: Shape) -> Sequence[str]:
    """The columns that say it; none where there are none, or no rows."""
    names = [name for name in column_names(dataset) if name not in TOKEN_COLUMNS]
    if not names or not len(dataset):
        return ()
    first = _plain(dataset)[0]
    return columns_read({name: first[name] for name in names}, names, shape) or ()


def _chunks(dataset: RowSource, names: Sequence[str]) -> Iterator[list[Json]]:
    """These columns of all rows, some thousand rows at a time."""
    if is_arrow(dataset):
        for chunk in python_chunks(dataset, names, CHUNK):
            yield [
                dict(zip(names, values, strict=True)) for values in zip(*(chunk[name] for name in names), strict=True)
            ]
        return
    for start in range(0, len(dataset), CHUNK):
        picked = items(dataset, range(start, min(start + CHUNK, len(dataset))))
        yield [{name: row[name] for name in names} for row in picked]


def _plain(dataset: RowSource) -> Any:
    """The rows as plain Python: a user's `set_format("torch")` would make tensors of numbers."""
    return dataset.with_format(None) if hasattr(dataset, "with_format") else dataset
