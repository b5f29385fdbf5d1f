"""Some of the training rows, so that a run can be made without the others: by their domain, or by their numbers.

>>> from campus_tune.data.subset import Subset
>>> Subset(without=("code",)).keep(["code", "math", "code", "math"])
[1, 3]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from campus_tune.data.prepared import column_names, read_column
from campus_tune.words.errors import DataError
from campus_tune.words.hashing import as_json, blake2
from campus_tune.words.registry import nearest
from campus_tune.words.types import Json, RowSource
from campus_tune.words.wording import listed

DOMAIN = "domain"
_SHOWN = 8  # names or numbers in a message


@dataclass(frozen=True)
class Subset:
    """Some of the rows of a data set, in its sequence.

    Args:
        without: domains that are left out, by the name that rows give them.
        column: that names each row's domain; it is read only where some are left out.
        rows: numbers of the rows that are kept, from 0, in any sequence; None keeps all. Of these, those of the domains
            in `without` are left out too.
    """

    without: tuple[str, ...] = ()
    column: str = DOMAIN
    rows: tuple[int, ...] | None = None

    def take(self, dataset: Any) -> Any:
        """The same data set with these rows alone.

        Args:
            dataset: `datasets.Dataset`, raw or prepared.

        Raises:
            DataError: no such column, domain or row, or no row is left.
        """
        return dataset.select(self.places(dataset))

    def places(self, dataset: RowSource) -> list[int]:
        """Numbers of the rows that are kept of a data set, in rising order.

        Raises:
            DataError: as `take`.
        """
        if not self.without:
            return self.keep(None, n_rows=len(dataset))
        names = column_names(dataset)
        if self.column not in names:
            raise DataError(
                f"`--domain-column` must be a column of the training set ({', '.join(names)}), got {self.column!r}. "
                "Name one of them."
            )
        return self.keep(list(read_column(dataset, self.column)), n_rows=len(dataset))

    def keep(self, domains: Sequence[Any] | None, *, n_rows: int | None = None) -> list[int]:
        """Numbers of the rows that are kept, in rising order.

        Args:
            domains: of each row; None where none is left out.
            n_rows: how many rows there are; None is one for each of `domains`.

        Raises:
            DataError: no such domain or row, or no row is left.
        """
        n_rows = len(domains or ()) if n_rows is None else n_rows
        names = [str(name) for name in domains or ()]
        known = list(dict.fromkeys(names))
        if unknown := [name for name in self.without if name not in known]:
            hint = nearest(unknown[0], known)
            raise DataError(
                f"`without` must be domains of the training set ({listed(known, _SHOWN)}), got {unknown[0]!r}.{hint}"
            )
        kept = range(n_rows) if self.rows is None else sorted(set(self.rows))
        if kept and not 0 <= kept[0] <= kept[-1] < n_rows:
            wrong = kept[0] if kept[0] < 0 else kept[-1]
            raise DataError(
                f"`rows` must be numbers of rows from 0 to {n_rows - 1}, got {wrong}. Count the rows as they are once "
                "they are prepared."
            )
        left_out = set(self.without)
        found = [row for row in kept if not (left_out and names[row] in left_out)]
        if not found:
            raise DataError(
                f"a part of the training set must have at least one row, got none of {n_rows}. Leave out fewer domains."
            )
        return found

    def to_mapping(self) -> Json:
        """What tells it from another one; rows as their number and a hash."""
        kept = None if self.rows is None else sorted(set(self.rows))
        rows = None if kept is None else {"n": len(kept), "digest": blake2(as_json(kept), 16)}
        return {"without": sorted(self.without), "column": self.column if self.without else None, "rows": rows}
