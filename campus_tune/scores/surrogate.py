"""Scores of a sample, spread over all rows: what to do when the budget does not pay for a forward over every row.

A ridge regression, in ranks: the measured rows' score ranks on the ranks of every score that costs nothing (token
counts, the recipe's CPU metrics) and on the domains. Ranks, because only the order matters and because lengths and
losses have long tails. Measured rows keep their measured place among the predicted ones. How good it is is not
assumed but measured, by five-fold cross-validation, and reported as a Spearman correlation; how much of the order hangs
on which rows happened to be measured, by the correlation of two predictions from half of them each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from campus_tune.method.stats import average_ranks, spearman
from campus_tune.words.types import FloatArray, IntArray

FOLDS = 5
RIDGE = 1.0


class Prediction(NamedTuple):
    """Scores of all rows.

    Args:
        scores: on the measured values' own scale, shape (N,); measured ones as given.
        correlation: Spearman's, of held-out predictions with the measured values.
        stability: Spearman's, between all rows' predictions from two halves of the measured ones.
    """

    scores: FloatArray
    correlation: float
    stability: float


def predict(
    measured: IntArray, values: FloatArray, features: Mapping[str, FloatArray], groups: IntArray | None
) -> Prediction:
    """Predict the score of every row from those that were measured.

    Args:
        measured: the measured rows, shape (m,), m ≥ 10.
        values: their scores, shape (m,).
        features: scores of all rows that cost nothing, each of shape (N,).
        groups: domain number of every row, shape (N,), or None.
    """
    n_rows = len(next(iter(features.values())))
    columns = [np.ones(n_rows)]
    columns += [average_ranks(feature) / n_rows - 0.5 for feature in features.values()]
    if groups is not None:
        columns += [(groups == group).astype(np.float64) for group in range(1, int(groups.max()) + 1)]
    x = np.stack(columns, axis=1)
    y = average_ranks(values) / len(values)
    fold = np.arange(len(measured)) % FOLDS
    held_out = np.empty(len(measured))
    for k in range(FOLDS):
        held_out[fold == k] = x[measured[fold == k]] @ _ridge(x[measured[fold != k]], y[fold != k])
    quantile = np.clip(x @ _ridge(x[measured], y), 0.0, 1.0)
    scores = np.quantile(values, quantile)
    scores[measured] = values
    halves = [x @ _ridge(x[measured[k::2]], y[k::2]) for k in (0, 1)]
    return Prediction(scores, spearman(held_out, values), spearman(*halves))


def _ridge(x: FloatArray, y: FloatArray) -> FloatArray:
    """Least squares with a small penalty on everything but the constant."""
    penalty = RIDGE * np.eye(x.shape[1])
    penalty[0, 0] = 0.0
    return np.asarray(np.linalg.solve(x.T @ x + penalty, x.T @ y), dtype=np.float64)
