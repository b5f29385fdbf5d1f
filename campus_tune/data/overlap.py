"""Probe rows that are training rows, word for word or nearly: found by hashing words, vectorised over bytes.

What counts as equal and as near is in `word_hashes`. Two different rows collide with a chance of about 1 in 10^8 for a
million rows against a thousand probes.

>>> found = overlap(["What is 7 + 4? 11"], ["What is 7 - 4? 3", "what is 7+4?  11"])
>>> found.equal, found.near
([(0, 1)], [])
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from campus_tune.data.word_hashes import N_GRAM, TEMPLATE, HashedWords, Hashes, hashed_words
from campus_tune.words.findings import Finding
from campus_tune.words.types import IntArray
from campus_tune.words.wording import listed


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
    rows, runs = map(_Index, zip(*hashed_words(probes, n), strict=True))
    for row_part, run_part in hashed_words(training, n):
        rows.look_up(row_part)
        runs.look_up(run_part)
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
        probes: their rows or runs of words, in parts.
    """

    def __init__(self, probes: Iterable[HashedWords]) -> None:
        parts = list(probes)
        self._rows = np.concatenate([part.rows for part in parts])
        self._known, self._which = np.unique(np.concatenate([part.hashes for part in parts]), return_inverse=True)
        self._maybe = np.zeros(1 << 20, dtype=np.bool_)  # a cheap first test that ends most look-ups
        self._maybe[self._slot(self._known)] = True
        self._hits: list[IntArray] = []

    def _slot(self, hashes: Hashes) -> Hashes:
        return hashes & np.uint64(len(self._maybe) - 1)

    def look_up(self, training: HashedWords) -> None:
        """Remember the training rows that have one of the probes' hashes."""
        candidate = self._maybe[self._slot(training.hashes)]
        if not candidate.any():
            return
        hashes, rows = training.hashes[candidate], training.rows[candidate]
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
