"""The learning rate that each difficulty decile meets: hard rows that arrive when it is gone are wasted.

>>> lr_by_decile(deciles_of(np.arange(20.0)), np.arange(20), np.linspace(1.0, 0.05, 20)).round(3).tolist()
[0.975, 0.875, 0.775, 0.675, 0.575, 0.475, 0.375, 0.275, 0.175, 0.075]
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from campus_tune.method.orders import order_rows, rank_of_rows
from campus_tune.words.findings import Finding
from campus_tune.words.types import FloatArray, IntArray, RowArray

STARVED = 0.5  # of the mean learning rate: below, the hardest decile is wasted
LEAST_MASS = 0.1  # of a run's learning rates added up: a phase with less, and a low rate, hardly moves the model
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


def lr_by_phase(untils: Sequence[float], rates: FloatArray) -> list[tuple[float, float]]:
    """(Share of the steps, share of the learning rates added up) of each phase.

    >>> lr_by_phase([0.5, 1.0], np.array([3.0, 2.0, 1.0, 0.0]))
    [(0.5, 0.8333333333333334), (0.5, 0.16666666666666666)]

    Args:
        untils: progress at which each phase ends, rising to 1.
        rates: at each optimizer step, shape (T,).
    """
    ends = [math.ceil(until * len(rates) - 1e-9) for until in untils]
    sums = np.append(0.0, np.cumsum(rates))
    total = float(sums[-1]) or 1.0
    return [
        ((end - begin) / len(rates), float(sums[end] - sums[begin]) / total)
        for begin, end in zip([0, *ends], ends, strict=False)
    ]


def phase_findings(untils: Sequence[float], rates: FloatArray) -> list[Finding]:
    """Each phase's part of the learning rates added up, and a warning of one that has less than a tenth at a low rate.

    A short phase has little of them under any schedule, so its mean rate must be below half of the run's too.

    Reference:
        2511.18903: a decayed rate wastes the data kept for the end; a moderate decay and averaged weights gain 1.6 %.
    """
    if len(untils) < 2:
        return []
    parts = lr_by_phase(untils, rates)
    shown = ", ".join(f"{i} has {steps:.0%} and {mass:.0%}" for i, (steps, mass) in enumerate(parts, 1))
    found = [Finding("info", f"Of the steps, and of the learning rates added up, phase {shown}.")]
    starved = [(i, *part) for i, part in enumerate(parts, 1) if part[1] < min(LEAST_MASS, STARVED * part[0])]
    return found + [
        Finding(
            "warning",
            f"Phase {number} has {steps:.0%} of the steps and {mass:.1%} of the learning rates added up: it hardly "
            "moves the model (arXiv 2511.18903).",
            "Use lr_scheduler_type: warmup_stable_decay with its decay inside the last phase, or constant_with_warmup "
            "with averaged weights; or end the phase before it sooner.",
        )
        for number, steps, mass in starved
    ]
