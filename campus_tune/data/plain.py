r"""Rows as a user's file has them, before any trainer prepared them: their prompts, answers and domains.

`check` looks at a training set without a model. The shapes that TRL takes (`shapes`) are read as it takes them, and
what of them carries loss under the settings of the recipe is the answer; what a trainer does to them afterwards
(templates, truncation) is not repeated here, so token counts are those of the bare texts. Where the model's tokenizer
is at hand, `model.prepare` says more.

>>> split_row({"prompt": "2 + 2?", "completion": [{"role": "assistant", "content": "4"}]})
('2 + 2?', '4')
>>> split_row({"conversations": [{"from": "user", "value": "2 + 2?"}, {"from": "assistant", "value": "4"}]})
('', '2 + 2?\n4')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from campus_tune.data.shapes import ANSWERS, Shape, as_messages, checked_turns, is_answer, must_have
from campus_tune.words.errors import DataError
from campus_tune.words.files import TABLE_SUFFIXES, read_table
from campus_tune.words.types import IntArray, Json, RowTexts

Count: TypeAlias = Callable[[Sequence[str]], IntArray]  # texts → tokens of each

DEFAULT = Shape()


def load_rows(name: str, *, config: str | None = None, split: str = "train") -> list[Json]:
    """The rows of a local table, or of anything else that `datasets.load_dataset` knows.

    Args:
        name: a path, or the name of a data set on a hub.
        config: its configuration.
        split: which part.

    Raises:
        DataError: it cannot be found or read; file and line are named where there are any.
    """
    if name.endswith(TABLE_SUFFIXES):
        return read_table(name)
    import datasets

    try:
        rows: list[Json] = datasets.load_dataset(name, config, split=split).to_list()
    except (OSError, ValueError) as error:  # not found, no network, no such split
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"`dataset_name` must be a local file ({', '.join(TABLE_SUFFIXES)}) or a data set that can be loaded, got "
            f"{name!r}: {what} Correct the name, the split or the path."
        ) from error
    return rows


def split_row(row: Mapping[str, Any], shape: Shape = DEFAULT) -> tuple[str, str]:
    """(What carries no loss, what does) of one row; a text is all answer, and so is a chat by TRL's default.

    Args:
        row: as it stands in the file.
        shape: what the trainer's settings say of it.

    Raises:
        DataError: the row has none of the shapes that TRL trains on, or a chat that is none or has no answer.
    """
    row = as_messages(row)
    if "prompt" in row and "completion" in row:
        prompt, answer = as_text(row["prompt"]), as_text(row["completion"])
        return ("", f"{prompt}\n{answer}") if shape.completion_only_loss is False else (prompt, answer)
    if "messages" in row:
        if not shape.assistant_only_loss:
            return "", as_text(row["messages"])
        turns = checked_turns("messages", row["messages"])
        roles = sorted({str(turn.get("role")) for turn in turns})
        if ANSWERS not in roles:
            raise DataError(
                f"a chat must have a turn of the role {ANSWERS} under assistant_only_loss, got {', '.join(roles)}. "
                "Rename the role of the answers, or drop assistant_only_loss."
            )
        prompts, answers = (
            "\n".join(as_text(turn.get("content")) for turn in turns if is_answer(turn) is answer)
            for answer in (False, True)
        )
        return prompts, answers
    if shape.dataset_text_field in row:
        return "", as_text(row[shape.dataset_text_field])
    advice = "Rename or convert them, or name the column of texts in dataset_text_field."
    raise DataError(must_have(list(row), shape) + advice)


def row_texts(rows: Sequence[Json], count: Count, shape: Shape = DEFAULT) -> RowTexts:
    """The rows as CPU metrics see them.

    Args:
        rows: N rows of one shape.
        count: tokens of each of some texts.
        shape: what the trainer's settings say of them.

    Raises:
        DataError: a row has no shape that TRL trains on (its number is named).
    """
    prompts, answers = [], []
    for number, row in enumerate(rows):
        try:
            prompt, answer = split_row(row, shape)
        except DataError as error:
            raise DataError(f"row {number}: {error}") from error
        prompts.append(prompt)
        answers.append(answer)
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(key for row in rows for key in row)}
    return RowTexts(answers, count(answers), count(prompts), columns)


def full_texts(rows: Sequence[Json], shape: Shape = DEFAULT) -> list[str]:
    """All that is said in each row as one text."""
    everything = replace(shape, assistant_only_loss=False)
    return ["\n".join(split_row(row, everything)) for row in rows]


def count_words(texts: Sequence[str]) -> IntArray:
    """Words between spaces: what token counts are estimated by where there is no tokenizer."""
    return np.array([len(text.split()) for text in texts], dtype=np.int64)


def token_counter(model: str | None, *, trust_remote_code: bool = False) -> tuple[Count, str]:
    """How to count tokens, and what that is called: the model's tokenizer where it can be loaded, else words.

    Args:
        model: name or folder of the model.
        trust_remote_code: as the user's own trainer settings say.
    """
    if not model:
        return count_words, "words (the recipe names no model)"
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, ImportError, KeyError):
        return count_words, f"words (the tokenizer of {model} could not be loaded)"

    def count(texts: Sequence[str]) -> IntArray:
        batches = [list(texts[i : i + 1024]) for i in range(0, len(texts), 1024)]
        lengths = [len(ids) for batch in batches for ids in tokenizer(batch, add_special_tokens=False)["input_ids"]]
        return np.array(lengths, dtype=np.int64)

    return count, f"tokens of {Path(model).name}"


def as_text(value: object) -> str:
    """A text, the turns of a conversation, or the parts of one turn, as one text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return as_text(value.get("content", value.get("text")))
    return "\n".join(as_text(part) for part in value) if isinstance(value, list | tuple) else str(value)
