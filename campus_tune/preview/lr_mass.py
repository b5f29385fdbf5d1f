"""The learning rate that each difficulty decile will meet: hard rows that arrive when it is gone are wasted.

>>> lr_by_decile(np.arange(20), np.arange(20), np.linspace(1.0, 0.05, 20)).round(3).tolist()
[0.975, 0.875, 0.775, 0.675, 0.575, 0.475, 0.375, 0.275, 0.175, 0.075]
"""

from __future__ import annotations

import numpy as np

from campus_tune.words.findings import Finding
from campus_tune.words.types import FloatArray, IntArray, RowArray

STARVED = 0.5  # of the mean learning rate: below, the hardest decile is wasted
N_DECILES = 10


def lr_by_decile(step_of_row: IntArray, difficulty_rank: IntArray | RowArray, lr_of_step: FloatArray) -> FloatArray:
    """Mean learning rate that each tenth of the rows, easy to hard, is trained with; shape (10,).

    Args:
        step_of_row: the optimizer step (from 0) in which each planned row visit is trained, shape (V,); negative
            for rows that the plan leaves out.
        difficulty_rank: place of that row from easy to hard among all rows, 0..N−1, shape (V,).
        lr_of_step: the scheduler's learning rate at each step, shape (S,).

    Returns:
        NaN for a decile none of whose rows is trained.
    """
    decile = difficulty_rank.astype(np.int64) * N_DECILES // (int(difficulty_rank.max()) + 1)
    trained = step_of_row >= 0
    n = np.bincount(decile[trained], minlength=N_DECILES)
    total = np.bincount(decile[trained], weights=lr_of_step[step_of_row[trained]], minlength=N_DECILES)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def lr_findings(deciles: FloatArray, order: str) -> list[Finding]:
    """A warning when the hardest decile of `order` meets less than half of the mean learning rate.

    Reference:
        Luo et al. 2026, arXiv 2511.18903: a curriculum that ends under a decayed rate wastes its best data; with a
        constant rate (and averaged weights) or a modest decay the advantage comes back.
    """
    mean = float(np.nanmean(deciles))
    hardest = float(deciles[-1])
    if not hardest < STARVED * mean:
        return []
    return [
        Finding(
            "warning",
            f"The hardest tenth of the rows by `{order}` is trained at {hardest / mean:.0%} of the mean learning rate "
            f"({hardest:.2g} of {mean:.2g}): what the curriculum keeps for the end hardly moves the model "
            "(arXiv 2511.18903).",
            "Use lr_scheduler_type: constant_with_warmup, a floor (cosine_with_min_lr), or an earlier `handover`.",
        )
    ]
