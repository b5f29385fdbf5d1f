"""What is trained of each row: the token ids and labels that the training collator makes of it.

A metric that reads the columns of a data set may read something else than the model: answers that are cut off, labels
that the collator makes. So the collator is asked, for one row at a time: no padding but its own, no other row that it
could mix in. Asking takes a good part of a millisecond a row, most of it the collator's own, so the columns are read
instead where they are sure to say the same: with the libraries' own padding collators, and only if they do so on a
sample of rows. Any other collator is asked for every row, once, and what it gave is kept (9 bytes a token): one that
draws at random would say something else the next time.

Asking changes nothing: global random states are as before, and so are generators that a collator has of its own.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from campus_tune.data.flat_rows import PADDING
from campus_tune.data.prepared import (
    CHUNK,
    SLOW,
    TOKEN_COLUMNS,
    TokenRows,
    answer_masks,
    column_names,
    items,
    read_content,
    read_rows,
)
from campus_tune.data.readings import Readings
from campus_tune.data.token_hashes import IGNORED
from campus_tune.model import compat
from campus_tune.model.compat import Collator
from campus_tune.model.subject import same_random_states
from campus_tune.words.errors import DataError
from campus_tune.words.progress import bar
from campus_tune.words.types import BoolArray, IntArray, RowSource

SAMPLE = 64  # rows that the collator is asked for in any case


class Row(NamedTuple):
    """One row: its token ids, their labels, and which of them are no padding; each of shape (L,)."""

    ids: IntArray
    labels: IntArray
    real: BoolArray


@dataclass(frozen=True)
class Trained:
    """The training rows as they are trained.

    Args:
        dataset: rows with `input_ids`, and what says which of them carry loss; as many as in the data set, without the
            padding of batches.
        view: the same rows as they were prepared.
        warnings: what a person should know of how they came about.
        labels_known: what the collator made now, it makes again.
    """

    dataset: RowSource
    view: RowSource
    warnings: list[str] = field(default_factory=list)
    labels_known: bool = True

    def rows(self, *, what: str = "train_dataset", readings: Readings | None = None) -> TokenRows:
        """Counts and hashes of the rows.

        What a row *is* (its `content`) is what was prepared: a collator may say what carries loss, and may not change
        tokens, which the order audit would find.

        Args:
            what: their name in messages.
            readings: what was read of large data sets before; rows that a collator makes are not kept.

        Raises:
            DataError: rows that cannot be read, or without a token that carries loss (named by position).
        """
        rows = read_rows(self.dataset, what=what, readings=readings if self.dataset is self.view else None)
        if readings is not None:
            self.warnings.extend(readings.warnings)
        if self.dataset is self.view:
            return rows
        content, shown = read_content(self.view)
        return replace(rows, content=content, shown=shown)


class Made(Sequence[Any]):
    """Rows as a collator made them, in four flat arrays.

    Args:
        rows: one after the other.
    """

    column_names = ("input_ids", "labels", PADDING)

    def __init__(self, rows: Iterator[Row]) -> None:
        parts = [Row(row.ids.astype(np.int32), row.labels.astype(np.int32), row.real) for row in rows]
        self._ends = np.cumsum([0, *(len(part.ids) for part in parts)])
        self._ids, self._labels, self._real = (np.concatenate(values) for values in zip(*parts, strict=True))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: Any) -> Any:
        if not 0 <= row < len(self):
            raise IndexError(row)
        place = slice(self._ends[row], self._ends[row + 1])
        values = (self._ids[place].astype(np.int64), self._labels[place].astype(np.int64), self._real[place])
        return dict(zip(self.column_names, values, strict=True))


def as_trained(view: RowSource, collator: Collator, *, speaks: bool = True) -> Trained:
    """The rows of a data set as they are trained.

    Args:
        view: prepared rows, unused columns removed.
        collator: that of training.
        speaks: may show a progress bar.

    Raises:
        DataError: the collator makes a row of all rows that it was tried with, but not of this one.
    """
    if "input_ids" not in column_names(view) or not len(view):
        return Trained(view, view)  # refused where rows are read
    collator = own_collator(collator)
    sample = np.unique(np.linspace(0, len(view) - 1, SAMPLE).astype(np.int64)).tolist()
    with same_random_states(seed=0):  # the same on all ranks, and after a resume
        stored = [_copied(item) for item in items(view, sample)]
        try:
            made = [_row(collator, item) for item in stored]
            again = [_row(collator, item) for item in stored]
        except Exception as error:  # whatever a user's collator may say to a row that comes alone
            return Trained(
                view, view, [_unasked(f"it must make a batch of one row, got {error!r}")], labels_known=False
            )
        strange = next((row for row in made if isinstance(row, str)), None)
        if strange is not None:
            return Trained(view, view, [_unasked(strange)], labels_known=False)
        at_random = [place for place, *two in zip(sample, made, again, strict=True) if not _equal(*two)]
        settled = compat.reads_labels_from_columns(collator) and not at_random
        if settled and all(_equal(_stored(item), row) for item, row in zip(stored, made, strict=True)):
            return Trained(view, view)
    with same_random_states(seed=0):
        every = Made(_asked(view, collator, speaks=speaks))
    drawn = [
        f"the data collator draws at random: asked twice for row {row} it makes two different ones. Scores are of one "
        "draw; what is trained is another, and the order audit compares tokens only."
        for row in at_random[:1]
    ]
    return Trained(every, view, drawn, labels_known=not at_random)


def _unasked(why: str) -> str:
    return (
        f"the data collator cannot be asked what is trained of a row: {why}. Scores are of the columns of the data set "
        "instead, and the order audit compares tokens only; look whether these are what the model trains."
    )


def _asked(view: RowSource, collator: Collator, *, speaks: bool) -> Iterator[Row]:
    """Every row, in sequence.

    Raises:
        DataError: the collator makes none of one.
    """
    with bar(total=len(view), desc="collator", unit="row", delay=SLOW, disable=not speaks) as progress:
        for start in range(0, len(view), CHUNK):
            chunk = range(start, min(start + CHUNK, len(view)))
            for place, item in zip(chunk, items(view, chunk), strict=True):
                try:
                    row = _row(collator, item)
                except Exception as error:  # see above
                    raise DataError(
                        f"the data collator must make a batch of every row, got {error!r} from row {place}. Correct "
                        "the collator, or remove the row."
                    ) from error
                if isinstance(row, str):
                    raise DataError(
                        "the data collator must make a batch of every row as of the others, got something else from "
                        f"row {place}: {row}. Correct the collator, or remove the row."
                    )
                yield row
            progress.update(len(chunk))


def _row(collator: Collator, item: Mapping[str, Any]) -> Row | str:
    """What a collator makes of one row, or why nothing can be said of it."""
    batch = collator([_copied(item)])
    missing = [name for name in ("input_ids", "labels") if name not in batch or batch[name] is None]
    if missing:
        return f"it must give input_ids and labels, got no {' and no '.join(missing)}"
    ids, labels = (torch.as_tensor(batch[name]).cpu().numpy() for name in ("input_ids", "labels"))
    if ids.ndim != 2 or ids.shape != labels.shape or len(ids) != 1:
        return f"it must make one row of one, got input_ids of shape {ids.shape} and labels of shape {labels.shape}"
    width = len(item["input_ids"])
    real = _real(batch, ids[0], item)
    keep = real | (labels[0] != IGNORED)
    room = min(width, len(keep)) - int(keep.sum())  # padding that is stored with the row goes through the model too
    keep[np.flatnonzero(~keep)[: max(0, room)]] = True
    row = Row(ids[0][keep], labels[0][keep], real[keep])
    row.labels[:1] = IGNORED  # nothing predicts a row's first token
    return row


def _real(batch: Mapping[str, Any], ids: IntArray, item: Mapping[str, Any]) -> BoolArray:
    """Which tokens of a batch of one row are no padding."""
    mask = batch.get("attention_mask")
    if mask is not None and torch.as_tensor(mask).dim() == 2:
        return np.asarray(torch.as_tensor(mask)[0].bool().cpu().numpy(), dtype=np.bool_)
    if mask is None and "position_ids" in batch:  # flat: what pads it begins anew
        begins = np.flatnonzero(torch.as_tensor(batch["position_ids"]).reshape(-1).cpu().numpy() == 0)
        return np.arange(len(ids)) < (begins[1] if len(begins) > 1 else len(ids))
    stored = _stored(item)
    known, places = stored.ids[stored.real], np.arange(len(ids))
    if np.array_equal(ids[: len(known)], known):
        return places < len(known)
    if np.array_equal(ids[len(ids) - len(known) :], known):
        return places >= len(ids) - len(known)
    return np.ones(len(ids), dtype=np.bool_)


def _stored(item: Mapping[str, Any]) -> Row:
    """One row as its columns say."""
    ids = np.asarray(item["input_ids"], dtype=np.int64)
    [mask] = answer_masks({name: [np.asarray(item[name])] for name in TOKEN_COLUMNS if name in item})
    labels = np.where(mask, np.asarray(item.get("labels", ids), dtype=np.int64), IGNORED)
    return Row(ids, labels, np.asarray(item.get(PADDING, np.ones(len(ids))), dtype=np.bool_))


def _equal(first: Row | str, second: Row | str) -> bool:
    """The same tokens and labels, but for padding that carries no loss."""
    if isinstance(first, str) or isinstance(second, str):
        return first == second

    def told(row: Row) -> list[list[int]]:
        matters = row.real | (row.labels != IGNORED)
        return [values[matters].tolist() for values in row]

    return told(first) == told(second)


def _copied(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """A collator may take columns out of the rows that it is given."""
    return dict(item) if isinstance(item, Mapping) else item


def own_collator(collator: Collator) -> Collator:
    """The same collator, whose counters and generators are not those of training.

    Args:
        collator: of the trainer.
    """
    own = copy.copy(collator)
    kinds = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
    for name, value in list(getattr(own, "__dict__", {}).items()):
        if isinstance(value, kinds):
            setattr(own, name, value.clone_state() if isinstance(value, torch.Generator) else copy.deepcopy(value))
    if compat.inner_collator(own) is not own:
        own.data_collator = own_collator(own.data_collator)  # type: ignore[attr-defined]  # see inner_collator
    return own
