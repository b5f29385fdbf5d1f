"""The processes of one run: rank 0 decides and writes, the others follow.

With one process every call is the identity, so the rest of the code is written once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from campus_tune.types import RowLosses

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

    def merge_losses(self, losses: RowLosses) -> RowLosses:
        """Each row's losses from the rank that measured it; a row that several measured is taken from the lowest."""
        if self.world == 1:
            return losses
        from accelerate.utils import gather_object

        parts: list[RowLosses] = gather_object([losses])
        merged = RowLosses.zeros(len(losses.tokens))
        for part in reversed(parts):
            known = np.flatnonzero(part.tokens)
            merged.put(known, part.take(known))
        return merged
