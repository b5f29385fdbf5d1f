"""Training rows that say again what an earlier one says, and prompts that are answered in two ways.

Rows are compared with each other as probes are with them (`word_hashes`): *equal* rows have the same words, *near* rows
share 13 words in a row. A run of words that more than 5 different rows contain is a template and tells nothing.

Nearness chains: of three rows the first may be near the second and the second near the third, and the first and the
third have nothing in common. Groups of everything that hangs together would drop the third for a row that it does not
resemble. So rows are gone through in their sequence, and a row is dropped only if it is near a row that is *kept*:
what is lost is always still there in another row's words, and no two kept rows are near each other.

>>> rows = ["What is 7 + 4? 11", "what is 7+4?  11", "What is 7 - 4? 3"]
>>> duplicates(rows).equal.tolist()
[0, 0, 2]
>>> contradictions(["Capital of Peru?", "capital of peru", "Of Chile?"], ["Lima", "Quito", "Santiago"])
[[0, 1]]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.word_hashes import N_GRAM, TEMPLATE, HashedWords, Hashes, hashed_words, row_hashes
from campus_tune.words.types import BoolArray, RowArray

_AT_ONCE = 1 << 22  # runs of words sorted at a time: 0.1 GB, whatever the size of the set


@dataclass(frozen=True)
class Duplicates:
    """Which row says first what each row says; a row's own number where none before it does.

    Args:
        equal: the first row with the same words, shape (N,).
        near: for a row that is equal to none before it, the first kept row with which it shares a run of words,
            shape (N,).
    """

    equal: RowArray
    near: RowArray

    @property
    def equal_rows(self) -> RowArray:
        """Rows that are equal to an earlier one, ascending."""
        return _others(self.equal)

    @property
    def near_rows(self) -> RowArray:
        """Rows that are near to an earlier one that is kept, ascending."""
        return _others(self.near)


def duplicates(texts: Sequence[str], *, n: int = N_GRAM, near: bool = True) -> Duplicates:
    """Which rows repeat an earlier one, so that keeping the first of each leaves no two alike.

    A million rows of 70 words took 40 s of one core and 1.1 GB beside the texts.

    Args:
        texts: of the rows, prompt and answer together; a row without words is like no other.
        n: words that near rows share in a row.
        near: look for near ones too.
    """
    itself = np.arange(len(texts), dtype=np.int32)
    if not near:
        whole = row_hashes(texts)
        return Duplicates(first_of_each(whole, unlike=whole == 0), itself)
    whole, parts = np.zeros(len(texts), dtype=np.uint64), []
    for rows, runs in hashed_words(texts, n):
        whole[rows.rows] = rows.hashes
        parts.append((runs.hashes, runs.rows.astype(np.int32)))
    equal = first_of_each(whole, unlike=whole == 0)
    return Duplicates(equal, _near(parts, equal == itself))


def first_of_each(hashes: Hashes, *, unlike: BoolArray | None = None) -> RowArray:
    """The first row with the hash of each row, shape (N,): for rows that are known by their tokens alone, too.

    Args:
        hashes: of the rows, shape (N,).
        unlike: rows that are like no other, shape (N,).

    >>> first_of_each(np.array([7, 8, 7, 9, 8], dtype=np.uint64)).tolist()
    [0, 1, 0, 3, 1]
    """
    _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    found = first[which]
    if unlike is not None:
        found[unlike] = np.flatnonzero(unlike)
    return found.astype(np.int32)


def contradictions(prompts: Sequence[str], answers: Sequence[str]) -> list[list[int]]:
    """Rows that ask the same in the same words and answer in others, a list for each such prompt.

    Never dropped: which of the answers is right, and whether only one can be, a person has to say.

    Args:
        prompts: of the rows, length N; one without words is like no other.
        answers: to them, length N.
    """
    asked = row_hashes(prompts)
    rows = np.flatnonzero(asked)
    said, asked = row_hashes([answers[row] for row in rows.tolist()]), asked[rows]
    by_prompt = np.argsort(asked, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(asked[by_prompt]) != 0)) if len(rows) else rows
    ends = np.append(starts, len(rows))[1:]
    other = np.append(0, np.cumsum(np.diff(said[by_prompt]) != 0))  # answers that are not as the one before
    found = [
        rows[by_prompt[start:end]].tolist()
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        if other[end - 1] > other[start]
    ]
    return sorted(found)


def _near(parts: Sequence[tuple[Hashes, RowArray]], first: BoolArray) -> RowArray:
    """The first kept row that each row is near to, itself where there is none.

    Args:
        parts: runs of words and their rows, ascending from part to part.
        first: rows that no earlier one equals, shape (N,): the others are gone already.
    """
    n_buckets = -(-sum(len(rows) for _, rows in parts) // _AT_ONCE)
    pairs = [np.zeros(0, dtype=np.uint64)]
    for bucket in range(n_buckets):
        here = [(first[rows]) & (hashes % np.uint64(n_buckets) == bucket) for hashes, rows in parts]
        of_bucket = HashedWords(
            np.concatenate([hashes[some] for (hashes, _), some in zip(parts, here, strict=True)]),
            np.concatenate([rows[some] for (_, rows), some in zip(parts, here, strict=True)]).astype(np.int64),
        )
        pairs.append(_pairs(of_bucket))
    kept_by: dict[int, int] = {}
    # by the later row, then by the earlier one, whose own fate is known by then
    for pair in np.unique(np.concatenate(pairs)).tolist():
        later, earlier = pair >> 32, pair & 0xFFFFFFFF
        if later not in kept_by and earlier not in kept_by:
            kept_by[later] = earlier
    near = np.arange(len(first), dtype=np.int32)
    near[list(kept_by.keys())] = list(kept_by.values())
    return near


def _pairs(runs: HashedWords) -> NDArray[np.uint64]:
    """Pairs of rows that share a run of words which is no template, as 2³² · the later row + the earlier one."""
    order = np.argsort(runs.hashes, kind="stable")  # rows ascend among equal runs
    hashes, rows = runs.hashes[order], runs.rows[order].astype(np.uint64)
    once = np.append(True, (np.diff(hashes) != 0) | (np.diff(rows) != 0))[: len(rows)]  # a row may repeat its own words
    hashes, rows = hashes[once], rows[once]
    starts = np.flatnonzero(np.append(True, np.diff(hashes) != 0)[: len(hashes)])
    counts = np.diff(np.append(starts, len(hashes)))
    some = np.repeat((counts > 1) & (counts <= TEMPLATE), counts)
    hashes, rows = hashes[some], rows[some]
    found = [np.zeros(0, dtype=np.uint64)]
    for apart in range(1, min(TEMPLATE, len(rows))):
        same = hashes[apart:] == hashes[:-apart]
        found.append(rows[apart:][same] << np.uint64(32) | rows[:-apart][same])
    return np.unique(np.concatenate(found))


def _others(first: RowArray) -> RowArray:
    return np.flatnonzero(first != np.arange(len(first))).astype(np.int32)
