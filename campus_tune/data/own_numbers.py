"""A user's own numbers: which values are numbers, and how those that are none are refused, in the words of who asks.

Nothing is guessed: text that spells a number, true and false, and dates are refused with what to write instead.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from campus_tune.words.errors import CampusError
from campus_tune.words.registry import nearest
from campus_tune.words.types import FloatArray
from campus_tune.words.wording import listed, shown

SHOWN = 60  # characters of a value in a message
NAMED = 3  # places that are named of those where a number is missing
Where: TypeAlias = Callable[[int], str]  # where a value stands, for messages


def in_row(number: int) -> str:
    """The place of a value of which each row has one."""
    return f"row {number}"


@dataclass(frozen=True)
class OwnNumbers:
    """What is said of a user's own numbers where one is none.

    Args:
        option: of a recipe, that names them: messages begin with it.
        error: what is raised.
        switch: what to do with true and false, a sentence; `{name!r}` in it, as in the others, is the column's.
        stored: what to do with what is no number; a full stop follows, or a call that makes one of a date.
        large: what to do with a number that no float can be, a sentence.
        filled: what to do where there is none, a sentence.
        each: what has one.
    """

    option: str
    error: type[CampusError]
    switch: str
    stored: str
    large: str
    filled: str
    each: str = "row"

    def require(self, name: str, names: Iterable[object], where: str, otherwise: str) -> None:
        """Refuse a name that is none of a table's.

        Args:
            name: of a column.
            names: of all columns.
            where: they stand.
            otherwise: what else may be done: "or join on other columns".
        """
        known = [str(key) for key in names]
        if name not in known:
            raise self.error(
                f"`{self.option}: {name}` must be a column of {where} ({', '.join(known) or 'which has none'}), got a "
                f"name that is not there.{nearest(name, known)} Name one of these, {otherwise}."
            )

    def read(self, values: Sequence[Any], what: str, where: Where = in_row) -> FloatArray:
        """The numbers, shape (n,).

        Args:
            values: as the column has them.
            what: name of the column, " of " the file that it is read from where there is one.
            where: each value stands.
        """
        numbers, missing = np.full(len(values), np.nan), []
        for i, value in enumerate(values):
            if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
                missing.append(i)
            else:
                numbers[i] = self._number(value, what, i, where)
        if missing:
            first = listed([where(i).removeprefix("row ") for i in missing[:NAMED]], NAMED)
            raise self.error(
                f"`{self.option}: {what}` must have a number for every {self.each}, got none (null or NaN) for "
                f"{len(missing)} of {len(values)} {self.each}s (first: {first}). "
                f"{self._told(self.filled, what)}"
            )
        return numbers

    def _number(self, value: object, what: str, i: int, where: Where) -> float:
        said = f"`{self.option}: {what}` must hold numbers"
        if isinstance(value, bool | np.bool_):
            raise self.error(f"{said}, got {value} in {where(i)}. {self._told(self.switch, what)}")
        if isinstance(value, Real | Decimal):
            try:
                return float(value)
            except (OverflowError, ValueError) as error:  # no float is of its size, or it is a signaling NaN
                raise self.error(
                    f"{said} of at most {sys.float_info.max:.3g}, got {shown(value, SHOWN)} in {where(i)} ({error}). "
                    f"{self._told(self.large, what)}"
                ) from error
        day = "timestamp" if isinstance(value, datetime) else "toordinal" if isinstance(value, date) else None
        made = f": `dataset = dataset.map(lambda row: {{{{{{name!r}}: row[{{name!r}}].{day}()}}}})`" if day else ""
        raise self.error(f"{said}, got {shown(value, SHOWN)} in {where(i)}. {self._told(self.stored + made, what)}.")

    @staticmethod
    def _told(advice: str, what: str) -> str:
        return advice.format(name=what.split(" of ")[0])
