"""A user's own weight of each row, from a column of the training set: which are refused, and their scale.

Weights come on any scale, for only how rows stand to each other counts; so they are brought to a token-weighted mean
of 1 over all rows, in which a recipe's `limit` has its unit.

>>> import numpy as np
>>> rows = [{"input_ids": [5, 6], "price": 1}, {"input_ids": [5, 6, 7, 8], "price": 5}]
>>> read_weights(rows, "price", np.array([1, 3])).tolist()
[0.25, 1.25]
"""

from __future__ import annotations

import numpy as np

from campus_tune.data.own_numbers import NAMED, OwnNumbers, Where, in_row
from campus_tune.data.prepared import TOKEN_COLUMNS, column_names, read_column
from campus_tune.words.errors import DataError
from campus_tune.words.hashing import array_digest
from campus_tune.words.types import FloatArray, IntArray, RowSource
from campus_tune.words.wording import listed

OPTION = "weights: column"  # where a recipe names them
_FLOATS = "`dataset = dataset.cast_column({name!r}, datasets.Value('float64'))`"
_NUMBERS = OwnNumbers(
    OPTION,
    DataError,
    switch=f"Make 1 and 0 of true and false: {_FLOATS}.",
    stored=f"Store how much each row counts. If it is text that spells numbers: {_FLOATS}",
    large="Divide all of them by the largest: only how rows stand to each other counts.",
    filled="Fill them in, or drop these rows: "
    "`dataset = dataset.filter(lambda row: row[{name!r}] is not None and row[{name!r}] >= 0)`.",
)


def read_weights(rows: RowSource, column: str, tokens: IntArray) -> FloatArray:
    """How much each row counts, by a column; token-weighted mean 1 over all rows, shape (N,).

    Args:
        rows: prepared, with the columns they had before.
        column: its name.
        tokens: answer tokens of the rows, at least 1, shape (N,).

    Raises:
        DataError: no such column; a value that is no number, is absent, infinite or below 0 (by row); all are 0.
    """
    names = [name for name in column_names(rows) if name not in TOKEN_COLUMNS]
    _NUMBERS.require(column, names, "the training set", "or add it to the data set before the trainer prepares it")
    weights = _NUMBERS.read(read_column(rows, column), column)
    refuse_unfit(weights, f"`{OPTION}: {column}`")
    return scaled(weights, tokens)


def refuse_unfit(weights: FloatArray, what: str, where: Where = in_row) -> None:
    """Refuse numbers that are no weights.

    Args:
        weights: numbers, shape (n,).
        what: they, for messages.
        where: each stands.

    Raises:
        DataError: one is infinite or below 0, or all are 0.
    """
    wrong = np.flatnonzero(~np.isfinite(weights) | (weights < 0))
    if len(wrong):
        first = [f"{weights[i]:g} in {where(i)}" for i in wrong[: NAMED + 1].tolist()]
        raise DataError(
            f"{what} must hold finite weights of at least 0, got {listed(first, NAMED)} ({len(wrong)} of "
            f"{len(weights)} are none). A weight says how much of a row's gradient is kept; nothing is unlearned. "
            "Correct them, or write 0 for what shall teach nothing."
        )
    if not weights.any():
        raise DataError(
            f"{what} must have a weight above 0 somewhere, got 0 everywhere: nothing would be trained. Give more than "
            "0 to what shall be learned, or take the entry out of `weights`."
        )


def scaled(weights: FloatArray, tokens: IntArray) -> FloatArray:
    """Weights whose token-weighted mean is 1, shape (n,).

    Args:
        weights: finite, at least 0, one above 0, shape (n,).
        tokens: how many each of them holds for; some where it is above 0, shape (n,).
    """
    weights = weights / weights.max()  # sums of the largest floats are infinite
    return np.asarray(weights * (tokens.sum() / (weights * tokens).sum()), dtype=np.float64)


def saying_nothing(weights: FloatArray, column: str) -> list[str]:
    """A sentence where all weights are alike, for warnings."""
    if np.ptp(weights) > 0:
        return []
    said = f"`{OPTION}: {column}` must differ between rows to change anything, got the same weight everywhere: the run "
    return [said + "is as it would be without. Write other weights, or take the entry out."]


def weights_digest(weights: FloatArray) -> str:
    """16 hex digits that change with any weight, for a run's identity."""
    return array_digest(np.ascontiguousarray(weights, dtype=np.float64).view(np.uint64))
