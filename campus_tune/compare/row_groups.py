"""Groups of training rows whose worth is asked for: domains, or thirds of domains by how hard their rows are.

>>> groups = RowGroups(("code", "math", "prose"), (10, 20, 30), "domain")
>>> groups.named(0b101), groups.rows_of(0b101), groups.named(0b111)
('code + prose', 40, 'all groups')
>>> groups.subset(0b101).without, groups.subset(0b111)
(('math',), None)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from campus_tune.data.subset import Subset
from campus_tune.method.cells import Cells
from campus_tune.words.errors import DataError
from campus_tune.words.hashing import as_json, blake2
from campus_tune.words.types import FloatArray, IntArray, Json
from campus_tune.words.wording import listed

DOMAIN, DOMAIN_DIFFICULTY = "domain", "domain_difficulty"  # what --groups takes
ALL = "all groups"
BANDS = ("easy", "middle", "hard")  # thirds of a domain's rows
_SHOWN = 8  # groups in a message


@dataclass(frozen=True)
class RowGroups:
    """Disjoint groups of the training rows, which together are all of them.

    Args:
        names: of the G groups.
        sizes: rows of each.
        column: with the domain of each row.
        rows: numbers of each group's prepared rows; None where groups are domains, whose rows the column names.
        by: the difficulty that cut domains into thirds; None where groups are domains.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    column: str
    rows: tuple[tuple[int, ...], ...] | None = None
    by: str | None = None

    @staticmethod
    def thirds(difficulty: FloatArray, codes: IntArray, domains: list[str], *, column: str, by: str) -> RowGroups:
        """Domains cut into thirds: easy, middle and hard.

        Args:
            difficulty: of each prepared row, higher is harder, shape (N,).
            codes: domain of each, shape (N,).
            domains: their names.
            column: that they were read from.
            by: what the difficulty is called.
        """
        cells = Cells.cut(difficulty, domains=codes, domain_names=domains, bands=len(BANDS), by=by)
        rows = tuple(tuple((cells.codes == code).nonzero()[0].tolist()) for code in range(len(cells.names)))
        thirds = [int(name.rsplit(" ", 3)[1]) for name in cells.names]  # "code · length 1 of 3"
        names = [f"{domains[of]} {BANDS[third - 1]}" for of, third in zip(cells.strata_of, thirds, strict=True)]
        return RowGroups(tuple(names), tuple(map(len, rows)), column, rows, by)

    @property
    def all(self) -> int:
        """Every group, as bits."""
        return (1 << len(self.names)) - 1

    def members(self, coalition: int) -> Iterator[int]:
        """Numbers of the groups in a set of them, given by its bits."""
        return (group for group in range(len(self.names)) if coalition >> group & 1)

    def named(self, coalition: int) -> str:
        """A set of groups, for a person."""
        return ALL if coalition == self.all else " + ".join(self.names[group] for group in self.members(coalition))

    def folder(self, coalition: int) -> str:
        """A set of groups, for the name of its runs' folder."""
        return "all" if coalition == self.all else "groups-" + "-".join(map(str, self.members(coalition)))

    def rows_of(self, coalition: int) -> int:
        """How many rows a set of groups has."""
        return sum(self.sizes[group] for group in self.members(coalition))

    def subset(self, coalition: int) -> Subset | None:
        """The rows that a training on a set of groups has; None for all."""
        if coalition == self.all:
            return None
        if self.rows is None:
            out = tuple(name for group, name in enumerate(self.names) if not coalition >> group & 1)
            return Subset(without=out, column=self.column)
        return Subset(rows=tuple(sorted(row for group in self.members(coalition) for row in self.rows[group])))

    def refuse_small(self, least: int) -> None:
        """Every group must be trainable alone.

        Args:
            least: rows of an optimizer step.

        Raises:
            DataError: some have fewer rows, which are named.
        """
        small = [f"{name} {size}" for name, size in zip(self.names, self.sizes, strict=True) if size < least]
        if small:
            raise DataError(
                f"each group must have the {least} rows of one optimizer step, for it is trained alone too, got "
                f"{listed(small, _SHOWN)}. Lower per_device_train_batch_size or gradient_accumulation_steps, or give "
                "these rows another domain."
            )

    def to_mapping(self) -> Json:
        """What tells these groups from others; rows as a hash."""
        rows = None if self.rows is None else blake2(as_json([list(rows) for rows in self.rows]), 16)
        return {
            "names": list(self.names),
            "sizes": list(self.sizes),
            "column": self.column,
            "by": self.by,
            "rows": rows,
        }
