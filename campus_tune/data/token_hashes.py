"""64-bit hashes of rows: which they are, wherever that is kept, and what of them reaches the model.

A row is *known* by splitmix64, by one formula on the host and on the device. Every (token, place in its row) pair is
mixed, and the results are summed. Each token that carries loss adds its pair once more, times a number that hangs on
its label. So one pass over a batch gives two hashes of each row:

    tokens   = Σ key(token, place)                                   over the tokens that are no padding
    answers  = Σ key(token, place) · (1 + spread · (label − token))  over the tokens that carry loss
    trained  = tokens + factor · answers

That is made of operators that numpy's and torch's int64 both have, with the same wrap-around, so that on an accelerator
nothing waits for the host.

What is *shown* to the model is compared with the plan in every step, on the host, where a batch comes by anyway or is
sent to: XXH3 of the bytes of a row's token ids, and of its labels but the first, as 64-bit numbers. A call for each row
takes a third of a microsecond and, between two forwards, when all caches are full of weights, a twentieth of what the
array operations above take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xxhash
from numpy.typing import NDArray

from campus_tune.words.hashing import GOLDEN, LAST_SHIFT, ROUNDS, hash_rows, signed
from campus_tune.words.types import IntArray

if TYPE_CHECKING:
    import torch

Ints = TypeVar("Ints", NDArray[np.int64], "torch.Tensor")

IGNORED = -100  # the label of a token that carries no loss
WIDTH = 8  # bytes of a token id, and of a label

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


def shown_labels(labels: memoryview | bytes) -> int:
    """The hash of a row's labels but the first, as 64-bit numbers; 0 where none carries loss."""
    if labels == no_loss(len(labels)):
        return 0
    return xxhash.xxh3_64_intdigest(labels)


def no_loss(size: int) -> memoryview:
    """So many bytes of labels that carry no loss."""
    if len(_no_loss[0]) < size:
        _no_loss[0] = memoryview(np.full(size, IGNORED, dtype=np.int64).tobytes())
    return _no_loss[0][:size]


_no_loss = [memoryview(b"")]


def with_labels(shown: NDArray[np.uint64], labels: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One number for both hashes of what is shown; that of the tokens where no label carries loss."""
    return shown + labels * np.uint64(_FACTOR % (1 << 64))


def hash_flat(
    ids: NDArray[Any], labels: NDArray[Any], carries: NDArray[np.bool_], lengths: IntArray
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """(Hash of the tokens, of what is trained, of the tokens and of the labels as shown) of rows, each of shape (n,).

    The first token of a row is trained by nobody, for nothing predicts it, whatever its label.

    Args:
        ids: token ids of all rows, one after the other, shape (T,).
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

    bytes_of_ids, bytes_of_labels = (
        memoryview(each.tobytes()) for each in (ids, np.where(carries & (place > 0), labels, IGNORED))
    )
    ends = list(zip((WIDTH * starts).tolist(), (WIDTH * (starts + lengths)).tolist(), strict=True))
    shown = [xxhash.xxh3_64_intdigest(bytes_of_ids[start:end]) for start, end in ends]
    of_labels = [shown_labels(bytes_of_labels[start + WIDTH : end]) for start, end in ends]
    return (
        tokens.view(np.uint64),
        combined(tokens, answers).view(np.uint64),
        np.array(shown, dtype=np.uint64),
        np.array(of_labels, dtype=np.uint64),
    )


def _row_sums(values: NDArray[np.int64], starts: IntArray, lengths: IntArray) -> NDArray[np.int64]:
    sums = np.append(np.int64(0), np.cumsum(values))
    return np.asarray(sums[starts + lengths] - sums[starts], dtype=np.int64)
