"""Ranks as threads of one process, for what they tell one another: no process group, no model."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

from campus_tune.model.peers import Peers

T = TypeVar("T")
PATIENCE = 20.0  # seconds after which a rank that nobody answers gives up


class ThreadPeers(Peers):
    """A rank whose collectives meet the others at a barrier."""

    def __init__(self, rank: int, world: int, table: list[Any], barrier: threading.Barrier) -> None:
        super().__init__(rank, world)
        self._table, self._barrier = table, barrier

    def from_leader(self, value: T) -> T:
        return self.gather(value)[0]

    def gather(self, value: T) -> list[T]:
        self._table[self.rank] = value
        self._barrier.wait()
        everything = list(self._table)
        self._barrier.wait()
        return everything


def on_ranks(world: int, act: Callable[[Peers], T]) -> list[T | Exception]:
    """What `act` gives or raises on each of `world` ranks."""
    table: list[Any] = [None] * world
    barrier = threading.Barrier(world, timeout=PATIENCE)
    results: list[T | Exception] = [RuntimeError("did not end")] * world

    def run(rank: int) -> None:
        try:
            results[rank] = act(ThreadPeers(rank, world, table, barrier))
        except Exception as error:
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(world)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * PATIENCE)
    return results
