"""The processes of one run: rank 0 decides and writes, the others follow.

With one process every call is the identity, so the rest of the code is written once. Every call is a collective: all
ranks make the same ones in the same sequence, or the run stands still until the process group's timeout.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from campus_tune.words.errors import CampusError
from campus_tune.words.types import BoolArray

if TYPE_CHECKING:
    import torch
    from transformers import Trainer

T = TypeVar("T")


@dataclass(eq=False)
class Peers:
    """This process among those of its run.

    Args:
        rank: of this process.
        world: how many there are.
        waited: seconds spent in these calls, which is mostly waiting for a slower rank.
    """

    rank: int = 0
    world: int = 1
    waited: float = 0.0

    @staticmethod
    def of(trainer: Trainer) -> Peers:
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
        with self._waiting():
            broadcast_object_list(box)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Every rank's `value`, by rank, on every rank."""
        if self.world == 1:
            return [value]
        from accelerate.utils import gather_object

        with self._waiting():
            gathered: list[T] = gather_object([value])
        return gathered

    def led(self, act: Callable[[], T]) -> T:
        """What `act` gives on rank 0, where alone it is called, on every rank.

        For what only rank 0 can do, such as reading the run's own files: the others may be on machines without them.

        Raises:
            CampusError: what `act` raised, on every rank: none waits for a leader that has stopped.
        """
        if self.world == 1:
            return act()
        value: Any = None
        refusal: CampusError | None = None
        if self.leads:
            try:
                value = act()
            except CampusError as error:
                refusal = error
        value, refusal = self.from_leader((value, refusal))
        if refusal is not None:
            raise refusal
        return value  # type: ignore[no-any-return]  # what rank 0's `act` gave

    def broadcast(self, tensor: torch.Tensor) -> None:
        """Rank 0's numbers into a tensor of every rank, bit by bit.

        Args:
            tensor: of one shape and kind on all of them, contiguous, on the device that the ranks train on.
        """
        if self.world == 1 or not tensor.numel():
            return
        import torch

        with self._waiting():  # as bytes: not every backend knows every kind of number
            torch.distributed.broadcast(tensor.reshape(-1).view(torch.uint8), 0)

    def add_up(self, tensor: torch.Tensor) -> None:
        """The sum of every rank's numbers into the tensor of each of them, the same bits on all.

        Args:
            tensor: of one shape and kind on all of them, contiguous, on the device that the ranks train on.
        """
        if self.world == 1 or not tensor.numel():
            return
        import torch

        with self._waiting():
            torch.distributed.all_reduce(tensor)
        self.broadcast(tensor)  # a sum may be rounded otherwise where its parts are added up in another sequence

    def merge(self, columns: Mapping[str, NDArray[Any]], known: BoolArray) -> Mapping[str, NDArray[Any]]:
        """Each row's values from the rank that measured it; a row that several measured is taken from the lowest.

        Args:
            columns: arrays with one line per row, each (n, …).
            known: the rows that this rank measured, shape (n,).
        """
        if self.world == 1:
            return columns
        mine = {name: values[known] for name, values in columns.items()}
        merged = {name: np.zeros_like(values) for name, values in columns.items()}
        for theirs, measured in reversed(self.gather((mine, known))):
            for name, values in theirs.items():
                merged[name][measured] = values
        return merged

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.waited += time.perf_counter() - began
