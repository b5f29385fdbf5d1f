"""Rows that a person marked: found by what they say, whatever file they stand in; what is not found is named."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.data.judged import Known, judged_wrong
from campus_tune.data.said import Said
from campus_tune.data.shapes import Shape
from campus_tune.words.errors import DataError

ROWS = [
    {"id": 10, "prompt": "Capital of Peru?", "completion": "Quito"},
    {"id": 11, "prompt": "Capital of Chile?", "completion": "Santiago"},
    {"id": 12, "prompt": "Capital of Peru?", "completion": "Lima"},
    {"id": 13, "prompt": "capital of peru", "completion": "quito"},
]


def known(rows: list[dict[str, Any]] = ROWS, *, tokens_only: bool = False) -> Known:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    said = None if tokens_only else Said.of(columns, Shape())
    return Known(columns, said, Shape(), np.arange(7, 7 + len(rows), dtype=np.uint64))


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".csv":
        lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines), "utf-8")
    elif path.suffix == ".parquet":
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.mark.parametrize("name", ["judged.jsonl", "judged.csv", "judged.parquet"])
def test_rows_are_found_by_columns_that_both_share(tmp_path: Path, name: str) -> None:
    rows = [{"id": 12, "verdict": "wrong"}, {"id": 11, "verdict": "right"}, {"id": 10, "verdict": "wrong"}]
    assert judged_wrong(written(tmp_path / name, rows), known(), on=["id"]).tolist() == [2, 0]


def test_rows_are_found_by_what_they_say_with_all_that_say_the_same(tmp_path: Path) -> None:
    path = written(tmp_path / "judged.jsonl", [{"prompt": "Capital of Peru", "completion": "QUITO!"}])
    assert judged_wrong(path, known()).tolist() == [0, 3]


def test_rows_are_found_by_the_key_that_dropped_rows_are_listed_with(tmp_path: Path) -> None:
    for one in (known(), known(tokens_only=True)):
        path = written(tmp_path / "judged.jsonl", [{"key": one.keys()[2], "verdict": "wrong"}, {"key": one.keys()[0]}])
        assert judged_wrong(path, one).tolist() == [2, 0]


def test_a_chat_is_found_by_its_turns(tmp_path: Path) -> None:
    chats = [
        {"messages": [{"role": "user", "content": f"What is {i}?"}, {"role": "assistant", "content": f"It is {i}"}]}
        for i in range(3)
    ]
    asked = [{"conversations": [{"from": "user", "value": "What is 1?"}, {"from": "assistant", "value": "it is 1"}]}]
    assert judged_wrong(written(tmp_path / "judged.jsonl", asked), known(chats)).tolist() == [1]


def test_rows_without_a_verdict_are_wrong_and_unsure_ones_are_not(tmp_path: Path) -> None:
    verdicts = ["", None, "unsure", "wrong"]
    rows = [{"id": row["id"], "verdict": verdict} for row, verdict in zip(ROWS, verdicts, strict=True)]
    assert judged_wrong(written(tmp_path / "judged.jsonl", rows), known(), on=["id"]).tolist() == [0, 1, 3]


def test_another_verdict_is_named_and_corrected(tmp_path: Path) -> None:
    path = written(tmp_path / "judged.jsonl", [{"id": 10}, {"id": 11, "verdict": "wrnog"}])
    with pytest.raises(
        DataError, match=r"row 1 must have a verdict of wrong, right, unsure, got 'wrnog'\. Did you mean"
    ):
        judged_wrong(path, known(), on=["id"])


def test_rows_that_are_not_there_are_named_and_taking_them_out_helps(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"id": 10}, {"id": 99, "verdict": "right"}]
    told = re.escape("must hold rows of the training set, got 1 of 2 that are none (row 1: {'id': 99, ")
    with pytest.raises(DataError, match=told):
        judged_wrong(written(tmp_path / "judged.jsonl", rows), known(), on=["id"])
    assert judged_wrong(written(tmp_path / "judged.jsonl", rows[:1]), known(), on=["id"]).tolist() == [0]
    with pytest.raises(DataError, match=r"got 1 of 1 that are none \(row 0: "):
        judged_wrong(written(tmp_path / "judged.jsonl", [{"prompt": "Capital of?", "completion": ""}]), known())
    with pytest.raises(DataError, match=r"got 1 of 1 that are none"):  # no words are no row's words
        judged_wrong(written(tmp_path / "judged.jsonl", [{"prompt": "?", "completion": "!"}]), known())


def test_columns_that_one_of_the_two_lacks_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "judged.jsonl", [{"idd": 10}])
    with pytest.raises(DataError, match=r"`drop: on` must name columns of the training set \(id, .*, got 'idd'"):
        judged_wrong(path, known(), on=["idd"])
    with pytest.raises(DataError, match=r"`drop: on` must name columns of `.*judged.jsonl` \(idd\), got 'id'"):
        judged_wrong(path, known(), on=["id"])


def test_rows_that_came_as_tokens_need_a_key_or_columns(tmp_path: Path) -> None:
    path = written(tmp_path / "judged.jsonl", [{"prompt": "Capital of Peru?", "completion": "Quito"}])
    with pytest.raises(DataError, match=r"must have a column key .*, got the columns prompt, completion\. Add one\."):
        judged_wrong(path, known(tokens_only=True))
    assert judged_wrong(path, known(tokens_only=True), on=["prompt", "completion"]).tolist() == [0]


def test_a_row_of_no_shape_is_named_by_its_number(tmp_path: Path) -> None:
    path = written(tmp_path / "judged.jsonl", [ROWS[0], {"note": "x"}])
    with pytest.raises(DataError, match=r"^row 1: training rows must have prompt and completion"):
        judged_wrong(path, known())


def test_what_is_said_is_told_by_role_whatever_carries_loss() -> None:
    chat = [[{"role": "user", "content": "2?"}, {"role": "assistant", "content": "two"}]]
    for shape in (Shape(), Shape(assistant_only_loss=True), Shape(completion_only_loss=False)):
        said = Said.of({"messages": chat}, shape)
        assert said is not None
        assert (said.prompts, said.answers, said.whole) == (["2?"], ["two"], ["2?\ntwo"])
    nobody_answers = Said.of({"messages": [[{"role": "user", "content": "2?"}]]}, Shape())
    assert nobody_answers is not None
    assert (nobody_answers.prompts, nobody_answers.answers) == ([""], ["2?"])


def test_the_end_of_sequence_that_a_trainer_appends_is_not_said() -> None:
    said = Said.of({"text": ["a</s>", "b"]}, Shape(), end="</s>")
    assert said is not None
    assert said.answers == ["a", "b"]


@pytest.mark.parametrize("columns", [{}, {"seq_lengths": [3]}, {"text": []}, {"prompt": ["a"]}])
def test_columns_of_no_shape_say_nothing(columns: dict[str, list[Any]]) -> None:
    assert Said.of(columns, Shape()) is None
