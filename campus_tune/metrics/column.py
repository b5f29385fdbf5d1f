"""A user's own number per row, from a column of the training set or from a table beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campus_tune.data.own_numbers import OwnNumbers
from campus_tune.data.row_keys import row_keys, short_key, shown_keys
from campus_tune.metrics.base import METRICS, CpuMetric
from campus_tune.words.errors import MetricError, RecipeError
from campus_tune.words.files import TABLE_SUFFIXES, read_table
from campus_tune.words.types import FloatArray, RowTexts

NUMBERS = OwnNumbers(
    "column",
    MetricError,
    switch="Write 1 for harder and 0 for easier.",
    stored="Store a number, higher = harder",
    large="Store its logarithm, or its rank.",
    filled="Fill them in, or drop these rows.",
)


@METRICS.register("column")
@dataclass(frozen=True, kw_only=True)
class Column(CpuMetric):
    """Your own number per row, higher = harder: a grade, a pass rate, the score of another tool.

    Without `path` it is a column of the training set. With `path` it is a column of a table, joined to the rows by
    the value of the columns `on`: an id, or content such as `[prompt, completion]` or `[messages]`. Never by row
    number, for preparation drops and reorders rows. Values are compared as JSON with sorted keys, without null
    fields (`datasets` adds those to messages); in a CSV, where all is text, an id 12 equals the cell "12". Table rows
    that no training row asks for are ignored.

    Args:
        column: the column that holds the number.
        path: .jsonl, .jsonl.gz, .json (one object per line), .csv or .parquet.
        on: one or more columns that the training set and the table share.

    Raises:
        RecipeError: no `column`, `path` without `on` or the reverse, a suffix that is not listed.

    >>> import numpy as np
    >>> rows = RowTexts(["4", "five"], np.array([1, 1]), np.array([3, 3]), {"level": [0, 2]})
    >>> Column(column="level").scores(rows)
    array([0., 2.])
    """

    column: str = ""
    path: str | None = None
    on: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        problems = []
        if not isinstance(self.column, str) or not self.column:
            problems.append(
                f"`column: column` must name a column, got {self.column!r}. Write {{name: column, column: …}}."
            )
        if not isinstance(self.path, str | None):
            problems.append(f"`column: path` must be a file, got {self.path!r}. Write path: scores.jsonl.")
        if self.path is not None and not self._keys():
            problems.append(
                f"`column: on` must name the column(s) to join {self.path} on, got {self.on!r}. Row numbers do not "
                "survive preparation: name an id or content columns, for example on: id or on: [prompt, completion]."
            )
        if self.path is None and self.on is not None:
            problems.append(f"`column: on` needs a `path`, got on: {self.on!r} alone. Add `path`, or leave `on` out.")
        if self.path is not None and not str(self.path).endswith(TABLE_SUFFIXES):
            problems.append(f"`column: path` must end in one of {', '.join(TABLE_SUFFIXES)}, got {self.path!r}.")
        if problems:
            raise RecipeError(problems)

    def default_label(self, name: str) -> str:
        """The name of the column."""
        del name
        return self.column

    def scores(self, texts: RowTexts, *, num_proc: int = 1, progress: bool = True) -> FloatArray:
        """The number of each row, shape (N,).

        Raises:
            DataError: the table cannot be read.
            MetricError: a column is absent, a value is missing or no number, a key of the table has two values, or
                training rows have no match in it.
        """
        del num_proc, progress  # nothing to compute
        if self.path is None:
            NUMBERS.require(self.column, texts.columns, "the training set", "or give `path` and `on` to read a table")
            return NUMBERS.read(texts.columns[self.column], self.column)
        return NUMBERS.read(self._joined(texts, Path(self.path)), f"{self.column} of {self.path}")

    def _keys(self) -> list[str]:
        keys = [self.on] if isinstance(self.on, str) else self.on
        return list(keys) if isinstance(keys, list | tuple) and all(isinstance(key, str) for key in keys) else []

    def _joined(self, texts: RowTexts, path: Path) -> list[Any]:
        """The table's value for each training row."""
        on = self._keys()
        for name in on:
            NUMBERS.require(name, texts.columns, "the training set", "or join on other columns")
        rows, as_text = read_table(path), path.suffix == ".csv"
        names = dict.fromkeys(key for row in rows for key in row)
        table: dict[str, list[Any]] = {name: [row.get(name) for row in rows] for name in names}
        for name in [self.column, *on]:
            NUMBERS.require(name, table, str(path), "or write the table with it")
        keys = row_keys(table, on, as_text=as_text)
        values = [_cell(cell) for cell in table[self.column]] if as_text else table[self.column]
        known: dict[str, Any] = {}
        doubled = [
            key
            for key, value in zip(keys, values, strict=True)
            if key is not None
            and known.setdefault(short_key(key), value) != value  # the same value twice is as good as once
        ]
        if doubled:
            raise MetricError(
                f"`column: {self.column}` of {path} must have one value per key, got different values for "
                f"{len(set(doubled))} of them (first: {shown_keys(doubled)}). Keep one row of each, or add a column to "
                "`on` that tells them apart."
            )
        wanted = row_keys(texts.columns, on, as_text=as_text)
        lost = [key for key in wanted if key is None or short_key(key) not in known]
        if lost:
            raise MetricError(
                f"`column: {self.column}` must find every training row in {path} by {', '.join(on)}, got no match for "
                f"{len(lost)} of {len(wanted)} rows (first: {shown_keys(lost)}). The table has keys such as "
                f"{shown_keys(keys[:1])}. Score the missing rows, or drop them from the training set."
            )
        return [known[short_key(key)] for key in wanted if key is not None]


def _cell(cell: str) -> float | str | None:
    """A CSV cell as the number it spells; empty = missing."""
    try:
        return float(cell) if cell.strip() else None
    except ValueError:
        return cell
