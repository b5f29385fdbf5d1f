"""Cells: rows of one kind. Domain × band of a difficulty, so that a row is compared with its like.

Scores of rows differ by what they are *and* by what kind they are of: long answers have another loss than short ones,
code another than prose. Compared inside cells, selection by loss is not selection by length, and tokens per step stay
those of shuffling.

Bands are quantiles inside each domain, `⌊bands · middle percentile⌋` (`standing`): rows of equal difficulty share a
percentile and so a band, and a domain with few different values has fewer bands.

>>> cells = Cells.cut(np.array([1.0, 2.0, 3.0, 4.0]), domains=np.array([0, 0, 1, 1]), domain_names=["code", "math"],
...                   bands=2, by="length")
>>> cells.codes.tolist(), cells.names[0], cells.strata_of.tolist()
([0, 1, 2, 3], 'code · length 1 of 2', [0, 0, 1, 1])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from campus_tune.method.standing import Sorted
from campus_tune.words.cores import parts_of, side_by_side
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.types import FloatArray, IntArray, RowArray

ALL_ROWS = "all rows"  # the one cell of rows without domains and bands


@dataclass(frozen=True, eq=False)
class Cells:
    """The cell of each row. No cell is empty.

    Args:
        codes: cell of each row, int32, shape (N,).
        names: of the C cells, as they are shown.
        strata_of: domain of each cell, shape (C,); 0 without domains.
    """

    codes: RowArray
    names: tuple[str, ...]
    strata_of: IntArray

    @property
    def sizes(self) -> IntArray:
        """Rows of each cell, shape (C,)."""
        return np.bincount(self.codes, minlength=len(self.names))

    @staticmethod
    def cut(
        difficulty: FloatArray,
        *,
        domains: IntArray | None = None,
        domain_names: Sequence[str] = (),
        bands: int = 5,
        by: str = "length",
        others: IntArray | None = None,
        other_names: Sequence[str] = (),
    ) -> Cells:
        """Cut rows into cells: domain × another column × band.

        Args:
            difficulty: shape (N,), finite.
            domains: domain of each row, shape (N,); None for no domains.
            domain_names: of the domains.
            bands: quantiles of the difficulty inside each group.
            by: what the difficulty is called.
            others: the other column's number of each row, shape (N,), where rows come from several sets.
            other_names: of its values.

        Raises:
            RecipeError: less than one band, or more cells than rows.
            DataError: a difficulty that is no finite number.
        """
        n_rows = len(difficulty)
        if bands < 1:
            raise RecipeError(f"`cells: bands` must be 1 or more, got {bands!r}. Write 5.")
        if not np.isfinite(difficulty).all():
            row = int(np.flatnonzero(~np.isfinite(difficulty))[0])
            raise DataError(f"`{by}` must be a finite number in each row, got {difficulty[row]} in row {row}. Mend it.")
        both = ((domains, domain_names), (others, other_names))
        columns = [(codes, names) for codes, names in both if codes is not None]
        radix = tuple(len(names) for _, names in columns)
        few = math.prod(radix) < 1 << 31
        key: IntArray | RowArray = np.zeros(n_rows, dtype=np.int32) if few else np.zeros(n_rows, dtype=np.int64)
        for (column, _), size in zip(columns, radix, strict=True):
            key *= size
            key += column
        groups, group = _dense(key)
        if len(groups) * bands > n_rows:
            raise RecipeError(
                f"`cells` must be no more than rows, got {len(groups)} groups × {bands} bands for {n_rows} rows. Lower "
                "`bands`, or leave `of` out."
            )
        there, codes = _dense(group * bands + _bands(difficulty, group, len(groups), bands))
        parts = np.unravel_index(groups[there // bands], radix) if radix else ()
        labels = [
            [*(columns[i][1][part[cell]] for i, part in enumerate(parts))]
            + ([f"{by} {there[cell] % bands + 1} of {bands}"] if bands > 1 else [])
            for cell in range(len(there))
        ]
        strata = np.asarray(parts[0], dtype=np.int64) if domains is not None else np.zeros(len(there), dtype=np.int64)
        return Cells(codes, tuple(" · ".join(label) or ALL_ROWS for label in labels), strata)


def _dense(keys: IntArray | RowArray) -> tuple[IntArray, RowArray]:
    """(The different keys, rising; which of them each one is): `np.unique`, without sorting where there are few."""
    space = int(keys.max(initial=0)) + 1
    if space > 4 * len(keys) + 1000:
        there, which = np.unique(keys, return_inverse=True)
        return there.astype(np.int64), which.astype(np.int32)
    met = np.zeros(space, dtype=np.bool_)
    for part in parts_of(len(keys)):
        met[keys[part]] = True
    number = (np.cumsum(met) - 1).astype(np.int32)
    return np.flatnonzero(met), np.concatenate(side_by_side(lambda part: number[keys[part]], parts_of(len(keys))))


def _bands(difficulty: FloatArray, groups: RowArray, n_groups: int, bands: int) -> RowArray:
    """`⌊bands · middle percentile⌋` of each row in its group, shape (N,), by the values at which bands begin."""
    ranked = Sorted.of(difficulty, groups, n_groups)
    begins = np.empty((bands - 1, n_groups))
    for group in range(n_groups):
        values = ranked.of_cell(group)
        wanted = np.arange(1, bands) * len(values)  # of bands · rows below: where each band begins
        least = values[wanted // bands]
        left, right = values.searchsorted(least, "left"), values.searchsorted(least, "right")
        behind = (left + right) * bands < 2 * wanted  # the middle of its equals: the band begins with the next value
        begins[:, group] = np.where(behind, np.append(values, np.inf)[right], least)

    def of_part(part: slice) -> RowArray:
        band, own, values = np.zeros(part.stop - part.start, dtype=np.int32), groups[part], difficulty[part]
        for least in begins:
            band += least[own] <= values
        return band

    return np.concatenate(side_by_side(of_part, parts_of(len(difficulty))))
