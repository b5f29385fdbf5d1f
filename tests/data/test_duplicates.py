"""Training rows that say again what an earlier one says: found as comparing lists of words finds them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data import duplicates as module
from campus_tune.data.duplicates import Duplicates, contradictions, duplicates, first_of_each
from campus_tune.data.word_hashes import TEMPLATE, row_hashes

SENTENCE = "one two three four five six seven eight nine ten eleven twelve thirteen"


def words_of(text: str) -> list[str]:
    return re.findall(r"[a-z0-9\u0080-\U0010ffff]+|[-+*/=<>^%]", text.lower())


def slow(texts: list[str], n: int, prompts: list[str] | None = None) -> tuple[list[int], list[int]]:
    """(equal, near) by comparing lists of words, row by row."""
    words = [words_of(text) for text in texts]
    asked = [words_of(text) for text in prompts or [""] * len(texts)]
    equal = [words.index(one) if one else row for row, one in enumerate(words)]
    runs = [{tuple(one[i : i + n]) for i in range(len(one) - n + 1)} for one in words]
    said_by: dict[tuple[str, ...], int] = {}
    for row, has in enumerate(runs):
        for run in has if equal[row] == row else ():
            said_by[run] = said_by.get(run, 0) + 1
    near, kept = list(range(len(texts))), list[int]()
    for row, has in enumerate(runs):
        if equal[row] != row:
            continue
        own = {run for run in has if said_by[run] <= TEMPLATE}
        alike = (other for other in kept if own & runs[other] and len(own & runs[other]) >= len(own) / 2)
        near[row] = next((other for other in alike if not asked[row] or asked[row] != asked[other]), row)
        if near[row] == row:
            kept.append(row)
    return equal, near


def slow_contradictions(prompts: list[str], answers: list[str]) -> list[tuple[int, ...]]:
    asked, said = ([words_of(text) for text in texts] for texts in (prompts, answers))
    groups = [[row for row, other in enumerate(asked) if other == one] for one in asked if one]
    return sorted({tuple(group) for group in groups if any(said[row] != said[group[0]] for row in group)})


def as_lists(found: Duplicates) -> tuple[list[int], list[int]]:
    return found.equal.tolist(), found.near.tolist()


some_words = st.lists(st.sampled_from(["a", "B", "cd", "7", "+", "-", "é", ".", "\n"]), max_size=9).map(" ".join)
texts = st.lists(some_words, max_size=14)


@given(rows=texts, n=st.integers(1, 4))
def test_hashing_finds_what_comparing_words_finds(rows: list[str], n: int) -> None:
    assert as_lists(duplicates(rows, n=n)) == slow(rows, n)


@given(rows=st.lists(st.tuples(some_words, some_words), max_size=12), n=st.integers(1, 3))
def test_rows_of_one_prompt_are_equal_or_no_duplicates(rows: list[tuple[str, str]], n: int) -> None:
    texts, prompts = ["\n".join(row) for row in rows], [prompt for prompt, _ in rows]
    assert as_lists(duplicates(texts, prompts, n=n)) == slow(texts, n, prompts)


@given(rows=texts, at_once=st.integers(1, 20))
def test_it_does_not_matter_how_many_runs_are_sorted_at_a_time(rows: list[str], at_once: int) -> None:
    whole = as_lists(duplicates(rows, n=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_AT_ONCE", at_once)
        assert as_lists(duplicates(rows, n=2)) == whole


@given(rows=texts, n=st.integers(1, 3))
def test_what_is_dropped_repeats_a_row_that_is_kept(rows: list[str], n: int) -> None:
    found = duplicates(rows, n=n)
    gone = {*found.equal_rows.tolist(), *found.near_rows.tolist()}
    assert not {*found.equal_rows.tolist()} & {*found.near_rows.tolist()}
    assert not {int(found.near[row]) for row in found.near_rows} & gone
    kept = [rows[row] for row in range(len(rows)) if row not in gone]
    assert len(duplicates(kept, n=n).equal_rows) == 0


def test_the_first_of_equal_rows_is_kept() -> None:
    found = duplicates(["Why is the sky blue?", "other", "", "why  is the sky,\nBLUE", "", "why is the sky blue"])
    assert found.equal_rows.tolist() == [3, 5]
    assert found.equal.tolist() == [0, 1, 2, 0, 4, 0]


def counted(first: int, last: int) -> str:
    return " ".join(f"w{i}" for i in range(first, last))


def test_nearness_does_not_chain() -> None:
    rows = [counted(0, 40), counted(12, 52), counted(26, 66)]  # the second has 16 of the first's 28 runs, and so on
    assert as_lists(duplicates(rows[:2]))[1] == [0, 0]
    assert as_lists(duplicates(rows[1:]))[1] == [0, 0]
    assert as_lists(duplicates(rows)) == ([0, 1, 2], [0, 0, 2])


def test_half_of_a_rows_runs_of_thirteen_words_are_near_and_fewer_are_not() -> None:
    first = counted(0, 30)
    assert duplicates([first, counted(14, 34)]).near_rows.tolist() == [1]  # 4 of 8 runs
    assert duplicates([first, counted(15, 35)]).near_rows.tolist() == []  # 3 of 8
    assert duplicates([counted(0, 12), f"{counted(0, 12)} a"]).near_rows.tolist() == []  # no run of 13 in common


def test_a_row_that_says_more_than_an_earlier_one_is_kept() -> None:
    short, long = counted(0, 20), counted(0, 60)
    assert duplicates([short, long]).near_rows.tolist() == []
    assert duplicates([long, short]).near_rows.tolist() == [1]


def test_an_equation_that_two_rows_share_makes_them_no_duplicates() -> None:
    equation = "3 * 4 = <<3*4=12>>12"
    rows = [f"{counted(0, 30)} {equation}", f"{counted(50, 80)} {equation}"]
    assert duplicates(rows).near_rows.tolist() == []


def test_one_prompt_answered_twice_is_no_duplicate() -> None:
    prompts = [SENTENCE, SENTENCE.upper(), f"now {SENTENCE}"]
    texts = [f"{prompt}\n{answer}" for prompt, answer in zip(prompts, ("yes", "no", "yes"), strict=True)]
    assert duplicates(texts, prompts).near_rows.tolist() == [2]  # another prompt
    assert duplicates(texts).near_rows.tolist() == [1, 2]


def test_a_prompt_template_is_not_near_however_often_its_rows_are_repeated() -> None:
    rows = [f"{SENTENCE} {i}" for i in range(6)]
    assert duplicates(rows).near_rows.tolist() == []
    assert duplicates(rows[:5]).near_rows.tolist() == [1, 2, 3, 4]
    again = duplicates([*rows[:2], *rows[:2] * 5])  # the same two rows, many times: no template
    assert again.near_rows.tolist() == [1]
    assert again.equal_rows.tolist() == [*range(2, 12)]


def test_rows_known_by_their_tokens_alone_are_equal_or_not() -> None:
    assert first_of_each(np.array([5, 5, 0, 5, 0], dtype=np.uint64)).tolist() == [0, 0, 2, 0, 2]
    assert first_of_each(np.zeros(0, dtype=np.uint64)).tolist() == []


def test_no_rows_and_one_row_repeat_nothing() -> None:
    assert as_lists(duplicates([])) == ([], [])
    assert as_lists(duplicates([SENTENCE])) == ([0], [0])
    assert contradictions([], []) == []


@given(st.lists(st.tuples(some_words, some_words), max_size=12))
def test_contradictions_are_what_comparing_words_finds(rows: list[tuple[str, str]]) -> None:
    prompts, answers = [prompt for prompt, _ in rows], [answer for _, answer in rows]
    assert contradictions(prompts, answers) == [list(group) for group in slow_contradictions(prompts, answers)]


def test_the_same_answer_twice_contradicts_nothing() -> None:
    prompts = ["Capital of Peru?", "capital of peru", "Of Chile?", "of chile", "", ""]
    assert contradictions(prompts, ["Lima", "Quito", "Santiago", "santiago.", "a", "b"]) == [[0, 1]]


def test_a_row_without_words_has_no_hash() -> None:
    assert row_hashes(["?!", "", "a"]).astype(bool).tolist() == [False, False, True]
