"""Rows known by the hashes of what they say: the same that comparing their texts finds, however they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data import said_hashes
from campus_tune.data.duplicates import contradictions, duplicates
from campus_tune.data.judged import Known
from campus_tune.data.readings import Readings
from campus_tune.data.said import Said
from campus_tune.data.said_hashes import SaidHashes, said_in
from campus_tune.data.shapes import Shape
from campus_tune.words.types import Json

WORDS = st.sampled_from(["", "Peru?", "peru", "Lima", "Lima.", "Quito"])
PAIRS = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=12)


def table(pairs: list[tuple[str, str]]) -> list[Json]:
    return [{"prompt": prompt, "completion": answer, "input_ids": [1, 2]} for prompt, answer in pairs]


def content_of(rows: Any) -> Any:
    return np.arange(len(rows), dtype=np.uint64) + 7


@given(PAIRS)
def test_equal_rows_and_contradictions_are_those_of_the_texts(pairs: list[tuple[str, str]]) -> None:
    rows = table(pairs)
    found = SaidHashes.read(rows, Shape(), content_of(rows))
    said = Said.of_rows(rows, Shape())
    equal = duplicates(said.whole, near=False).equal.tolist()
    assert found.duplicate_of.tolist() == [-1 if first == row else first for row, first in enumerate(equal)]
    two = [row for group in contradictions(said.prompts, said.answers) for row in group]
    assert np.flatnonzero(found.contradicting).tolist() == sorted(two)
    assert found.hex_keys() == Known({}, said, Shape(), content_of(rows)).keys()


@pytest.mark.parametrize("kind", [list, Dataset.from_list])
def test_chunks_and_kinds_of_data_sets_make_no_difference(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = table([(f"What is {number}?", str(number % 3)) for number in range(10)])
    whole = SaidHashes.read(rows, Shape(), content_of(rows))
    monkeypatch.setattr(said_hashes, "CHUNK", 3)
    found = SaidHashes.read(kind(rows), Shape(), content_of(rows))
    for name in ("keys", "whole", "asked", "answered"):
        assert getattr(found, name).tolist() == getattr(whole, name).tolist()
    some = said_in(kind(rows), [4, 1], Shape())
    assert some is not None
    assert (some.prompts, some.answers) == (["What is 4?", "What is 1?"], ["1", "1"])


@pytest.mark.parametrize(
    "rows",
    [
        [{"input_ids": [1, 2]}, {"input_ids": [3]}, {"input_ids": [1, 2]}],
        [{"input_ids": [1], "prompt": "a"}, {"input_ids": [2], "prompt": "b"}, {"input_ids": [1], "prompt": "a"}],
        [{"input_ids": [1], "conversations": [{"from": "x"}]}] * 3,
    ],
)
def test_rows_without_words_are_known_by_their_tokens(rows: list[Json]) -> None:
    content = np.array([5, 6, 5], dtype=np.uint64)
    found = SaidHashes.read(rows, Shape(), content)
    assert found.keys.tolist() == [5, 6, 5]
    assert found.duplicate_of.tolist() == [-1, -1, 0]
    assert not found.contradicting.any()
    assert said_in(rows, [1], Shape()) is None


def test_the_end_of_sequence_that_training_appends_is_no_part_of_a_text() -> None:
    rows = [{"text": "one</s>", "input_ids": [1]}]
    assert said_in(rows, [0], Shape(), end="</s>") == Said.of_rows([{"text": "one"}], Shape())


def test_they_are_found_by_the_next_start_and_only_for_the_same_texts_and_shape(tmp_path: Path) -> None:
    rows = table([(f"What is {number}?", f"{number % 3}</s>") for number in range(10)])

    def read(rows: list[Json], *, end: str = "</s>", shape: Shape | None = None) -> tuple[SaidHashes, int]:
        data, kept = Dataset.from_list(rows), Readings(tmp_path, least=0)
        found = SaidHashes.read(data, shape or Shape(), content_of(rows), end=end, readings=kept)
        plain = SaidHashes.read(data, shape or Shape(), content_of(rows), end=end)
        for name, values in vars(plain).items():
            np.testing.assert_array_equal(getattr(found, name), values)
        assert kept.warnings == []
        return found, len(list((tmp_path / "readings").glob("said-*")))

    assert read(rows)[1] == read(rows)[1] == 1
    assert read([{**row, "input_ids": [9, 9]} for row in rows])[1] == 1  # other tokens say the same
    assert read(rows, end="")[1] == 2
    assert read(rows, shape=Shape(completion_only_loss=True))[1] == 3
    assert read([*rows[:-1], {**rows[-1], "completion": "0 </s>"}])[1] == 4


def test_columns_whose_names_were_chance_are_known_by_their_tokens_with_readings_too(tmp_path: Path) -> None:
    rows = [{"prompt": 1, "completion": number, "input_ids": [1, 2]} for number in range(3)]
    data = Dataset.from_list(rows)
    found = SaidHashes.read(data, Shape(), content_of(rows), readings=Readings(tmp_path, least=0))
    plain = SaidHashes.read(data, Shape(), content_of(rows))
    assert found.keys.tolist() == plain.keys.tolist()
