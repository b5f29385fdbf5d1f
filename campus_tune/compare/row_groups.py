"""Groups of training rows whose worth is asked for: domains, or thirds of domains by how hard their rows are.

>>> groups = RowGroups.of_domains({"code": 10, "math": 20, "prose": 30}, "domain")
>>> groups.named(0b101), groups.rows_of(0b101), groups.named(0b111)
('code + prose', 40, 'all groups')
>>> groups.without(0b101), groups.subset(0b101).without, groups.subset(0b111)
(('math',), ('math',), None)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
        domains: in which each group's rows are.
        column: with the domain of each row.
        rows: numbers of each group's prepared rows; None where groups are domains, whose rows the column names.
        by: the difficulty that cut domains into thirds; None where groups are domains.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    domains: tuple[str, ...]
    column: str
    rows: tuple[tuple[int, ...], ...] | None = None
    by: str | None = None

    @staticmethod
    def of_domains(sizes: Mapping[str, int], column: str) -> RowGroups:
        """Each domain a group.

        Args:
            sizes: rows of each.
            column: that they were read from.
        """
        return RowGroups(tuple(sizes), tuple(sizes.values()), tuple(sizes), column)

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
        of = tuple(domains[stratum] for stratum in cells.strata_of)
        names = tuple(f"{domain} {BANDS[third - 1]}" for domain, third in zip(of, thirds, strict=True))
        return RowGroups(names, tuple(map(len, rows)), of, column, rows, by)

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

    def without(self, coalition: int) -> tuple[str, ...]:
        """The domains of which a set of groups has no rows."""
        there = {self.domains[group] for group in self.members(coalition)}
        return tuple(dict.fromkeys(domain for domain in self.domains if domain not in there))

    def subset(self, coalition: int) -> Subset | None:
        """The rows that a training on a set of groups has; None for all."""
        if coalition == self.all:
            return None
        if self.rows is None:
            return Subset(without=self.without(coalition), column=self.column)
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
