"""The processes of one run: rank 0 decides and writes, the others follow.

With one process every call is the identity, so the rest of the code is written once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from campus_tune.types import BoolArray

T = TypeVar("T")


@dataclass(frozen=True)
class Peers:
    """This process among those of its run.

    Args:
        rank: of this process.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @staticmethod
    def of(trainer: Any) -> Peers:
        """The processes of a trainer."""
        return Peers(trainer.accelerator.process_index, trainer.accelerator.num_processes)

    @property
    def leads(self) -> bool:
        """This process decides and writes."""
        return self.rank == 0

    def from_leader(self, value: T) -> T:
        """Rank 0's `value` on every rank (what the others pass is ignored)."""
        if self.world == 1:
            return value
        from accelerate.utils import broadcast_object_list

        box = [value]
        broadcast_object_list(box)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Every rank's `value`, by rank, on every rank."""
        if self.world == 1:
            return [value]
        from accelerate.utils import gather_object

        gathered: list[T] = gather_object([value])
        return gathered

    def merge(self, columns: Mapping[str, NDArray[Any]], known: BoolArray) -> Mapping[str, NDArray[Any]]:
        """Each row's values from the rank that measured it; a row that several measured is taken from the lowest.

        Args:
            columns: arrays with one line per row, each (n, …).
            known: the rows that this rank measured, shape (n,).
        """
        if self.world == 1:
            return columns
        merged = {name: np.zeros_like(values) for name, values in columns.items()}
        for theirs, measured in reversed(self.gather((dict(columns), known))):
            for name, values in theirs.items():
                merged[name][measured] = values[measured]
        return merged
