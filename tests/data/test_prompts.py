"""Rows of prompts as metrics see them, their reference answers, and what their columns tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from campus_tune.data.prompts import MOST_GROUPS, PromptTexts, TellingColumns, read_answers, read_prompts
from campus_tune.words.errors import DataError
from tests.run.tiny_run import tokenizer

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 3 ="}]


def test_a_prompt_is_its_text_or_what_its_turns_say() -> None:
    assert list(PromptTexts([{"prompt": "2 + 3 ="}, {"prompt": CHAT}])) == ["2 + 3 =", "Be brief.\n2 + 3 ="]


def test_metrics_read_prompts_and_count_their_tokens_without_a_template() -> None:
    rows = Dataset.from_list([{"prompt": "2 + 3 =", "level": 1}, {"prompt": "what is 12 + 13 + 14 =", "level": 3}])
    texts = read_prompts(rows, tokenizer())
    assert list(texts.response_text) == ["2 + 3 =", "what is 12 + 13 + 14 ="]
    expected = [len(ids) for ids in tokenizer()(list(rows["prompt"]), add_special_tokens=False)["input_ids"]]
    assert texts.prompt_tokens.tolist() == texts.response_tokens.tolist() == expected
    assert list(texts.columns) == ["prompt", "level"]
    assert texts.columns["level"][:] == [1, 3]


@pytest.mark.parametrize("nothing", ["", None])
def test_rows_that_ask_nothing_are_named(nothing: Any) -> None:
    rows = Dataset.from_list([{"prompt": "a"}, {"prompt": nothing}, {"prompt": "b"}, {"prompt": nothing}])
    with pytest.raises(DataError, match=r"got none in 2 of 4 rows \(rows 1, 3\)\. Fill them in, or drop"):
        read_prompts(rows, tokenizer())
    assert len(read_prompts(rows.filter(lambda row: bool(row["prompt"])), tokenizer())) == 2


def test_an_empty_prompt_asks_something_where_a_text_begins_with_a_token() -> None:
    def begins(texts: list[str], add_special_tokens: bool = True) -> dict[str, list[list[int]]]:
        return {"input_ids": [[1] * add_special_tokens + [7] * len(text) for text in texts]}

    rows = Dataset.from_list([{"prompt": ""}, {"prompt": "b"}])
    assert read_prompts(rows, begins).prompt_tokens.tolist() == [0, 1]  # type: ignore[arg-type]  # all that is asked of it
    with pytest.raises(DataError, match=r"got none in 1 of 1 rows \(rows 0\)"):
        read_prompts([{"prompt": None}], begins)  # type: ignore[arg-type]


def test_answers_are_texts_numbers_or_turns() -> None:
    columns: dict[str, list[Any]] = {
        "prompt": ["a"] * 3,
        "answer": ["5", 7, [{"role": "assistant", "content": "nine"}]],
    }
    assert read_answers(columns, "answer") == ["5", "7", "nine"]


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match=r"`passes: answer` must be a column of the training set \(prompt, answer\)"):
        read_answers({"prompt": ["a"], "answer": ["b"]}, "anwser")


def test_rows_without_an_answer_are_named() -> None:
    columns: dict[str, list[Any]] = {"prompt": ["a"] * 4, "answer": ["5", None, "", "x"]}
    with pytest.raises(DataError, match=r"got none in 2 of 4 rows of 'answer' \(rows 1, 2\)"):
        read_answers(columns, "answer")


def telling(**columns: list[Any]) -> TellingColumns:
    return TellingColumns.of({"prompt": ["p"] * len(next(iter(columns.values()))), **columns})


def test_numbers_are_features_and_few_texts_are_groups() -> None:
    found = telling(level=[1, 2.5, True], kind=["math", "code", "math"])
    assert {name: values.tolist() for name, values in found.values.items()} == {"level": [1.0, 2.5, 1.0]}
    assert {name: codes.tolist() for name, codes in found.groups.items()} == {"kind": [1, 0, 1]}


def test_many_texts_tell_their_length() -> None:
    solutions = ["x" * n for n in range(MOST_GROUPS + 1)]
    found = telling(solution=solutions)
    np.testing.assert_array_equal(found.values["length of solution"], np.arange(MOST_GROUPS + 1.0))
    assert not found.groups
    assert telling(kind=solutions[1:] + solutions[:1]).groups == {}
    assert "kind" in telling(kind=solutions[1:]).groups


def test_a_missing_number_is_the_middle_one_and_a_missing_text_a_group() -> None:
    found = telling(level=[1, None, 3, 9], odd=[None, 2.0, float("nan"), float("inf")], kind=["a", None, "b", "a"])
    assert found.values["level"].tolist() == [1, 3, 3, 9]
    assert found.values["odd"].tolist() == [2, 2, 2, 2]
    assert found.groups["kind"].tolist() == [1, 0, 2, 1]


def test_what_is_neither_numbers_nor_texts_tells_nothing() -> None:
    found = telling(tags=[["a"], ["b"]], nothing=[None, None], mixed=[1, "one"], later=[1.0, [2]])
    assert (found.values, found.groups) == ({}, {})
