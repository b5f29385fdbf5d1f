"""What the rows of a training set were worth in an earlier run, found by what they are: `drop: {by: value}` goes by it.

The file is a run's `curriculum/value/values.parquet`. A row is found by the hash of its tokens, wherever it stands by
now, or else by that of its words, which another tokenizer leaves as they are. Rows that the run had twice count
together. Rows that it did not have, or never measured, have no value: they stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.judged import Known
from campus_tune.method.value import ALL, harms
from campus_tune.scores.cache import read_columns
from campus_tune.words.errors import DataError, ResumeError
from campus_tune.words.registry import nearest
from campus_tune.words.types import FloatArray, IntArray, RowArray

LEAST_RELIABLE = 0.3  # split-half reliability below which values of single rows are noise
SUMMED = ("value", "a", "b", "negative")  # columns of a probe domain, or of all of them


@dataclass(frozen=True, eq=False)
class KnownValues:
    """Values of an earlier run, for the rows of this training set; NaN for those that have none.

    Args:
        value: φ of each row, shape (N,).
        a: by the first half of the probes, shape (N,).
        b: by the second.
        negative: visits in which both halves were below 0, shape (N,).
        visits: that were measured, shape (N,).
    """

    value: FloatArray
    a: FloatArray
    b: FloatArray
    negative: IntArray
    visits: IntArray

    def harmful(self, below: float) -> RowArray:
        """Rows that harmed by both halves and most of their visits, with a value below a number, the worst first.

        Args:
            below: at most 0.
        """
        harmful = harms(self.a, self.b, self.negative, self.visits) & (self.value < below)
        order = np.argsort(self.value, kind="stable")
        return order[harmful[order]].astype(np.int32)

    @property
    def best_first(self) -> IntArray:
        """Rows that have a value, the highest first."""
        order = np.argsort(-self.value, kind="stable")
        return order[: np.count_nonzero(~np.isnan(self.value))]

    def notes(self) -> list[str]:
        """What is to be said of rows that have no value; nothing where all have one."""
        n = int(np.isnan(self.value).sum())
        return [f"`drop: value` knows nothing of {n} of {len(self.value)} rows, which stay."] if n else []


def read_values(path: str | Path, known: Known, *, probe: str | None = None) -> KnownValues:
    """What the rows were worth.

    Args:
        path: the `values.parquet` of a run.
        known: what the training rows are found by.
        probe: the probe domain; None takes all of them together.

    Raises:
        DataError: the file cannot be read, is another one, or of other data; it has no such probe domain; or the halves
            of its probes do not agree on the rows.
    """
    try:
        columns, about = read_columns(Path(path))
    except ResumeError as error:
        raise DataError(_must_be(path, f"one that cannot be read ({error.__cause__})")) from error
    behind = "" if probe is None else f" {probe}"
    probes = [name.removeprefix("value ") for name in columns if name.startswith("value ")]
    if probe is not None and probe not in probes:
        raise DataError(
            f"`drop: probe` must be a probe domain of `{path}` ({', '.join(probes)}), got {probe!r}."
            f"{nearest(probe, probes)} Name one of them, or leave it out."
        )
    lacking = [
        name for name in ("content", "key", "visits", *(f"{one}{behind}" for one in SUMMED)) if name not in columns
    ]
    if lacking or not isinstance(about.get("split_half"), dict):
        raise DataError(_must_be(path, f"a file without {lacking[0] if lacking else 'reliabilities'}"))
    _refuse_noise(path, about["split_half"].get(ALL if probe is None else probe), probe)
    return _joined(path, columns, known, behind)


def _must_be(path: str | Path, got: str) -> str:
    return (
        f"`drop: path` must be the values that an earlier run has left, got `{path}`, {got}. Write path: "
        "RUN/curriculum/value/values.parquet, with the output_dir of a run with `value: true` for RUN."
    )


def _refuse_noise(path: str | Path, split_half: Any, probe: str | None) -> None:
    value = split_half.get("value") if isinstance(split_half, dict) else None
    if value is None or not value >= LEAST_RELIABLE:
        told = "none, for there are too few rows" if value is None else f"{value:.2f}"
        whose = "all probes" if probe is None else f"the probes of {probe}"
        raise DataError(
            f"`{path}` must have values on which halves of {whose} agree, with a split-half reliability of at least "
            f"{LEAST_RELIABLE:g}, got {told}: which rows harm is mostly chance. Take this entry out of `drop`, or "
            "measure again, with more probe rows or more passes over the rows."
        )


def _joined(path: str | Path, columns: Mapping[str, NDArray[Any]], known: Known, behind: str) -> KnownValues:
    """The file's rows at the places of the training rows."""
    contents, of = np.unique(columns["content"].astype(np.uint64), return_inverse=True)
    place = np.searchsorted(contents, known.content).clip(max=max(0, len(contents) - 1))
    found = contents[place] == known.content if len(contents) else np.zeros(len(known.content), dtype=np.bool_)
    place = np.where(found, place, -1)
    if not found.all():
        first = dict(zip(reversed(columns["key"].tolist()), reversed(of.tolist()), strict=True))
        keys = known.keys()
        for row in np.flatnonzero(~found).tolist():
            place[row] = first.get(keys[row], -1)
    if (place < 0).all():
        raise DataError(
            f"`{path}` must hold values of rows of the training set, got {len(columns['content'])} rows that are none "
            "of them. Name the values of a run that was trained on these rows."
        )

    def summed(name: str) -> FloatArray:
        values = columns[name].astype(np.float64)
        sums = np.bincount(of, weights=np.nan_to_num(values), minlength=len(contents))
        return np.where(place < 0, 0.0, sums[place])

    visits = summed("visits").astype(np.int64)
    value, a, b, negative = (summed(f"{name}{behind}") for name in SUMMED)
    value, a, b = (np.where(visits > 0, one, np.nan) for one in (value, a, b))
    return KnownValues(value, a, b, negative.astype(np.int64), visits)
