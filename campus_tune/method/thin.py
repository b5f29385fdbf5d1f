"""Thinning: offer more rows than are trained, and take some of them by what is known. One rule is four papers.

m rows are offered, n are taken, row i with inclusion probability π_i ∈ [0, 1], Σπ = n:

    top           π = 1 for the n highest                             RHO-LOSS, hard mining
    proportional  π ∝ score                                           importance sampling
    rank          π ∝ percentile^β                                    selective backprop
    prune         π = 1 − r below the mean of the cell, else 1        InfoBatch

With loss weights ∝ 1/π the expected gradient is that of all rows (`Σ π·ℓ/π = Σ ℓ`); without them thinning is biased on
purpose. `take` draws with exactly these probabilities from one random number. Scores are compared inside cells
(`standing`): a row's chance says how it stands among its like, not how long it is.

By what rewards have shown of a prompt (`prompt_scores`) all prompts are offered that are free, and those not taken stay
free; a pass is over when the part `keep` of them was taken. They are compared as they are, unless a recipe names cells.

>>> pi = build_thinner({"name": "proportional", "floor": 0.3}).chances(np.array([4.0, 1, 1, 1, 1]), 2, np.zeros(5))
>>> pi.round(3).tolist(), np.flatnonzero(take(pi, 0.25)).tolist(), round(tau(np.array([4.0, 1, 1, 1, 1])), 2)
([0.82, 0.295, 0.295, 0.295, 0.295], [0, 2], 1.25)
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np

from campus_tune.method.prompt_scores import PROMPT_SCORES
from campus_tune.method.sampling import highest
from campus_tune.method.standing import Scale
from campus_tune.words.annotated import check_options
from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import Range, Wording
from campus_tune.words.registry import Registry
from campus_tune.words.types import BoolArray, FloatArray

Keep: TypeAlias = Annotated[float, Range(0, 1, "(]"), Wording(write="It is the share of offered rows that is taken.")]

_ROUNDING = 1e-9
_WHOLE = 1e-6  # what Σπ may be off a whole number by


class Thinner(ABC):
    """Gives each offered row its chance to be taken. Subclasses are final; settings are frozen.

    `scale` says what its scores are: the percentile in the cell, in (0, 1); the ratio to the cell's mean, at least 0;
    or the difference from it, in the score's own unit. `own` says that a row's chance does not hang on the other rows
    that are offered: rows are then offered until the chances add up to what the stage takes (`filled`).
    """

    scale: ClassVar[Scale]
    own: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self)

    def offered(self, n: int) -> int:
        """How many rows to offer, so that `n` are taken: `⌈n / keep⌉`; n where a row's chance is its own."""
        keep: float = getattr(self, "keep", 1.0)
        return math.ceil(n / keep - _ROUNDING)

    def most_offered(self, n: int) -> int:
        """How many, so that `n` are taken whatever their scores turn out to be: all may be as unwanted as can be."""
        least = float(self.chances(np.array([-np.inf]), 1, np.zeros(1))[0]) if self.own else 1.0
        return self.offered(math.ceil(n / least - _ROUNDING))

    @abstractmethod
    def chances(self, scores: FloatArray, n: int, keys: FloatArray) -> FloatArray:
        """π of each offered row, in [0, 1], shape (m,); Σπ = min(n, m), unless a row's chance is its own.

        Args:
            scores: finite, by `scale`, shape (m,); unknown rows have what `standing` gives them.
            n: rows to take.
            keys: random numbers in [0, 1) that part equal scores, shape (m,).
        """


THINNERS: Registry[Thinner] = Registry("thinner")


def build_thinner(setting: str | Mapping[str, Any]) -> Thinner:
    """The thinner that a recipe names: `top`, or `{name: rank, keep: 0.5}`.

    Raises:
        RecipeError: unknown name or option, or a value out of its range.
    """
    return THINNERS.from_setting(setting)


# -- the four ----------------------------------------------------------------------------------------------------------


@THINNERS.register("top")
@dataclass(frozen=True)
class Top(Thinner):
    """The rows of the highest scores, and no others: π = 1 for the n highest of m, else 0.

    By the excess over a reference model's loss (`rho`) this is RHO-LOSS; by the loss it is hard mining. For pools with
    much noise, or with a proxy at hand; in one epoch what is passed over never comes. It cannot be unbiased: π is 0.

    Args:
        keep: n/m, the share of offered rows that is taken.

    Reference:
        Mindermann et al. 2022, Prioritized Training on Points that are Learnable (2206.07137). *Differs from the
        paper*: a stage selects, not a step; inside cells, where theirs lets the noisiest kind win; keep 0.5, where
        theirs takes 0.1 and pays five times the compute; equal scores are parted at random.
    """

    scale: ClassVar[Scale] = "percentile"
    keep: Keep = 0.5

    def chances(self, scores: FloatArray, n: int, keys: FloatArray) -> FloatArray:
        """1 for the highest."""
        pi = np.zeros(len(scores), dtype=np.float64)
        pi[highest(scores, n, keys)] = 1.0
        return pi


@THINNERS.register("proportional")
@dataclass(frozen=True)
class Proportional(Thinner):
    """Importance sampling: π = n·[(1 − floor)·s^power/Σ s^power + floor/m], cut at 1, what is cut given to the others.

    By a bound of the gradient's norm (`surprise`) and with `unbiased` weights it lowers the variance of a step: worth
    it where τ = √(1 + CV²) of the scores is well above 1. Without weights it prefers what scores high.

    Args:
        keep: n/m, the share of offered rows that is taken.
        power: of the scores; 0 is uniform.
        floor: part of the draw that is uniform. Weights are then at most 1/floor.

    Reference:
        Katharopoulos & Fleuret 2018, Not All Samples Are Created Equal (1803.00942). *Differs from the paper*: without
        replacement, so π is capped; scores that training shows for nothing, where theirs are a forward of all
        candidates; τ is √(m·Σg²), of which theirs, 1/√(1 − Σ(g − 1/m)²/Σg²), is the same number.
    """

    scale: ClassVar[Scale] = "ratio"
    keep: Keep = 0.5
    power: Annotated[float, Range(0, 100)] = 1.0
    floor: Annotated[float, Range(0, 1)] = 0.3

    def chances(self, scores: FloatArray, n: int, keys: FloatArray) -> FloatArray:
        """By score."""
        del keys
        return capped(_mixed(scores, self.power, self.floor), n)


@THINNERS.register("rank")
@dataclass(frozen=True)
class Rank(Thinner):
    """Selective backprop: π ∝ percentile^power, cut at 1, what is cut given to the others.

    By the last seen loss: hard rows come more often, easy ones seldom and not never. Biased on purpose.

    Args:
        keep: n/m, the share of offered rows that is taken.
        power: β; None for 1/keep − 1, with which the hardest have a chance of nearly 1 (the mean of
            percentile^(1/keep − 1) is keep).

    Reference:
        Jiang et al. 2019, Accelerating Deep Learning by Focusing on the Biggest Losers (1910.00762). *Differs from the
        paper*: percentiles of what is known of the cell, where theirs are of the last losses seen and MosaicML's are
        of the batch, both with a forward of each candidate; exactly n are taken.
    """

    scale: ClassVar[Scale] = "percentile"
    keep: Keep = 0.5
    power: Annotated[float | None, Range(0, 100)] = None

    def chances(self, scores: FloatArray, n: int, keys: FloatArray) -> FloatArray:
        """By percentile."""
        del keys
        return capped(_mixed(scores, 1 / self.keep - 1 if self.power is None else self.power, 0.0), n)


@THINNERS.register("prune")
@dataclass(frozen=True)
class Prune(Thinner):
    """InfoBatch: of the rows below the mean of their cell a share is passed over, all others are taken.

    For runs of three epochs and more: what is learned is trained less. π = 1 − drop or 1, and 1 for a row of which
    nothing is known, so that the first pass is whole. The steps of a run are fixed: shorter passes are more passes.

    Args:
        drop: r, the share that is passed over of the rows below.

    Reference:
        Qin et al. 2023, InfoBatch (2303.04947). *Differs from the paper*: the mean is that of the cell, of losses less
        the mean of the stage that they were seen in (`detrend`), where early losses look hard because the model was
        worse; the run is not shortened.
    """

    scale: ClassVar[Scale] = "difference"
    own: ClassVar[bool] = True
    drop: Annotated[float, Range(0, 1, "[)"), Wording(write="It is the share passed over.")] = 0.5

    def chances(self, scores: FloatArray, n: int, keys: FloatArray) -> FloatArray:
        """By the side of the mean."""
        del n, keys
        return np.where(scores < 0, 1.0 - self.drop, 1.0)


def _mixed(scores: FloatArray, power: float, floor: float) -> FloatArray:
    """`(1 − floor)·s^power/Σ s^power + floor/m`; uniform where no score is above 0."""
    largest = scores.max(initial=0.0)
    raised = (scores / largest) ** power if largest > 0 else np.ones(len(scores))
    mixed: FloatArray = (1 - floor) * raised / raised.sum() + floor / max(1, len(scores))
    return mixed


def capped(parts: FloatArray, n: int) -> FloatArray:
    """π ∝ parts with Σπ = n, none above 1: the largest are cut at 1, and the rest is given out anew.

    The k largest are sure, k the first at which `(n − k)·(the next part) ≤ Σ of the others`. If these have nothing,
    they share what is left.

    Args:
        parts: at least 0, shape (m,).
        n: at most m; more are m.
    """
    m = len(parts)
    if n >= m:
        return np.ones(m)
    order = np.argsort(-parts)
    ordered = parts[order]
    rest = np.cumsum(ordered[::-1])[::-1]  # Σ from each place on
    fits = (n - np.arange(m)) * ordered <= rest
    sure = int(np.argmax(fits))  # at n at the latest
    share = ordered[sure:] / rest[sure] if rest[sure] > 0 else np.full(m - sure, 1 / (m - sure))
    pi = np.empty(m, dtype=np.float64)
    pi[order] = np.concatenate([np.ones(sure), np.minimum(1.0, (n - sure) * share)])
    return pi


# -- from chances to rows ----------------------------------------------------------------------------------------------


def take(pi: FloatArray, u: float) -> BoolArray:
    """Madow's systematic sampling: which rows are taken, row i with probability exactly π_i, from one random number.

    Lay the π end to end and take the rows in which a tick at u, u + 1, u + 2, … falls. Σπ rows come out where that is a
    whole number, else one of the two next to it.

    Args:
        pi: in [0, 1], shape (m,).
        u: uniform in [0, 1).

    Reference:
        Madow 1949, On the Theory of Systematic Sampling, II.
    """
    sure = pi >= 1 - _ROUNDING  # apart: a sum of floats could put two ticks or none into a row of length 1
    unsure = np.where(sure, 0.0, pi)
    ends, total = np.cumsum(unsure), float(unsure.sum())
    whole = round(total)
    exact = abs(total - whole) <= _WHOLE + _ROUNDING * len(pi)
    if whole and exact:
        ends *= whole / ends[-1]  # a cumulative sum of a million floats is off by 1e-5
    ticks = np.ceil(ends - u)  # before each end
    if exact:
        ticks = np.where(ends >= ends[-1:], whole, np.minimum(ticks, whole))  # however near u is to 0 or 1
    return sure | (np.diff(ticks, prepend=0.0) > 0)


def exactly(taken: BoolArray, pi: FloatArray, n: int) -> BoolArray:
    """`taken` with exactly `n` rows, where a sum of millions of floats was off by one: by the surest, or least sure."""
    missing = n - int(np.count_nonzero(taken))
    if missing:
        others = np.flatnonzero(taken != (missing > 0))
        surest = others[np.argsort(-pi[others] * np.sign(missing), kind="stable")]
        taken[surest[: abs(missing)]] = missing > 0
    return taken


def filled(pi: FloatArray, n: int) -> FloatArray:
    """The chances of the first rows, as many as are offered until these add up to n; the last is cut so that Σπ = n.

    >>> filled(np.array([0.5, 1.0, 0.5, 1.0, 1.0]), 2).tolist(), filled(np.array([0.5, 0.5]), 2).tolist()
    ([0.5, 1.0, 0.5], [0.5, 0.5])

    Args:
        pi: a row's own chance, in the sequence in which rows are offered, shape (m,).
        n: rows to take.

    Returns:
        Shape (k,); all m where these are less than n together.
    """
    ends = np.cumsum(pi)
    last = int(np.searchsorted(ends, n - _ROUNDING))
    if n <= 0 or last >= len(pi):
        return pi[:0] if n <= 0 else pi.copy()
    first = pi[: last + 1].copy()
    first[last] = min(float(pi[last]), n - (float(ends[last - 1]) if last else 0.0))
    return first


def tau(scores: FloatArray) -> float:
    """√(m·Σg²) of the scores' parts g = s/Σs, which is √(1 + CV²): how much variance drawing by them could save.

    1 where all are alike: nothing to gain. A score 4 among 1 1 1 1: 1.25. Fresh scores that cost ρ of a training token
    pay from 1 + ρ·m/n on, free ones from anything above 1.

    Args:
        scores: at least 0, shape (m,).
    """
    mean = float(scores.mean()) if len(scores) else 0.0
    return math.sqrt(float(np.mean((scores / mean) ** 2))) if mean > 0 else 1.0


def ess(pi: FloatArray) -> float:
    """Effective sample size under weights 1/π, as a share of the rows taken: `(Σw)² / (n·Σw²)`, in (0, 1].

    Args:
        pi: of the rows taken, above 0, shape (n,).
    """
    weights = 1 / pi
    return float(weights.sum() ** 2 / (len(pi) * (weights**2).sum())) if len(pi) else 1.0


# -- the setting -------------------------------------------------------------------------------------------------------

KNOBS = ("keep", "drop", "power", "floor")  # what a thinner may take, one of another package too


@dataclass(frozen=True)
class Thin:
    """The `thin` block of a recipe.

    Args:
        how: name of a thinner.
        by: label of the scores: of the book, or of a metric.
        keep: for the thinner; None leaves its own default, here and below.
        drop: likewise.
        power: likewise.
        floor: likewise.
        gate: τ of the offered rows' scores below which a stage draws uniformly; None for no gate.
        detrend: losses less the mean of the stage they were seen in.
        fresh: measure the offered rows.
        since: progress from which rows are thinned.
        until: progress until which they are.

    Raises:
        RecipeError: no such thinner, one that does not take what is given, or a gate for one that takes no ratios.
    """

    how: str
    by: str
    keep: float | None = None
    drop: float | None = None
    power: float | None = None
    floor: float | None = None
    gate: float | None = None
    detrend: bool = True
    fresh: bool = False
    since: float = 0.0
    until: float = 1.0

    def __post_init__(self) -> None:
        scale = self.thinner.scale  # builds it: what it does not take is told here
        if self.gate is not None and scale != "ratio":
            raise RecipeError(
                f"`thin: gate` must go with a thinner by ratio, such as proportional, got {self.how!r}. Remove it."
            )

    @cached_property
    def thinner(self) -> Thinner:
        """What is built of `how` and the knobs that are given."""
        given = {knob: getattr(self, knob) for knob in KNOBS}
        return THINNERS.build(self.how, {knob: value for knob, value in given.items() if value is not None})

    @property
    def by_rewards(self) -> bool:
        """It goes by what rewards show of a prompt: all rows that are free are offered, and those not taken stay so."""
        return self.by.removeprefix("-") in PROMPT_SCORES

    def holds(self, u: float) -> bool:
        """Whether rows are thinned at this progress."""
        return self.since <= u < self.until

    def chances(self, scores: FloatArray, n: int, keys: FloatArray) -> FloatArray:
        """Those of the thinner; uniform, `n/m`, where τ of the scores does not pass the gate.

        Args:
            scores: cell-relative, of the offered rows, shape (m,).
            n: rows to take.
            keys: random numbers that part equal scores, shape (m,).
        """
        if self.gate is not None and tau(scores) < self.gate:
            return np.full(len(scores), min(1.0, n / max(1, len(scores))))
        return self.thinner.chances(scores, n, keys)
