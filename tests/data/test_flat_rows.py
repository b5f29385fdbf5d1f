"""Rows read flat are what they are read one by one, however Arrow holds them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from datasets import Dataset, List, Value
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data import flat_rows, prepared
from campus_tune.data.flat_rows import FlatRows
from campus_tune.data.prepared import TOKEN_COLUMNS, AnswerTexts, read_content, read_rows, read_tokens, token_counts
from campus_tune.data.token_hashes import token_keys
from campus_tune.words.errors import DataError
from campus_tune.words.hashing import hash_rows
from tests.run.tiny_run import tokenizer

Columns = dict[str, list[list[int]]]
SPREAD, FACTOR = 0xD6E8FEB86659FD93, 0xA0761D6478BD642F


def one_by_one(columns: Columns) -> list[tuple[int, ...]]:
    """The fields of `TokenRows` of each row, by the formula of `token_hashes`, a token at a time."""
    found = []
    for row in (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)):
        ids, labels = row["input_ids"], row.get("labels", row["input_ids"])
        real = row.get("attention_mask", [1] * len(ids))
        if "labels" in row:
            carries = [label != -100 for label in labels]
        else:
            masks = [row[name] for name in ("completion_mask", "assistant_masks", "attention_mask") if name in row]
            carries = [all(mask[i] for mask in masks) for i in range(len(ids))]
        carries[:1] = [False] * len(carries[:1])
        kept = [i for i in range(len(ids)) if real[i]]
        tokens = answers = 0
        for place, i in enumerate(kept):
            key = int(token_keys(np.array([ids[i]]), hash_rows(np.array([place]), 1).view(np.int64))[0])
            tokens += key
            answers += key * ((labels[i] - ids[i]) * SPREAD + 1) * (carries[i] and place > 0)
        trained = (answers * FACTOR + tokens) % 2**64
        predicted = [labels[i] if carries[i] else -100 for i in kept][1:]
        seen = xxhash.xxh3_64_intdigest(struct.pack(f"<{len(kept)}q", *(ids[i] for i in kept)))
        of_labels = xxhash.xxh3_64_intdigest(struct.pack(f"<{len(predicted)}q", *predicted))
        told = seen, of_labels if set(predicted) - {-100} else 0
        found.append((len(ids), sum(carries), tokens % 2**64, len(ids) - len(kept), trained, *told))
    return found


def fields(dataset: Any) -> list[tuple[int, ...]]:
    read = prepared._read_arrays(dataset)  # rows without loss, which are refused, too
    names = ("tokens", "answer_tokens", "content", "padding", "trained", "shown", "shown_labels")
    return list(zip(*(read[name].tolist() for name in names), strict=True))


@st.composite
def token_columns(draw: st.DrawFn) -> Columns:
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=9))
    names = ["input_ids", *draw(st.sets(st.sampled_from(TOKEN_COLUMNS[1:])))]
    values = {"input_ids": st.integers(0, 70_000), "labels": st.sampled_from([-100, -100, 3, 70_001])}
    row = {name: values.get(name, st.integers(0, 1)) for name in names}
    return {name: [draw(st.lists(row[name], min_size=n, max_size=n)) for n in lengths] for name in names}


def in_memory(columns: Columns) -> Any:
    return Dataset.from_dict(columns)


def in_parts(columns: Columns) -> Any:
    """Several chunks, one of them the end of a longer array."""
    table = pa.table({name: pa.array(values * 2, pa.large_list(pa.int32())) for name, values in columns.items()})
    n = len(columns["input_ids"])
    return Dataset(pa.concat_tables([table.slice(n, n // 2), table.slice(n // 2, n - n // 2)]))


def mirrored(columns: Columns) -> Any:
    backwards = {name: values[::-1] for name, values in columns.items()}
    return Dataset.from_dict(backwards).select(range(len(columns["input_ids"]) - 1, -1, -1))


class OneByOne:
    """A map-style data set that is nobody's class."""

    def __init__(self, columns: Columns) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {name: values[row] for name, values in self.columns.items()}


@pytest.mark.parametrize("made", [in_memory, in_parts, mirrored, OneByOne])
@given(columns=token_columns(), piece=st.sampled_from([1, 4, 1 << 14]))
def test_counts_and_hashes_are_those_of_each_row_by_itself(made: Any, columns: Columns, piece: int) -> None:
    before = flat_rows.PIECE
    flat_rows.PIECE = piece
    try:
        dataset = made(columns)
        assert fields(dataset) == one_by_one(columns)
        content, shown = read_content(dataset)
        assert [*zip(content.tolist(), shown.tolist(), strict=True)] == [
            (row[2], row[5]) for row in one_by_one(columns)
        ]
        assert token_counts(dataset).tolist() == [row[0] for row in one_by_one(columns)]
    finally:
        flat_rows.PIECE = before


@given(token_columns())
def test_tokens_come_row_by_row(columns: Columns) -> None:
    for (ids, kept, mask), want, row in zip(
        read_tokens(in_memory(columns)), columns["input_ids"], one_by_one(columns), strict=True
    ):
        assert (ids.tolist(), int(mask.sum()), len(ids) - int(kept.sum())) == (want, row[1], row[3])
        assert ids.dtype == np.int64
        assert {kept.dtype, mask.dtype} == {np.dtype(np.bool_)}


@given(token_columns())
def test_texts_are_the_runs_of_what_carries_loss(columns: Columns) -> None:
    columns = {
        name: [[value % 300 if value > 0 else value for value in row] for row in rows] for name, rows in columns.items()
    }
    texts, want = list(AnswerTexts(in_memory(columns), tokenizer())), []
    masks = [mask.tolist() for *_, mask in read_tokens(in_memory(columns))]
    for labels, mask in zip(columns.get("labels", columns["input_ids"]), masks, strict=True):
        runs: list[list[int]] = [[]]
        for label, carries in zip(labels, mask, strict=True):
            runs += [] if carries and runs[-1] else [[]]
            runs[-1] += [label] if carries else []
            runs += [] if carries else [[]]
        want.append("\n".join(tokenizer().decode(run, skip_special_tokens=True) for run in runs if run))
    assert texts == want


def test_pieces_are_all_rows_in_their_sequence_and_as_large_as_a_row() -> None:
    lengths = [3, 0, 5, 1, 1, 0]
    rows = FlatRows(np.array(lengths), {"input_ids": np.arange(10)})
    pieces = list(rows.pieces())
    assert len(pieces) == 1
    before = flat_rows.PIECE
    flat_rows.PIECE = 2
    try:
        pieces = list(rows.pieces())
    finally:
        flat_rows.PIECE = before
    assert [piece.lengths.tolist() for piece in pieces] == [[3], [0], [5], [1, 1, 0]]
    assert np.concatenate([piece.ids for piece in pieces]).tolist() == list(range(10))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1, 2], None]),
        pa.array([[1, 2], [3, 4, 5]]),
        pa.array([[[1], [2]], [[3], [4]]]),
        pa.array([1, 2]),
    ],
)
def test_what_is_no_list_of_numbers_of_the_rows_length_is_refused_by_its_shape(column: pa.Array) -> None:
    table = pa.table({"input_ids": pa.array([[1, 2], [3, 4]]), "labels": column})
    with pytest.raises(DataError, match=r"`labels` of a tokenised row must have one number for each of its tokens"):
        FlatRows.of_table(table)


@pytest.mark.parametrize(
    ("column", "said"), [(pa.array([[1, None], [3, 4]]), "None"), (pa.array([["7", "8"], ["9", "1"]]), "7")]
)
def test_what_is_no_number_is_named_and_the_advice_finds_its_row(column: pa.Array, said: str) -> None:
    dataset = Dataset(pa.table({"input_ids": pa.array([[1, 2], [3, 4]]), "labels": column}))
    with pytest.raises(DataError, match=rf"`labels` .* must have a number for each of its tokens, got .*{said}") as no:
        read_rows(dataset)
    advice = str(no.value).partition("that this names: ")[2]
    assert eval(advice, {"dataset": list(dataset)})[0] == 0


def test_numbers_of_any_width_are_read_without_a_row_being_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {
        "input_ids": [[5, 6, 7], [8, 9]],
        "labels": [[-100, 6, 7], [-100, 9]],
        "attention_mask": [[1, 1, 0], [1, 1]],
    }
    want = fields(OneByOne(columns))
    monkeypatch.setattr(FlatRows, "of_rows", None)
    kinds = {"input_ids": ["int16", "int32", "int64", "uint32"], "labels": ["int16", "int32", "int64"]}
    kinds["attention_mask"] = ["bool", "int8", "int64"]
    for name, types in kinds.items():
        for kind in types:
            dataset = in_memory(columns).cast_column(name, List(Value(kind)))
            assert fields(dataset) == want, (name, kind)


def test_a_person_who_waits_sees_how_far_reading_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    class Bar:
        def __init__(self, **said: Any) -> None:
            told.append((said["desc"], said["total"], said["unit"], said["delay"]))

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            told.append("gone")

        def update(self, n: int) -> None:
            told.append(n)

    monkeypatch.setattr(prepared, "bar", Bar)
    monkeypatch.setattr(prepared, "CHUNK", 4)
    read_rows(in_memory({"input_ids": [[5, 6, 7]] * 10}))
    assert told == [("reading", 10, "row", prepared.SLOW), 4, 4, 2, "gone"]
