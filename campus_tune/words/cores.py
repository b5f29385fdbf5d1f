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

Part = TypeVar("Part")
Found = TypeVar("Found")


def parts_of(n: int, size: int | None = None) -> list[slice]:
    """An array of length `n` in parts of `size` entries, `PART` where nothing is said, the last with what is left."""
    step = PART if size is None else size
    return [slice(start, min(n, start + step)) for start in range(0, n, step)]


def side_by_side(work: Callable[[Part], Found], parts: Sequence[Part]) -> list[Found]:
    """What `work` gives for each part, in sequence.

    Args:
        work: lets go of the interpreter for most of its time, and writes nowhere where another part's work does.
        parts: one is worked on where it is called.
    """
    threads = min(_cores(), len(parts))
    if threads < 2:
        return [work(part) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, parts))


def _cores() -> int:
    """Threads that one process of this machine may take: its cores, shared with the processes beside it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = os.environ.get("LOCAL_WORLD_SIZE", "1")  # as torchrun and accelerate say it
    return max(1, min(MOST, cores // max(1, int(beside) if beside.isdigit() else 1)))
