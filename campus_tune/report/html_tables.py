"""Tables of a page, cells that show one thing and sort by another; and the numbers at its top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

FOLDED = 50  # rows, above which a table is folded away until somebody opens it
LONG = 48  # characters, above which a cell wraps
GAP = "–"


@dataclass(frozen=True)
class Cell:
    """One cell.

    Args:
        text: shown.
        sort: number to sort by; None sorts by the text.
        kind: "text" cells are long and wrap; "good" and "bad" are marked; "" is plain.
    """

    text: str
    sort: float | None = None
    kind: str = ""


@dataclass(frozen=True)
class HtmlTable:
    """One table.

    Args:
        caption: what it shows.
        head: names of the columns.
        rows: of cells, as many as the head has.
        opened: shown without being asked for; None folds what is longer than 50 rows.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    opened: bool | None = None

    @property
    def folded(self) -> bool:
        """Whether it waits to be opened."""
        return len(self.rows) > FOLDED if self.opened is None else not self.opened

    @cached_property
    def numeric(self) -> list[bool]:
        """Which columns are numbers, to be set to the right."""
        return [any(row[i].sort is not None for row in self.rows) for i in range(len(self.head))]


@dataclass(frozen=True)
class Fact:
    """One number at the top of a page.

    Args:
        name: of it.
        value: as text.
        more: in small letters below.
        kind: "bad" is marked.
    """

    name: str
    value: str
    more: str = ""
    kind: str = ""


def words(text: str, *, kind: str = "") -> Cell:
    """A cell of words; many of them wrap.

    >>> words("random").kind, words("the loss was NaN " * 5, kind="bad").kind
    ('', 'text bad')
    """
    return Cell(text, None, f"text {kind}".rstrip() if len(text) > LONG and "text" not in kind else kind)


def number(value: float | None, form: str = ",.0f", *, kind: str = "") -> Cell:
    """A cell of a number, or a dash.

    >>> number(0.1234, ".1%").text
    '12.3%'
    >>> number(None).text
    '–'
    """
    return Cell(GAP) if value is None else Cell(signed(f"{value:{form}}"), float(value), kind)


def signed(text: str) -> str:
    """A minus sign that looks like one, and none before a zero.

    >>> signed("-0.12"), signed("-0.00")
    ('−0.12', '0.00')
    """
    if not text.startswith("-"):
        return text
    return f"−{text[1:]}" if any(digit in text for digit in "123456789") else text[1:]
