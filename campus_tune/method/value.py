"""Value: what training each row did to the loss of each probe domain, to first order; what domains do to each other.

    v(r, e)   of one visit of row r: ⟨∇ Σₜ ℓₜ, Gₑ⟩, the gradient of the row's summed answer loss times that of the mean
              answer loss of probe domain e, in the weights that are trained. Above 0: training it lowers the loss of e
    φᵣ(e)     = Σ rate / tokens of the step · v, over the visits of r: the fall of e's loss that plain gradient descent
              would owe to r, in nats per token
    all       the mean over the probe domains
    A[d, e]   the mean of v over the visits of rows of domain d

The probe rows of each domain are split in two halves, and v is measured with both, `a` and `b`, whose mean it is: what
it says of a row is no more than chance where they do not agree. How well they agree over the rows is the *split-half
reliability*: Spearman's ρ of φ by one half and by the other, stepped up to the whole length by Spearman and Brown's
2ρ / (1 + ρ). It may come from nothing but long rows and domains that differ: `inside` is ρ of φ per token inside of the
domains, stepped up likewise.

A row *harms* if φ is below 0 by both halves, and v is by both in at least two of three of its visits.

Intervals of A are of a bootstrap over rows (all visits of a row are drawn together): they say how sure it is for more
rows like these, with these probe rows and this run. Of other probe rows the two halves speak, so a cell of A is clear
where its interval leaves out 0 and both halves are on the same side.

Reference:
    Wang, Mittal, Song, Jia 2024, Data Shapley in One Training Run (arXiv 2406.11011).

    *Differs*: first order only; by halves; gradients are those of the trained adapters, and G is as old as its stage.

>>> stage = ValuedVisits(np.array([0, 1]), np.array([4, 4]), np.full(2, 0.1), np.full(2, 8), np.array([[2.0], [-1.0]]),
...     np.array([[4.0], [-3.0]]))
>>> values = RowValues.fold([stage, stage], 3, ("math",))
>>> values.of().round(3).tolist(), values.harmful().tolist(), values.valued.tolist()
([0.075, -0.05, nan], [False, True, False], [True, True, False])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from campus_tune.method.stats import mean_within, spearman
from campus_tune.words.types import BoolArray, FloatArray, IntArray

ALL = "all"  # the mean over the probe domains
TWO_OF_THREE = 2 / 3  # of a row's visits in which both halves are below 0, at least, where it harms
LEVEL = 0.95  # of intervals
Z = 1.959963984540054  # of the normal distribution, at that level
RESAMPLES, BLOCKS = 2000, 1000  # of the bootstrap; rows are drawn in so many groups where there are more of them
SALT = 0x7A1E  # of its draws

Half: TypeAlias = Literal["", "a", "b"]  # "" is the mean of both


@dataclass(frozen=True, eq=False)
class ValuedVisits:
    """Visits of one stage and their values; NaN for those that were not measured, for the row's weight was 0.

    Args:
        rows: shape (V,).
        tokens: of each answer, shape (V,).
        rates: learning rate of each visit's step, shape (V,).
        step_tokens: answer tokens of its step, shape (V,).
        a: value by the first half of the probe rows of each domain, shape (V, E).
        b: by the second.
    """

    rows: IntArray
    tokens: IntArray
    rates: FloatArray
    step_tokens: IntArray
    a: FloatArray
    b: FloatArray

    @staticmethod
    def of_columns(columns: Mapping[str, NDArray[Any]], probes: Sequence[str]) -> ValuedVisits:
        """As they stand in a stage's file.

        Args:
            columns: by name: row, tokens, rate, step_tokens, and `a NAME` and `b NAME` of each probe domain.
            probes: names, in the sequence of E.

        Raises:
            KeyError: one of them is missing.
        """
        n = len(columns["row"])
        a, b = (
            np.stack([columns[f"{half} {name}"] for name in probes], axis=1).astype(np.float64).reshape(n, len(probes))
            for half in "ab"
        )
        whole = {name: columns[name].astype(np.int64) for name in ("row", "tokens", "step_tokens")}
        rates = columns["rate"].astype(np.float64)
        return ValuedVisits(whole["row"], whole["tokens"], rates, whole["step_tokens"], a, b)


def probes_of(columns: Iterable[str]) -> tuple[str, ...]:
    """The probe domains of a stage's file, by the names of its columns.

    >>> probes_of(["row", "rate", "a math", "a code review", "b math", "b code review"])
    ('math', 'code review')
    """
    return tuple(name[2:] for name in columns if name.startswith("a "))


@dataclass(frozen=True, eq=False)
class RowValues:
    """What the visits of a run say of each row's value.

    Args:
        probes: names of the probe domains, E.
        visits: of each row that were measured, shape (N,).
        unweighted: of each row that were not, for its weight was 0, shape (N,).
        tokens: answer tokens of the measured visits together, shape (N,).
        phi: φ by the first half of the probes and by the second, 0 without visits, shape (2, E, N).
        sums: Σ v over the visits, by both halves, shape (2, E, N).
        negative: visits in which both halves are below 0, and in a last line their means over the domains, shape
            (E + 1, N).
    """

    probes: tuple[str, ...]
    visits: IntArray
    unweighted: IntArray
    tokens: IntArray
    phi: FloatArray
    sums: FloatArray
    negative: IntArray

    @staticmethod
    def fold(stages: Iterable[ValuedVisits], n_rows: int, probes: Sequence[str]) -> RowValues:
        """Fold the visits of a run, a stage after the other.

        Args:
            stages: in the sequence of training.
            n_rows: N.
            probes: names of the probe domains.
        """
        n_probes = len(probes)
        visits, unweighted, tokens = (np.zeros(n_rows, dtype=np.int64) for _ in range(3))
        phi, sums = np.zeros((2, n_probes, n_rows)), np.zeros((2, n_probes, n_rows))
        negative = np.zeros((n_probes + 1, n_rows), dtype=np.int64)
        for stage in stages:
            known = ~(np.isnan(stage.a).any(axis=1) | np.isnan(stage.b).any(axis=1))
            rows, halves = stage.rows[known], np.stack([stage.a[known].T, stage.b[known].T])
            share = stage.rates[known] / stage.step_tokens[known]

            def added(values: NDArray[Any], rows: IntArray = rows) -> FloatArray:
                return np.bincount(rows, weights=values, minlength=n_rows).astype(np.float64, copy=False)

            visits += np.bincount(rows, minlength=n_rows)
            unweighted += np.bincount(stage.rows[~known], minlength=n_rows)
            tokens += added(stage.tokens[known]).astype(np.int64)
            for half, probe in np.ndindex(2, n_probes):
                phi[half, probe] += added(share * halves[half, probe])
                sums[half, probe] += added(halves[half, probe])
            with_mean = np.concatenate([halves, halves.mean(axis=1, keepdims=True)], axis=1)
            below: BoolArray = np.all(with_mean < 0, axis=0)
            for place in range(n_probes + 1):
                negative[place] += added(below[place]).astype(np.int64)
        return RowValues(tuple(probes), visits, unweighted, tokens, phi, sums, negative)

    @property
    def valued(self) -> BoolArray:
        """Rows of which at least one visit was measured, shape (N,)."""
        return self.visits > 0

    def of(self, probe: str = ALL, half: Half = "") -> FloatArray:
        """φ of each row, NaN where none of its visits was measured, shape (N,).

        Args:
            probe: a probe domain, or all of them.
            half: by the first or the second half of the probes; "" is the mean of both.

        Raises:
            ValueError: no such probe domain.
        """
        both = self.phi.mean(axis=1) if probe == ALL else self.phi[:, self.probes.index(probe)]
        found = both.mean(axis=0) if half == "" else both["ab".index(half)]
        return np.where(self.valued, found, np.nan)

    def negative_visits(self, probe: str = ALL) -> IntArray:
        """Visits of each row in which both halves were below 0, shape (N,).

        Args:
            probe: a probe domain, or all of them.

        Raises:
            ValueError: no such probe domain.
        """
        found: IntArray = self.negative[-1 if probe == ALL else self.probes.index(probe)]
        return found

    def harmful(self, probe: str = ALL) -> BoolArray:
        """Rows that harm a probe domain, by both halves and most of their visits, shape (N,).

        Args:
            probe: a probe domain, or all of them.

        Raises:
            ValueError: no such probe domain.
        """
        return harms(self.of(probe, "a"), self.of(probe, "b"), self.negative_visits(probe), self.visits)

    def reliability(self, probe: str = ALL, domains: IntArray | None = None) -> Reliability:
        """How well the halves of the probes agree on the rows.

        Args:
            probe: a probe domain, or all of them.
            domains: of the rows, shape (N,); None for one.

        Raises:
            ValueError: no such probe domain.
        """
        codes = np.zeros(len(self.visits), dtype=np.int64) if domains is None else domains
        rows = np.flatnonzero(self.valued)
        a, b = self.of(probe, "a")[rows], self.of(probe, "b")[rows]
        return Reliability.between(a, b, tokens=self.tokens[rows], domains=codes[rows])


def harms(a: FloatArray, b: FloatArray, negative: IntArray, visits: IntArray) -> BoolArray:
    """Rows whose value is below 0 by both halves, and in two of three of their visits, shape (N,).

    Args:
        a: φ by the first half, NaN where it is not known, shape (N,).
        b: by the second.
        negative: visits in which both halves were below 0, shape (N,).
        visits: that were measured, shape (N,).
    """
    return (a < 0) & (b < 0) & (negative >= TWO_OF_THREE * visits - 1e-9)


@dataclass(frozen=True)
class Reliability:
    """How well two halves of the probes agree on the values of rows.

    Args:
        value: split-half reliability, stepped up to the whole length; NaN where it cannot be told.
        low: lower end of its 95 % interval.
        high: upper end.
        inside: the same of values per token inside of the domains.
        rows: that have values.
    """

    value: float
    low: float
    high: float
    inside: float
    rows: int

    @staticmethod
    def between(a: FloatArray, b: FloatArray, *, tokens: IntArray, domains: IntArray) -> Reliability:
        """Of two measurements of the same rows.

        The interval is that of Fisher's z, whose standard error for Spearman's ρ is √((1 + ρ²/2) / (n − 3)).

        Args:
            a: shape (n,).
            b: shape (n,).
            tokens: of each row, shape (n,).
            domains: of each row, shape (n,).

        Reference:
            Bonett, Wright 2000, Sample size requirements for estimating Pearson, Kendall and Spearman correlations.
        """
        n = len(a)
        rho = spearman(a, b) if n > 1 else np.nan
        low = high = np.nan
        if n > 3 and np.isfinite(rho):
            z, width = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12)), Z * np.sqrt((1 + rho**2 / 2) / (n - 3))
            low, high = np.tanh(z - width), np.tanh(z + width)
        inside = mean_within(a / np.maximum(tokens, 1), b / np.maximum(tokens, 1), domains) if n else np.nan
        value, low, high, inside = (stepped_up(float(one)) for one in (rho, low, high, inside))
        return Reliability(value, low, high, inside, n)


def stepped_up(rho: float) -> float:
    """The reliability of a whole of whose halves the correlation is known; one below 0 stays what it is.

    >>> stepped_up(0.5).__round__(3), stepped_up(-0.5), stepped_up(1.0)
    (0.667, -0.5, 1.0)
    """
    return 2 * rho / (1 + rho) if rho > 0 else rho


@dataclass(frozen=True, eq=False)
class Transfer:
    """A: what a visit of a row of each domain does to each probe domain. NaN for domains without a measured visit.

    Args:
        domains: names of the trained domains, D.
        probes: names of the probe domains, E.
        mean: A, shape (D, E).
        low: lower ends of the 95 % intervals, NaN where there is but one row.
        high: upper ends.
        a: A by the first half of the probes alone, shape (D, E).
        b: by the second.
        visits: measured ones of each domain, shape (D,).
        rows: of each domain that have any, shape (D,).
        tokens: answer tokens of a visit on average, shape (D,), NaN without.
    """

    domains: tuple[str, ...]
    probes: tuple[str, ...]
    mean: FloatArray
    low: FloatArray
    high: FloatArray
    a: FloatArray
    b: FloatArray
    visits: IntArray
    rows: IntArray
    tokens: FloatArray

    @property
    def clear(self) -> BoolArray:
        """Cells whose interval leaves 0 out, and whose halves are on one side of it, shape (D, E)."""
        found: BoolArray = ((self.low > 0) | (self.high < 0)) & (np.sign(self.a) == np.sign(self.b))
        return found


def transfer_of(values: RowValues, domains: IntArray, names: Sequence[str], *, seed: int = 0) -> Transfer:
    """What domains do to each other, with intervals.

    Args:
        values: of the rows.
        domains: of each row, a place among the names, shape (N,).
        names: of the domains.
        seed: of the bootstrap.
    """
    shape = (len(names), len(values.probes))
    found = {name: np.full(shape, np.nan) for name in ("mean", "low", "high", "a", "b")}
    visits, rows = np.zeros(len(names), dtype=np.int64), np.zeros(len(names), dtype=np.int64)
    tokens = np.full(len(names), np.nan)
    for code in range(len(names)):
        idx = np.flatnonzero((domains == code) & values.valued)
        if not len(idx):
            continue
        visits[code], rows[code] = values.visits[idx].sum(), len(idx)
        tokens[code] = values.tokens[idx].sum() / visits[code]
        found["a"][code], found["b"][code] = values.sums[:, :, idx].sum(axis=2) / visits[code]
        sums = values.sums[:, :, idx].mean(axis=0).T
        found["mean"][code] = sums.sum(axis=0) / visits[code]
        found["low"][code], found["high"][code] = mean_interval(sums, values.visits[idx], seed=(seed, SALT, code))
    return Transfer(tuple(names), values.probes, **found, visits=visits, rows=rows, tokens=tokens)


def mean_interval(sums: FloatArray, counts: IntArray, *, seed: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """A 95 % interval of Σ sums / Σ counts, by a percentile bootstrap over rows.

    Of n draws a bootstrap has (n − 1)/n of the variance, and does not know that it has guessed it: so percentiles are
    taken √(n/(n − 1)) as far from the mean, times t(n − 1)/z, which is about 1 + (z² + 1) / 4(n − 1).
    Where there are more than a thousand rows, a thousand random groups of them are drawn instead: as good, and it
    takes a second for a million rows.

    Args:
        sums: of each row's visits, shape (n, E).
        counts: of them, at least 1 each, shape (n,).
        seed: of the draws.

    Returns:
        Both ends, shape (E,) each; NaN where there is but one row.
    """
    rng, n = np.random.default_rng(list(seed)), len(sums)
    if n < 2:
        nothing = np.full(sums.shape[1], np.nan)
        return nothing, nothing
    together = np.concatenate([sums, counts[:, None]], axis=1)
    if n > BLOCKS:
        blocks = np.zeros((BLOCKS, together.shape[1]))
        np.add.at(blocks, rng.permutation(n) % BLOCKS, together)
        together, n = blocks, BLOCKS
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES) @ together
    mean = together[:, :-1].sum(axis=0) / together[:, -1].sum()
    wider = np.sqrt(n / (n - 1)) * (1 + (Z**2 + 1) / (4 * (n - 1)))
    means = mean + wider * (drawn[:, :-1] / drawn[:, -1:] - mean)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high
