"""64-bit hashes of rows: what was planned, and what reached the model, by one formula on the host and on the device.

Every (token, place in its row) pair is mixed, and the results are summed. Each token that carries loss adds its pair
once more, times a number that hangs on its label. So one pass over a batch gives two hashes of each row:

    tokens   = Σ key(token, place)                                   over the tokens that are no padding
    answers  = Σ key(token, place) · (1 + spread · (label − token))  over the tokens that carry loss
    trained  = tokens + factor · answers

The code below is made of operators that numpy's and torch's int64 both have, with the same wrap-around: on a CPU numpy
is twice as fast on the few hundred tokens of a batch, on an accelerator nothing waits for the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from campus_tune.words.hashing import GOLDEN, LAST_SHIFT, ROUNDS, hash_rows, signed
from campus_tune.words.types import IntArray

if TYPE_CHECKING:
    import torch

Ints = TypeVar("Ints", NDArray[np.int64], "torch.Tensor")

# key(token, place) = hash_rows(token ^ hash_rows(place, 1), 2), written out with the constants of splitmix64 folded
_STRIDE = signed(GOLDEN)
_SEEDED = hash_rows(np.array([2 * pow(GOLDEN, -1, 1 << 64) % (1 << 64)], dtype=np.uint64))  # what mixing a 2 gives
_OFFSET = signed(int(_SEEDED[0]) + GOLDEN)
_ROUNDS = tuple((shift, signed(factor)) for shift, factor in ROUNDS)
_SPREAD = signed(0xD6E8FEB86659FD93)  # odd: another label gives another factor
_FACTOR = signed(0xA0761D6478BD642F)  # odd: what carries loss cannot be traded for tokens


def place_table(n: int) -> NDArray[np.int64]:
    """What the places 0 … n−1 of a row are mixed with, shape (n,)."""
    return hash_rows(np.arange(n), 1).view(np.int64)


def token_keys(ids: Ints, places: Ints) -> Ints:
    """The mixed number of each token at its place: int64 arrays of numpy or torch, alike in shape.

    Args:
        ids: token ids.
        places: entries of `place_table`.
    """
    z = ids ^ places
    z *= _STRIDE
    z += _OFFSET
    for shift, factor in _ROUNDS:
        z ^= (z >> shift) & ((1 << (64 - shift)) - 1)
        z *= factor
    z ^= (z >> LAST_SHIFT) & ((1 << (64 - LAST_SHIFT)) - 1)
    return z


def answer_factors(ids: Ints, labels: Ints, carries: Any) -> Ints:
    """What each token's key counts for among the answers: 0 where it carries no loss, 1 where it is its own label."""
    factors: Ints = carries * ((labels - ids) * _SPREAD + 1)
    return factors


def combined(tokens: Ints, answers: Ints) -> Ints:
    """The hash of what is trained, from those of its tokens and of its answers."""
    return answers * _FACTOR + tokens


def hash_flat(
    ids: NDArray[Any], labels: NDArray[Any], carries: NDArray[np.bool_], lengths: IntArray
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """(Hash of the tokens, hash of what is trained) of rows that lie one after the other, each of shape (n,).

    The first token of a row is trained by nobody, for nothing predicts it, whatever its label.

    Args:
        ids: token ids of all rows, shape (T,).
        labels: of the same tokens, shape (T,); read where they carry loss.
        carries: which tokens carry loss, shape (T,).
        lengths: tokens of each row, shape (n,).
    """
    ids, labels = ids.astype(np.int64), labels.astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    place = np.arange(len(ids)) - np.repeat(starts, lengths)
    keys = token_keys(ids, place_table(int(lengths.max(initial=0)))[place])
    tokens = _row_sums(keys, starts, lengths)
    answers = _row_sums(keys * answer_factors(ids, labels, carries & (place > 0)), starts, lengths)
    return tokens.view(np.uint64), combined(tokens, answers).view(np.uint64)


def _row_sums(values: NDArray[np.int64], starts: IntArray, lengths: IntArray) -> NDArray[np.int64]:
    sums = np.append(np.int64(0), np.cumsum(values))
    return np.asarray(sums[starts + lengths] - sums[starts], dtype=np.int64)
