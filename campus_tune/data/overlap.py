"""Probe rows that are training rows, word for word or nearly: found by hashing words, vectorised over bytes.

Texts are compared as words: lower-cased runs of letters and digits, and each of `+ - * / = < > ^ %` by itself, so
that punctuation and spacing hide nothing and 7 + 4 is not 7 - 4. Two rows are *equal* when all words are, and *near*
when they share 13 words in a row, the length that GPT-3 and most contamination reports since have used. A run of 13
words that many training rows contain is a prompt template and tells nothing.

Every word, window and row is one 64-bit polynomial hash, read off a running sum over the bytes of many texts at once:
a million rows of 70 words took 21 s of one core, and no word is ever a Python object. Two different
rows collide with a chance of about 1 in 10^8 for a million rows against a thousand probes.

>>> found = overlap(["What is 7 + 4? 11"], ["What is 7 - 4? 3", "what is 7+4?  11"])
>>> found.equal, found.near
([(0, 1)], [])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from campus_tune.words.findings import Finding
from campus_tune.words.hashing import GOLDEN, finalised
from campus_tune.words.types import IntArray
from campus_tune.words.wording import listed

N_GRAM = 13  # words in a row
TEMPLATE = 5  # training rows that share a run of words from which it is a template
_CHUNK = 1 << 18  # characters hashed at a time: what fits in the processor's cache
_GAP, _LETTER, _SYMBOL = 0, 1, 2

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Overlap:
    """Pairs of (probe row, training row).

    Args:
        equal: all words are the same.
        near: not equal, but 13 words in a row are the same.
    """

    equal: list[tuple[int, int]]
    near: list[tuple[int, int]]


def overlap(probes: Sequence[str], training: Sequence[str], *, n: int = N_GRAM) -> Overlap:
    """Which of `probes` are in `training`.

    Args:
        probes: texts of the probe rows, prompt and answer together.
        training: texts of the training rows, the same parts.
        n: words that near rows share in a row.
    """
    if not probes or not training:
        return Overlap([], [])
    of_rows, of_runs = (zip(*parts, strict=True) for parts in zip(*_hashed(probes, n), strict=True))
    rows, runs = _Index(*of_rows), _Index(*of_runs)
    for row_part, run_part in _hashed(training, n):
        rows.look_up(*row_part)
        runs.look_up(*run_part)
    equal = rows.pairs()
    return Overlap(sorted(equal), sorted(runs.pairs(most=TEMPLATE) - equal))


def overlap_findings(found: Overlap) -> list[Finding]:
    """An error for equal rows, a warning for near ones; both name the first pairs."""
    findings = []
    if found.equal:
        n = len({probe for probe, _ in found.equal})
        are = "row is a training row" if n == 1 else "rows are training rows"
        findings.append(
            Finding(
                "error",
                f"{n} probe {are} ({_pairs(found.equal)}): what they measure is memory.",
                "Remove them from one of the two files.",
            )
        )
    if found.near:
        n = len({probe for probe, _ in found.near})
        share = "row shares" if n == 1 else "rows share"
        findings.append(
            Finding(
                "warning",
                f"{n} probe {share} {N_GRAM} words in a row with a training row ({_pairs(found.near)}).",
                "Look at these pairs; remove those that ask the same.",
            )
        )
    return findings


def _pairs(pairs: list[tuple[int, int]], most: int = 3) -> str:
    return listed([f"probe {probe} and row {row}" for probe, row in pairs], most)


class _Index:
    """Hashes of the probes, and which of them training rows have too.

    Args:
        hashes: in parts, each of shape (H,).
        rows: the probe rows they are of, in the same parts.
    """

    def __init__(self, hashes: Iterable[Hashes], rows: Iterable[IntArray]) -> None:
        self._rows = np.concatenate(list(rows))
        self._known, self._which = np.unique(np.concatenate(list(hashes)), return_inverse=True)
        self._maybe = np.zeros(1 << 20, dtype=np.bool_)  # a cheap first test that ends most look-ups
        self._maybe[self._slot(self._known)] = True
        self._hits: list[IntArray] = []

    def _slot(self, hashes: Hashes) -> Hashes:
        return hashes & np.uint64(len(self._maybe) - 1)

    def look_up(self, hashes: Hashes, rows: IntArray) -> None:
        """Remember the training rows that have one of the probes' hashes."""
        candidate = self._maybe[self._slot(hashes)]
        if not candidate.any():
            return
        hashes, rows = hashes[candidate], rows[candidate]
        place = np.minimum(np.searchsorted(self._known, hashes), len(self._known) - 1)
        same = self._known[place] == hashes
        self._hits.append(np.unique(np.stack([place[same], rows[same]]), axis=1))

    def pairs(self, most: int | None = None) -> set[tuple[int, int]]:
        """(probe row, training row) with a hash in common; one that more than `most` training rows have counts not."""
        hits = np.concatenate([np.zeros((2, 0), dtype=np.int64), *self._hits], axis=1)
        if most is not None:
            hits = hits[:, np.bincount(hits[0], minlength=len(self._known))[hits[0]] <= most]
        by_hash = np.argsort(self._which, kind="stable")
        ends = np.cumsum(np.bincount(self._which, minlength=len(self._known)))
        found: set[tuple[int, int]] = set()
        for place, row in hits.T.tolist():
            start = ends[place - 1] if place else 0
            found.update((probe, row) for probe in self._rows[by_hash[start : ends[place]]].tolist())
        return found


def _hashed(texts: Sequence[str], n: int) -> Iterator[tuple[tuple[Hashes, IntArray], tuple[Hashes, IntArray]]]:
    """Chunk by chunk: (hash, row) of every row that has words, and of every run of `n` words."""
    first = 0
    while first < len(texts):
        last, size = first, 0
        while last < len(texts) and (size < _CHUNK or last == first):
            size += len(texts[last])
            last += 1
        # every word of these texts, and the text it is in; no UTF-8 has the byte between two texts
        data = np.frombuffer(
            b"\xff".join(t.lower().encode("utf-8", "surrogatepass") for t in texts[first:last]), np.uint8
        )
        letter, symbol = _KIND[data] == _LETTER, _KIND[data] == _SYMBOL
        starts = np.flatnonzero((letter & ~np.append(False, letter[:-1])) | symbol)
        ends = np.flatnonzero((letter & ~np.append(letter[1:], False)) | symbol) + 1
        words, rows = finalised(_between(_VALUE[data], starts, ends)), np.cumsum(data == 0xFF)[starts] + first
        # all the words of a text, with their number in it
        starts = np.flatnonzero(np.diff(rows, prepend=-1))
        ends = np.append(starts, len(words))[1:]
        whole = finalised(_between(words, starts, ends) + (ends - starts).astype(np.uint64)), rows[starts]
        # each `n` words in a row of one text
        n_starts = max(0, len(rows) - n + 1)
        starts = np.flatnonzero(rows[:n_starts] == rows[len(rows) - n_starts :])
        yield whole, (finalised(_between(words, starts, starts + n)), rows[starts])
        first = last


def _between(values: Hashes, starts: IntArray, ends: IntArray) -> Hashes:
    """The polynomial `Σ values[i]·p^(i − start)` over each stretch, modulo 2^64, as differences of one running sum."""
    powers, inverse = _powers(1 << len(values).bit_length())
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(values * powers[: len(values)], out=sums[1:])
    return (sums[ends] - sums[starts]) * inverse[starts]


@lru_cache(maxsize=32)
def _powers(n: int) -> tuple[Hashes, Hashes]:
    """`p^i` and `p^−i` modulo 2^64 for i < n. n is a power of two, so few sizes are ever asked for."""
    powers, inverse = np.full(n, _P), np.full(n, _P_INVERSE)
    powers[0] = inverse[0] = 1
    return np.multiply.accumulate(powers), np.multiply.accumulate(inverse)


_P = np.uint64(GOLDEN)
_P_INVERSE = np.uint64(pow(GOLDEN, -1, 1 << 64))
_VALUE = np.random.default_rng(13).integers(1, 1 << 64, size=256, dtype=np.uint64)
_KIND = np.full(256, _GAP, dtype=np.uint8)
_KIND[[*b"abcdefghijklmnopqrstuvwxyz0123456789", *range(0x80, 0xFF)]] = _LETTER
_KIND[[*b"+-*/=<>^%"]] = _SYMBOL
