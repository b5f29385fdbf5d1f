"""Agreement: do two models rank the same rows alike? Spearman's ρ with its interval, overall and inside of domains.

Scores of two models have no common scale, so ranks are compared. Overall, ρ is high as soon as both models find the
same domains hard, and a curriculum that ranks inside of domains has nothing of that: so ρ inside of domains is said
beside it, the mean over those of at least `FEWEST` rows, each counted by its rows.

**The ceiling.** A score that training itself gives by chance cannot be predicted by any other model. Two trainings of
the *same* model with different seeds agree by r, so r is what a perfect proxy would reach (it would be one more seed),
and ρ/r is how much of what can be agreed on is agreed on. Where r itself is near 0 there is nothing to transfer.
In the classical correction for attenuation, ρ / √(r·r′), the proxy's own reliability r′ is not known from one training
of it; r stands for both.

Intervals are percentiles of `RESAMPLES` bootstraps over rows (inside of domains: over the rows of each domain, so that
a domain keeps its size). Ranks are taken anew in each. Over 200 draws of 30 and of 100 rows with a true ρ of 0, .58 and
.89, intervals that should hold it in 95 of 100 held it in 94 to 97.

Reference:
    Spearman 1904, The proof and measurement of association between two things (ρ, and its attenuation).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from campus_tune.method.stats import mean_within, spearman
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json

FEWEST = 30  # rows of a domain, and of all: of fewer nothing is said
RESAMPLES = 999
LEVEL = 0.95
SERVES, SOME = 0.7, 0.3  # of what can be agreed on: half of the variance of ranks is .7², a tenth is .3²

Word: TypeAlias = Literal["serves", "in part", "does not serve", "nothing to transfer", "too few rows"]


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ρ and its interval.

    Args:
        value: in [−1, 1]; None where one side is constant.
        low: lower end of the 95 % interval.
        high: its upper end.
        n: rows.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    @staticmethod
    def of(value: float, draws: FloatArray, n: int) -> RankCorrelation:
        """By its bootstrap, shape (B,); nothing is known of a ρ that is NaN."""
        known = draws[np.isfinite(draws)]
        if not np.isfinite(value) or not len(known):
            return RankCorrelation(None, None, None, n)
        low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return RankCorrelation(value, float(low), float(high), n)

    @staticmethod
    def mean(parts: Sequence[tuple[float, FloatArray, int]]) -> RankCorrelation:
        """The mean ρ of domains, each by its rows; a draw of it is one of each of them.

        Args:
            parts: ρ, its bootstrap and the rows of each domain.
        """
        sizes = np.array([n for _, _, n in parts])
        values, draws = np.array([value for value, _, _ in parts]), np.stack([drawn for _, drawn, _ in parts])
        value, drawn = float(np.average(values, weights=sizes)), np.average(draws, axis=0, weights=sizes)
        return RankCorrelation.of(value, drawn, int(sizes.sum()))


@dataclass(frozen=True)
class RankAgreement:
    """How far two models rank the same rows alike.

    Args:
        overall: all rows together.
        within: inside of domains, their mean; None with fewer than two domains of `FEWEST` rows.
        domains: each of these.
        third: of the third of rows that one ranks lowest, the share that is in the other's lowest third; 1/3 is chance.
        ceiling: ρ of two trainings of the same model, as `decides` has it; None where there is one.
    """

    overall: RankCorrelation
    within: RankCorrelation | None
    domains: Mapping[str, RankCorrelation] = field(default_factory=dict)
    third: float | None = None
    ceiling: float | None = None

    @property
    def decides(self) -> RankCorrelation:
        """Inside of domains where there are any, else overall."""
        return self.overall if self.within is None else self.within

    @property
    def of_ceiling(self) -> float | None:
        """How much of what can be agreed on is agreed on; None where either is not known, or nothing can be."""
        value = self.decides.value
        return None if value is None or not self.ceiling or self.ceiling <= 0 else value / self.ceiling

    @property
    def word(self) -> Word:
        """Whether one may stand for the other; by the ends of the interval, and by the ceiling where it is known."""
        rho, most = self.decides, 1.0 if self.ceiling is None else self.ceiling
        if self.overall.n < FEWEST or rho.low is None or rho.high is None:
            return "too few rows"
        if most < SOME:
            return "nothing to transfer"
        if rho.low >= SERVES * most:
            return "serves"
        return "does not serve" if rho.high < SOME * most or rho.low <= 0 else "in part"

    def to_mapping(self) -> Json:
        """As JSON has it, with what is made of it."""
        return {**asdict(self), "of_ceiling": self.of_ceiling, "word": self.word}


def agreement(
    ours: FloatArray,
    theirs: FloatArray,
    domains: IntArray,
    names: list[str],
    *,
    again: FloatArray | None = None,
    seed: int = 0,
) -> RankAgreement:
    """How far two scores rank the same rows alike; rows that lack one of the two say nothing.

    >>> found = agreement(np.arange(90.0), np.arange(90.0) ** 3, np.arange(90) % 2, ["math", "code"])
    >>> round(found.overall.value, 6), found.word
    (1.0, 'serves')

    Args:
        ours: scores of the model that is trained, NaN where there is none, shape (n,).
        theirs: those of the proxy, shape (n,).
        domains: domain number of each row, shape (n,).
        names: of the domains.
        again: scores of our model by another training of it, NaN where it has none, shape (n,); None where there
            is no other.
        seed: of the bootstrap.
    """
    both = np.isfinite(ours) & np.isfinite(theirs)
    a, b, codes, rng = ours[both], theirs[both], domains[both], np.random.default_rng(seed)
    overall = RankCorrelation.of(spearman(a, b), _draws(a, b, rng), len(a))
    parts = {}
    for code, name in enumerate(names):
        rows = np.flatnonzero(codes == code)
        value = spearman(a[rows], b[rows]) if len(rows) >= FEWEST else np.nan
        if np.isfinite(value):  # all scores of a small domain may be the same
            parts[name] = (value, _draws(a[rows], b[rows], rng), len(rows))
    within = RankCorrelation.mean([*parts.values()]) if len(parts) > 1 else None
    ceiling = None
    if again is not None:
        twice = again[both]
        there = np.isfinite(twice)  # not all rows need have a score by the other training
        if within is not None:  # of the same domains
            there &= np.isin(codes, [names.index(name) for name in parts])
        if there.sum() >= FEWEST:
            mine, other, of = a[there], twice[there], codes[there]
            ceiling = spearman(mine, other) if within is None else mean_within(mine, other, of)
    third = float(np.mean(_lowest_third(b)[_lowest_third(a)])) if len(a) >= FEWEST else None
    known = ceiling if ceiling is not None and np.isfinite(ceiling) else None
    return RankAgreement(overall, within, {name: RankCorrelation.of(*of) for name, of in parts.items()}, third, known)


def _draws(a: FloatArray, b: FloatArray, rng: np.random.Generator) -> FloatArray:
    """ρ of rows drawn anew with replacement, shape (RESAMPLES,); NaN in draws in which one side is constant."""
    if len(a) < FEWEST:
        return np.full(RESAMPLES, np.nan)
    drawn = (rng.integers(0, len(a), len(a)) for _ in range(RESAMPLES))
    return np.array([spearman(a[rows], b[rows]) for rows in drawn])


def _lowest_third(values: FloatArray) -> BoolArray:
    """Whether each value is among the lowest third; of equal ones the earlier, shape (n,)."""
    lowest = np.zeros(len(values), dtype=np.bool_)
    lowest[np.argsort(values, kind="stable")[: len(values) // 3]] = True
    return lowest
