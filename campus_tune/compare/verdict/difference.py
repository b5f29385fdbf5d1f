"""From numbers to one of four words. The same rule for the end of training and for speed.

    helped                        the difference is significant, and for the better: a lower loss, or sooner there
    hurt                          it is significant, and for the worse
    underpowered                  it is not significant, and an effect worth finding could have been missed
    no detectable difference      it is not significant, and an effect worth finding would have been found (in 80 of 100
                                  cases)

Where the runs do not bear any of these there is no word, and a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from campus_tune.compare.verdict.bootstrap import VarianceParts
from campus_tune.evaluate.paired import LEVEL, holm
from campus_tune.words.types import FloatArray, Json

HELPED = "helped"
HURT = "hurt"
NO_DIFFERENCE = "no detectable difference"
UNDERPOWERED = "underpowered"
WORDS = (HELPED, HURT, NO_DIFFERENCE, UNDERPOWERED)
_MANY = 10**9  # items, where there are none to draw again
_ROUNDING = 1e-9  # a spread that is smaller than this share of the difference is none


@dataclass(frozen=True)
class Difference:
    """An arm against another. None stands for what the runs cannot say.

    Args:
        arm: whose runs.
        against: the other arm.
        value: mean of the arm minus mean of the other, in units of the measure; of speed, the mean log ratio.
        relative: `value` as a share of the other's mean; of speed, tokens saved as a negative share.
        mean: of the arm.
        mean_against: of the other.
        stderr: of `value`.
        df: degrees of freedom of Student's t with the critical value that was used.
        low: lower end of the interval of `value`.
        high: upper end.
        level: at which the interval excludes 0: 0.05, and less where several comparisons are corrected together.
        p: two-sided p-value of no difference.
        p_adjusted: the same, corrected for the other comparisons of its family (Holm); at most 0.05 exactly where the
            interval excludes 0.
        detectable: true size of `value` that is found in 80 of 100 such comparisons, correction included.
        n_seeds: seeds that both arms finished.
        n_items: test items; None of speed.
        seed_variance: of one seed's effect.
        item_variance: of one item's effect.
        cell_variance: of what only a seed and an item together show.
        by_seed: the difference of each seed alone.
    """

    arm: str
    against: str
    value: float | None
    relative: float | None = None
    mean: float | None = None
    mean_against: float | None = None
    stderr: float | None = None
    df: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    detectable: float | None = None
    n_seeds: int = 0
    n_items: int | None = None
    seed_variance: float | None = None
    item_variance: float | None = None
    cell_variance: float | None = None
    by_seed: tuple[float, ...] = ()

    def to_mapping(self) -> Json:
        """The same as strict JSON takes it."""
        return {**vars(self), "by_seed": list(self.by_seed)}

    @staticmethod
    def from_mapping(given: Json) -> Difference:
        """What `to_mapping` wrote."""
        known = {one.name for one in fields(Difference)}
        values = {name: value for name, value in given.items() if name in known}
        return Difference(**{**values, "by_seed": tuple(given["by_seed"])})

    def share(self, value: float | None) -> float | None:
        """A size in units of `value` as a share of the other arm's mean; None where that is not positive."""
        if value is None or self.mean_against is None or self.mean_against <= 0:
            return None
        return value / self.mean_against


def with_spread(known: Difference, spread: VarianceParts, comparisons: int = 1) -> Difference:
    """A difference with everything that follows from its spread.

    Args:
        known: its value and means.
        spread: of its value.
        comparisons: how many are corrected together; the detectable effect is that of the strictest of them.
    """
    assert known.value is not None
    seed, item, cell = spread.components
    parts: dict[str, Any] = {"seed_variance": seed, "item_variance": item, "cell_variance": cell}
    if spread.stderr <= _ROUNDING * abs(known.value):  # no difference at all, or one that chance has no part in
        p = 1.0 if known.value == 0 else None
        return replace(known, stderr=0.0, p=p, p_adjusted=p, detectable=0.0 if p else None, **parts)
    p = spread.p(known.value)
    return replace(
        _at_level(known, spread, LEVEL),
        stderr=spread.stderr,
        p=p,
        p_adjusted=p,
        detectable=spread.detectable(LEVEL / comparisons),
        **parts,
    )


def of_seeds(known: Difference, by_seed: FloatArray, comparisons: int = 1) -> Difference:
    """A difference of which every seed has one number and nothing else varies: Student's t over the seeds.

    Args:
        known: whose, and what the other facts are.
        by_seed: the number of each, shape (S,), S at least 2.
        comparisons: how many are corrected together.
    """
    value, n = float(by_seed.mean()), len(by_seed)
    known = replace(known, value=value, n_seeds=n, by_seed=tuple(by_seed.tolist()))
    found = with_spread(known, seed_spread(float(by_seed.var(ddof=1)) / n, n), comparisons)
    return replace(found, item_variance=None, cell_variance=None)


def seed_spread(variance: float, n: int) -> VarianceParts:
    """The spread of a mean over n seeds that only the seeds make."""
    return VarianceParts(variance, 0.0, 0.0, n, _MANY)


def corrected(family: Sequence[Difference], spreads: Sequence[VarianceParts | None]) -> list[Difference]:
    """The same differences with p-values after Holm's correction among them, and intervals that agree with them.

    Holm asks the smallest of m p-values to be at most 5 % / m, the next 5 % / (m − 1), …, and stops at the first that
    is not. An interval is as wide as its difference was asked: it excludes 0 exactly where the corrected p-value is at
    most 5 %, so all intervals together exclude a true 0 in at most 5 of 100 cases. None is narrower than at 95 %.

    Args:
        family: differences that are looked at together.
        spreads: of each; None where it has no interval.
    """
    p_values = holm([one.p for one in family])
    return [
        replace(one if spread is None or one.low is None else _at_level(one, spread, level), p_adjusted=p)
        for one, spread, level, p in zip(family, spreads, levels([one.p for one in family]), p_values, strict=True)
    ]


def levels(p_values: Sequence[float | None]) -> list[float]:
    """The level at which Holm's procedure judged each of several p-values. Unknown ones are not counted.

    >>> levels([0.02, 0.001, None, 0.03])  # 0.001 is found at 5 % / 3; then 0.02 at 5 % / 2; then 0.03 at 5 %
    [0.025, 0.016666666666666666, 0.05, 0.05]
    >>> levels([0.03, 0.04])  # the first is not found, and the second is not asked any more
    [0.025, 0.025]
    """
    found = [LEVEL] * len(p_values)
    places = sorted((i for i, p in enumerate(p_values) if p is not None), key=lambda i: p_values[i] or 0.0)
    level, stopped = LEVEL, False
    for n_before, i in enumerate(places):
        if not stopped:
            level = LEVEL / (len(places) - n_before)
            stopped = (p_values[i] or 0.0) > level
        found[i] = level
    return found


def _at_level(known: Difference, spread: VarianceParts, level: float) -> Difference:
    """The same with the interval of this level."""
    assert known.value is not None
    half = spread.critical(level) * spread.stderr
    return replace(known, df=spread.df(level), low=known.value - half, high=known.value + half, level=level)


def decide(difference: Difference, smallest: float, *, higher_is_better: bool = False) -> str:
    """The word for a difference that has a p-value.

    >>> decide(Difference("a", "b", -0.3, p_adjusted=0.01, detectable=0.1), 0.02)
    'helped'
    >>> decide(Difference("a", "b", -0.03, p_adjusted=0.6, detectable=0.1), 0.02)
    'underpowered'

    Args:
        difference: with `value`, `p_adjusted` and `detectable`.
        smallest: size of the smallest effect worth finding, in units of `value`, > 0.
        higher_is_better: false of losses, tokens and seconds.
    """
    assert difference.value is not None
    assert difference.p_adjusted is not None
    assert difference.detectable is not None
    if difference.p_adjusted <= LEVEL:
        return HELPED if (difference.value > 0) == higher_is_better else HURT
    return UNDERPOWERED if difference.detectable > smallest else NO_DIFFERENCE
