"""From the rows of one optimizer step to micro batches, per rank. numpy only.

Where losses are normalised by the answer tokens of the whole optimizer step, how its rows are grouped changes no
gradient, only padding and waiting. There a step is cut *evenly*: its rows, sorted by length, into neighbours of equal
cost, few long ones or many short ones; or *packed*, where rows lie flat behind one another and nothing is padded. Where
a loss is a mean over each micro batch, either would give some rows more weight: there the rows stay as *drawn*, grouped
as the trainer's own loader groups them. Which rows make up a step never depends on the number of ranks or on
accumulation, and a step has as many micro batches as the trainer would give it, never more.
"""

from __future__ import annotations

from heapq import heapreplace
from itertools import pairwise
from typing import Literal

import numpy as np

from campus_tune.words.types import IntArray, RowArray

Cut = Literal["drawn", "even", "packed"]

SPARE = 1 / 20  # by so much a micro batch may be larger than it must, where padding is saved and nobody waits for it


def split_step(
    rows: RowArray, lengths: IntArray, *, micro: int, world: int, cut: Cut, multiple: int = 1
) -> list[list[RowArray]]:
    """Micro batches of one optimizer step: `result[a][r]` is what rank r trains in accumulation step a.

    As drawn, each takes the next `micro` rows for every rank, and what is left for the last one is shared equally among
    the ranks. Cut evenly or packed, the parts of largest cost are trained first and those of like cost together, each
    by the rank that has had least before it: ranks wait for one another. Where that is less than a row for each, some
    ranks get none; one rank by itself always has rows.

    Args:
        rows: of the step, shape (n,).
        lengths: tokens of every row of the training set, shape (N,).
        micro: rows of a full micro batch on one rank.
        world: ranks.
        cut: `drawn`: in the drawn sequence. `even`: neighbours in length, of equal cost once they are padded to the
            longest. `packed`: longest first into what is emptiest, of equal tokens.
        multiple: of which the length of a padded micro batch is one.
    """
    n, together = n_micro_batches(len(rows), micro=micro, world=world), micro * world
    if cut == "drawn":
        return [np.array_split(rows[a * together : (a + 1) * together], world) for a in range(n)]
    own = np.maximum(lengths[rows], 1)
    order = np.argsort(own, kind="stable")
    own, parts = own[order], n * world
    ascending = (own if cut == "packed" else -(-own // multiple) * multiple).tolist()
    if len(rows) <= parts:
        places, costs = [[place] for place in range(len(rows))], ascending
    elif cut == "even":
        cuts = even_cuts(ascending, parts, spare=SPARE if world == 1 else 0.0)
        places = [list(range(a, b)) for a, b in pairwise(cuts)]
        costs = [len(part) * ascending[part[-1]] for part in places]
    else:
        places, costs = pack(ascending, parts)
    return [[rows[order[part]] for part in ranks] for ranks in _deal(places, costs, n, world)]


def even_cuts(lengths: list[int], parts: int, *, spare: float = 0.0) -> list[int]:
    """Where sorted rows are cut so that the largest of the parts' costs is smallest, and then their sum.

    The cost of a part is its rows times the longest of them. Each part has a row. What is spared of the largest cost
    lowers the sum: measured on chats, 5 % more of the one took 1 % off the other. It is never above that of parts of
    equal numbers.

    Which cuts keep the largest cost within a bound is seen by filling parts from the long end. Under it, the least sum
    f(p) of p parts is convex in p, because costs satisfy the quadrangle inequality: for a ≤ b ≤ c ≤ d,
    cost(a, c) + cost(b, d) ≤ cost(a, d) + cost(b, c). So it is found with a toll for each part in place of their
    number: the toll is the slope between a cut into too few and one into too many, until nothing lies below that line.

    Args:
        lengths: tokens of the rows, ascending, each at least 1; more rows than `parts`.
        parts: how many.
        spare: share by which the largest cost may be above the smallest possible.

    Returns:
        0, the places where parts end, and last the number of rows.
    """
    n = len(lengths)
    bound = _bound(lengths, parts, spare)
    earliest = [max(place + 1 - bound // length, 0) for place, length in enumerate(lengths)]
    few, few_cost = _cheapest(lengths, earliest, 1, n * lengths[-1])  # a toll that no saving is worth
    many, many_cost = list(range(n + 1)), sum(lengths)
    while len(few) - 1 < parts:
        scale, toll = len(many) - len(few), few_cost - many_cost
        found, cost = _cheapest(lengths, earliest, scale, toll)
        if scale * cost + toll * len(found) >= scale * few_cost + toll * len(few):
            return _spliced(few, many, parts)
        if len(found) - 1 <= parts:
            few, few_cost = found, cost
        else:
            many, many_cost = found, cost
    return few


def _bound(lengths: list[int], parts: int, spare: float) -> int:
    """What no part's cost shall be above: the smallest number that can be kept, and what is spared."""
    ends = [len(lengths) * part // parts for part in range(parts + 1)]
    equal = max((end - begin) * lengths[end - 1] for begin, end in pairwise(ends))
    low, high = max(lengths[-1], -(-sum(lengths) // parts)), equal
    while low < high:
        bound = (low + high) // 2
        left, used = len(lengths), 0
        while left > 0 and used < parts:
            left -= bound // lengths[left - 1]
            used += 1
        low, high = (low, bound) if left <= 0 else (bound + 1, high)
    return min(int(low * (1 + spare)), equal)


def _cheapest(lengths: list[int], earliest: list[int], scale: int, toll: int) -> tuple[list[int], int]:
    """Cuts of the least `scale` × sum of costs + `toll` × parts, and their sum of costs.

    The best part that ends with a row begins no earlier than that of the row before it, by the same inequality; of
    equal ones the earliest is taken.

    Args:
        lengths: ascending.
        earliest: where the part that ends with this row may begin.
        scale: what a token costs.
        toll: what a part costs.
    """
    best, begins, begin = [0], [0], 0  # best[j]: of the first j rows
    for last, (length, lowest) in enumerate(zip(lengths, earliest, strict=True)):
        price = scale * length
        begin = max(begin, lowest)
        least = best[begin] - begin * price
        for place in range(begin + 1, last + 1):
            here = best[place] - place * price
            if here < least:
                least, begin = here, place
        best.append(least + (last + 1) * price + toll)
        begins.append(begin)
    cuts = [len(lengths)]
    while cuts[-1]:
        cuts.append(begins[cuts[-1]])
    return cuts[::-1], (best[-1] - toll * (len(cuts) - 1)) // scale


def _spliced(few: list[int], many: list[int], parts: int) -> list[int]:
    """Cuts into `parts`, of two that are the cheapest at one toll: the short parts of one, the long ones of the other.

    Where a part of `many` lies inside the part of `few` that it stands in for, crossing over costs nothing, by the
    quadrangle inequality; there is such a place, because `many` has its first cuts earlier and its last ones later.
    """
    more = parts - (len(few) - 1)
    at = next(i for i in range(len(few) - 1) if few[i + 1] >= many[i + 1 + more])
    return many[: at + more + 1] + few[at + 1 :]


def pack(lengths: list[int], parts: int) -> tuple[list[list[int]], list[int]]:
    """Places of sorted rows in parts of nearly equal tokens, and these: the longest first, into the emptiest.

    >>> pack([1, 2, 3, 4], 2)
    ([[0, 3], [1, 2]], [5, 5])

    Args:
        lengths: tokens of the rows, ascending, each at least 1; more rows than `parts`.
        parts: how many.
    """
    places: list[list[int]] = [[] for _ in range(parts)]
    filled = [(0, part) for part in range(parts)]
    for place in range(len(lengths) - 1, -1, -1):
        tokens, part = filled[0]
        places[part].append(place)
        heapreplace(filled, (tokens + lengths[place], part))
    tokens_of = {part: tokens for tokens, part in filled}
    return [part[::-1] for part in places], [tokens_of[part] for part in range(parts)]


def _deal(places: list[list[int]], costs: list[int], n: int, world: int) -> list[list[list[int]]]:
    """Parts in n accumulation steps of a part for each rank: the costliest first, to the rank that has had least."""
    falling = sorted(range(len(places)), key=lambda part: -costs[part])
    had, dealt = [0] * world, []
    for a in range(n):
        ranks: list[list[int]] = [[] for _ in range(world)]
        idle = sorted(range(world), key=had.__getitem__)
        for rank, part in zip(idle, falling[a * world : (a + 1) * world], strict=False):
            ranks[rank] = places[part]
            had[rank] += costs[part]
        dealt.append(ranks)
    return dealt


def n_micro_batches(n_rows: int, *, micro: int, world: int) -> int:
    """Accumulation steps of an optimizer step of so many rows, as the trainer's own loader would have them.

    >>> [n_micro_batches(n, micro=4, world=1) for n in (12, 7, 2)]
    [3, 2, 1]
    """
    return -(-n_rows // (micro * world))


def fewest_rows(n_rows: int, *, micro: int, world: int) -> int:
    """Rows that the ranks share in the last accumulation step of a step whose rows are cut as drawn.

    >>> [fewest_rows(n, micro=2, world=2) for n in (8, 6, 5)]
    [4, 2, 1]
    """
    return (n_rows - 1) % (micro * world) + 1


def tokens_by_rank(split: list[list[RowArray]], lengths: IntArray, *, padded: bool, multiple: int = 1) -> IntArray:
    """Tokens that each rank's forwards of one optimizer step see: rows' own, and with their padding; (2, world).

    Args:
        split: of `split_step`.
        lengths: tokens of every row of the training set, shape (N,).
        padded: rows of a micro batch are padded to the longest; False where they lie flat behind one another.
        multiple: of which the length of a line of a micro batch is one.
    """
    tokens = [[0] * len(split[0]), [0] * len(split[0])]  # few small numbers: lists are quicker than arrays
    for micro_batch in split:
        for rank, rows in enumerate(micro_batch):
            own = lengths[rows].tolist()
            total = sum(own)
            tokens[0][rank] += total
            lines, longest = (len(own), max(own, default=0)) if padded else (1, total)
            tokens[1][rank] += lines * -(-longest // multiple) * multiple
    return np.array(tokens, dtype=np.int64)
