"""A difficulty that is none: the control that tells what pacing alone does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from campus_tune.metrics.base import METRICS, CpuMetric
from campus_tune.words.errors import RecipeError
from campus_tune.words.hashing import hash_rows
from campus_tune.words.leaves import Range
from campus_tune.words.types import FloatArray, RowTexts


@METRICS.register("random")
@dataclass(frozen=True, kw_only=True)
class Random(CpuMetric):
    """A random number for every row, by its place in the training set and a seed.

    score = splitmix64(place, seed) / 2⁶⁴, in [0, 1)

    Under a pacing, a random order still opens the rows bit by bit: early rows are drawn from a small pool, later ones
    from all. What a curriculum gains beyond such a run it owes to its order.

    When it helps: never by itself. `campus-tune compare` trains it as the arm `random_same_pacing`.

    Cost: none.

    Args:
        seed: another seed is another order, ≥ 0.

    Raises:
        RecipeError: `seed` is no whole number of at least 0.

    Reference:
        Wu, Dyer, Neyshabur 2021, "When Do Curricula Work?", arXiv 2012.03107 (random curricula).

    Differs from the paper:
        Nothing; there each run draws its own order too.

    >>> rows = RowTexts(["a", "b"], np.array([1, 1]), np.array([1, 1]), {})
    >>> Random(seed=1).scores(rows).round(3), Random(seed=2).scores(rows).round(3)
    (array([0.368, 0.944]), array([0.392, 0.085]))
    """

    seed: Annotated[int, Range(0, 2**63 - 1)] = 0

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int) or isinstance(self.seed, bool) or self.seed < 0:
            raise RecipeError(f"`random: seed` must be a whole number of at least 0, got {self.seed!r}. Try 0.")

    def scores(self, texts: RowTexts, *, num_proc: int = 1, progress: bool = True) -> FloatArray:
        """One number per row, shape (N,)."""
        del num_proc, progress
        return hash_rows(np.arange(len(texts)), self.seed).astype(np.float64) / 2.0**64
