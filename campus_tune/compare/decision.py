"""From numbers to one of four words. The same rule for the end of training and for speed.

    helped, hurt                  the difference is significant, and has that sign
    underpowered                  it is not, and an effect worth finding could have been missed
    no detectable difference      it is not, and an effect worth finding would have been found (in 80 of 100 cases)

Where the runs do not bear any of these there is no word, and a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from campus_tune.compare.crossed import Spread
from campus_tune.evaluation.paired import LEVEL, holm
from campus_tune.types import Json

HELPED = "helped"
HURT = "hurt"
NO_DIFFERENCE = "no detectable difference"
UNDERPOWERED = "underpowered"
WORDS = (HELPED, HURT, NO_DIFFERENCE, UNDERPOWERED)
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
        low: lower end of the 95 % interval of `value`, before any correction for several arms.
        high: upper end.
        p: two-sided p-value of no difference.
        p_adjusted: the same, corrected for the other comparisons of its family (Holm).
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


def with_spread(known: Difference, spread: Spread, comparisons: int = 1) -> Difference:
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
    half = spread.critical() * spread.stderr
    p = spread.p(known.value)
    return replace(
        known,
        stderr=spread.stderr,
        df=spread.df(),
        low=known.value - half,
        high=known.value + half,
        p=p,
        p_adjusted=p,
        detectable=spread.detectable(LEVEL / comparisons),
        **parts,
    )


def corrected(family: Sequence[Difference]) -> list[Difference]:
    """The same differences with p-values after Holm's correction among them."""
    p_values = holm([one.p for one in family])
    return [replace(one, p_adjusted=p) for one, p in zip(family, p_values, strict=True)]


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
