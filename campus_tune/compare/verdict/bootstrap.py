"""How sure a mean over seeds and test items is, when both are draws from more of their kind.

Every seed of a comparison answers the same test items. Another comparison would have other seeds and other items, so
both are drawn again, independently: the bootstrap of crossed draws ("pigeonhole"), by `scipy.stats.bootstrap`. With
d the paired differences of an arm and the baseline, summed over the answer tokens of item i with seed s,

    D  = Σₛ Σᵢ d[s,i] / (S · Σᵢ wᵢ)                                        the difference, per token
    Vₛ = Var*(D of drawn seeds, all items)  · S/(S−1)                      what seeds add to its variance
    Vᵢ = Var*(D of all seeds, drawn items)  · I/(I−1)                      what items add
    Vₑ = Var*(D of both drawn − the two above + D) · S/(S−1) · I/(I−1)     what only single cells add; it is in both
    V  = max(Vₛ + Vᵢ − Vₑ, Vₛ, Vᵢ)                                         the variance of D

The factors are needed because a bootstrap of n draws has (n − 1)/n of the variance: with 3 seeds a third is missing,
and what is left does not know its own size. So the interval is D ± c·√V, and c is the mean of Student's t(S − 1) and
t(I − 1) points, weighted by the seeds' share Vₛ/V and the rest (Cochran and Cox). Satterthwaite's degrees of freedom
were tried first: up to 7 false alarms in 100 with 3 seeds, where the seeds' variance is large and by chance looks
small. With two seeds all weight is on t(1), for the same reason. The price is power where seeds hardly differ: false
alarms are then far below 5 %, and the minimum detectable effect, which is worked out for this very test, says so.

Items are independent draws; domains are fixed parts of the test set, not a sample of domains. Ignoring such strata errs
on the wide side.

Reference:
    Owen, "The pigeonhole bootstrap", Ann. Appl. Stat. 1, 2007; McCullagh, "Resampling and exchangeable arrays",
    Bernoulli 6, 2000; Cochran and Cox, "Experimental Designs", 1957, § 4.14.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from campus_tune.evaluate.paired import LEVEL, POWER
from campus_tune.words.types import BoolArray, FloatArray

RESAMPLES = 9999
_CELLS = 4_000_000  # of one batch of resamples: 32 MB


@dataclass(frozen=True)
class VarianceParts:
    """The three parts of a difference's variance, and how many draws they were learned from.

    Args:
        seeds: Vₛ, ≥ 0.
        items: Vᵢ, ≥ 0.
        cells: Vₑ, ≥ 0.
        n_seeds: S, at least 2.
        n_items: I, at least 2.
    """

    seeds: float
    items: float
    cells: float
    n_seeds: int
    n_items: int

    @property
    def variance(self) -> float:
        """V, of the difference."""
        return max(self.seeds + self.items - self.cells, self.seeds, self.items)

    @property
    def stderr(self) -> float:
        """√V."""
        return float(np.sqrt(self.variance))

    @property
    def components(self) -> tuple[float, float, float]:
        """Variance of one seed's effect, one item's, and one cell's, in squared units of the difference, ≥ 0."""
        return (
            self.n_seeds * max(self.seeds - self.cells, 0.0),
            self.n_items * max(self.items - self.cells, 0.0),
            self.n_seeds * self.n_items * self.cells,
        )

    @staticmethod
    def of(components: tuple[float, float, float], n_seeds: int, n_items: int) -> VarianceParts:
        """What to expect of other numbers of seeds and items, for planning."""
        seed, item, cell = components
        cells = cell / (n_seeds * n_items)
        return VarianceParts(seed / n_seeds + cells, item / n_items + cells, cells, n_seeds, n_items)

    def critical(self, level: float = LEVEL) -> float:
        """By how many standard errors a difference is significant at this level, two-sided."""
        share = 1.0 if self.n_seeds == 2 or not self.variance else self.seeds / self.variance
        return float(_critical(np.float64(share), self.n_seeds, self.n_items, level))

    def df(self, level: float = LEVEL) -> float:
        """Degrees of freedom of the Student's t with the same critical value."""
        from scipy.special import stdtridf  # type: ignore[import-untyped]  # scipy ships no types

        most = max(self.n_seeds, self.n_items) - 1
        return float(np.clip(stdtridf(1 - level / 2, self.critical(level)), self.n_seeds - 1, most))

    def p(self, difference: float) -> float:
        """Two-sided p-value of no difference: the level at which it would just be significant."""
        if difference == 0:
            return 1.0
        from scipy.optimize import brentq  # type: ignore[import-untyped]  # scipy ships no types

        size = abs(difference) / self.stderr
        low = 1e-12
        if self.critical(low) <= size:
            return low
        return float(brentq(lambda level: self.critical(level) - size, low, 1.0, xtol=1e-14, rtol=1e-10))

    def power(self, effect: float, level: float = LEVEL) -> float:
        """Probability that a true difference of this size comes out significant, with the right sign or the wrong one.

        The variance that the seeds show is itself a draw, χ²(S − 1)/(S − 1) times the true one: the power is the mean
        over it. Items are taken as many enough to know theirs.
        """
        from scipy.special import ndtr

        if not self.variance:
            return float(effect != 0)
        rest = self.items - self.cells
        shown = self.seeds * _chi_squares(self.n_seeds)  # Vₛ as it may turn out
        variance = np.maximum(np.maximum(shown + rest, shown), self.items)
        share = shown / variance if self.n_seeds > 2 else np.ones_like(shown)
        needed = _critical(share, self.n_seeds, self.n_items, level) * np.sqrt(variance) / self.stderr
        size = effect / self.stderr
        return float((ndtr(size - needed) + ndtr(-size - needed)).mean())

    def detectable(self, level: float = LEVEL, power: float = POWER) -> float:
        """The minimum detectable effect: the true difference that is found in 80 of 100 cases."""
        from scipy.optimize import brentq

        if not self.variance:
            return 0.0
        high = 2.0 * self.stderr
        while self.power(high, level) < power:
            high *= 2
        return float(brentq(lambda effect: self.power(effect, level) - power, 0.0, high, rtol=1e-6))


def crossed_spread(
    differences: FloatArray,
    weights: FloatArray,
    groups: Sequence[BoolArray],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[list[VarianceParts]]:
    """VarianceParts of several differences, on all items or some, from one bootstrap over seeds and items.

    >>> d = np.array([[[1.0, 2.0, 3.0], [2.0, 3.0, 4.0]]])  # seeds differ by 1, items by 1, nothing else
    >>> (found,), = crossed_spread(d, np.ones(3), [np.ones(3, dtype=bool)])
    >>> round(found.seeds, 1), round(found.items, 1), round(found.cells, 6)  # 0.25 and 0.33, by chance a little less
    (0.2, 0.3, 0.0)

    Args:
        differences: of each of K contrasts, shape (K, S, I), S and I at least 2.
        weights: > 0, shape (I,).
        groups: which items each of G readings takes, shape (I,) each, at least two items.
        resamples: how many draws.
        seed: the same seed, the same numbers.

    Returns:
        K lists of G.
    """
    from scipy.stats import bootstrap  # type: ignore[import-untyped]  # scipy ships no types

    _, n_seeds, n_items = differences.shape
    draws = bootstrap(
        (np.arange(n_seeds), np.arange(n_items)),
        _Statistic(differences, weights, np.array(groups)),
        n_resamples=resamples,
        batch=max(1, _CELLS // max(n_items, differences.shape[0] * len(groups) * n_seeds)),
        vectorized=True,
        paired=False,  # seeds and items are drawn independently
        method="percentile",  # its interval is not used; it is the one that costs nothing more
        random_state=np.random.default_rng(seed),
    ).bootstrap_distribution  # (3, K, G, resamples)
    variances = draws.var(axis=-1)
    more = n_seeds / (n_seeds - 1)
    sizes = [int(np.count_nonzero(group)) for group in groups]
    return [
        [
            VarianceParts(float(s * more), float(i * n / (n - 1)), float(e * more * n / (n - 1)), n_seeds, n)
            for s, i, e, n in zip(*parts, sizes, strict=True)
        ]
        for parts in variances.transpose(1, 0, 2)
    ]


class _Statistic:
    """What drawn seeds, drawn items and their meeting do to each difference. Shape (3, K, G, draws)."""

    def __init__(self, differences: FloatArray, weights: FloatArray, groups: BoolArray) -> None:
        self.kept = differences[:, None] * groups[:, None]  # (K, G, S, I)
        self.weights = weights * groups  # (G, I)
        self.by_seed = self.kept.sum(-1)  # (K, G, S)
        self.total = self.by_seed.sum(-1) / (differences.shape[1] * self.weights.sum(-1))  # (K, G)

    def __call__(self, seeds: NDArray[np.int64], items: NDArray[np.int64], axis: int = -1) -> FloatArray:
        del axis  # always the last
        n_seeds, n_items = self.kept.shape[2:]
        times_seed = counts(np.atleast_2d(seeds), n_seeds)  # (B, S)
        times_item = counts(np.atleast_2d(items), n_items)  # (B, I)
        drawn = np.tensordot(times_item, self.kept, (1, 3))  # (B, K, G, S)
        weight = n_seeds * (times_item @ self.weights.T)[:, None]  # (B, 1, G)
        of_seeds = np.tensordot(times_seed, self.by_seed, (1, 2)) / (n_seeds * self.weights.sum(-1))
        some = weight > 0  # a small domain may be missing from a draw, which then says nothing of it
        weight = np.where(some, weight, 1.0)
        of_items = np.where(some, drawn.sum(-1) / weight, self.total)
        of_both = np.where(some, (drawn * times_seed[:, None, None]).sum(-1) / weight, of_seeds)
        both = of_both - of_seeds - of_items + self.total
        found = np.stack([of_seeds - self.total, of_items - self.total, both])  # (3, B, K, G)
        return np.asarray(np.moveaxis(found, 1, -1), dtype=np.float64)


def counts(drawn: NDArray[np.int64], n: int) -> FloatArray:
    """How often each of 0..n−1 is in each line of `drawn`, shape (B, n).

    >>> counts(np.array([[0, 2, 2]]), 3).tolist()
    [[1.0, 0.0, 2.0]]
    """
    lines = len(drawn)
    flat = (drawn + n * np.arange(lines)[:, None]).ravel()
    return np.bincount(flat, minlength=lines * n).reshape(lines, n).astype(np.float64)


def _critical(share: FloatArray | np.float64, n_seeds: int, n_items: int, level: float) -> FloatArray:
    """The weighted mean of the two t points; at level 1 it is 0."""
    from scipy.special import stdtrit

    of_seeds, of_items = (stdtrit(n - 1, 1 - level / 2) for n in (n_seeds, n_items))
    return np.asarray(share * of_seeds + (1 - share) * of_items, dtype=np.float64)


@cache
def _chi_squares(n: int) -> FloatArray:
    """400 equally likely values of χ²(n − 1)/(n − 1)."""
    from scipy.special import chdtri

    return np.asarray(chdtri(n - 1, (np.arange(400) + 0.5) / 400) / (n - 1), dtype=np.float64)
