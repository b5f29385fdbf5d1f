"""Rows that are held out of a training set: probes, which steer and watch a run, and test rows, which judge it.

Rows that hang together stay on one side (`duplicates.groups`): a probe whose twin is trained measures memory. Each
domain gives some, a large one more of them, and none more than a quarter of its rows. Which rows those are hangs on
what they say and on the seed, not on their place: rows that are added to the file later leave nearly all of them where
they are.

A set may hang together as a whole, by sentences that its rows share. Where a domain cannot give as many rows as were
asked for, those that share such a sentence with a training row are taken after all, and counted (`Split.near`); rows
that say the same, mostly the same or ask the same stay on one side in any case.

>>> texts = ["two and two is four", "Two and two is four!", "red", "blue", "green", "black", "white", "grey"]
>>> cut = split(texts, [""] * 8, Domains(), probes=2, test=0, seed=1)
>>> len(cut.probes), len(cut.train), {0, 1} <= set(cut.train.tolist()) or {0, 1} <= set(cut.probes.tolist())
(2, 6, True)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.data.duplicates import groups
from campus_tune.data.overlap import overlap
from campus_tune.data.word_hashes import Hashes, row_hashes
from campus_tune.words.errors import DataError
from campus_tune.words.hashing import hash_rows
from campus_tune.words.types import IntArray, RowArray

PROBES, TEST, TRAIN = "probes", "test", "train"
AT_MOST = 0.25  # of a domain, for the probes and for the test rows each: half of it is trained
USUAL = {PROBES: (0.05, 30, 100), TEST: (0.1, 30, 300)}  # share of the rows; fewest and most of a domain


@dataclass(frozen=True)
class Split:
    """Which rows are trained, which are probes, which judge.

    Args:
        train: row numbers, ascending.
        probes: likewise.
        test: likewise.
        domains: of all rows.
        together: rows that stay beside another one that says nearly the same, or asks the same.
        near: rows held out that share 13 words in a row with a training row all the same.
    """

    train: RowArray
    probes: RowArray
    test: RowArray
    domains: Domains
    together: int
    near: int

    def sizes(self, part: str) -> dict[str, int]:
        """Domain → rows of a part, in the sequence of the domains' names; `all` where there are none."""
        rows: RowArray = getattr(self, part)
        if self.domains.codes is None:
            return {"all": len(rows)}
        counts = np.bincount(self.domains.codes[rows], minlength=len(self.domains.names))
        return dict(zip(self.domains.names, counts.tolist(), strict=True))


def split(
    texts: Sequence[str],
    prompts: Sequence[str],
    domains: Domains,
    *,
    probes: float | None = None,
    test: float | None = None,
    seed: int = 0,
) -> Split:
    """Cut probes and test rows off a training set.

    Args:
        texts: all that is said in each row, length N.
        prompts: of it, what is asked; "" where a row does not tell, length N.
        domains: of the rows.
        probes: how many rows, or which share of them (below 1); None for a usual number of each domain, 0 for none.
        test: likewise.
        seed: of the choice.

    Raises:
        DataError: more rows than a quarter of the training set, or than can be held out.
    """
    codes = np.zeros(len(texts), dtype=np.int64) if domains.codes is None else domains.codes
    n_of = np.bincount(codes, minlength=1)
    wanted = {name: quotas(name, given, n_of) for name, given in ((PROBES, probes), (TEST, test))}
    hashes = row_hashes(texts)
    taken = np.where(hashes == 0, -1, 0)  # those without words are trained: nothing is to be measured by them
    names, together = [PROBES, TEST], 0
    for nearly in (True, False):
        left = {name: wanted[name] - _counts(codes[taken == 1 + i], len(n_of)) for i, name in enumerate(names)}
        if not any(missing.any() for missing in left.values()):
            break
        of = groups(texts, prompts, nearly=nearly)
        together = together or int((np.bincount(of)[of] > 1).sum())
        for rows in _in_sequence(of, hashes, seed):
            if taken[rows].any():
                continue
            # the part that lacks most of what it was to have: both are filled side by side
            domain, asked = codes[rows[0]], _counts(codes[rows], len(n_of))
            name = max(names, key=lambda one: left[one][domain] / max(1, wanted[one][domain]))
            if (asked <= left[name]).all():
                taken[rows] = 1 + names.index(name)
                left[name] = left[name] - asked
    found = [np.flatnonzero(taken == 1 + i).astype(np.int32) for i in range(len(names))]
    for name, rows in zip(names, found, strict=True):
        if not len(rows) and wanted[name].any():
            raise DataError(
                f"`{name}` must be rows that are like no training row, got none: all rows hang together, by words that "
                f"they say or ask alike. Remove duplicates, or write --{name} 0."
            )
    train = np.flatnonzero(taken <= 0).astype(np.int32)
    held = np.concatenate(found)
    near = overlap([texts[row] for row in held.tolist()], [texts[row] for row in train.tolist()]).near
    return Split(train, *found, domains, together, len({row for row, _ in near}))


def quotas(name: str, given: float | None, n_of: IntArray) -> IntArray:
    """Rows that each domain is to give, shape (D,).

    Of a number, half is shared out equally and half in proportion: a small domain must be seen, too.

    Args:
        name: of the part, for messages.
        given: rows, a share below 1, or None for a usual number.
        n_of: rows of each domain, shape (D,).

    Raises:
        DataError: more than a quarter of all rows.

    >>> quotas("probes", 40, np.array([900, 90, 10])).tolist()
    [30, 8, 2]
    """
    most = (AT_MOST * n_of).astype(np.int64)
    if given is None:
        share, low, high = USUAL[name]
        return np.minimum(most, np.clip(np.rint(share * n_of), low, high).astype(np.int64))
    total = round(given * n_of.sum()) if given < 1 else int(given)
    if total > most.sum():
        raise DataError(
            f"`--{name}` must be at most {most.sum()} of these {n_of.sum()} rows, a quarter of each domain, got "
            f"{total}. Write --{name} {most.sum()}, or add rows."
        )
    found = np.minimum(most, total // (2 * len(n_of)))
    while (left := int(total - found.sum())) > 0:
        room = found < most
        parts = n_of * room / (n_of * room).sum() * left
        more = np.minimum(most - found, parts.astype(np.int64))
        if not more.any():  # less than one row each: to those that lack most of one
            more[np.argsort(-parts * room, kind="stable")[: min(left, int(room.sum()))]] = 1
        found = found + more
    return found


def _counts(codes: IntArray, n: int) -> IntArray:
    return np.bincount(codes, minlength=n).astype(np.int64)


def _in_sequence(of: RowArray, hashes: Hashes, seed: int) -> Iterator[IntArray]:
    """The rows of each group; the groups as the seed draws them, by what one of their rows says."""
    by_group = np.lexsort((hashes, of))
    starts = np.flatnonzero(np.diff(of[by_group], prepend=-1))
    ends = np.append(starts[1:], len(of))
    for i in np.argsort(hash_rows(hashes[by_group[starts]], seed), kind="stable").tolist():
        yield by_group[starts[i] : ends[i]]
