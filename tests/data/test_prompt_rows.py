"""Rows that are trained by reward: which are prompts, and which test prompts are held out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from campus_tune.data.held_out_prompts import read_held_out_prompts
from campus_tune.data.prompt_rows import text_of, why_no_prompts
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json

ASKED = {"role": "user", "content": "2 + 3"}
CHAT: Json = {"prompt": [ASKED]}


def why(*rows: Json) -> str:
    return why_no_prompts(rows, [f"`x.jsonl` row {i}" for i in range(len(rows))]) or ""


@pytest.mark.parametrize(
    "rows", [[], [{"prompt": "2 + 3 =", "sum": 5}], [CHAT, CHAT], [{"prompt": "a", "image": None}]]
)
def test_prompts_pass(rows: list[Json]) -> None:
    assert why(*rows) == ""


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "2 + 3"}, "must have its prompt in the column 'prompt', got the columns question. Rename"),
        ({"prompt": "a", "images": ["x"]}, "must be text, got images"),
        ({"prompt": " "}, "must have a text or a chat of turns with role and content as its prompt, got ' '"),
        ({"prompt": None}, "got None. Correct or remove the row."),
        ({"prompt": 5}, "got 5. Correct or remove the row."),
        ({"prompt": [{"role": "user", "content": None}]}, "must have a text or a chat of turns"),
        ({"prompt": [ASKED, {"role": "assistant", "content": "5"}]}, "a chat that ends with the assistant's turn"),
    ],
)
def test_what_is_none_is_named_with_what_to_do(row: Json, said: str) -> None:
    assert said in why(row)
    assert why(row).startswith("`x.jsonl` row 0 must")


def test_all_are_texts_or_all_are_chats() -> None:
    assert "row 1 must be a text or a chat as the first row is, got the other" in why(CHAT, {"prompt": "2 + 3"})


def test_a_chat_is_its_turns() -> None:
    assert text_of([{"role": "system", "content": "Add."}, ASKED]) == "Add.\n2 + 3"
    assert text_of(None) == ""


# -- held out ----------------------------------------------------------------------------------------------------------


def write(path: Path, *rows: Json) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_prompts_are_known_by_all_their_columns_whatever_the_file(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i} + 1", "sum": i, "domain": "plus"} for i in range(3)]
    one = read_held_out_prompts([write(tmp_path / "a.jsonl", *rows)])
    other = read_held_out_prompts([write(tmp_path / "b.jsonl", *rows[2:]), write(tmp_path / "c.jsonl", *rows[:2])])
    assert one.digest() == other.digest()
    assert len(one) == 3
    changed = read_held_out_prompts([write(tmp_path / "d.jsonl", *rows[:2], {**rows[2], "sum": 9})])
    assert changed.digest() != one.digest()


def test_a_prompt_that_comes_twice_is_two(tmp_path: Path) -> None:
    row = {"prompt": "2 + 3", "domain": "plus"}
    found = read_held_out_prompts([write(tmp_path / "a.jsonl", row, row)])
    assert len(set(found.numbers)) == 2


def test_without_a_column_each_file_is_a_domain(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name}.jsonl", {"prompt": name}) for name in ("plus", "minus")]
    assert read_held_out_prompts(paths, domain_column=None).domains == ("plus", "minus")


def test_a_test_file_of_no_prompts_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"question": "2 + 3", "domain": "plus"})
    with pytest.raises(DataError, match=r"row 0 must have its prompt in the column 'prompt'"):
        read_held_out_prompts([path])


def test_a_trained_prompt_is_refused_however_it_is_spaced(tmp_path: Path) -> None:
    held = read_held_out_prompts([write(tmp_path / "a.jsonl", {**CHAT, "domain": "plus"})])
    held.refuse_trained([{"prompt": "2 - 3"}], say=print)
    with pytest.raises(DataError, match=r"got 1 that are in the training set .* what is measured on them is memory"):
        held.refuse_trained([{"prompt": "1 + 1"}, {"prompt": "2  +  3"}], say=print)
