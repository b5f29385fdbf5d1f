"""`packing: true` in the words of a curriculum: the batch of whole rows that trains as many tokens in a step.

TRL packs rows behind one another into sequences of `max_length`, before anybody is asked which row comes next. Here
rows stay rows: `batching: flat` lays those of a step behind one another, without padding and without an order lost.
Only the batch is counted otherwise, in rows and no longer in sequences: a step of B · A sequences (batch and
accumulation) that hold k rows each is one of B · A · k rows.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from dataclasses import dataclass

import numpy as np

from campus_tune.words.types import IntArray, Json

SETTING = "packing"
FLAG = "--translate-packing"  # of `campus-tune sft`
MICRO, ACCUMULATION = "per_device_train_batch_size", "gradient_accumulation_steps"
GROUP = 1000  # rows that TRL packs together
ENOUGH = 20_000  # rows by which the mean length is known to a percent
CLOSE = 0.025  # a batch that is as near as this keeps the accumulation that was asked for
ROOM = 1.1  # tokens of a micro batch, in those of the packed one


@dataclass(frozen=True)
class Translated:
    """What to write in the place of `packing: true`.

    Args:
        micro: rows of a micro batch on one process.
        accumulation: micro batches of a step.
        row_tokens: of a row as it is trained, on average.
        packed_tokens: of a step of packed sequences on one process, on average.
    """

    micro: int
    accumulation: int
    row_tokens: float
    packed_tokens: float

    @property
    def settings(self) -> Json:
        """Of the training YAML, beside its block."""
        return {SETTING: False, MICRO: self.micro, ACCUMULATION: self.accumulation}

    def __str__(self) -> str:
        """What to write, and what it comes to."""
        written = ", ".join(f"{name}: {str(value).lower()}" for name, value in self.settings.items())
        rows = self.micro * self.accumulation
        return (
            f"{written}, campus: {{batching: flat}}: {rows} rows of {self.row_tokens:.0f} tokens on average are "
            f"{rows * self.row_tokens:,.0f} tokens a step on each process, where packing has {self.packed_tokens:,.0f}"
        )


def translate(
    lengths: IntArray, *, max_length: int, micro: int, accumulation: int, n_sequences: int | None = None
) -> Translated:
    """The batch of whole rows that comes nearest to the tokens of a step of packed ones.

    The accumulation that was asked for stays where a batch with it is within `CLOSE`; no micro batch has more than
    `ROOM` times the tokens of a packed one, unless a single row of the average has.

    Args:
        lengths: tokens of the rows, or of some of them, shape (n,), n ≥ 1.
        max_length: of a packed sequence.
        micro: sequences of a micro batch.
        accumulation: micro batches of a step.
        n_sequences: that hold these rows; None packs them as TRL does.
    """
    own = np.minimum(lengths, max_length)
    if n_sequences is None:
        n_sequences = count_sequences(own, max_length)
    mean, filled = float(own.mean()), float(own.sum()) / n_sequences
    packed = micro * accumulation * filled

    def off(batch: tuple[int, int]) -> float:
        return abs(batch[0] * batch[1] * mean / packed - 1.0)

    most = max(1, int(ROOM * micro * filled / mean))
    near = [(min(most, max(1, round(packed / mean / steps))), steps) for steps in range(1, 2 * accumulation + 2)]
    kept = next(batch for batch in near if batch[1] == accumulation)
    best = kept if off(kept) <= CLOSE else min(near, key=lambda batch: (off(batch), abs(batch[1] - accumulation)))
    return Translated(*best, row_tokens=mean, packed_tokens=packed)


def count_sequences(lengths: IntArray, max_length: int) -> int:
    """Sequences that TRL packs rows into: best fit, the longest first, a thousand rows at a time.

    Args:
        lengths: tokens of the rows, each at most `max_length`, shape (n,).
        max_length: of a sequence.

    >>> count_sequences(np.array([4, 2, 3, 1]), 4)
    3
    """
    sequences = 0
    for start in range(0, len(lengths), GROUP):
        spaces: Counter[int] = Counter()  # space that is left → sequences with it
        sizes: list[int] = []  # of them, from the smallest
        for length in sorted(lengths[start : start + GROUP].tolist(), reverse=True):
            at = bisect_left(sizes, length)
            space = max_length
            if at == len(sizes):
                sequences += 1
            else:
                space = sizes[at]
                spaces[space] -= 1
                if not spaces[space]:
                    del sizes[at]
            if left := space - length:
                if not spaces[left]:
                    insort(sizes, left)
                spaces[left] += 1
    return sequences
