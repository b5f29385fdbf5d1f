"""Earned: what is done about wrong rows waits until the run's own record shows that there are some.

Where all answers are right, acting costs; where many are wrong, it pays. Which of the two it is, nobody needs to know
beforehand: the losses of training say it (`dirt`), with an interval. So an entry with `act: auto` changes nothing until
the interval's lower end has reached `ACT_FROM`, and from there on it acts to the end of the run. One such look is no
sign yet: a record is looked at again and again, and what is hard looks wrong for a while, when the easy rows are known
and the others are not. Wrong rows stand out from the first looks on, and do not cease to.

    looks_now   when the record is looked at: at the end of a stage, ten times a pass over the rows at most
    enough      whether what it says is enough
    convincing  whether it says so often enough: twice, and in half of all looks
    spared      a tenth of each cell, by the hash of what the rows hold: nothing is ever done about these

The record of a run that acts is no longer one of a run that is left alone: rows that count less are learned less, and
those that are gone show nothing. What the spared rows show is as it was, so the estimate can be told at the end too.

>>> looks_now(0, 9, rows_per_pass=100), looks_now(9, 18, rows_per_pass=100)
(False, True)
>>> enough(Dirt(100, share=0.04, low=0.02, high=0.07)), enough(Dirt(100, share=0.04, low=0.0, high=0.09))
(True, False)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from campus_tune.method.dirt import Dirt
from campus_tune.words.hashing import hash_rows
from campus_tune.words.types import BoolArray, IntArray, RowArray

ACT_FROM = 0.02  # share of wrong rows that the estimate's lower end must reach
LOOKS = 10  # at the record, in one pass over the rows at most
LEAST_FOUND = 2  # looks in which it must say enough
ONE_IN = 10  # rows of a cell of which one is spared
SALT = 0x5FA4ED  # of the hash that they are chosen by


def looks_now(before: int, now: int, *, rows_per_pass: int) -> bool:
    """Whether the record is looked at when a stage ends: a further tenth of a pass is over.

    A function of the plan alone, so a run that goes on looks where it would have looked.

    Args:
        before: visits of rows when the stage began.
        now: when it ends.
        rows_per_pass: N.
    """
    return LOOKS * before // rows_per_pass < LOOKS * now // rows_per_pass


def enough(dirt: Dirt) -> bool:
    """Whether the lower end of an estimate has reached `ACT_FROM`."""
    return dirt.seen and dirt.low >= ACT_FROM


def convincing(looks: int, found: int) -> bool:
    """Whether a record shows wrong rows: in two looks, and in half of all at least.

    Args:
        looks: at the record so far.
        found: of them in which it said enough.

    >>> [convincing(looks, found) for looks, found in ((1, 1), (2, 2), (3, 2), (5, 2))]
    [False, True, True, False]
    """
    return found >= LEAST_FOUND and 2 * found >= looks


def spared(content: NDArray[np.uint64], cells: IntArray | RowArray) -> BoolArray:
    """The rows that nothing is ever done about: one in ten of each cell, shape (N,).

    Whatever the seed and the sequence of the rows, they are the same. Of n rows of a cell that are ⌊(n + 5)/10⌋, those
    whose hashes are the lowest; rows that hold the same are parted by their place.

    Args:
        content: a hash of what each row holds, shape (N,).
        cells: of each row, from 0, shape (N,).

    >>> int(spared(np.arange(40, dtype=np.uint64), np.zeros(40, dtype=np.int64)).sum())
    4
    """
    order = np.lexsort((hash_rows(content, SALT), cells))
    sizes = np.bincount(cells)
    place = np.arange(len(cells)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    found = np.zeros(len(cells), dtype=np.bool_)
    found[order] = place < ((sizes + ONE_IN // 2) // ONE_IN)[cells[order]]
    return found
