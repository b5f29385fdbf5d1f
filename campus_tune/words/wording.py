"""How things are said: values and lists cut where they are long, and what differs between two settings.

>>> cut("a long text", 8), shown("a long text", 8), listed([1, 2, 3], 2)
('a long …', "'a long…", '1, 2, …')
>>> differences({"seed": 0, "mix": 0.1}, {"seed": 0, "stages": 4})
[Mismatch(name='mix', there=0.1, now=None), Mismatch(name='stages', there=None, now=4)]
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

LONGEST = 200  # characters of a value in a message


class Mismatch(NamedTuple):
    """One thing in which two settings differ."""

    name: str
    there: Any
    now: Any


def differences(
    there: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    absent: object = None,
    same: Callable[[Any, Any], bool] = operator.eq,
) -> list[Mismatch]:
    """What differs between two settings, in the sequence of the first one, then of the second.

    Args:
        there: one of them.
        now: the other.
        absent: what one says that does not have a name.
        same: whether two values are.
    """
    pairs = ((name, there.get(name, absent), now.get(name, absent)) for name in dict.fromkeys([*there, *now]))
    return [Mismatch(name, a, b) for name, a, b in pairs if not same(a, b)]


def cut(text: str, longest: int, *, head: int | None = None, tail: int = 0, mark: str = "…") -> str:
    """A text, and where it is longer than `longest` only its two ends.

    Args:
        text: to be said.
        longest: characters that are said in full.
        head: characters of its beginning that stay; None for as many as make `longest` with the mark and the tail.
        tail: characters of its end that stay.
        mark: what stands for those between.
    """
    if len(text) <= longest:
        return text
    head = longest - len(mark) - tail if head is None else head
    return f"{text[:head]}{mark}{text[len(text) - tail :]}"


def shown(value: object, longest: int = LONGEST) -> str:
    """A value for a message: as Python writes it, cut where it is long."""
    try:
        return cut(repr(value), longest)
    except ValueError:  # a whole number of more digits than Python writes
        return "a number of thousands of digits"


def duration(seconds: float) -> str:
    """So many seconds or minutes.

    >>> duration(119.6), duration(120)
    ('120 s', '2 min')
    """
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def listed(items: Sequence[object], most: int, *, by: str = ", ", more: str = ", …") -> str:
    """The first of some things, and a mark where there are others.

    Args:
        items: what is listed.
        most: how many are named.
        by: what stands between two.
        more: the mark; `{n}` in it is how many are left out.
    """
    rest = more.format(n=len(items) - most) if len(items) > most else ""
    return by.join(map(str, items[:most])) + rest


def harmless(text: str) -> str:
    r"""A text in which nothing is a command for a terminal, and nothing is invisible but blanks and line ends.

    >>> harmless("red \x1b[31m\r\n\tzero\u200bwidth")
    'red \\x1b[31m\n    zero\\u200bwidth'
    """
    lines = text.replace("\r\n", "\n").expandtabs(4).split("\n")
    return "\n".join("".join(c if c.isprintable() else repr(c)[1:-1] for c in line) for line in lines)
