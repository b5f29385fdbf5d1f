"""Dirt: how many rows are wrong, overall and by domain, with an interval, from the record of training alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from campus_tune.method.suspicion import Suspicion
from campus_tune.words.types import BoolArray, IntArray, Json, RowArray


@dataclass(frozen=True)
class Dirt:
    """How many rows of a set are wrong.

    Args:
        rows: that were judged.
        share: of them that are wrong, best guess.
        low: lower end of a 95 % interval; 0 where no wrong rows are to be seen.
        high: its upper end.
        by_domain: the same of each domain's rows; {} without domains.
    """

    rows: int
    share: float
    low: float
    high: float
    by_domain: Mapping[str, Dirt] = field(default_factory=dict)

    @property
    def seen(self) -> bool:
        """Whether there are wrong rows to be seen."""
        return self.low > 0

    def to_mapping(self) -> Json:
        """As JSON: rows, share, low, high, seen, and by_domain, which has the same of each domain."""
        told = {"rows": self.rows, "share": self.share, "low": self.low, "high": self.high, "seen": self.seen}
        return told | ({"by_domain": {name: one.to_mapping() for name, one in self.by_domain.items()}})

    @staticmethod
    def from_mapping(told: Json) -> Dirt:
        """What `to_mapping` said."""
        of_domains = {name: Dirt.from_mapping(one) for name, one in told.get("by_domain", {}).items()}
        return Dirt(told["rows"], told["share"], told["low"], told["high"], of_domains)


def estimate_dirt(
    suspicion: Suspicion,
    *,
    domains: IntArray | RowArray | None,
    names: Sequence[str],
    among: BoolArray | None = None,
) -> Dirt:
    """How many rows are wrong.

    Args:
        suspicion: of losses seen before anything was done about them (`suspicion.of_training`).
        domains: of each row, from 0, shape (N,); None for no domains.
        names: of the domains.
        among: rows that are judged, such as those that were never acted on, shape (N,); None for all of them.
    """
    raise NotImplementedError
