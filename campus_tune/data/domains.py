"""The domains of the training rows: groups whose scores are ranked apart and whose shares are kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from campus_tune.data.prepared import column_names, read_column
from campus_tune.method.grouping import NO_GROUPS
from campus_tune.method.orders import group_codes
from campus_tune.words.errors import DataError
from campus_tune.words.types import IntArray, RowSource


@dataclass(frozen=True)
class Domains:
    """Which domain each row is of.

    Args:
        codes: domain number of every row, shape (N,); None where rows have no domains.
        names: of the domains, by number.
    """

    codes: IntArray | None = None
    names: list[str] = field(default_factory=list)

    @staticmethod
    def read(dataset: RowSource, column: str | None) -> Domains:
        """The domains in a column of the training set; none for None and for `none`.

        Raises:
            DataError: there is no such column.
        """
        if column is None or column == NO_GROUPS:
            return Domains()
        names = column_names(dataset)
        if column not in names:
            raise DataError(
                f"`within` must be a column of the training set ({', '.join(names)}), got {column!r}. "
                "Name one of them, or write within: none."
            )
        return Domains.of(read_column(dataset, column))

    @staticmethod
    def of(values: Iterable[Any]) -> Domains:
        """The domains that rows name, one value a row."""
        names, codes = group_codes(values)
        return Domains(codes, names)

    def take(self, rows: IntArray) -> Domains:
        """Those of some rows, shape (n,)."""
        return self if self.codes is None else Domains(self.codes[rows], self.names)

    def counts(self, n_rows: int) -> IntArray:
        """Rows of each domain by its number, shape (D,); all of them where rows have none.

        Args:
            n_rows: all.
        """
        return np.array([n_rows]) if self.codes is None else np.bincount(self.codes, minlength=len(self.names))

    def sizes(self) -> dict[str, int]:
        """Rows of each domain."""
        if self.codes is None:
            return {}
        return {name: int(n) for name, n in zip(self.names, np.bincount(self.codes), strict=True)}

    def shares(self, domains: list[str]) -> dict[str, float]:
        """How much each of the probes' `domains` counts: its share of the training rows, else all equally."""
        sizes = self.sizes()
        if set(domains) <= set(sizes):
            total = sum(sizes[domain] for domain in domains)
            return {domain: sizes[domain] / total for domain in domains}
        return {domain: 1 / len(domains) for domain in domains}
