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

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.data.duplicates import groups
from campus_tune.data.overlap import overlap
from campus_tune.data.word_hashes import N_GRAM, Hashes, row_hashes
from campus_tune.words.errors import DataError
from campus_tune.words.files import atomic_write
from campus_tune.words.hashing import hash_rows
from campus_tune.words.types import IntArray, Json, RowArray
from campus_tune.words.wording import listed

PROBES, TEST, TRAIN = "probes", "test", "train"
MOST_NAMED = 12  # domains that a sentence names
AT_MOST = 0.25  # of a domain, for the probes and for the test rows each: half of it is trained
# Of each domain where nothing is asked for: a share, but from so many to so many rows, and at most another share
USUAL = {PROBES: (0.05, 30, 100, 0.1), TEST: (0.1, 30, 300, 0.15)}


@dataclass(frozen=True)
class Split:
    """Which rows are trained, which are probes, which judge.

    Args:
        train: row numbers, ascending.
        probes: likewise.
        test: likewise.
        domains: of all rows.
        together: rows that stay beside another one, with which they share words in a row or what is asked.
        near: rows held out that share 13 words in a row with a training row all the same.
        missing: rows that were asked for and not held out, for they hang together with too many others.
    """

    train: RowArray
    probes: RowArray
    test: RowArray
    domains: Domains
    together: int
    near: int
    missing: int

    def sentences(self) -> Iterator[str]:
        """What was held out, by domain; what was kept together; what still shares words with a training row."""
        for part, what in ((PROBES, "probes: measured while training"), (TEST, "test rows: they judge a comparison")):
            rows: RowArray = getattr(self, part)
            if len(rows):
                of = [f"{name} {n}" for name, n in self.sizes(part).items()]
                by = f" ({listed(of, MOST_NAMED)})" if self.domains.codes is not None else ""
                yield f"{len(rows)} {what}{by}"
        yield f"{len(self.train)} rows are trained"
        if self.together:
            what = f"share {N_GRAM} words in a row with another one, or ask the same"
            yield f"{self.together} rows {what}: each was kept on the side of that one"
        if self.missing:
            yield f"{self.missing} rows less than asked for were held out: the rest hangs together in too large groups"
        if self.near:
            yield f"{self.near} rows held out share {N_GRAM} words in a row with a training row: `check` names them"

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
    n_of = domains.counts(len(texts))
    wanted = {name: quotas(name, given, n_of) for name, given in ((PROBES, probes), (TEST, test))}
    hashes = row_hashes(texts)
    taken = np.where(hashes == 0, -1, 0)  # those without words are trained: nothing is to be measured by them
    names = [PROBES, TEST]

    def fill(of: RowArray, *, either: bool) -> None:
        """Take groups for the part that each is meant for, by what it says; or for any that lacks such rows."""
        left = {name: wanted[name] - _counts(codes[taken == 1 + i], len(n_of)) for i, name in enumerate(names)}
        for rows, chance in _in_sequence(of, hashes, seed):
            if not any(missing.any() for missing in left.values()):
                return
            if taken[rows].any():
                continue
            domain, asked = codes[rows[0]], _counts(codes[rows], len(n_of))
            both = sum(wanted[name][domain] for name in names)
            meant = names[int(chance * both >= wanted[PROBES][domain])]
            for name in names if either else [meant]:
                if (asked <= left[name]).all():
                    taken[rows] = 1 + names.index(name)
                    left[name] = left[name] - asked
                    break

    of = groups(texts, prompts)
    fill(of, either=False)
    fill(of, either=True)
    if (taken > 0).sum() < sum(wanted[name].sum() for name in names):
        fill(groups(texts, prompts, nearly=False), either=True)
    found = [np.flatnonzero(taken == 1 + i).astype(np.int32) for i in range(len(names))]
    for name, chosen in zip(names, found, strict=True):
        if not len(chosen) and wanted[name].any():
            raise DataError(
                f"`{name}` must be rows that are like no training row, got none: all rows hang together, by words that "
                f"they say or ask alike. Remove duplicates, or write --{name} 0."
            )
    train = np.flatnonzero(taken <= 0).astype(np.int32)
    held = np.concatenate(found)
    near = overlap([texts[row] for row in held.tolist()], [texts[row] for row in train.tolist()]).near
    missing = int(sum(wanted[name].sum() for name in names)) - len(held)
    together = int((np.bincount(of)[of] > 1).sum())
    return Split(train, found[0], found[1], domains, together, len({row for row, _ in near}), missing)


def refuse_written(paths: Iterable[Path], flag: str) -> None:
    """Nothing is written over.

    Args:
        paths: that are about to be written.
        flag: that names another place.

    Raises:
        DataError: one of them is there.
    """
    there = [str(path) for path in paths if path.exists()]
    if there:
        raise DataError(f"`{flag}` must name files that are not there yet, got {there[0]}. Write another {flag}.")


def part_files(folder: Path) -> dict[str, Path]:
    """Part → its file in a folder."""
    return {part: folder / f"{part}.jsonl" for part in (TRAIN, PROBES, TEST)}


def write_parts(folder: Path, rows: Sequence[Json], cut: Split) -> dict[str, str]:
    """Write each part that has rows as JSON lines, the rows in their own sequence; part → its file.

    Args:
        folder: made if it is not there.
        rows: all of them.
        cut: which of them are what.

    Raises:
        StorageError: it cannot be written.
    """
    written = {}
    try:
        for part, path in part_files(folder).items():
            chosen: RowArray = getattr(cut, part)
            if len(chosen):
                atomic_write(path, (_line(rows[row]) for row in chosen.tolist()))
                written[part] = str(path)
    except BaseException:  # Ctrl-C too: what is there is never written over, so half of it would be in the way
        for name in written.values():
            Path(name).unlink()
        raise
    return written


def _line(row: Json) -> bytes:
    """A row as a line of JSON; half a surrogate pair, which UTF-8 cannot hold, is written out."""
    try:
        return f"{json.dumps(row, ensure_ascii=False, default=str)}\n".encode()
    except UnicodeEncodeError:
        return f"{json.dumps(row, default=str)}\n".encode()


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
        share, low, high, largest = USUAL[name]
        usual: IntArray = np.minimum(largest * n_of, np.clip(np.rint(share * n_of), low, high)).astype(np.int64)
        return usual
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
    return np.bincount(codes, minlength=n)


def _in_sequence(of: RowArray, hashes: Hashes, seed: int) -> Iterator[tuple[IntArray, float]]:
    """(The rows of each group, its number in [0, 1)), as the seed draws them by what one of their rows says."""
    by_group = np.lexsort((hashes, of))
    starts = np.flatnonzero(np.diff(of[by_group], prepend=-1))
    ends = np.append(starts[1:], len(of))
    key = hashes[by_group[starts]]
    chances = hash_rows(key, seed, 1) / 2.0**64
    for i in np.argsort(hash_rows(key, seed), kind="stable").tolist():
        yield by_group[starts[i] : ends[i]], float(chances[i])
