"""Calibration: is a model as sure of its most likely next token as it is often right? numpy only.

    error = Σ over bins of (tokens in the bin / all tokens) · |mean confidence − accuracy|

over 15 equal bins of confidence, the probability that the model gives to its most likely token. 0 is a model whose
word can be taken: of the tokens that it is 80 % sure of, 80 % are right. A bin's gap has no sign; mean confidence above
accuracy is a model that is too sure, which is what training on few rows for long makes of most.

Per row a bin keeps three sums, which add up over rows, batches and processes in any sequence, so that one forward gives
the error of every domain:

>>> confidence, hits = np.array([0.95, 0.95, 0.55, 0.55]), np.array([True, True, True, False])
>>> rows = confidence_bins(confidence, hits, np.array([0, 0, 1, 1]), 2)
>>> [round(Calibration.of(rows[some]).error, 3) for some in ([0, 1], [0], [1])]
[0.05, 0.05, 0.05]

Reference:
    Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv 1706.04599: §2, eq. 3, with their M = 15.
    *Differs*: their bins hold images, one prediction each; here they hold tokens, the answer before each given as it
    is, so that a long answer counts for more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from campus_tune.words.types import BoolArray, FloatArray, IntArray

BINS = 15  # of confidence, as Guo et al. have them
SUMS = 3  # of a bin: tokens, their confidences, their hits


@dataclass(frozen=True)
class Calibration:
    """How far the confidence of some tokens is from how often they are right.

    Args:
        error: expected calibration error, in [0, 1].
        confidence: mean probability of the most likely token, in [0, 1].
        bins: [mean confidence, accuracy, tokens] of each bin that has any, the least sure first.
    """

    error: float
    confidence: float
    bins: list[list[float]]

    @staticmethod
    def of(sums: FloatArray) -> Calibration:
        """Of the tokens of some rows together; there must be one.

        Args:
            sums: of their bins, shape (n, BINS, SUMS).
        """
        tokens, confidence, hits = sums.sum(0).T  # (BINS,) each
        used = tokens > 0
        mean, accuracy = confidence[used] / tokens[used], hits[used] / tokens[used]
        total = tokens.sum()
        error = float((tokens[used] * np.abs(mean - accuracy)).sum() / total)
        bins = np.column_stack([mean, accuracy, tokens[used]]).tolist()
        return Calibration(error, float(confidence.sum() / total), bins)

    @staticmethod
    def of_tokens(confidence: FloatArray, hits: BoolArray) -> Calibration:
        """Of single tokens; the arguments are those of `confidence_bins`."""
        return Calibration.of(confidence_bins(confidence, hits, np.zeros(len(hits), dtype=np.int64), 1))


def confidence_bins(confidence: FloatArray, hits: BoolArray, rows: IntArray, n_rows: int) -> FloatArray:
    """Tokens, their confidences and their hits, added up in each bin of each row, shape (n_rows, BINS, SUMS).

    On the host, token after token: the same on every run.

    Args:
        confidence: probability of the most likely token at each of k places, in [0, 1], shape (k,).
        hits: whether it was the right one, shape (k,).
        rows: the row that each place belongs to, in [0, n_rows), shape (k,).
        n_rows: n.
    """
    places = rows * BINS + np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    values = (None, confidence, hits)
    sums = [np.bincount(places, weights=weights, minlength=n_rows * BINS) for weights in values]
    return np.stack(sums, axis=-1).astype(np.float64).reshape(n_rows, BINS, SUMS)
