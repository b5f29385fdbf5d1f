"""64-bit hashes of rows: which they are, wherever that is kept, and what of them reaches the model.

A row is *known* by splitmix64. Every (token, place in its row) pair is mixed, and the results are summed. Each token
that carries loss adds its pair once more, times a number that hangs on its label:

    tokens   = Σ key(token, place)                                   over the tokens that are no padding
    answers  = Σ key(token, place) · (1 + spread · (label − token))  over the tokens that carry loss
    trained  = tokens + factor · answers

What is *shown* to the model is compared with the plan in every step, so that is cheaper, and the same on the host and on
the device: one product and one sum over a batch, with a random odd factor of 64 bits for each place.

    tokens   = Σ (token + 1) · a(place)                              over the tokens that are no padding
    trained  = tokens + Σ (label + 1) · b(place)                     over the tokens that carry loss

A single other token or label always gives another sum, because the factors are odd. Several do, but for one case in
2⁴⁷ or fewer: two sums are the same only where factors that know nothing of the tokens add up to 0 modulo 2⁶⁴.

Reference:
    Lemire, Kaser 2014, Strongly Universal String Hashing is Fast, arXiv 1202.4961 (multilinear hashing).
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from campus_tune.words.hashing import GOLDEN, LAST_SHIFT, ROUNDS, hash_rows, signed
from campus_tune.words.types import IntArray

Batch = TypeVar("Batch", bound=Any)  # numbers as arrays of numpy or tensors of torch, whose operators are the same

# key(token, place) = hash_rows(token ^ hash_rows(place, 1), 2), written out with the constants of splitmix64 folded
_STRIDE = signed(GOLDEN)
_SEEDED = hash_rows(np.array([2 * pow(GOLDEN, -1, 1 << 64) % (1 << 64)], dtype=np.uint64))  # what mixing a 2 gives
_OFFSET = signed(int(_SEEDED[0]) + GOLDEN)
_ROUNDS = tuple((shift, signed(factor)) for shift, factor in ROUNDS)
_SPREAD = signed(0xD6E8FEB86659FD93)  # odd: another label gives another factor
_FACTOR = signed(0xA0761D6478BD642F)  # odd: what carries loss cannot be traded for tokens


def token_keys(ids: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The mixed number of each token at its place, alike in shape.

    Args:
        ids: token ids.
        places: what their places are mixed with.
    """
    z = ids ^ places
    z *= _STRIDE
    z += _OFFSET
    for shift, factor in _ROUNDS:
        z ^= (z >> shift) & ((1 << (64 - shift)) - 1)
        z *= factor
    z ^= (z >> LAST_SHIFT) & ((1 << (64 - LAST_SHIFT)) - 1)
    return z


def shown_factors(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(a, b) of a row's first n places, by their number from 1, each of shape (n + 1,); at 0 what is in front of a row.

    The first token of a row is trained by nobody, for nothing predicts it: its b is 0.
    """
    a, b = (hash_rows(np.arange(n + 1), purpose).view(np.int64) | 1 for purpose in (3, 4))
    b[1:2] = 0
    return a, b


def shown_tokens(ids: Batch, real: Batch, factors: Batch) -> Batch:
    """What each token adds to its row's sum.

    Args:
        ids: token ids.
        real: which are no padding.
        factors: `a` of their places.
    """
    parts: Batch = (ids + 1) * real * factors
    return parts


def shown_labels(labels: Batch, carries: Batch, factors: Batch) -> Batch:
    """What each label adds to it.

    Args:
        labels: of the same tokens.
        carries: which carry loss.
        factors: `b` of their places.
    """
    parts: Batch = (labels + 1) * carries * factors
    return parts


def hash_flat(
    ids: NDArray[Any], labels: NDArray[Any], carries: NDArray[np.bool_], lengths: IntArray
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """(Hash of the tokens, of what is trained, the same two as shown) of rows one after the other, each of shape (n,).

    Args:
        ids: token ids of all rows, shape (T,).
        labels: of the same tokens, shape (T,); read where they carry loss.
        carries: which tokens carry loss, shape (T,).
        lengths: tokens of each row, shape (n,).
    """
    ids, labels = ids.astype(np.int64), labels.astype(np.int64)
    starts, longest = np.cumsum(lengths) - lengths, int(lengths.max(initial=0))
    place = np.arange(len(ids)) - np.repeat(starts, lengths)
    carries = carries & (place > 0)
    keys = token_keys(ids, hash_rows(np.arange(longest), 1).view(np.int64)[place])
    of_labels = keys * carries * ((labels - ids) * _SPREAD + 1)
    a, b = shown_factors(longest)
    shown, counted = shown_tokens(ids, np.True_, a[place + 1]), shown_labels(labels, carries, b[place + 1])
    tokens, answers, shown, counted = (
        _row_sums(values, starts, lengths).view(np.uint64) for values in (keys, of_labels, shown, counted)
    )
    return tokens, answers * np.uint64(_FACTOR % (1 << 64)) + tokens, shown, shown + counted


def _row_sums(values: NDArray[np.int64], starts: IntArray, lengths: IntArray) -> NDArray[np.int64]:
    sums = np.append(np.int64(0), np.cumsum(values))
    return np.asarray(sums[starts + lengths] - sums[starts], dtype=np.int64)
