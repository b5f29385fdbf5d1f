"""Health before training: what is wrong with the scores, the learning rate they will meet, and the probes.

A curriculum fails quietly. Two metrics that are one, an order made of ties, hard rows that arrive when the learning
rate is gone, a probe that was trained on: each gives a smooth loss curve and a wrong conclusion. Everything here is
numpy on whole arrays (a million rows take seconds), reads nothing and decides nothing: it returns `Finding`s.

>>> scores = {"length": np.array([1.0, 2.0, 3.0, 4.0]), "words": np.array([10.0, 20.0, 30.0, 40.0])}
>>> [finding.what for finding in score_findings(score_health(scores))]
['`length` and `words` order the rows alike (rank correlation 1.00).']
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from campus_tune.stats import correlation_matrix, largest_tie, tie_share
from campus_tune.types import FloatArray, IntArray, RowArray

Severity: TypeAlias = Literal["refused", "error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("refused", "error", "warning", "info")

ALIKE = 0.98  # rank correlation from which two metrics are one
TIED = 0.5  # share of the rows with one and the same score from which an order is mostly a coin toss
STARVED = 0.5  # of the mean learning rate: below, the hardest decile is wasted
N_DECILES = 10


@dataclass(frozen=True)
class Finding:
    """One thing a user should know before training.

    Args:
        severity: refused (the method would not be what its name says), error (the data or settings are wrong),
            warning (works, but probably not what you want), info (correct but rare).
        what: one or two sentences, with numbers.
        remedy: what to type or do next; empty for information.
    """

    severity: Severity
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.severity}: {self.what} {self.remedy}".rstrip()


@dataclass(frozen=True)
class ScoreHealth:
    """What can be said of some scores without a model.

    Args:
        n_rows: N.
        bad: per metric, rows that are NaN or infinite.
        ties: per metric, share of the rows that share their score with another row.
        largest_tie: per metric, share of the rows with the commonest score.
        quantiles: per metric, the scores at 5, 25, 50, 75 and 95 %.
        names: the metrics, as the rows and columns of `correlation`.
        correlation: Spearman's rank correlation, shape (n, n); NaN where a metric is constant or has bad rows.
    """

    n_rows: int
    bad: Mapping[str, int]
    ties: Mapping[str, float]
    largest_tie: Mapping[str, float]
    quantiles: Mapping[str, FloatArray]
    names: list[str]
    correlation: FloatArray


def score_health(scores: Mapping[str, FloatArray], *, lengths: FloatArray | None = None) -> ScoreHealth:
    """Ties, spread, bad values and rank correlations of named scores.

    Args:
        scores: one array per metric, each of shape (N,).
        lengths: tokens per row, shape (N,); correlated as `length` unless a metric of that name is there.
    """
    named = dict(scores)
    if lengths is not None:
        named.setdefault("length", lengths)
    finite = {name: values[np.isfinite(values)] for name, values in scores.items()}
    usable = {name: v if np.isfinite(v).all() else np.zeros(len(v)) for name, v in named.items()}  # constant → NaN
    names, correlation = correlation_matrix(usable)
    return ScoreHealth(
        n_rows=max((len(values) for values in scores.values()), default=0),
        bad={name: int(len(scores[name]) - len(finite[name])) for name in scores},
        ties={name: tie_share(values) for name, values in finite.items()},
        largest_tie={name: largest_tie(values) for name, values in finite.items()},
        quantiles={name: _quantiles(values) for name, values in finite.items()},
        names=names,
        correlation=correlation,
    )


def _quantiles(values: FloatArray) -> FloatArray:
    if not len(values):
        return np.full(5, np.nan)
    return np.asarray(np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95]), dtype=np.float64)


def score_findings(health: ScoreHealth) -> list[Finding]:
    """What in `health` a user should mend or know."""
    found = []
    for name, n_bad in health.bad.items():
        if n_bad:
            found.append(
                Finding(
                    "error",
                    f"`{name}` is NaN or infinite in {n_bad} of {health.n_rows} rows.",
                    "Drop these rows, or correct their values.",
                )
            )
    for name in health.largest_tie:
        found += _tie_findings(name, health)
    for i, j in zip(*np.triu_indices(len(health.names), 1), strict=True):
        found += _alike_findings(health.names[i], health.names[j], float(health.correlation[i, j]))
    return found


def _tie_findings(name: str, health: ScoreHealth) -> list[Finding]:
    low, high = health.quantiles[name][0], health.quantiles[name][-1]
    if health.largest_tie[name] <= TIED:
        return []
    return [
        Finding(
            "warning",
            f"`{name}` gives {health.largest_tie[name]:.0%} of the rows one and the same score (90 % lie between "
            f"{low:.4g} and {high:.4g}): among those, the order is a coin toss.",
            "Use a metric that tells these rows apart, or drop it.",
        )
    ]


def _alike_findings(first: str, second: str, correlation: float) -> list[Finding]:
    if not abs(correlation) > ALIKE:  # NaN is not alike
        return []
    how = "alike" if correlation > 0 else "in reverse"
    return [
        Finding(
            "warning",
            f"`{first}` and `{second}` order the rows {how} (rank correlation {correlation:.2f}).",
            "Drop one: two names for one order are no second perspective."
            if correlation > 0
            else "Drop one: a curriculum and its reverse undo each other.",
        )
    ]


def lr_by_decile(step_of_row: IntArray, difficulty_rank: IntArray | RowArray, lr_of_step: FloatArray) -> FloatArray:
    """Mean learning rate that each tenth of the rows, easy to hard, is trained with; shape (10,).

    Args:
        step_of_row: the optimizer step (from 0) in which each planned row visit is trained, shape (V,); negative
            for rows that the plan leaves out.
        difficulty_rank: place of that row from easy to hard among all rows, 0..N−1, shape (V,).
        lr_of_step: the scheduler's learning rate at each step, shape (S,).

    Returns:
        NaN for a decile none of whose rows is trained.

    >>> lr_by_decile(np.arange(20), np.arange(20), np.linspace(1.0, 0.05, 20)).round(3).tolist()
    [0.975, 0.875, 0.775, 0.675, 0.575, 0.475, 0.375, 0.275, 0.175, 0.075]
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
