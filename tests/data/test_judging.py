"""Rows to judge: an answer is never lost, never overwritten, never taken for one about other data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.judged import Known, judged_wrong, keys_of
from campus_tune.data.judging import Judging, read_rows, write_rows
from campus_tune.data.said import Said
from campus_tune.data.shapes import Shape
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json

TEXTS = [f"text number {i}" for i in range(8)]
KEYS = keys_of(TEXTS)


def to_judge(*places: int) -> list[Json]:
    return [
        {"row": i, "key": KEYS[i], "content": f"{i:016x}", "score": 9.0 - i, "text": TEXTS[i], "keep": None}
        for i in places
    ]


def kept(path: Path) -> dict[int, bool | None]:
    return {row["row"]: row["keep"] for row in read_rows(path)}


def put(path: Path, *rows: Json) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def known_of_texts(texts: list[str], contents: list[int] | None = None, *, tokens_only: bool = False) -> Known:
    said = None if tokens_only else Said(texts, [""] * len(texts), texts)
    return Known({}, said, Shape(), np.array(contents or list(range(len(texts))), dtype=np.uint64))


# -- the file ----------------------------------------------------------------------------------------------------------


def test_new_rows_are_added_and_answers_stay(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    first = write_rows(path, to_judge(3, 1), known=KEYS)
    assert (first.rows, first.new, first.judged) == (2, 2, 0)
    assert first.line(path) == f"2 rows to judge are in {path}"
    put(path, *[{**row, "keep": row["row"] == 1} for row in to_judge(3, 1)])
    again = write_rows(path, to_judge(5, 3), known=KEYS)
    assert kept(path) == {5: None, 3: False, 1: True}
    assert again.line(path) == f"{path}: 1 new rows of 3; 2 were judged before and stay as they were"


def test_of_rows_that_say_the_same_the_first_is_listed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    same = {**to_judge(3)[0], "row": 7}
    assert write_rows(path, [*to_judge(3), same], known=KEYS).rows == 1
    assert kept(path) == {3: None}


def test_a_file_of_another_data_set_is_refused_and_another_name_helps(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_rows(path, to_judge(0, 1), known=KEYS)
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"must hold rows of this data set, got one of whose 2 rows 0 are in it"):
        write_rows(path, to_judge(2), known=KEYS[2:])
    assert path.read_bytes() == before
    write_rows(tmp_path / "others.jsonl", to_judge(2), known=KEYS[2:])


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must be a file of JSON lines, got 'rows\.csv'\. Write --out .*rows\.jsonl"):
        write_rows(tmp_path / "rows.csv", to_judge(0), known=KEYS)
    with pytest.raises(DataError, match=r"must hold rows to judge, got row 0 without a key\. Choose another name"):
        write_rows(put(tmp_path / "data.jsonl", {"text": "a training row"}), to_judge(0), known=KEYS)
    twice = put(tmp_path / "twice.jsonl", *to_judge(0, 0))
    with pytest.raises(DataError, match=rf"must have each row once, got the key {KEYS[0]} in its rows 0 and 1"):
        read_rows(twice)


@given(answers=st.lists(st.sampled_from(["yes", "no", "skip", "back"]), max_size=30), n=st.integers(1, 6))
def test_going_through_the_rows_is_what_a_list_of_answers_says(
    answers: list[str], n: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("judge") / "rows.jsonl"
    write_rows(path, to_judge(*range(n)), known=KEYS)
    judging, said, place = Judging(path), dict.fromkeys(range(n)), 0

    def after(place: int) -> int:
        return next((later for later in range(place + 1, n) if said[later] is None), n)

    for answer in answers:
        assert judging.place == place
        if answer == "back":
            judging.back()
            place = max(0, place - 1)
            continue
        if judging.row is None:
            break
        if answer == "skip":
            judging.skip()
        else:
            judging.answer(answer == "yes")
            said[place] = answer == "yes"  # type: ignore[assignment] # of None and of answers
        place = after(place)
        assert kept(path) == said  # after each answer
    assert Judging(path).place == after(-1)
    assert judging.n_judged == sum(value is not None for value in said.values())


# -- what a recipe makes of it -----------------------------------------------------------------------------------------


def test_only_rows_that_are_not_kept_are_dropped_wherever_they_stand_now(tmp_path: Path) -> None:
    wrong, right, unknown = to_judge(0, 1, 2)
    path = put(tmp_path / "rows.jsonl", {**wrong, "keep": False}, {**right, "keep": True}, unknown)
    assert judged_wrong(path, known_of_texts(TEXTS)).tolist() == [0]
    moved = [*TEXTS[3:], TEXTS[2], TEXTS[0], TEXTS[1], TEXTS[0]]
    assert judged_wrong(path, known_of_texts(moved)).tolist() == [6, 8]


def test_a_row_is_found_by_its_tokens_where_its_text_is_told_otherwise(tmp_path: Path) -> None:
    path = put(tmp_path / "rows.jsonl", {**to_judge(5)[0], "keep": False}, *to_judge(6))
    assert judged_wrong(path, known_of_texts(TEXTS, [9, 9, 9, 9, 9, 9, 6, 5], tokens_only=True)).tolist() == [7]


def test_a_file_in_which_nobody_judged_anything_drops_nothing(tmp_path: Path) -> None:
    assert judged_wrong(put(tmp_path / "rows.jsonl", *to_judge(0, 1)), known_of_texts(TEXTS)).tolist() == []


def test_a_csv_spells_its_answers(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(["key,keep", f"{KEYS[1]},False", f"{KEYS[2]},true", f"{KEYS[3]},"]), "utf-8")
    assert judged_wrong(path, known_of_texts(TEXTS)).tolist() == [1]


@pytest.mark.parametrize("answer", [0, "no", "false", [], 1.0])
def test_an_answer_that_is_none_is_named(tmp_path: Path, answer: Any) -> None:
    path = put(tmp_path / "rows.jsonl", *to_judge(0), {**to_judge(1)[0], "keep": answer})
    with pytest.raises(DataError, match=r"row 1 must have a keep of true, false or null, got .* Write false"):
        judged_wrong(path, known_of_texts(TEXTS))


def test_both_answers_for_one_row_are_named_and_taking_one_out_helps(tmp_path: Path) -> None:
    rows = [{**to_judge(4)[0], "keep": keep} for keep in (True, None, False)]
    with pytest.raises(DataError, match=r"must judge each row once, got both answers in its rows 0 and 2: "):
        judged_wrong(put(tmp_path / "rows.jsonl", *rows), known_of_texts(TEXTS))
    assert judged_wrong(put(tmp_path / "rows.jsonl", *rows[1:]), known_of_texts(TEXTS)).tolist() == [4]


def test_two_columns_that_disagree_are_named_and_those_that_agree_are_one(tmp_path: Path) -> None:
    row = to_judge(4)[0]
    with pytest.raises(DataError, match=r"row 0 must have a verdict and a keep that agree, got wrong and true\. Leave"):
        judged_wrong(put(tmp_path / "a.jsonl", {**row, "verdict": "wrong", "keep": True}), known_of_texts(TEXTS))
    for verdict, keep in [("wrong", False), ("wrong", None), ("unsure", False), (None, False)]:
        path = put(tmp_path / "b.jsonl", {**row, "verdict": verdict, "keep": keep})
        assert judged_wrong(path, known_of_texts(TEXTS)).tolist() == [4]
    for verdict, keep in [("right", True), ("right", None), (None, None), ("unsure", None), ("", True)]:
        path = put(tmp_path / "c.jsonl", {**row, "verdict": verdict, "keep": keep})
        assert judged_wrong(path, known_of_texts(TEXTS)).tolist() == []


def test_a_file_that_was_judged_in_another_data_set_says_so(tmp_path: Path) -> None:
    path = put(tmp_path / "rows.jsonl", *to_judge(0, 1, 2))
    with pytest.raises(DataError, match=r"got 3 of 3 that are none .*: judged in another data set\."):
        judged_wrong(path, known_of_texts(TEXTS[4:], [10, 11, 12, 13]))


def test_a_judged_row_that_was_changed_since_is_named_and_one_that_nobody_judged_is_not(tmp_path: Path) -> None:
    texts = [*TEXTS[:2], "another text", *TEXTS[3:]]
    known = known_of_texts(texts, [0, 1, 99, 3, 4, 5, 6, 7])
    judged = [{**row, "keep": False} for row in to_judge(0, 1, 2)]
    with pytest.raises(DataError, match=r"got 1 of 3 that are none \(row 2: .*\): changed since or not there any more"):
        judged_wrong(put(tmp_path / "rows.jsonl", *judged), known)
    judged[2]["keep"] = None
    assert judged_wrong(put(tmp_path / "rows.jsonl", *judged), known).tolist() == [0, 1]
