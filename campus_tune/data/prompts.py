"""Rows of prompts: what a trainer that is driven by reward is given, as metrics see them.

Such a row has a `prompt`, a text or turns of a chat, and any columns beside it that its reward functions read. It has
no answer that is trained: what CPU metrics call the response is the prompt here, and its tokens are counted without a
chat template.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from campus_tune.data.plain import as_text
from campus_tune.data.prepared import CHUNK, column_names, read_column
from campus_tune.method.orders import group_codes
from campus_tune.words.errors import DataError
from campus_tune.words.registry import nearest
from campus_tune.words.types import FloatArray, IntArray, RowSource, RowTexts, Tokenizer
from campus_tune.words.wording import listed

PROMPT = "prompt"
MOST_GROUPS = 32  # different texts of a column, up to which they name groups
_LOOKED_AT = 64  # values that say what a column holds


class PromptTexts(Sequence[str]):
    """The prompts as text, read when they are first asked for; of a chat what is said in it, a line a turn.

    Args:
        dataset: of rows with a prompt.
    """

    def __init__(self, dataset: RowSource) -> None:
        self.prompts = read_column(dataset, PROMPT)

    @cached_property
    def _texts(self) -> list[str]:
        return [as_text(prompt) for prompt in self.prompts]

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, row: int | slice) -> Any:
        return self._texts[row]


def read_prompts(dataset: RowSource, tokenizer: Tokenizer) -> RowTexts:
    """Prompts as CPU metrics see them.

    Args:
        dataset: of rows with a prompt.
        tokenizer: that counts their tokens.

    Raises:
        DataError: a row has no prompt, or one of no token (its number is named).
    """
    texts = PromptTexts(dataset)
    starts = bool(
        len(tokenizer([""])["input_ids"][0])
    )  # with a token of its own, so that an empty prompt asks something
    silent = [row for row, prompt in enumerate(texts.prompts) if prompt is None or (prompt in ("", []) and not starts)]
    if silent:
        raise DataError(
            f"`prompt` must say what is asked in every row, got none in {len(silent)} of {len(texts)} rows (rows "
            f"{listed(silent, 5)}). Fill them in, or drop these rows."
        )
    counts: list[int] = []
    for start in range(0, len(texts), CHUNK):
        found = tokenizer(texts[start : start + CHUNK], add_special_tokens=False)["input_ids"]
        counts += map(len, found)
    tokens = np.array(counts, dtype=np.int64)
    columns = {name: read_column(dataset, name) for name in column_names(dataset)}
    return RowTexts(response_text=texts, response_tokens=tokens, prompt_tokens=tokens, columns=columns)


def read_answers(columns: Mapping[str, Sequence[Any]], name: str) -> list[str]:
    """The reference answers in a column, as text.

    Args:
        columns: of the training set.
        name: of the one that holds them: texts, numbers, or turns of a chat.

    Raises:
        DataError: there is no such column, or a row has none (its number is named).
    """
    if name not in columns:
        raise DataError(
            f"`passes: answer` must be a column of the training set ({', '.join(columns)}), got {name!r}."
            f"{nearest(name, columns)} Name the column of reference answers, or leave `answer` out."
        )
    answers = [as_text(value) for value in columns[name]]
    silent = [row for row, answer in enumerate(answers) if not answer]
    if silent:
        raise DataError(
            f"`passes: answer` must name an answer for every prompt, got none in {len(silent)} of {len(answers)} rows "
            f"of {name!r} (rows {listed(silent, 5)}). Fill them in, or drop these rows."
        )
    return answers


@dataclass(frozen=True, eq=False)
class TellingColumns:
    """What the columns of a training set may tell of its prompts.

    Args:
        values: numbers of each prompt by name, shape (N,); of a column of many different texts their length in
            characters. Where a number is missing there is the middle one.
        groups: number of each prompt's group by column, from 0, shape (N,): of columns of few different texts.
    """

    values: dict[str, FloatArray]
    groups: dict[str, IntArray]

    @staticmethod
    def of(columns: Mapping[str, Sequence[Any]]) -> TellingColumns:
        """Those of some columns; what holds neither numbers nor texts, and the prompts themselves, are left out.

        Args:
            columns: by name, each of length N.
        """
        found = TellingColumns({}, {})
        for name, column in columns.items():
            if name == PROMPT:
                continue
            first = [value for value in column[:_LOOKED_AT] if value is not None]
            if first and all(isinstance(value, Real) for value in first):
                numbers = _numbers(column)
                if numbers is not None:
                    found.values[name] = numbers
            elif first and all(isinstance(value, str) for value in first):
                texts = ["" if value is None else str(value) for value in column]
                names, codes = group_codes(texts)
                if len(names) <= MOST_GROUPS:
                    found.groups[name] = codes
                else:
                    found.values[f"length of {name}"] = np.array([float(len(text)) for text in texts])
        return found


def _numbers(column: Sequence[Any]) -> FloatArray | None:
    """The numbers of a column, shape (N,); None where one is no number, or too few are."""
    numbers = np.full(len(column), math.nan)
    for row, value in enumerate(column):
        if isinstance(value, Real):
            numbers[row] = float(value)
        elif value is not None:
            return None
    known = np.isfinite(numbers)
    if not known.any():
        return None
    return np.where(known, numbers, np.median(numbers[known]))
