"""Training rows that say again what an earlier one says, and prompts that are answered in two ways.

Rows are compared in words, as probes are with them (`word_hashes`). *Equal* rows have the same words. A row is *near*
an earlier one that has at least half of its runs of 13 words, so that most of what it says is still there without it.
The one shared run that makes a probe suspect is too little to drop a row by: in GSM8K 39 % of the rows share one with
an earlier row, nearly all of them an equation such as `3 * 4 = << 3 * 4 = 12 >>`. A run that more than 5 different rows
contain is a template, and counts neither as shared nor as the row's own.

Nearness chains: of three rows the second may be near the first and the third near the second, and the third and the
first have little in common. Groups of everything that hangs together would drop the third for a row that it does not
resemble. So rows are gone through in their sequence, and a row is dropped only if it is near a row that is *kept*.

Rows that ask the same in the same words and answer in others are no duplicates, however long the question: which answer
is right, and whether only one can be, a person has to say (`contradictions`).

>>> rows = ["What is 7 + 4? 11", "what is 7+4?  11", "What is 7 - 4? 3"]
>>> duplicates(rows).equal.tolist()
[0, 0, 2]
>>> contradictions(["Capital of Peru?", "capital of peru", "Of Chile?"], ["Lima", "Quito", "Santiago"])
[[0, 1]]

What is held out of a training set asks for more: whatever hangs together goes to one side, and there chains may be as
long as they like (`groups`).

>>> groups(rows).tolist()
[0, 0, 1]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from campus_tune.data.word_hashes import N_GRAM, TEMPLATE, Hashes, hashed_words, row_hashes
from campus_tune.words.types import BoolArray, RowArray

MOSTLY = 0.5  # of a row's runs of words, that an earlier one must have
_AT_ONCE = 1 << 22  # runs of words sorted at a time: 0.1 GB, whatever the size of the set


@dataclass(frozen=True)
class Duplicates:
    """Which row says first what each row says; a row's own number where none before it does.

    Args:
        equal: the first row with the same words, shape (N,).
        near: for a row that is equal to none before it, the first kept row that has half of its runs of words,
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
        """Rows that are near an earlier one that is kept, ascending."""
        return _others(self.near)


def duplicates(
    texts: Sequence[str], prompts: Sequence[str] | None = None, *, n: int = N_GRAM, near: bool = True
) -> Duplicates:
    """Which rows repeat an earlier one, so that keeping the first of each leaves no two alike.

    A million rows of 70 words took 45 s of one core and 1.2 GB beside the texts.

    Args:
        texts: of the rows, prompt and answer together; a row without words is like no other.
        prompts: of them, where rows tell question from answer: rows of one prompt are equal or no duplicates.
        n: words in a run.
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
    asked = np.zeros(len(texts), dtype=np.uint64) if prompts is None else row_hashes(prompts)
    return Duplicates(equal, _near(parts, equal == itself, asked))


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
    """Rows that ask the same in the same words and answer in others, a list for each such prompt; never dropped.

    Args:
        prompts: of the rows, length N; one without words is like no other.
        answers: to them, length N.
    """
    return contradicting(row_hashes(prompts), row_hashes(answers))


def contradicting(asked: Hashes, said: Hashes) -> list[list[int]]:
    """The same of rows whose words are known by their hashes alone (`row_hashes`).

    Args:
        asked: of each row, 0 for none, shape (N,).
        said: to that, shape (N,).
    """
    rows = np.flatnonzero(asked)
    said, asked = said[rows], asked[rows]
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


def groups(
    texts: Sequence[str], prompts: Sequence[str] | None = None, *, n: int = N_GRAM, nearly: bool = True
) -> RowArray:
    """The number of the group that each row hangs together with, shape (N,); a row that is like no other is alone.

    Together are rows with the same words, rows that ask the same whatever they answer, and rows that share one run of
    words that is no template: what an overlap of probes with training rows is looked for by.

    Args:
        texts: of the rows, prompt and answer together; a row without words is like no other.
        prompts: of them, where rows tell question from answer.
        n: words in a run.
        nearly: a single run makes rows belong together; False asks for half of a row's runs, as of duplicates.
    """
    from scipy.sparse import coo_array  # type: ignore[import-untyped]  # scipy ships no types
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]  # likewise

    itself = np.arange(len(texts), dtype=np.int32)
    asked = np.zeros(len(texts), dtype=np.uint64) if prompts is None else row_hashes(prompts)
    pairs = [(itself, first_of_each(asked, unlike=asked == 0))]
    if nearly:
        whole, parts = np.zeros(len(texts), dtype=np.uint64), []
        for rows, runs in hashed_words(texts, n):
            whole[rows.rows] = rows.hashes
            parts.append((runs.hashes, runs.rows.astype(np.int32)))
        pairs.append((itself, first_of_each(whole, unlike=whole == 0)))
        for hashes, places in _buckets(parts):
            # twice as many rows as make a template: where some of them are held out, what is trained may be none
            hashes, places = _no_templates(hashes, places, most=2 * TEMPLATE)
            same = hashes[1:] == hashes[:-1]  # neighbours are enough: they make a chain of all that have a run
            pairs.append((places[1:][same], places[:-1][same]))
    else:
        found = duplicates(texts, prompts, n=n)
        pairs += [(itself, found.equal), (itself, found.near)]
    some, others = (np.concatenate(side) for side in zip(*pairs, strict=True))
    graph = coo_array((np.ones(len(some), dtype=np.bool_), (some, others)), shape=(len(texts), len(texts)))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int32)


def _buckets(parts: Sequence[tuple[Hashes, RowArray]]) -> Iterator[tuple[Hashes, RowArray]]:
    """Runs of words and their rows, some of all parts at a time: those of one hash together, rows ascending."""
    n_buckets = -(-sum(len(rows) for _, rows in parts) // _AT_ONCE)
    for bucket in range(n_buckets):
        here = [hashes % np.uint64(n_buckets) == bucket for hashes, _ in parts]
        yield (
            np.concatenate([hashes[some] for (hashes, _), some in zip(parts, here, strict=True)]),
            np.concatenate([rows[some] for (_, rows), some in zip(parts, here, strict=True)]),
        )


def _near(parts: Sequence[tuple[Hashes, RowArray]], first: BoolArray, asked: Hashes) -> RowArray:
    """The first kept row that each row is near to, itself where there is none.

    Args:
        parts: runs of words and their rows, ascending from part to part.
        first: rows that no earlier one equals, shape (N,): the others are gone already.
        asked: hash of each row's prompt, 0 for none, shape (N,).
    """
    own = np.zeros(len(first), dtype=np.int64)  # runs of each row that are no template
    pairs = [np.zeros(0, dtype=np.uint64)]
    shared = [np.zeros(0, dtype=np.int64)]
    for hashes, rows in _buckets([(hashes[first[rows]], rows[first[rows]]) for hashes, rows in parts]):
        hashes, rows = _no_templates(hashes, rows)
        own += np.bincount(rows, minlength=len(own))
        found, counts = np.unique(_pairs(hashes, rows), return_counts=True)
        pairs.append(found)
        shared.append(counts)
    every, which = np.unique(np.concatenate(pairs), return_inverse=True)
    n_shared = np.bincount(which, weights=np.concatenate(shared), minlength=len(every))
    later, earlier = (every >> np.uint64(32)).astype(np.int64), (every & np.uint64(0xFFFFFFFF)).astype(np.int64)
    contradict = (asked[later] == asked[earlier]) & (asked[later] != 0)
    alike = (n_shared >= MOSTLY * own[later]) & ~contradict
    kept_by: dict[int, int] = {}
    # by the later row, then by the earlier one, whose own fate is known by then
    for row, other in zip(later[alike].tolist(), earlier[alike].tolist(), strict=True):
        if row not in kept_by and other not in kept_by:
            kept_by[row] = other
    near = np.arange(len(first), dtype=np.int32)
    near[list(kept_by.keys())] = list(kept_by.values())
    return near


def _no_templates(hashes: Hashes, rows: RowArray, most: int = TEMPLATE) -> tuple[Hashes, RowArray]:
    """Runs of words by their hash, each of a row once, rows ascending; without those that too many rows have."""
    order = np.argsort(hashes, kind="stable")
    hashes, rows = hashes[order], rows[order]
    once = np.append(True, (np.diff(hashes) != 0) | (np.diff(rows) != 0))[: len(rows)]  # a row may repeat its own words
    hashes, rows = hashes[once], rows[once]
    starts = np.flatnonzero(np.append(True, np.diff(hashes) != 0)[: len(hashes)])
    counts = np.diff(np.append(starts, len(hashes)))
    some = np.repeat(counts <= most, counts)
    return hashes[some], rows[some]


def _pairs(hashes: Hashes, rows: RowArray) -> Hashes:
    """Pairs of rows for each run of words that both have, as 2³² · the later row + the earlier one."""
    wide = rows.astype(np.uint64)
    found = [np.zeros(0, dtype=np.uint64)]
    for apart in range(1, min(TEMPLATE, len(rows))):
        same = hashes[apart:] == hashes[:-apart]
        found.append(wide[apart:][same] << np.uint64(32) | wide[:-apart][same])
    return np.concatenate(found)


def _others(first: RowArray) -> RowArray:
    return np.flatnonzero(first != np.arange(len(first))).astype(np.int32)
