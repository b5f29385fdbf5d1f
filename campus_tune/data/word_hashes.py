"""Rows of text as words, and each word, run of words and row as one 64-bit number: what finds equal and near rows.

Texts are compared as words: lower-cased runs of letters and digits, and each of `+ - * / = < > ^ %` by itself, so
that punctuation and spacing hide nothing and 7 + 4 is not 7 - 4. Two rows are *equal* when all words are, and *near*
when they share 13 words in a row, the length that GPT-3 and most contamination reports since have used. A run of 13
words that many training rows contain is a prompt template and tells nothing.

Every word, window and row is one 64-bit polynomial hash, read off a running sum over the bytes of many texts at once:
a million rows of 70 words took 21 s of one core, and no word is ever a Python object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from campus_tune.words.hashing import GOLDEN, finalised
from campus_tune.words.types import IntArray

N_GRAM = 13  # words in a row
TEMPLATE = 5  # training rows that share a run of words from which it is a template
_CHUNK = 1 << 18  # characters hashed at a time: what fits in the processor's cache
_GAP, _LETTER, _SYMBOL = 0, 1, 2

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class HashedWords:
    """The words of some texts as numbers.

    Args:
        hashes: one for each row, or for each run of words, shape (H,).
        rows: which row each is of, ascending, shape (H,).
    """

    hashes: Hashes
    rows: IntArray


def hashed_words(texts: Sequence[str], n: int = N_GRAM) -> Iterator[tuple[HashedWords, HashedWords]]:
    """Chunk by chunk: the hash of every row that has words, and of every run of `n` words inside of a row.

    Args:
        texts: of the rows.
        n: words in a run.
    """
    for words in _words(texts):
        n_starts = max(0, len(words.rows) - n + 1)
        starts = np.flatnonzero(words.rows[:n_starts] == words.rows[len(words.rows) - n_starts :])
        runs = HashedWords(finalised(_between(words.hashes, starts, starts + n)), words.rows[starts])
        yield _whole(words), runs


def row_hashes(texts: Sequence[str]) -> Hashes:
    """The hash of all the words of each row, shape (N,); 0 for a row without words.

    >>> bool(np.equal(*row_hashes(["Is 2 > 1?", "is 2>1"])))
    True
    """
    found = np.zeros(len(texts), dtype=np.uint64)
    for whole in map(_whole, _words(texts)):
        found[whole.rows] = whole.hashes
    return found


def _words(texts: Sequence[str]) -> Iterator[HashedWords]:
    """Every word and the text it is in, chunk by chunk; no text is in two chunks."""
    first = 0
    while first < len(texts):
        last, size = first, 0
        while last < len(texts) and (size < _CHUNK or last == first):
            size += len(texts[last])
            last += 1
        # no UTF-8 has the byte between two texts
        data = np.frombuffer(
            b"\xff".join(t.lower().encode("utf-8", "surrogatepass") for t in texts[first:last]), np.uint8
        )
        letter, symbol = _KIND[data] == _LETTER, _KIND[data] == _SYMBOL
        starts = np.flatnonzero((letter & ~np.append(False, letter[:-1])) | symbol)
        ends = np.flatnonzero((letter & ~np.append(letter[1:], False)) | symbol) + 1
        yield HashedWords(finalised(_between(_VALUE[data], starts, ends)), np.cumsum(data == 0xFF)[starts] + first)
        first = last


def _whole(words: HashedWords) -> HashedWords:
    """All the words of a text, with their number in it."""
    starts = np.flatnonzero(np.diff(words.rows, prepend=-1))
    ends = np.append(starts, len(words.rows))[1:]
    hashes = _between(words.hashes, starts, ends) + (ends - starts).astype(np.uint64)
    return HashedWords(finalised(hashes), words.rows[starts])


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
