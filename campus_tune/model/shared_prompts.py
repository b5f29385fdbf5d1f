"""Which rows begin with the same tokens, so that a model need read those only once: arithmetic, no model.

A system prompt, a few-shot head, a text of which several questions are asked:

    Answer briefly. 2 + 2 = | 4          The first three words are read once, and then, after them,
    Answer briefly. 3 + 5 = | 8          the two rests. Both rows have the losses that they have alone.

Sorted by their tokens, rows that begin alike are neighbours, and what neighbours share makes a tree. In it a group is
a node: all rows below it, and the tokens that all of them have in common. Groups that do not overlap are chosen such
that the tokens which need not be read are as many as can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from campus_tune.model.batches import long_rows_first
from campus_tune.words.types import BoolArray, IntArray

FEWEST_SHARED = 16  # tokens at the beginning, below which rows are read whole
LEAST_SAVED = 0.2  # of a group's tokens: looking back costs a third of that (SmolLM2-135M on a CPU)
OVERHEAD = 8  # a group must save the tokens of a batch divided by this: its prompt is a forward of its own
CONTEXT = 4  # times the tokens of a batch that its rows may look back on, what they share counted for each


class MarkedRow(NamedTuple):
    """One row.

    Args:
        ids: of its tokens, shape (L,).
        counted: which of them carry loss, shape (L,).
    """

    ids: IntArray
    counted: BoolArray


class Group(NamedTuple):
    """Rows that begin alike.

    Args:
        places: of the rows, at least two, shape (n,).
        shared: tokens that need be read only once: all that they have in common but the last, which each row reads
            itself, for its own next token is predicted from there.
    """

    places: IntArray
    shared: int

    @property
    def saved(self) -> int:
        """Tokens that need not be read."""
        return (len(self.places) - 1) * self.shared


@dataclass(frozen=True)
class Batch:
    """Rows that go through a model together.

    Args:
        places: of the rows, shape (n,).
        shared: their first tokens that are read once; 0 where each row is read whole.
        group: a number that batches with the same beginning have in common; −1 for none.
        first: of the batches with its number.
    """

    places: IntArray
    shared: int = 0
    group: int = -1
    first: bool = False


def batches_of(rows: Sequence[MarkedRow], tokens: IntArray, bound: int) -> list[Batch]:
    """Batches of some rows, each row in one of them: first those that are read whole, then group by group.

    Args:
        rows: whose beginnings are compared.
        tokens: of every row, stored padding included, shape (n,).
        bound: tokens of a batch, padding included, that go through the model.
    """
    found = groups_of(rows, least=bound // OVERHEAD)
    alone = np.ones(len(rows), dtype=np.bool_)
    for group in found:
        alone[group.places] = False
    whole = np.flatnonzero(alone)
    batches = [Batch(whole[part]) for part in long_rows_first(tokens[whole], bound)]
    for number, group in enumerate(found):
        rest = tokens[group.places] - group.shared
        most = max(1, CONTEXT * bound // int(tokens[group.places].max()))
        parts = [
            part[start : start + most] for part in long_rows_first(rest, bound) for start in range(0, len(part), most)
        ]
        batches += [Batch(group.places[part], group.shared, number, i == 0) for i, part in enumerate(parts)]
    return batches


def groups_of(rows: Sequence[MarkedRow], *, least: int) -> list[Group]:
    """Groups of rows that begin alike, none in two of them, that together save as many tokens as can be.

    Args:
        rows: in any sequence.
        least: tokens that a group must save.

    >>> row = MarkedRow(np.arange(40), np.arange(40) == 39)
    >>> [(group.places.tolist(), group.shared) for group in groups_of([row, row, row], least=0)]
    [([0, 1, 2], 38)]
    """
    keys = [_key(row) for row in rows]
    if sum(len(key) > FEWEST_SHARED for key in keys) < 2:
        return []
    order = sorted(range(len(rows)), key=[key.tobytes() for key in keys].__getitem__)
    alike = [_length_in_common(keys[a], keys[b]) for a, b in pairwise(order)]
    tokens = np.cumsum([0, *(len(rows[place].ids) for place in order)])

    def group(first: int, end: int, in_common: int) -> Group | None:
        one = Group(np.array(order[first:end], dtype=np.int64), in_common - 1)
        enough = max(least, LEAST_SAVED * float(tokens[end] - tokens[first]))
        return one if one.shared >= FEWEST_SHARED and one.saved >= enough else None

    open_ = [_Node(0, 0)]
    for end, in_common in enumerate([*alike, -1], start=1):  # the last closes whatever is open
        node = _Node(len(rows), end - 1)
        while open_ and open_[-1].in_common > in_common:
            inner = open_.pop()
            inner.take(node)
            whole = group(inner.first, end, inner.in_common)
            node = inner
            if whole is not None and whole.saved >= inner.saved:
                node.groups, node.saved = [whole], whole.saved
        if not open_ or open_[-1].in_common < in_common:
            open_.append(_Node(in_common, node.first))
        open_[-1].take(node)
    return open_[0].groups


@dataclass
class _Node:
    """Neighbours that have so many tokens in common, and the best groups of those below it so far."""

    in_common: int
    first: int
    saved: int = 0
    groups: list[Group] = field(default_factory=list)

    def take(self, below: _Node) -> None:
        """The groups of a node that is closed."""
        self.saved += below.saved
        self.groups += below.groups


def _key(row: MarkedRow) -> IntArray:
    """What rows of one beginning have in common: tokens and which of them carry loss, up to the last one that does.

    That one is always read with its own row, so that every row has something to say.
    """
    counted = np.flatnonzero(row.counted)
    end = int(counted[-1]) if len(counted) else 0
    return np.asarray(2 * row.ids[:end] + row.counted[:end], dtype=">i8")


def _length_in_common(a: IntArray, b: IntArray) -> int:
    n = min(len(a), len(b))
    apart = np.flatnonzero(a[:n] != b[:n])
    return int(apart[0]) if len(apart) else n
