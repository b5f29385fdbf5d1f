"""How values, lists and differences are said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.words.wording import Mismatch, cut, differences, listed, shown


@given(st.text(max_size=40), st.integers(12, 30), st.integers(0, 8))
def test_what_is_cut_is_as_long_as_allowed_and_keeps_both_ends(text: str, longest: int, tail: int) -> None:
    said = cut(text, longest, tail=tail)
    if len(text) <= longest:
        assert said == text
    else:
        assert len(said) == longest
        assert said.endswith(text[len(text) - tail :])
        assert text.startswith(said[: longest - tail - 1])


def test_a_head_of_its_own_length_and_another_mark() -> None:
    assert cut("0123456789", 9, head=3, tail=2, mark=" […] ") == "012 […] 89"


def test_a_value_is_said_as_python_writes_it() -> None:
    assert shown("x" * 300) == "'" + "x" * 198 + "…"
    assert shown(10**5000) == "a number of thousands of digits"


@pytest.mark.parametrize(
    ("more", "said"), [(", …", "1, 2, …"), (" and {n} more", "1, 2 and 3 more")], ids=["a mark", "how many"]
)
def test_a_list_says_that_it_goes_on(more: str, said: str) -> None:
    assert listed([1, 2, 3, 4, 5], 2, more=more) == said
    assert listed([1, 2], 2, more=more) == "1, 2"


def test_differences_come_in_the_sequence_of_the_first_setting_then_of_the_second() -> None:
    found = differences({"b": 1, "a": 2, "same": 3}, {"same": 3, "c": None, "a": 4}, absent="not set")
    assert found == [Mismatch("b", 1, "not set"), Mismatch("a", 2, 4), Mismatch("c", "not set", None)]


def test_what_nobody_has_is_no_difference_where_nothing_means_null() -> None:
    assert differences({"a": None}, {}) == []


def test_what_counts_as_the_same_is_the_askers() -> None:
    assert differences({"a": 1}, {"a": True}) == []
    assert differences({"a": 1}, {"a": True}, same=lambda a, b: repr(a) == repr(b)) == [Mismatch("a", 1, True)]
