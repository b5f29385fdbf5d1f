"""Estimates: what the rows of a probe say of a mean, how sure that is, and bounds of it. numpy only.

A mean loss is a ratio, nats over tokens, and rows are what was sampled: its standard error comes from the residuals of
the ratio, row by row. A change between two measurements of the *same* rows is a ratio too, of their nats now to their
nats then, so what makes rows differ from one another cancels.

>>> loss = ratio(np.array([2.0, 4.0, 6.0]), np.array([4.0, 4.0, 4.0]))
>>> loss.value, round(loss.stderr, 4), round(Estimate(0.78, 0.03).upper(0.05), 3)
(1.0, 0.2887, 0.829)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from campus_tune.words.types import FloatArray, IntArray

UNKNOWN = 1e150  # the error of what a single row says: JSON has no infinity, and its square is still a number


class Estimate(NamedTuple):
    """A mean over sampled rows.

    Args:
        value: the mean.
        stderr: its standard error.
        n: rows behind it; 0 where the error is known as it stands: bounds are normal then, else Student's.
    """

    value: float
    stderr: float
    n: int = 0

    def upper(self, level: float) -> float:
        """The one-sided bound above which the truth lies with a chance of at most `level`."""
        return self.value + quantile(1 - level, self.n - 1) * self.stderr

    def lower(self, level: float) -> float:
        """The one-sided bound below which the truth lies with a chance of at most `level`."""
        return self.value - quantile(1 - level, self.n - 1) * self.stderr

    def scaled(self, factor: float) -> Estimate:
        """In other units."""
        return Estimate(factor * self.value, abs(factor) * self.stderr, self.n)


def ratio(top: FloatArray | IntArray, bottom: FloatArray | IntArray) -> Estimate:
    """Σ top / Σ bottom over n rows, with the standard error of its linearisation.

        value = Σ top / Σ bottom,    stderr = √(n/(n − 1) · Σ (top − value·bottom)²) / Σ bottom

    Args:
        top: of each row, shape (n,).
        bottom: of each row, at least 0, shape (n,), not all 0.

    Returns:
        A single row has an error beyond all bounds: of nothing but it nothing can be said.
    """
    n, total = len(top), float(np.sum(bottom))
    value = float(np.sum(top)) / total
    if n < 2:
        return Estimate(value, UNKNOWN, n)
    residuals = np.asarray(top, dtype=np.float64) - value * np.asarray(bottom, dtype=np.float64)
    return Estimate(value, math.sqrt(n / (n - 1) * float((residuals**2).sum())) / total, n)


def change(before: FloatArray, after: FloatArray) -> Estimate:
    """The relative change of a sum over the same rows: `Σ after / Σ before − 1`, paired.

    Args:
        before: nats of each row, shape (n,), not all 0.
        after: the same rows' nats later.
    """
    found = ratio(after, before)
    return Estimate(found.value - 1, found.stderr, found.n)


def weighed_sum(parts: Sequence[tuple[float, Estimate]]) -> Estimate:
    """Σ w·x of independent estimates, each of its own rows, with Satterthwaite's degrees of freedom.

        stderr² = Σ w²·stderr²,    n − 1 = stderr⁴ ÷ Σ (w·stderr)⁴/(n_i − 1)

    >>> weighed_sum([(0.5, Estimate(1.0, 0.3, 11)), (0.5, Estimate(2.0, 0.4, 11))])
    Estimate(value=1.5, stderr=0.25, n=19)

    Args:
        parts: weight and estimate of each.

    Returns:
        With `n` rounded down; 0, for an error that is known as it stands, where one of them has it so.
    """
    value = sum(weight * one.value for weight, one in parts)
    squares = [(weight * one.stderr) ** 2 for weight, one in parts]
    total, least = sum(squares), min(one.n for _, one in parts)
    if least < 2 or not 0 < total < math.inf:
        return Estimate(value, math.sqrt(total), min(least, 1) if total else sum(one.n for _, one in parts))
    df = total**2 / sum(square**2 / (one.n - 1) for square, (_, one) in zip(squares, parts, strict=True))
    return Estimate(value, math.sqrt(total), int(df + 1e-9) + 1)


def quantile(p: float, df: int) -> float:
    """The p-quantile of Student's t, by its expansion in 1/df around the normal's; of the normal where df < 1.

    >>> [round(quantile(0.95, df), 3) for df in (0, 7, 29, 1000)]
    [1.645, 1.894, 1.699, 1.646]

    Args:
        p: in (0, 1).
        df: degrees of freedom; from 7 on it is right to 1e-3 for p up to 0.975, below it is a little too small.

    Reference:
        Abramowitz and Stegun 26.7.5.
    """
    z = NormalDist().inv_cdf(p)
    if df < 1:
        return z
    terms = [
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    ]
    return float(sum(term / df**k for k, term in enumerate(terms)))
