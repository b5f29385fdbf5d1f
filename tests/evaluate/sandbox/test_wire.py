"""What judge and judged say to each other: it arrives as it was, and nothing else arrives."""

from __future__ import annotations

import math
import os
import threading
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.evaluate.sandbox import asking
from campus_tune.evaluate.sandbox.wire import MOST_DEPTH, Reader, WireError, Writer, receive, send

FLAT = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.binary() | st.decimals()
    | st.text(st.characters(codec=None, categories=None)) | st.sampled_from([int, str, type(None), 2**4000, -(2**4000)])
)  # fmt: skip
KEYS = st.none() | st.integers() | st.text() | st.binary() | st.tuples(st.integers(), st.text())
VALUES = st.recursive(
    FLAT,
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.lists(inner).map(tuple)
    | st.sets(KEYS) | st.frozensets(KEYS),
    max_leaves=20,
)  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Equal in kind too, at every depth; a NaN is itself, and a zero has its sign."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return one == other if isinstance(one, set | frozenset | type) else repr(one) == repr(other)


def through(value: object) -> Any:
    return Reader(Writer().bytes_of(value)).value()


@given(VALUES)
def test_a_value_arrives_as_it_was(value: object) -> None:
    assert same(through(value), value)


def test_a_list_that_is_there_twice_stays_one_and_may_hold_itself() -> None:
    inner: list[Any] = [1]
    inner.append(inner)
    one, other = through((inner, {"a": inner}))
    assert one is other["a"]
    assert one[1] is one
    assert one[0] == 1
    known: list[Any] = [inner]
    assert Reader(Writer(known).bytes_of([inner]), known).value()[0] is inner


@given(st.binary(max_size=200) | VALUES.map(lambda value: Writer().bytes_of(value)), st.data())
def test_whatever_arrives_is_a_value_or_a_fault_and_nothing_else(content: bytes, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(content)))
        content = content[:place] + data.draw(st.binary(max_size=3)) + content[place + data.draw(st.integers(0, 3)) :]
    try:
        value = Reader(content).value()
    except WireError:
        return
    Writer().bytes_of(value)  # what arrived can be said


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the value breaks off"), (b"q", "an unknown letter"), (b"NN", "more follows behind the value"),
        (b"i", "a number is missing"), (b"i:", "a number is missing"), (b"i-1:x", "a number is missing"),
        (b"iA:x", "a number is missing"), (b"i" + b"1" * 17 + b":", "a number is missing"),
        (b"i9:x", "the value breaks off"), (b"lffffffff:", "the value breaks off"), (b"d1:N", "the value breaks off"),
        (b"s1:\xff", "a text is not UTF-8"), (b"D1:x", "a Decimal is no number"), (b"f1:x", "a float is no number"),
        (b"fb:0x1p9999999", "a float is no number"), (b"D4:\xed\xb2\x80x", "a Decimal is no number"),
        (b"y4:eval", "a type is unknown"),
        (b"r0:", "a list is at no place"), (b"S1:l0:", "a key that has no hash"),
        (b"d1:l0:N", "a key that has no hash"),
        (b"S2:NN", "a key is there twice"), (b"d2:TNi1:\x01N", "a key is there twice"),
        (b"t1:" * 10**5, f"nested deeper than {MOST_DEPTH}"), (b"h0:0:", "there is no object 0"),
    ],
)  # fmt: skip
def test_what_is_no_value_is_named(content: bytes, says: str) -> None:
    with pytest.raises(WireError, match=says):
        Reader(content).value()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "a object is not a value"),
        (lambda: 0, "a function is not a value"),
        (range(3), "a range is not a value"),
        (type("Liar", (int,), {"__eq__": lambda *_: True, "__hash__": int.__hash__})(1), "a Liar is not a value"),
        (bytes(2**24 + 1), "more than 16 MiB"),
        ([["x" * 2**23], ["x" * 2**23]], "more than 16 MiB"),
    ],
)
def test_what_cannot_be_said_is_named(value: object, says: str) -> None:
    with pytest.raises(WireError, match=says):
        Writer().bytes_of(value)


def test_what_is_nested_deeper_than_allowed_is_not_said() -> None:
    deep: list[Any] = []
    for _ in range(MOST_DEPTH):
        deep = [deep]
    assert through(deep) == deep
    with pytest.raises(WireError, match="nested deeper than 100"):
        Writer().bytes_of([deep])


def test_decimals_and_floats_keep_what_their_equality_does_not_see() -> None:
    assert str(through(Decimal("1.50"))) == "1.50"
    assert math.copysign(1, through(-0.0)) == -1
    assert str(through(Decimal("sNaN12"))) == "sNaN12"


def test_a_frame_arrives_whole_or_not_at_all() -> None:
    read, write = os.pipe()
    content = os.urandom(2**18)  # more than the pipe holds
    sender = threading.Thread(target=send, args=(write, content))
    sender.start()
    assert receive(read, most=2**18) == content
    sender.join()
    send(write, b"xx")
    with pytest.raises(WireError, match="more than 0 MiB"):
        receive(read, most=1)
    os.read(read, 2)
    os.write(write, (9).to_bytes(8, "big") + b"breaks off")
    os.close(write)
    assert receive(read, most=9) == b"breaks of"
    assert receive(read, most=9) is None
    os.close(read)


def test_an_exception_is_pythons_own_by_name_or_a_general_one() -> None:
    assert repr(asking._exception("ValueError", "no", ends=False)) == "ValueError('no')"
    for name in ("SystemExit", "print", "UnicodeDecodeError", "Own", "StopIteration"):
        assert repr(asking._exception(name, "no", ends=False)) == f"ProgramError('{name}: no')"
    assert repr(asking._exception("StopIteration", "", ends=True)) == "StopIteration('')"


@pytest.mark.parametrize(
    "answer",
    [
        None, 1, (), ("passed",), ("value",), ("value", 1), ("value", 1, 2), ("value", 1, ((),)),
        ("value", 1, 2, ((), ())),
        ("raised", "E"), ("raised", 1, "x", ((), ())), ("unfit",), ("unfit", 1), ["value", 1, ((), ())],
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_refused(answer: object) -> None:
    with pytest.raises(WireError, match="something else than a value"):
        asking._changed(answer, [[], {}])


@pytest.mark.parametrize("contents", [(1, ()), ((), (1,)), ((), ((1, 2, 3),))])
def test_arguments_that_became_something_else_are_refused(contents: tuple[Any, ...]) -> None:
    with pytest.raises(WireError, match="arguments of another kind"):
        asking._changed(("value", 1, contents), [[], {}])


def test_arguments_are_changed_in_place() -> None:
    asked: list[Any] = [[1], {1: 2}, {1}]
    assert asking._changed(("value", 7, ((2, 3), ((4, 5),), (6,))), asked) == ("value", 7)
    assert asked == [[2, 3], {4: 5}, {6}]
