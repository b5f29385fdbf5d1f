from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data import prepared as rows
from campus_tune.data.prepared import column_names, read_column, read_rows, read_texts
from campus_tune.data.token_hashes import hash_flat
from campus_tune.words.errors import DataError
from tests.run.tiny_run import tokenizer

PREPARED = {
    "input_ids": [[5, 6, 7, 8], [5, 6], [9, 9, 9]],
    "labels": [[-100, -100, 7, 8], [-100, 6], [9, 9, -100]],
    "level": [3, 1, 2],
}

token_rows = st.lists(st.lists(st.integers(0, 50_000), max_size=6), min_size=1, max_size=8)


def hashed(ids: list[list[int]]) -> list[int]:
    flat = np.array([token for row in ids for token in row], dtype=np.int64)
    silent = np.zeros(len(flat), dtype=np.bool_)
    return hash_flat(flat, flat, silent, np.array([len(row) for row in ids]))[0].tolist()


class Plain:
    """A map-style dataset that is nobody's class."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.items = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.items[row]


@given(token_rows)
def test_a_row_hashes_the_same_alone_as_in_a_batch(ids: list[list[int]]) -> None:
    assert hashed(ids) == [hashed([row])[0] for row in ids]


@given(token_rows)
def test_only_equal_rows_have_equal_hashes(ids: list[list[int]]) -> None:
    assert len(set(hashed(ids))) == len({tuple(row) for row in ids})


def test_a_hash_knows_the_place_of_each_token_and_zeros_at_the_end() -> None:
    assert len(set(hashed([[1, 2, 3], [3, 2, 1], [1, 2], [1, 2, 0], [0, 1, 2]]))) == 5


@pytest.mark.parametrize(
    ("column", "odd", "told"),
    [
        (
            "labels",
            [7, 7],
            r"`labels` of a tokenised row must have .*, got the shape \(2,\) for input_ids of shape \(3,\)",
        ),
        ("labels", [7] * 3000, r"got the shape \(3000,\)"),
        ("input_ids", 5, r"`input_ids` of a tokenised row must have .*, got the shape \(\)"),
        ("attention_mask", [1], r"`attention_mask` of"),
    ],
)
def test_a_row_whose_columns_are_not_alike_in_length_is_named(column: str, odd: Any, told: str) -> None:
    columns = {name: list(values) for name, values in PREPARED.items()}
    columns["attention_mask"] = [[1] * len(ids) for ids in columns["input_ids"]]
    columns[column][2] = odd
    with pytest.raises(DataError, match=told) as refused:
        read_rows(Plain(columns))
    if column != "input_ids":
        advice, dataset = str(refused.value).partition("that this names: ")[2], Plain(columns)
        assert eval(advice, {"dataset": [dataset[i] for i in range(3)]}) == [2]
        with pytest.raises(DataError, match=told):
            read_rows(Dataset.from_dict(columns))


def test_tokens_are_counted_and_the_first_of_a_row_never_carries_loss() -> None:
    read = read_rows(Dataset.from_dict(PREPARED))
    assert read.tokens.tolist() == [4, 2, 3]
    assert read.answer_tokens.tolist() == [2, 1, 1]  # in the last row 9 is predicted once: nothing predicts the first
    assert read.content.tolist() == hashed(PREPARED["input_ids"])
    assert len(read) == 3


def test_without_labels_all_but_the_first_token_carry_loss() -> None:
    read = read_rows(Dataset.from_dict({"input_ids": PREPARED["input_ids"]}))
    assert read.answer_tokens.tolist() == [3, 1, 2]


def test_mask_columns_of_older_trl_say_what_the_answer_is() -> None:
    columns = {
        "input_ids": [[5, 6, 7, 8]],
        "completion_mask": [[0, 1, 1, 1]],
        "assistant_masks": [[0, 0, 1, 1]],
    }
    assert read_rows(Dataset.from_dict(columns)).answer_tokens.tolist() == [2]


def test_stored_padding_is_no_part_of_a_rows_content() -> None:
    padded = {"input_ids": [[5, 6, 7, 0, 0], [0, 0, 0, 5, 6]], "attention_mask": [[1, 1, 1, 0, 0], [0, 0, 0, 1, 1]]}
    read = read_rows(Dataset.from_dict(padded))
    assert read.content.tolist() == hashed([[5, 6, 7], [5, 6]])
    assert read.tokens.tolist() == [5, 5]
    assert read.padding.tolist() == [2, 3]
    assert read.answer_tokens.tolist() == [2, 2]
    texts = read_texts(Dataset.from_dict(padded), read, tokenizer())
    assert texts.prompt_tokens.tolist() == [1, 0]


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_reading_in_chunks_changes_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_rows(Dataset.from_dict(PREPARED))
    monkeypatch.setattr(rows, "CHUNK", chunk)
    for dataset in (Dataset.from_dict(PREPARED), Plain(PREPARED)):
        read = read_rows(dataset)
        assert all(np.array_equal(vars(read)[name], vars(whole)[name]) for name in vars(whole))


def test_the_fingerprint_is_of_the_rows_in_their_sequence() -> None:
    dataset = Dataset.from_dict(PREPARED)
    assert read_rows(dataset).fingerprint() == read_rows(Plain(PREPARED)).fingerprint()
    assert read_rows(dataset).fingerprint() != read_rows(dataset.select([1, 0, 2])).fingerprint()


def test_rows_without_input_ids_are_refused_with_the_columns_that_are_there() -> None:
    with pytest.raises(DataError, match=r"`train_dataset` must have input_ids .* got the columns text\. Tokenise it"):
        read_rows(Dataset.from_dict({"text": ["a"]}))


def test_an_empty_set_is_refused_under_its_own_name() -> None:
    with pytest.raises(DataError, match="`probes` must have at least one row, got none"):
        read_rows(Dataset.from_dict({"input_ids": [[1]]}).select([]), what="probes")


def test_rows_with_only_masked_tokens_are_named() -> None:
    columns = {"input_ids": [[5, 6], [7], [5, 6]], "labels": [[5, 6], [7], [-100, -100]]}
    with pytest.raises(DataError, match=r"at least one token that carries loss, got 2 without \(rows 1, 2\)"):
        read_rows(Dataset.from_dict(columns))


def test_a_row_without_tokens_is_refused_and_not_a_crash() -> None:
    with pytest.raises(DataError, match=r"got 1 without \(rows 1\)"):
        read_rows(Dataset.from_dict({"input_ids": [[5, 6], []]}))


def test_texts_are_decoded_from_what_carries_loss_whatever_the_columns_say() -> None:
    tok = tokenizer()
    ids = tok("one two")["input_ids"]
    turns = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "Four."}]
    for columns in ({"completion": ["Four."]}, {"completion": [turns[1:]]}, {"messages": [turns]}, {"text": ["Four."]}):
        dataset = Dataset.from_dict({"input_ids": [ids], "labels": [[-100, *ids[1:]]], **columns})
        assert list(read_texts(dataset, read_rows(dataset), tok).response_text) == [tok.decode(ids[1:])]


def test_several_answers_of_a_row_are_lines() -> None:
    tok = tokenizer()
    asked, first, second = (tok(text)["input_ids"] for text in ("how?", "one", "two"))
    masked = [-100] * len(asked)
    columns = {"input_ids": [asked + first + asked + second], "labels": [masked + first + masked + second]}
    dataset = Dataset.from_dict(columns)
    assert list(read_texts(dataset, read_rows(dataset), tok).response_text) == ["one\ntwo"]


def test_answers_that_are_only_tokens_are_decoded_without_prompt_and_markers() -> None:
    tok = tokenizer()
    prompt, answer = tok("add 1 and 2")["input_ids"], tok("three")["input_ids"]
    ids = prompt + answer + [tok.eos_token_id]
    labels = [-100] * len(prompt) + ids[len(prompt) :]
    dataset = Dataset.from_dict({"input_ids": [ids], "labels": [labels]})
    assert list(read_texts(dataset, read_rows(dataset), tok).response_text) == ["three"]


def test_a_tokenizer_is_asked_for_only_by_who_wants_the_texts() -> None:
    dataset = Dataset.from_dict(PREPARED)
    texts = read_texts(dataset, read_rows(dataset), None)
    assert (len(texts.response_text), texts.response_tokens.tolist(), texts.prompt_tokens.tolist()) == (
        3,
        [2, 1, 1],
        [2, 1, 2],
    )
    with pytest.raises(DataError, match=r"must have a tokenizer to decode .*, got NoneType\. Pass processing_class"):
        texts.response_text[0]


def test_columns_come_as_plain_values_whatever_format_the_user_set() -> None:
    dataset = Dataset.from_dict(PREPARED).with_format("torch")
    texts = read_texts(dataset, read_rows(dataset), None)
    assert list(texts.columns) == ["level"]
    assert [type(value) for value in texts.columns["level"]] == [int, int, int]
    assert list(read_column(Plain(PREPARED), "level")) == [3, 1, 2]


def test_column_names_of_any_dataset_are_known() -> None:
    assert column_names(Dataset.from_dict(PREPARED)) == column_names(Plain(PREPARED)) == list(PREPARED)
    assert column_names([]) == []
