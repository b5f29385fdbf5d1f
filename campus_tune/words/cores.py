"""Cores: the parts of a large array worked through side by side. numpy lets go of the interpreter while it computes.

What comes out hangs neither on how many cores there are nor on which part is done first.

>>> side_by_side(lambda part: part.stop - part.start, parts_of(10, 4))
[4, 4, 2]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

PART = 1 << 18  # entries of an array that are worked on at once: 2 MB of 64 bits, which a core's caches hold
MOST = 8  # threads: from there on memory is what they wait for
TURNS = 64  # of each thread at most: handing over a part costs more than sorting ten numbers

Part = TypeVar("Part")
Found = TypeVar("Found")


def parts_of(n: int, size: int | None = None) -> list[slice]:
    """An array of length `n` in parts of `size` entries, `PART` where nothing is said, the last with what is left."""
    step = PART if size is None else size
    return [slice(start, min(n, start + step)) for start in range(0, n, step)]


def side_by_side(work: Callable[[Part], Found], parts: Sequence[Part], entries: int | None = None) -> list[Found]:
    """What `work` gives for each part, in sequence.

    Args:
        work: lets go of the interpreter for most of its time, and writes nowhere where another part's work does.
        parts: one is worked on where it is called.
        entries: of all parts together, which may be many and tiny; None for parts that are worth a thread each.
    """
    threads = min(_cores(), len(parts), len(parts) if entries is None else entries // PART + 1)
    if threads < 2:
        return [work(part) for part in parts]

    def in_turn(turn: slice) -> list[Found]:
        return [work(part) for part in parts[turn]]

    turns = parts_of(len(parts), -(-len(parts) // (TURNS * threads)))
    with ThreadPoolExecutor(threads) as pool:
        return [found for some in pool.map(in_turn, turns) for found in some]


def _cores() -> int:
    """Threads that one process of this machine may take: its cores, shared with the processes beside it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = os.environ.get("LOCAL_WORLD_SIZE", "1")  # as torchrun and accelerate say it
    return max(1, min(MOST, cores // max(1, int(beside) if beside.isdigit() else 1)))
