"""A first look at rows: their shape is told, other shapes are converted by the call that a refusal names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from campus_tune.data.refusals import why_not
from campus_tune.data.shapes import Shape
from campus_tune.demo.tiny import write_tiny
from campus_tune.preview.first_look import first_look, lengths_in_words
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json

CHAT = [{"role": "user", "content": "ask"}, {"role": "assistant", "content": "answer"}]
SHARE = [{"from": "human", "value": "ask"}, {"from": "gpt", "value": "answer"}]

# what rows are → (first row, what TRL trains of it, the shape in words)
KNOWN: dict[str, tuple[Json, Json, str]] = {
    "messages": ({"messages": CHAT}, {"messages": CHAT}, "chats under `messages`"),
    "prompt and completion": (
        {"prompt": "ask", "completion": "answer"},
        {"prompt": "ask", "completion": "answer"},
        "prompt and completion",
    ),
    "ShareGPT": ({"conversations": SHARE, "id": 3}, {"id": 3, "messages": CHAT}, "chats under `messages`"),
    "ShareGPT by another name": ({"dialog": SHARE}, {"messages": CHAT}, "chats under `messages`"),
    "a chat as JSON": ({"messages": '[{"role": "user", "content": "ask"}]'}, {"messages": CHAT[:1]}, "chats under"),
    "Alpaca": (
        {"instruction": "do", "input": "this", "output": "done", "n": 1},
        {"n": 1, "prompt": "do\n\nthis\n\n", "completion": "done"},
        "prompt and completion",
    ),
    "questions": (
        {"question": "ask", "answer": "answer"},
        {"prompt": "ask", "completion": "answer"},
        "prompt and completion",
    ),
    "answers that are numbers": (
        {"question": "ask", "answer": 42},
        {"prompt": "ask", "completion": "42"},
        "prompt and completion",
    ),
    "one column of texts": ({"body": "said", "n": 2}, {"body": "said", "n": 2}, "plain texts under `body`"),
}


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model's folder."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny(folder)
    return folder


def in_table(row: Json) -> Json:
    return {name: row[name] for name in sorted(row)}


@pytest.mark.parametrize("name", KNOWN)
def test_a_shape_is_known_and_made_one_that_trl_trains(name: str) -> None:
    row, trained, kind = KNOWN[name]
    look = first_look("rows.jsonl", [row] * 3)
    assert in_table(look.rows[2]) == in_table(trained)
    assert look.kind.startswith(kind)
    assert (look.conversion is None) == (row == trained)
    assert why_not(look.rows, look.shape) is None


@pytest.mark.parametrize("name", ["Alpaca", "ShareGPT by another name", "questions", "answers that are numbers"])
def test_what_is_done_is_what_a_refusal_tells_to_do(name: str) -> None:
    row, _, _ = KNOWN[name]
    told = why_not([row], Shape())
    look = first_look("rows.jsonl", [row])
    assert told is not None
    assert look.conversion is not None
    assert re.split(r"\)\.(?:map|rename)", look.conversion)[0] in told  # what comes behind it, TRL could do without


def test_what_nobody_knows_how_to_train_is_refused_as_a_run_refuses_it() -> None:
    with pytest.raises(
        DataError, match=r"training rows must have prompt and completion, messages.*got the columns a, b"
    ):
        first_look("rows.jsonl", [{"a": "x", "b": "y"}])
    with pytest.raises(DataError, match="the training set must have at least one row, got none"):
        first_look("rows.jsonl", [])
    with pytest.raises(DataError, match="training rows must have columns, got none in any row"):
        first_look("rows.jsonl", [{}, {}])
    with pytest.raises(DataError, match="row 1: `messages` must be in every row, got none"):
        first_look("rows.jsonl", [{"messages": CHAT}, {"messages": None}])


def rows_of(**columns: Any) -> list[Json]:
    n = 40
    made = {name: [value(i) if callable(value) else value for i in range(n)] for name, value in columns.items()}
    return [{"prompt": f"ask {i}", "completion": f"say {i}", **{k: v[i] for k, v in made.items()}} for i in range(n)]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ({"domain": lambda i: "ab"[i % 2], "category": lambda i: "cd"[i % 2]}, "domain"),
        ({"category": lambda i: "cd"[i % 2]}, "category"),
        ({"category": "the same"}, None),
        ({"category": lambda i: f"c{i}"}, None),  # as many as rows
        ({"category": lambda i: None if i == 7 else "cd"[i % 2]}, None),
        ({"level": lambda i: i % 3}, None),
        ({"domain": lambda i: f"c{i}"}, None),
    ],
)
def test_the_column_of_domains_is_the_likeliest_of_those_that_can_be(columns: Json, found: str | None) -> None:
    look = first_look("rows.jsonl", rows_of(**columns))
    assert look.column == found
    told = " ".join(look.sentences())
    assert ("no column of domains" in told) == (found is None)


def test_many_domains_are_believed_where_their_column_is_called_so() -> None:
    rows = [{"prompt": f"ask {i}", "completion": "say", "domain": f"d{i % 60}"} for i in range(300)]
    assert first_look("rows.jsonl", rows).column == "domain"
    assert first_look("rows.jsonl", [{"topic": row.pop("domain"), **row} for row in rows]).column is None


@pytest.mark.parametrize("asked", [None, "none"])
def test_a_column_called_domain_that_names_none_is_written_by_another_name(asked: str | None) -> None:
    look = first_look("rows.jsonl", rows_of(domain=lambda i: f"c{i}"), asked)
    assert {tuple(row) for row in look.written} == {("prompt", "completion", "own_domain")}
    assert "`domain` names none here and is written as `own_domain`" in " ".join(look.sentences())
    other = first_look("rows.jsonl", rows_of(domain=lambda i: f"c{i}", level=1), "level")
    assert other.written == other.rows


def test_what_is_said_before_the_question_is_not_lost_silently() -> None:
    rows = [{"conversations": SHARE, "system": "be kind" if i % 2 else ""} for i in range(6)]
    told = [str(finding) for finding in first_look("rows.jsonl", rows).findings()]
    what = "warning: TRL does not train what `system` says in 3 rows (rows 1, 3, 5). Write it into the chats, or"
    assert any(one.startswith(what) for one in told)


def test_a_column_that_is_named_is_taken_or_refused() -> None:
    rows = rows_of(level=lambda i: i % 3, domain=lambda i: "ab"[i % 2])
    assert first_look("rows.jsonl", rows, "level").domains.sizes() == {"0": 14, "1": 13, "2": 13}
    assert first_look("rows.jsonl", rows, "none").column is None
    assert first_look("rows.jsonl", rows).with_column("none").domains.codes is None
    wrong = r"`--domain-column` must be a column of the rows \(.*level.*\), got 'levl'\. Did you mean 'level'\?"
    with pytest.raises(DataError, match=wrong):
        first_look("rows.jsonl", rows, "levl")


def test_odd_rows_are_named() -> None:
    rows = rows_of()
    rows[3]["completion"] = " "
    rows[5]["completion"] = "caf\ufffd"
    rows[9] = dict(rows[8])
    rows[11]["prompt"] = rows[10]["prompt"]
    told = [str(finding) for finding in first_look("rows.jsonl", rows).findings()]
    assert any("1 of 40 training row says word for word what an earlier row says" in one for one in told)
    assert any("1 prompt is answered in more than one way, in 2 rows" in one for one in told)
    assert "warning: 1 row without an answer (rows 3). Mend them, or leave them out." in told
    assert any("a letter that could not be read (rows 5)" in one for one in told)
    assert list(first_look("rows.jsonl", rows_of()).findings()) == []


def test_lengths_are_the_models_own_with_its_template(tiny_folder: Path) -> None:
    look = first_look("rows.jsonl", [{"messages": CHAT}] * 4)
    tokens, counted, troubles = look.count_tokens(str(tiny_folder))
    words, instead, _ = look.count_tokens(None)
    assert (counted, instead, troubles) == ("tokens", "words", [])
    assert tokens.tolist() == [tokens[0]] * 4
    assert tokens[0] > words[0] == 2
    assert re.fullmatch(
        r"half have at most \d+ tokens, nine tenths \d+, the longest \d+", lengths_in_words(tokens, counted)
    )


def test_prompts_that_melt_into_their_answers_are_told_once(
    tiny_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = ["the", "of", "in", "ing", "er"]
    rows = [{"prompt": f"add {n}{a}", "completion": f"{b}{n} is it"} for n, a in enumerate(words) for b in words]
    for end, n_told in (("", 1), ("\n", 0)):
        ended = [{**row, "prompt": row["prompt"] + end} for row in rows]
        _, _, troubles = first_look("rows.jsonl", ended).count_tokens(str(tiny_folder))
        assert [one.what.split(", and")[0] for one in troubles] == n_told * [
            "Ends of prompts melt into tokens with the beginnings of their answers"
        ]
    assert "not a prefix" not in caplog.text


def test_what_a_tokenizer_cannot_do_is_a_finding_and_words_are_counted(tiny_folder: Path) -> None:
    odd = first_look("rows.jsonl", [{"messages": [{"role": "user", "content": "a"}], "tools": "[]"}])
    tokens, _, _ = odd.count_tokens(str(tiny_folder))
    assert len(tokens) == 1
    nowhere, counted, _ = odd.count_tokens("nobody/nowhere")
    assert (nowhere.tolist(), counted) == ([1], "words")


def test_lengths_of_many_rows_are_those_of_some() -> None:
    look = first_look("rows.jsonl", [{"text": " ".join("w" * (i % 7 + 1))} for i in range(5000)])
    tokens, _, _ = look.count_tokens(None)
    assert len(tokens) <= 2000
    assert np.quantile(tokens, 1.0) == 7
