"""The prepared training set as arrays: token counts, content hashes, what is trained as text.

A row's index is not its id: trl drops rows whose answer is cut off and may shuffle, so everything here is read
*after* preparation, by position, and user scores are joined on columns (`metrics.column`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.arrow_tables import arrow_tables, is_arrow, python_chunks
from campus_tune.data.flat_rows import MASKS, PADDING, FlatRows
from campus_tune.data.readings import Readings
from campus_tune.data.token_hashes import hash_flat
from campus_tune.data.tokenizers import tokenizer_fingerprint
from campus_tune.words.errors import DataError
from campus_tune.words.hashing import array_digest, text_keys
from campus_tune.words.progress import bar
from campus_tune.words.types import BoolArray, IntArray, RowSource, RowTexts, Tokenizer
from campus_tune.words.wording import listed

CHUNK = 4096  # rows read at a time
SLOW = 2.0  # seconds after which a progress bar shows
NO_ROWS = "Check the path, the split and filters; where TRL left out rows whose answers are cut off, raise max_length."
TOKEN_COLUMNS = ("input_ids", "labels", *MASKS, PADDING)


@dataclass(frozen=True)
class TokenRows:
    """What the curriculum needs to know of every prepared row.

    Args:
        tokens: all tokens of each row, padding that is stored with it included, shape (N,).
        answer_tokens: tokens that carry loss, shape (N,).
        content: a 64-bit hash of each row's token ids without padding, shape (N,); equal rows have equal hashes.
        padding: of them, tokens that `attention_mask` leaves out, shape (N,).
        trained: a 64-bit hash of each row's token ids, of which of them carry loss, and of their labels, shape (N,):
            what a loss hangs on.
        shown: the hash of its tokens that is made of what reaches the model (`data.token_hashes`), shape (N,).
        shown_labels: the same of its labels, shape (N,).
    """

    tokens: IntArray
    answer_tokens: IntArray
    content: NDArray[np.uint64]
    padding: IntArray
    trained: NDArray[np.uint64]
    shown: NDArray[np.uint64]
    shown_labels: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def prompt_tokens(self) -> IntArray:
        """Tokens of each row that carry no loss, padding aside, shape (N,)."""
        return self.tokens - self.padding - self.answer_tokens

    def fingerprint(self) -> str:
        """One number for the whole set in its sequence, as 16 hex digits."""
        return array_digest(self.content)


def read_rows(dataset: RowSource, *, what: str = "train_dataset", readings: Readings | None = None) -> TokenRows:
    """Token counts and content hashes of every row of a prepared dataset.

    Args:
        dataset: as the collator will see it, unused columns removed.
        what: its name in messages.
        readings: what was read of large data sets before.

    Raises:
        DataError: no `input_ids` column, or rows without a token that carries loss (named by position).
    """
    refuse_untokenised(dataset, what=what)
    if not len(dataset):
        raise DataError(f"`{what}` must have at least one row, got none. {NO_ROWS}")
    rows = TokenRows(**(readings or Readings()).take("rows", dataset, _read_arrays, token_columns(dataset)))
    silent = np.flatnonzero(rows.answer_tokens == 0)
    if len(silent):
        raise DataError(
            f"every row of `{what}` must have at least one token that carries loss, got {len(silent)} without "
            f"(rows {listed(silent.tolist(), 5)}). Their answers are empty or "
            "cut off, or the data collator masks them: remove them, raise max_length, or correct the collator."
        )
    return rows


def refuse_untokenised(dataset: RowSource, *, what: str = "train_dataset") -> None:
    """Refuse rows that no trainer has prepared, before one looks for the columns that its model reads.

    Raises:
        DataError: so it is.
    """
    names = column_names(dataset)
    if "input_ids" not in names:
        raise DataError(
            f"`{what}` must have input_ids once it is prepared, got the columns {', '.join(names)}. Tokenise it before "
            "a plain Trainer, into input_ids and labels; drop skip_prepare_dataset for SFTTrainer; image datasets are "
            "not supported."
        )


def token_counts(dataset: RowSource) -> IntArray:
    """Tokens of each prepared row, padding that is stored with it included, shape (N,)."""
    return np.concatenate([np.zeros(0, dtype=np.int64), *(rows.lengths for rows in _flat(dataset))])


def read_content(dataset: RowSource) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The hashes of each row's token ids alone, `content` and `shown` of `TokenRows`, each of shape (N,)."""
    rows = TokenRows(**_read_arrays(dataset))
    return rows.content, rows.shown


def _read_arrays(dataset: RowSource) -> dict[str, NDArray[Any]]:
    """The fields of `TokenRows`."""
    parts = []
    with bar(total=len(dataset), desc="reading", unit="row", delay=SLOW) as progress:
        for rows in _flat(dataset):
            parts += [vars(_token_rows(piece)) for piece in rows.pieces()]
            progress.update(len(rows))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _token_rows(rows: FlatRows) -> TokenRows:
    """Those of some rows."""
    ids, labels, carries, lengths = rows.ids, rows.labels, rows.carries_loss, rows.lengths
    if rows.real is not None:
        ids, labels, carries, lengths = ids[rows.real], labels[rows.real], carries[rows.real], rows.counts(rows.real)
    content, *hashes = hash_flat(ids, labels, carries, lengths)
    return TokenRows(rows.lengths, rows.counts(rows.carries_loss), content, rows.lengths - lengths, *hashes)


def read_texts(
    dataset: RowSource, rows: TokenRows, tokenizer: Tokenizer | None, *, trained: RowSource | None = None
) -> RowTexts:
    """The rows as CPU metrics see them: what carries loss, decoded, and the columns as they stand.

    Args:
        dataset: prepared, further columns included.
        rows: token counts.
        tokenizer: that decodes; may be None where no metric reads texts.
        trained: the rows as the collator makes them (`model.trained.as_trained`); None where the columns say it.
    """
    return RowTexts(
        response_text=AnswerTexts(dataset if trained is None else trained, tokenizer),
        response_tokens=rows.answer_tokens,
        prompt_tokens=np.maximum(0, rows.tokens - rows.padding - rows.answer_tokens),
        columns={name: read_column(dataset, name) for name in column_names(dataset) if name not in TOKEN_COLUMNS},
    )


def read_column(dataset: RowSource, name: str) -> Sequence[Any]:
    """The values of one column of any map-style dataset, as plain Python, read when first asked for."""
    return _Column(dataset, name)


class AnswerTexts(Sequence[str]):
    """What is trained of each row as text, decoded when it is first asked for.

    Args:
        trained: the rows as they are trained.
        tokenizer: that decodes.
    """

    def __init__(self, trained: RowSource, tokenizer: Tokenizer | None) -> None:
        self._trained, self._tokenizer = trained, tokenizer

    @cached_property
    def _texts(self) -> list[str]:
        if self._tokenizer is None or not hasattr(self._tokenizer, "batch_decode"):
            raise DataError(
                f"text metrics must have a tokenizer to decode what is trained, got {type(self._tokenizer).__name__}. "
                "Pass processing_class=tokenizer to the trainer."
            )
        texts = _decoded(self._trained, self._tokenizer)
        return list(bar(texts, total=len(self), desc="decoding", unit="row", delay=SLOW))

    def keys(self, readings: Readings) -> NDArray[np.uint64]:
        """The content key of each text, shape (N,), without decoding a large data set that was read before."""
        tokenizer, fingerprint = self._tokenizer, tokenizer_fingerprint(self._tokenizer)
        if tokenizer is None or fingerprint is None:
            return text_keys(self._texts)

        def read(part: RowSource) -> dict[str, NDArray[Any]]:
            texts = self._texts if part is self._trained else list(_decoded(part, tokenizer))
            return {"content": text_keys(texts)}

        return readings.take(f"texts-{fingerprint[:16]}", self._trained, read, token_columns(self._trained))["content"]

    def __len__(self) -> int:
        return len(self._trained)

    def __getitem__(self, row: int | slice) -> Any:
        return self._texts[row]


class _Column(Sequence[Any]):
    """One column, read when it is first asked for."""

    def __init__(self, dataset: RowSource, name: str) -> None:
        self._dataset, self._name = dataset, name

    @cached_property
    def _values(self) -> list[Any]:
        if is_arrow(self._dataset):
            chunks = python_chunks(self._dataset, [self._name], CHUNK)
            return [value for chunk in chunks for value in chunk[self._name]]
        return [self._dataset[row][self._name] for row in range(len(self._dataset))]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, row: int | slice) -> Any:
        return self._values[row]


def _decoded(trained: RowSource, tokenizer: Tokenizer) -> Iterator[str]:
    """The tokens of each row that carry loss as text; a line for each of several answers."""
    for rows in _flat(trained):
        runs, counts = rows.runs()
        lists = [run.tolist() for run in runs]
        texts = iter(tokenizer.batch_decode(lists, skip_special_tokens=True, clean_up_tokenization_spaces=False))
        yield from (next(texts) if n == 1 else "\n".join(islice(texts, n)) for n in counts.tolist())


def answer_masks(chunk: dict[str, Sequence[Any]]) -> list[BoolArray]:
    """Which tokens carry loss, per row; the first token of a row never does, for nothing predicts it.

    Args:
        chunk: token columns of some rows.
    """
    rows = FlatRows.of_rows({name: list(map(np.asarray, values)) for name, values in chunk.items()})
    return [mask for (mask,) in rows.each(rows.carries_loss)]


def items(dataset: RowSource, rows: Sequence[int]) -> list[Any]:
    """Rows of any map-style dataset, in this sequence; in one read where it can, which is twice as fast."""
    many = getattr(dataset, "__getitems__", None)
    return list(many(list(rows))) if many else [dataset[row] for row in rows]


def column_names(dataset: RowSource) -> list[str]:
    """Names of the columns of a `datasets.Dataset` or of any map-style dataset of dicts."""
    if hasattr(dataset, "column_names"):
        return list(dataset.column_names)
    return list(dataset[0]) if len(dataset) else []


def token_columns(dataset: RowSource) -> list[str]:
    """Those of the columns of tokens that a data set has."""
    return [name for name in TOKEN_COLUMNS if name in column_names(dataset)]


def read_tokens(dataset: RowSource) -> Iterator[tuple[IntArray, BoolArray, BoolArray]]:
    """(Token ids, which of them are no padding, which carry loss) of each prepared row, each shape (L,)."""
    for rows in _flat(dataset):
        kept = np.ones(len(rows.ids), dtype=np.bool_) if rows.real is None else rows.real  # stored on either side
        yield from rows.each(rows.ids.astype(np.int64), kept, rows.carries_loss)


def rows_with(dataset: RowSource, names: Sequence[str], most: int | None = None) -> Iterator[Mapping[str, Any]]:
    """The rows in sequence, with at least those of these columns that there are; some thousand are held at a time.

    Args:
        dataset: any map-style data set of mappings.
        names: of columns.
        most: rows; None for all.
    """
    end = len(dataset) if most is None else min(most, len(dataset))
    if not is_arrow(dataset):
        yield from (dataset[row] for row in range(end))
        return
    known = [name for name in dict.fromkeys(names) if name in column_names(dataset)]
    left = end
    for columns in python_chunks(dataset, known, CHUNK):
        for values in islice(zip(*columns.values(), strict=True), left):
            yield dict(zip(columns, values, strict=True))
        left -= CHUNK
        if left <= 0:
            return


def _flat(dataset: RowSource) -> Iterator[FlatRows]:
    """The token columns of a prepared dataset, some thousand rows at a time."""
    names = token_columns(dataset)
    if is_arrow(dataset):
        yield from map(FlatRows.of_table, arrow_tables(dataset, names, CHUNK))
        return
    for start in range(0, len(dataset), CHUNK):
        items = [dataset[i] for i in range(start, min(start + CHUNK, len(dataset)))]
        yield FlatRows.of_rows({name: [np.asarray(item[name]) for item in items] for name in names})
