"""How much two models differ on the same documents, and how sure that is. scipy's distributions, numpy's arrays.

Two models that answer the same documents are right and wrong on mostly the same ones, so the error of their
difference is far smaller than the two separate errors suggest. Everything here is about the differences of pairs:

    D  = Σ wᵢ (bᵢ − aᵢ) / Σ wᵢ                                   the difference
    SE = √(n / (n − 1) · Σ wᵢ² (bᵢ − aᵢ − D)²) / Σ wᵢ             its standard error
    D ± t(n − 1, 97.5 %) · SE                                     the 95 % interval
    (z(97.5 %) + z(80 %)) · SE = 2.80 · SE                        the minimum detectable effect

With weights of 1 this is the mean of the differences and their standard deviation / √n, the paired t statistic. With
answer tokens as weights it is the ratio estimator of the loss per token, linearised: cheaper than a bootstrap and,
on the rows of a test, within some per cent of it. Documents count as independent draws. Subjects and types of a task
are its fixed parts, not a sample of subjects, so nothing is clustered by them: ignoring strata errs on the wide side.

The p-value belongs to D / SE under Student's t. Where every document is 0 or 1 it is exact instead (McNemar: of the
documents that changed, are as many better as worse?), for a handful of changed documents has no bell curve.

Reference:
    Miller, "Adding Error Bars to Evals", arXiv 2411.00640 (paired differences, power); Cochran, "Sampling
    Techniques", 1977, ch. 6 (ratio estimator); McNemar, Psychometrika 12, 1947; Holm, Scand. J. Statist. 6, 1979.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from campus_tune.words.errors import DataError

LEVEL = 0.05  # two-sided
POWER = 0.8


@dataclass(frozen=True)
class Paired:
    """What n documents say of b against a. None stands for what they cannot say.

    Args:
        n: documents.
        changed: of them, those on which a and b differ.
        mean_a: weighted mean of a.
        mean_b: weighted mean of b.
        difference: mean_b − mean_a.
        stderr: standard error of the difference; None of a single document.
        low: lower end of the 95 % interval; None where the differences do not vary.
        high: upper end.
        detectable: the true difference that such a comparison finds in 80 of 100 cases at the 5 % level, ≥ 0.
        p: two-sided p-value of no difference, in [0, 1].
    """

    n: int
    changed: int
    mean_a: float
    mean_b: float
    difference: float
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    detectable: float | None = None
    p: float | None = None


def paired(a: ArrayLike, b: ArrayLike, weights: ArrayLike | None = None) -> Paired:
    """Compare two models document by document.

    >>> found = paired([0, 0, 1, 1], [0.5, 0, 1, 1.5])
    >>> found.difference, round(found.stderr, 4), found.changed
    (0.25, 0.1443, 2)

    Args:
        a: the first model's value of each document, shape (n,).
        b: the second model's, in the same sequence, shape (n,).
        weights: how much each document counts, > 0, shape (n,); None counts all equally.

    Raises:
        DataError: no documents, arrays of different lengths, values that are not finite, weights that are not
            positive.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, dtype=np.float64)
    if not (x.shape == y.shape == w.shape and x.ndim == 1 and len(x)):
        raise DataError(
            f"`a`, `b` and `weights` must have one value for each of at least one document, got the shapes {x.shape}, "
            f"{y.shape} and {w.shape}. Pair the documents first."
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("the values of all documents must be finite, got NaN or inf. Evaluate the model again.")
    if not (np.isfinite(w).all() and math.isfinite(w.sum()) and (w > 0).all()):
        raise DataError("`weights` must be positive and finite, got others. Weigh by tokens.")
    n, d = len(x), y - x
    means = float((w * x).sum() / w.sum()), float((w * y).sum() / w.sum())
    difference = float((w * d).sum() / w.sum())
    known = Paired(n, changed := int(np.count_nonzero(d)), *means, difference)
    if n == 1:
        return known
    from scipy.stats import binomtest, norm, t  # type: ignore[import-untyped]  # scipy ships no types

    p: float | None = None
    if weights is None and np.isin([x, y], (0.0, 1.0)).all():  # McNemar's exact test
        p = float(binomtest(int((d > 0).sum()), changed).pvalue) if changed else 1.0
    stderr = float(np.sqrt(n / (n - 1) * ((w * (d - difference)) ** 2).sum()) / w.sum())
    if np.ptp(d) == 0 or stderr == 0:  # nothing to tell chance by (squares of 1e-200 are 0); all equal is no evidence
        return replace(known, stderr=0.0, p=1.0 if p is None and not changed else p)
    half = float(t.ppf(1 - LEVEL / 2, n - 1)) * stderr
    return replace(
        known,
        stderr=stderr,
        low=difference - half,
        high=difference + half,
        detectable=float(norm.ppf(1 - LEVEL / 2) + norm.ppf(POWER)) * stderr,
        p=float(2 * t.sf(abs(difference) / stderr, n - 1)) if p is None else p,
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values of several comparisons, raised so that all of them together err in at most 5 % of cases.

    The smallest of m is multiplied by m, the next by m − 1, …, never falling and at most 1. Unknown ones stay so and
    are not counted.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    places = sorted((i for i, p in enumerate(p_values) if p is not None), key=lambda i: p_values[i] or 0.0)
    raised, least = list(p_values), 0.0
    for rank, place in enumerate(places):
        least = min(1.0, max(least, (len(places) - rank) * (p_values[place] or 0.0)))
        raised[place] = least
    return raised
