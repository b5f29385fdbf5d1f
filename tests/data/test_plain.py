"""Rows of a user's file before any trainer: every shape that TRL takes, and clear words for the others."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from campus_tune.data.plain import (
    count_words,
    full_texts,
    load_rows,
    row_texts,
    split_row,
    token_counter,
)
from campus_tune.data.shapes import Shape, as_messages
from campus_tune.words.errors import DataError

USER, ASSISTANT = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "It is 4."}
SHARED = [{"from": "user", "value": "2 + 2?"}, {"from": "assistant", "value": "It is 4."}]


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        ({"messages": [USER, ASSISTANT]}, ("", "2 + 2?\nIt is 4.")),
        ({"messages": [USER, ASSISTANT], "prompt": "2 + 2?", "completion": "It is 4."}, ("2 + 2?", "It is 4.")),
        ({"conversations": SHARED, "id": 7}, ("", "2 + 2?\nIt is 4.")),
        ({"prompt": "2 + 2?", "completion": "It is 4."}, ("2 + 2?", "It is 4.")),
        ({"prompt": [USER], "completion": [ASSISTANT]}, ("2 + 2?", "It is 4.")),
        ({"text": "It is 4."}, ("", "It is 4.")),
        (
            {"prompt": None, "completion": [{"role": "assistant", "content": [{"type": "text", "text": "4"}]}]},
            ("", "4"),
        ),
        ({"messages": None}, ("", "")),
    ],
)
def test_prompt_and_answer_are_read_from_every_shape(row: dict[str, Any], parts: tuple[str, str]) -> None:
    assert split_row(row) == parts
    assert full_texts([row]) == ["\n".join(parts)]


@pytest.mark.parametrize(
    ("row", "settings", "parts"),
    [
        ({"messages": [USER, ASSISTANT] * 2}, {"assistant_only_loss": True}, ("2 + 2?\n2 + 2?", "It is 4.\nIt is 4.")),
        ({"conversations": SHARED}, {"assistant_only_loss": True}, ("2 + 2?", "It is 4.")),
        ({"prompt": "2 + 2?", "completion": "4"}, {"completion_only_loss": False}, ("", "2 + 2?\n4")),
        ({"prompt": "2 + 2?", "completion": "4"}, {"completion_only_loss": None, "max_length": 9}, ("2 + 2?", "4")),
        ({"said": "It is 4.", "text": "no"}, {"dataset_text_field": "said"}, ("", "It is 4.")),
    ],
)
def test_the_answer_is_what_carries_loss_under_the_settings(
    row: dict[str, Any], settings: dict[str, Any], parts: tuple[str, str]
) -> None:
    shape = Shape.of(settings)
    assert split_row(row, shape) == parts
    in_sequence = split_row(row, replace(shape, assistant_only_loss=False))
    assert full_texts([row], shape) == ["\n".join(in_sequence)]


def test_a_chat_in_which_nobody_answers_is_told_its_roles() -> None:
    rows = [{"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]}]
    only = Shape(assistant_only_loss=True)
    with pytest.raises(DataError, match=r"row 0: .* role assistant under assistant_only_loss, got gpt, human\. Rename"):
        row_texts(rows, count_words, only)
    rows[0]["conversations"][1]["from"] = "assistant"
    assert list(row_texts(rows, count_words, only).response_text) == ["4"]
    assert as_messages({"conversations": "no list"}) == {"conversations": "no list"}


@pytest.mark.parametrize("turn", [None, "x", 5, ["x"]])
def test_a_turn_that_is_none_is_named_with_its_row(turn: Any) -> None:
    said = {"from": "human", "value": "x"}
    rows: list[Any] = [{"conversations": [said]}, {"conversations": [said, turn]}]
    told = re.escape(f"got [{turn!r}]. Correct or remove")
    with pytest.raises(DataError, match=f"row 1: `conversations` must be a list of turns, .* {told}"):
        row_texts(rows, count_words)
    for chat in ([{"role": "user", "content": "x"}, turn], turn):
        with pytest.raises(
            DataError, match=r"row 0: `messages` must be a list of turns, .* got .*\. Correct or remove"
        ):
            row_texts([{"messages": chat}], count_words, Shape(assistant_only_loss=True))


def test_texts_are_counted_and_columns_kept() -> None:
    rows = [{"prompt": "a b", "completion": "c", "level": 1}, {"prompt": "a", "completion": "b c d", "domain": "x"}]
    texts = row_texts(rows, count_words)
    assert texts.response_tokens.tolist() == [1, 3]
    assert texts.prompt_tokens.tolist() == [2, 1]
    assert texts.columns["level"] == [1, None]
    assert texts.columns["domain"] == [None, "x"]


def test_a_row_of_another_shape_is_named() -> None:
    rows = [{"text": "a"}, {"question": "b", "answer": "c"}]
    with pytest.raises(
        DataError,
        match=r"row 1: training rows must have prompt and completion, .* got the columns question, answer",
    ):
        row_texts(rows, count_words)


def test_a_local_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"text": "a"}) + "\n", encoding="utf-8")
    assert load_rows(str(path)) == [{"text": "a"}]


def test_a_data_set_that_is_nowhere_is_named() -> None:
    with pytest.raises(DataError, match=r"or a data set that can be loaded, got '\./no_such_set'"):
        load_rows("./no_such_set")


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (None, "words (the recipe names no model)"),
        ("./nowhere", "words (the tokenizer of ./nowhere could not be loaded)"),
    ],
)
def test_without_a_tokenizer_words_are_counted_and_it_says_so(model: str | None, what: str) -> None:
    count, said = token_counter(model)
    assert said == what
    assert count(["a b  c", ""]).tolist() == [3, 0]


def test_a_tokenizer_that_is_there_counts_tokens(tmp_path: Path) -> None:
    from campus_tune.demo.tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path / "tiny")
    count, said = token_counter(str(tmp_path / "tiny"))
    assert said == "tokens of tiny"
    assert count(["seven plus four", ""]).tolist() == [len(tokenizer("seven plus four")["input_ids"]), 0]
