"""Sorting rows by their scores at the speed of memory: numpy's sort of numbers is ten times as fast as one of places.

A row's key is one number, which is sorted and read back; no row is looked up by another:

    key = float32(score − base) as whole number · 2³² + tie      the tie is a bijection of the row's id: it *is* the row

What fits the caches is sorted part by part, side by side; then the parts are cut at the same keys, and what lies
between two cuts is sorted again, which merges it. Where float32 says all that a score says, that was all. Where it does
not, rows that share a float32 stand by their ties, in runs; these are sorted by the float64, ties left in sequence.

>>> by_score(np.array([3.0, 1.0, 2.0]), Ties(0)).tolist()
[1, 2, 0]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from campus_tune.words.cores import PART, parts_of, side_by_side
from campus_tune.words.hashing import hash_rows
from campus_tune.words.types import FloatArray, RowArray

Keys = NDArray[np.uint64]
Words = NDArray[np.uint32]

ROUNDS = ((16, 0x85EBCA6B), (13, 0xC2B2AE35))  # of murmur3's finaliser: shift, then factor
LAST_SHIFT = 16
FEW = 1000  # scores that their base is chosen by
NARROW = 16  # times as far from 0 as they are apart: scores that are seen from their least
SAMPLE = 8  # keys of each part for each cut that is chosen from them


@dataclass(frozen=True)
class Ties:
    """A different 32-bit number for every row: the finaliser of murmur3, a bijection, of the id xor the seed.

    Different, so that sorting by (score, tie) has one answer whatever the sorting algorithm.

    Args:
        seed: of the order.
    """

    seed: int

    @cached_property
    def _mask(self) -> np.uint32:
        return np.uint32(hash_rows(np.zeros(1), self.seed)[0] >> np.uint64(32))

    def of(self, rows: Words) -> Words:
        """The ties of some rows, shape as `rows`.

        >>> len(set(Ties(7).of(np.arange(100, dtype=np.uint32)).tolist()))
        100
        """
        x = rows ^ self._mask
        for shift, factor in ROUNDS:
            x ^= x >> np.uint32(shift)
            x *= np.uint32(factor)
        x ^= x >> np.uint32(LAST_SHIFT)
        return x

    def rows(self, ties: Words) -> RowArray:
        """The rows that have these ties: `of`, backwards.

        >>> Ties(7).rows(Ties(7).of(np.arange(4, dtype=np.uint32))).tolist()
        [0, 1, 2, 3]
        """
        x = ties ^ (ties >> np.uint32(LAST_SHIFT))
        for shift, factor in reversed(ROUNDS):
            x *= np.uint32(pow(factor, -1, 1 << 32))
            x ^= (x >> np.uint32(shift)) ^ (x >> np.uint32(2 * shift))  # shifts from 11 bits on: two make up for one
        x ^= self._mask
        return x.view(np.int32)

    def in_part(self, part: slice) -> Words:
        """The ties of the rows of a part."""
        return self.of(np.arange(part.start, part.stop, dtype=np.uint32))

    def rows_of(self, keys: Keys) -> RowArray:
        """The rows whose ties are the low halves of some keys."""
        return self.rows(keys.astype(np.uint32))


def by_score(scores: FloatArray, ties: Ties) -> RowArray:
    """All rows by (score, tie), rising.

    Args:
        scores: shape (N,), no NaN; may be mapped.
        ties: of the rows.
    """
    keys, base = np.empty(len(scores), dtype=np.uint64), _base(scores)

    def write(part: slice) -> bool:
        values = np.asarray(scores[part])
        with np.errstate(over="ignore"):
            small = (values - base).astype(np.float32)
            exact = np.array_equal(small + base, values)
        keys[part] = joined(rising_bits(small), ties.in_part(part))
        return exact

    if all(side_by_side(write, parts_of(len(keys)))):
        return sorted_rows(keys, ties.rows_of)

    def repaired(found: Keys) -> RowArray:
        rows, small = ties.rows_of(found), found >> np.uint64(32)
        same = small[1:] == small[:-1]
        shared = np.flatnonzero(np.append(same, False) | np.append(False, same))
        if len(shared):
            some = rows[shared]
            rows[shared] = some[stable_places(scores[some])]
        return rows

    return sorted_rows(keys, repaired, whole_runs=True)


def _base(scores: FloatArray) -> np.float64:
    """What scores are seen from: 0, or about the least of scores that lie close together and far from 0, as dates do.

    Differences rise with the scores whatever is taken away, so it only decides how much of them float32 can say.
    """
    some = np.asarray(scores[:: max(1, len(scores) // FEW)])
    low, high = some.min(initial=np.inf), some.max(initial=-np.inf)
    with np.errstate(over="ignore"):  # two ends of all numbers are further apart than any number
        narrow = bool(np.isfinite(low) and 0 < high - low < abs(low) / NARROW)
    return np.float64(low if narrow else 0.0)


def sorted_rows(keys: Keys, finish: Callable[[Keys], RowArray], *, whole_runs: bool = False) -> RowArray:
    """Rows by their keys, rising.

    Args:
        keys: all different, shape (N,); left in another sequence.
        finish: gives the rows of some keys, rising, that come one after another.
        whole_runs: keys that share their high half are finished together.
    """
    parts = [keys[part] for part in parts_of(len(keys))]
    side_by_side(np.ndarray.sort, parts)
    if len(parts) < 2:
        return finish(keys)
    sample = np.concatenate([part[:: max(1, PART // (SAMPLE * len(parts)))] for part in parts])
    sample.sort()
    cuts = sample[np.arange(1, len(parts)) * len(sample) // len(parts)]
    if whole_runs:
        cuts = np.unique(cuts >> np.uint64(32) << np.uint64(32))
    ends = np.array([[0, *part.searchsorted(cuts), len(part)] for part in parts])
    places = np.cumsum(np.append(0, np.diff(ends).sum(axis=0)))  # of each cut among all rows
    rows = np.empty(len(keys), dtype=np.int32)

    def merge(number: int) -> None:
        between = ends[:, number : number + 2].tolist()
        found = np.concatenate([part[low:high] for part, (low, high) in zip(parts, between, strict=True)])
        found.sort()
        rows[places[number] : places[number + 1]] = finish(found)

    side_by_side(merge, range(len(cuts) + 1))
    return rows


def stable_places(values: FloatArray) -> NDArray[np.int64]:
    """Places by value, those of equal values in sequence: a stable argsort, in one sort of whole numbers.

    >>> stable_places(np.array([2.0, 1.0, 2.0, 0.0])).tolist()
    [3, 1, 0, 2]

    Args:
        values: shape (m,), no NaN.
    """
    if (values[1:] >= values[:-1]).all():
        return np.arange(len(values))
    bits = rising_bits(values).astype(np.uint64, copy=False)
    bits -= bits.min()
    own = (len(values) - 1).bit_length()  # bits of a place, below which those of the value are cut off
    bits >>= np.uint64(max(0, int(bits.max()).bit_length() + own - 64))
    bits <<= np.uint64(own)
    bits |= np.arange(len(values), dtype=np.uint64)
    bits.sort()
    places = (bits & np.uint64((1 << own) - 1)).astype(np.int64)
    ordered = values[places]
    if (ordered[1:] >= ordered[:-1]).all():  # else what was cut off would have parted some
        return places
    return np.argsort(values, kind="stable")


def rising_bits(values: NDArray[np.floating]) -> NDArray[np.unsignedinteger]:
    """The bits of floats as whole numbers that rise with them; 0 and −0 are one.

    >>> rising_bits(np.array([-np.inf, -1.0, -0.0, 0.0, 1e-300, np.inf])).argsort(kind="stable").tolist()
    [0, 1, 2, 3, 4, 5]
    """
    size = values.dtype.itemsize
    signed = (values + 0.0).view(f"i{size}")
    # a sign that is set turns all bits around, one that is not is set
    bits: NDArray[np.unsignedinteger] = signed ^ ((signed >> (8 * size - 1)) | np.iinfo(signed.dtype).min)
    return bits.view(f"u{size}")


def joined(high: NDArray[np.unsignedinteger], low: Words) -> Keys:
    """One sortable key of two 32-bit ones."""
    keys = high.astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= low
    return keys
