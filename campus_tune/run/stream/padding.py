"""What a run saved: tokens of padding that its micro batches had, and those that a random draw would have had.

Drawn at random, a micro batch of m rows is padded to the longest of them. Of V row visits, c of them no longer than x,
a draw without putting back has no row longer than x with the probability

    P(longest ≤ x) = c/V · (c − 1)/(V − 1) · … · (c − m + 1)/(V − m + 1)

so the mean of the longest is exact, and with it the share of padding: 1 − mean length / mean of the longest. The rows
are those that were trained, each as often as it was: whichever the curriculum chose, padding is only how they are cut.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from campus_tune.words.types import IntArray, Json

Visits: TypeAlias = IntArray | NDArray[np.uint8]

BLOCK = 1 << 20  # rows that are counted at once
DRAWN = "drawn"
LEAST = 0.005  # a share below it is none in words


def padding_at_random(lengths: IntArray, visits: Visits, micro: int, multiple: int = 1) -> float:
    """Share of padding that micro batches of `micro` rows would have if the same rows were drawn at random.

    Args:
        lengths: tokens of every row, shape (N,).
        visits: how often each was trained, shape (N,).
        micro: rows of a micro batch.
        multiple: of which the length of a padded micro batch is one.

    >>> padding_at_random(np.array([1, 3]), np.array([1, 1]), 2)
    0.33333333333333337
    """
    counts = np.zeros(int(lengths.max(initial=0)) + 1)
    for start in range(0, len(lengths), BLOCK):  # bincount makes floats of its weights
        part = slice(start, start + BLOCK)
        counts += np.bincount(lengths[part], visits[part], len(counts))
    found = np.flatnonzero(counts)
    own, total = float(found @ counts[found]), float(counts.sum())
    if not own:
        return 0.0
    no_longer = np.cumsum(counts[found])
    chance = np.ones(len(found))
    for taken in range(int(min(micro, total))):
        chance *= np.maximum(no_longer - taken, 0.0) / (total - taken)
    longest = float(-(-found // multiple) * multiple @ np.diff(chance, prepend=0.0))
    return max(0.0, 1.0 - own / total / longest)


class Padding:
    """Tokens that went through the model in training, over all ranks, from the first step of the run.

    Args:
        micro: rows of a full micro batch on one rank.
        cut: how steps are cut into micro batches.
        multiple: of which the length of a padded micro batch is one.
    """

    def __init__(self, micro: int, cut: str, multiple: int = 1) -> None:
        self.micro, self.cut, self.multiple = micro, cut, multiple
        self.steps = self.own = self.padded = 0

    def add(self, tokens: IntArray) -> None:
        """One step's.

        Args:
            tokens: of every rank: the rows' own, and with padding, shape (2, world).
        """
        own, padded = tokens.sum(1).tolist()
        self.steps, self.own, self.padded = self.steps + 1, self.own + own, self.padded + padded

    def told(self, lengths: IntArray, visits: Visits) -> Json:
        """As the last line of the ledger has it; {} where no step was counted.

        Args:
            lengths: tokens of every row, shape (N,).
            visits: how often each was trained, shape (N,).
        """
        if not self.padded:
            return {}
        share = 1.0 - self.own / self.padded
        at_random = padding_at_random(lengths, visits, self.micro, self.multiple)
        return {
            "padding": {
                "share": round(share, 4),
                "at_random": round(at_random, 4),
                "tokens": [self.own, self.padded],
                "micro": self.micro,
                "cut": self.cut,
                "steps": self.steps,
            }
        }

    def state(self) -> list[int]:
        """What was counted so far."""
        return [self.steps, self.own, self.padded]

    def load(self, state: list[int] | None) -> None:
        """Go on from `state()`; None of a checkpoint that knows none: steps are counted from there on."""
        self.steps, self.own, self.padded = state or (0, 0, 0)


def saved_words(padding: Json) -> str:
    """What was saved, or that nothing was, in words.

    >>> at_random = {"at_random": 0.4902, "cut": "even"}
    >>> saved_words({"share": 0.1738, **at_random})
    'padding 17% where drawn at random would have had 49%: 38% fewer tokens went through the model'
    >>> saved_words({"share": 0.0, **at_random})
    'no padding where drawn at random would have had 49%: 49% fewer tokens went through the model'
    >>> saved_words({"share": 0.4951, "at_random": 0.4902, "cut": "drawn"})
    'padding 50%, by chance about 49%: rows were cut as drawn, so nothing was saved'
    >>> saved_words({"share": 0.0, "at_random": 0.0, "cut": "even"})
    'no padding, nor would rows drawn at random have had any'
    """
    share, at_random = padding["share"], padding["at_random"]
    named = f"padding {share:.0%}" if share >= LEAST else "no padding"
    fewer = 1.0 - (1.0 - at_random) / (1.0 - share)
    if at_random < LEAST and share < LEAST:
        return f"{named}, nor would rows drawn at random have had any"
    if padding["cut"] == DRAWN:
        return f"{named}, by chance about {at_random:.0%}: rows were cut as drawn, so nothing was saved"
    if fewer >= LEAST:
        return (
            f"{named} where drawn at random would have had {at_random:.0%}: {fewer:.0%} fewer tokens went through the "
            "model"
        )
    return f"{named}, as rows drawn at random would have had ({at_random:.0%}): nothing was saved"
