"""The learning rate that each difficulty decile meets: hard rows that arrive when it is gone are wasted.

>>> lr_by_decile(deciles_of(np.arange(20.0)), np.arange(20), np.linspace(1.0, 0.05, 20)).round(3).tolist()
[0.975, 0.875, 0.775, 0.675, 0.575, 0.475, 0.375, 0.275, 0.175, 0.075]
"""

from __future__ import annotations

import numpy as np

from campus_tune.method.orders import order_rows, rank_of_rows
from campus_tune.words.findings import Finding
from campus_tune.words.types import FloatArray, IntArray, RowArray

STARVED = 0.5  # of the mean learning rate: below, the hardest decile is wasted
N_DECILES = 10


def deciles_of(
    scores: FloatArray, *, seed: int = 0, groups: IntArray | None = None, planned: RowArray | None = None
) -> IntArray:
    """The tenth that each row is in, 0 the easiest, shape (N,).

    Args:
        scores: higher is harder, shape (N,).
        seed: as for `order_rows`.
        groups: likewise.
        planned: rows of a plan that may leave the hardest out, for tenths up to the hardest of them.
    """
    places = rank_of_rows(order_rows(scores, seed=seed, groups=groups)).astype(np.int64)
    n = len(scores) if planned is None else int(places[planned].max()) + 1
    return np.minimum(places * N_DECILES // n, N_DECILES - 1)


def lr_by_decile(deciles: IntArray, rows: IntArray | RowArray, rates: FloatArray) -> FloatArray:
    """Mean learning rate that each tenth of the rows, easy to hard, is trained with; shape (10,).

    Args:
        deciles: of every row, shape (N,).
        rows: that are trained, one for each visit, shape (V,).
        rates: the learning rate at each visit, shape (V,).

    Returns:
        NaN for a decile none of whose rows is trained.
    """
    n = np.bincount(deciles[rows], minlength=N_DECILES)
    total = np.bincount(deciles[rows], weights=rates, minlength=N_DECILES)
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
