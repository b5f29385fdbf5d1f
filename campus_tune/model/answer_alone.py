"""Rows as lists of token ids and labels; the answers of such rows alone; and one collator for both.

What the trainer prepared says in several ways which tokens are the answer (labels, masks, padding, by version of
trl). Here all of them become one: ids, and labels that are −100 where no loss is. Answers alone are a start token
and then every token of the row that carries loss: the same tokens are counted as in the whole row, so that two losses
of one answer, with its prompt and without, can be divided (`difficulty.ifd`).

Padding is on the right and masked; a model that can be trained can read it, whichever collator the trainer has.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from campus_tune.data.flat_rows import PADDING
from campus_tune.data.prepared import TOKEN_COLUMNS, answer_masks, column_names, items
from campus_tune.data.token_hashes import IGNORED
from campus_tune.words.errors import DataError
from campus_tune.words.types import BoolArray, IntArray

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


class Labelled(NamedTuple):
    """One row: token ids, and for each its own id where it carries loss, −100 where not."""

    ids: list[int]
    labels: list[int]


class TokenLists(ABC):
    """Rows as a collator wants them, made when they are asked for.

    Args:
        n: how many there are.
        limit: tokens that are kept of each, its first ones; None keeps all.
    """

    def __init__(self, n: int, limit: int | None = None) -> None:
        self._n, self.limit = n, limit

    @abstractmethod
    def whole(self, places: Sequence[int]) -> list[Labelled]:
        """These rows, however long they are."""

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, place: int) -> dict[str, list[int]]:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int]) -> list[dict[str, list[int]]]:
        return [{"input_ids": row.ids[: self.limit], "labels": row.labels[: self.limit]} for row in self.whole(places)]


class Prepared(TokenLists):
    """Rows of the training set as they are trained, without stored padding.

    Args:
        dataset: prepared, further columns allowed.
        rows: positions in it, shape (n,); None for all.
        limit: tokens that are kept of each row.
    """

    def __init__(self, dataset: Dataset, rows: IntArray | None = None, *, limit: int | None = None) -> None:
        self._rows = np.arange(len(dataset)) if rows is None else rows
        super().__init__(len(self._rows), limit)
        names = [name for name in column_names(dataset) if name in TOKEN_COLUMNS]
        self._dataset = dataset.select_columns(names) if hasattr(dataset, "select_columns") else dataset

    def whole(self, places: Sequence[int]) -> list[Labelled]:
        """These rows, whole."""
        return [labelled(item) for item in items(self._dataset, self._rows[list(places)].tolist())]


class AnswersAlone(TokenLists):
    """A start token, then all tokens of each row that carry loss; those of several turns behind one another.

    Args:
        rows: whole rows.
        start: id of the token that predicts the first one of the answer.
    """

    def __init__(self, rows: TokenLists, start: int) -> None:
        super().__init__(len(rows))
        self._source, self._start = rows, start

    def whole(self, places: Sequence[int]) -> list[Labelled]:
        """The answers of these rows, as far as the rows themselves are kept."""
        rows = self._source.__getitems__(places)
        answers = [[label for label in row["labels"][1:] if label != IGNORED] for row in rows]
        return [Labelled([self._start, *answer], [IGNORED, *answer]) for answer in answers]


@dataclass(frozen=True)
class PadRight:
    """Collator of `TokenLists`: a batch of tensors, padded on the right, padding masked.

    Args:
        pad_id: what to pad with; a causal model never sees it.
    """

    pad_id: int = 0

    def __call__(self, rows: Sequence[Mapping[str, list[int]]]) -> dict[str, torch.Tensor]:
        """input_ids, attention_mask and labels, each of shape (n, longest row)."""

        def padded(name: str, filling: int) -> torch.Tensor:
            return torch.nn.utils.rnn.pad_sequence(
                [torch.tensor(row[name]) for row in rows], batch_first=True, padding_value=filling
            )

        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
        return {
            "input_ids": padded("input_ids", self.pad_id),
            "attention_mask": mask,
            "labels": padded("labels", IGNORED),
        }


def labelled(item: Mapping[str, Any]) -> Labelled:
    """One prepared row. Its first token carries no loss, for nothing predicts it."""
    ids, mask = np.asarray(item["input_ids"], dtype=np.int64), answer_mask(item)
    labels = np.where(mask, np.asarray(item.get("labels", ids), dtype=np.int64), IGNORED)
    real = np.asarray(item.get(PADDING, np.ones(len(ids))), dtype=np.bool_)
    return Labelled(ids[real].tolist(), labels[real].tolist())


def answer_mask(item: Mapping[str, Any]) -> BoolArray:
    """Which tokens of a prepared row carry loss, shape (L,)."""
    return answer_masks({name: [value] for name, value in item.items() if name in TOKEN_COLUMNS})[0]


def start_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """What an answer begins behind when it stands alone: the start token, else the end token, else padding.

    Raises:
        DataError: the tokenizer has none of them.
    """
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        token = getattr(tokenizer, name, None)
        if token is not None:
            return int(token)
    raise DataError(
        f"the tokenizer must have a start, end or padding token for an answer to begin behind, got "
        f"{type(tokenizer).__name__} without any. Set tokenizer.bos_token, or leave `ifd` out."
    )


def answers_alone(dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> AnswersAlone:
    """The answers of a prepared training set, for the model in hand; row i has `answer_tokens[i] + 1` tokens.

    Args:
        dataset: prepared.
        tokenizer: the trainer's.

    Raises:
        DataError: there is nothing for an answer to begin behind.
    """
    return AnswersAlone(Prepared(dataset), start_token(tokenizer))
