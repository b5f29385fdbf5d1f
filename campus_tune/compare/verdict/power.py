"""Before training: which effect could this comparison find at all? And what would it take to find a smaller one?

The answer needs to know how much seeds differ. A pilot of the baseline says it: two of its runs with different seeds
are an A/A comparison, the difference of which is chance alone. The variance of a future difference D of S seeds and I
items is put together from parts (all per difference of two runs; the factors 2 are because two runs differ):

    V(S, I) = σ²_seed / S + σ²_item / I + σ²_cell / (S · I)
    σ²_seed = 2 · (variance of a run's mean loss − σ²_cell / 2I)        σ²_cell = 2 · (variance of an item in a run)

σ²_item, what a recipe does to single items in every seed alike, cannot be seen before it ran. It is taken to be as
large as σ²_cell, what another seed does to them. Results of an earlier comparison have all three parts
(`from_difference`). Runs of one seed may be more alike than runs of two, so a pilot errs towards too large an effect.

The minimum detectable effect is that of the very test that `verdict` uses, few seeds and all
(`VarianceParts.detectable`). A pilot of two seeds knows the seeds' variance badly: its detectable effect may well be
off by a factor of two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from campus_tune.compare.verdict.bootstrap import VarianceParts
from campus_tune.compare.verdict.difference import Difference
from campus_tune.compare.verdict.inputs import LOSS, Curve, ItemValues
from campus_tune.compare.verdict.sentences import percent, rows_of, saving
from campus_tune.compare.verdict.speed import log_ratios
from campus_tune.evaluate.paired import LEVEL
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json

Components = tuple[float, float, float]  # variances of seeds, items and cells

MOST_SEEDS = 1000
MOST_ITEMS = 10**7
_ROUNDING = 1e-9  # a share below which runs differ by nothing but the last digits of their numbers
_ENDLESS = 10**12  # items: as if each were known exactly


@dataclass(frozen=True)
class Power:
    """What a comparison of this size can find.

    Args:
        n_seeds: per arm.
        n_items: test items; None of speed.
        effect: smallest effect worth finding, a share of the baseline's mean (of speed, of its tokens).
        detectable: the effect that is found in 80 of 100 such comparisons, a share likewise.
        seeds_needed: seeds with which `effect` is found, the items as they are; None if 1000 are not enough.
        items_needed: items with which it is found, the seeds as they are; None if no number is enough.
        learned_from: what the spread was learned from.
        sentence: the same for a reader in a hurry.
    """

    n_seeds: int
    n_items: int | None
    effect: float
    detectable: float
    seeds_needed: int | None
    items_needed: int | None
    learned_from: str
    sentence: str

    @property
    def enough(self) -> bool:
        """Whether the effect worth finding would be found."""
        return self.detectable <= self.effect

    def to_mapping(self) -> Json:
        """The same as strict JSON takes it."""
        return {**vars(self), "enough": self.enough}


def components_of_pilot(pilot: ItemValues) -> Components:
    """Variances of seeds, items and cells of the difference of two runs, from several runs of one recipe.

    >>> runs = np.array([[1.0, 2, 3, 4], [2.0, 1, 4, 3]])  # equal means, and cells ±1/2 around the items' means
    >>> pilot = ItemValues(runs, np.ones(4), np.zeros(4, dtype=np.int64), ("all",))
    >>> [round(part, 3) for part in components_of_pilot(pilot)]  # 8 · 1/4 over 3 degrees of freedom, times 2
    [0.0, 1.333, 1.333]

    Args:
        pilot: at least two seeds and two items.

    Raises:
        DataError: fewer.
    """
    n_seeds, n_items = pilot.values.shape
    if n_seeds < 2 or n_items < 2:
        raise DataError(
            f"a pilot must have at least two seeds and two test items, got {n_seeds} and {n_items}. "
            "One run does not show how much seeds differ: run the baseline with another seed."
        )
    # losses as deviations per token of an item of mean length; the ratio of sums, linearised
    deviations = (pilot.values - pilot.mean() * pilot.weights) / pilot.weights.mean()
    of_seeds = deviations.mean(1, keepdims=True)
    cells = deviations - of_seeds - deviations.mean(0)
    cell = float((cells**2).sum()) / ((n_seeds - 1) * (n_items - 1))
    seed = max(0.0, float(of_seeds.var(ddof=1)) - cell / n_items)
    return 2 * seed, 2 * cell, 2 * cell


def from_pilot(
    pilot: ItemValues,
    *,
    seeds: int,
    effect: float,
    items: int | None = None,
    comparisons: int = 1,
    measure: str = LOSS,
) -> Power:
    """Plan a comparison from runs of the baseline.

    Args:
        pilot: the baseline's runs, at least two seeds; its losses at the end of (nearly) as many tokens as planned.
        seeds: planned seeds per arm, at least 2.
        effect: smallest effect worth finding, a share of the baseline's mean, > 0.
        items: planned test items; None as many as the pilot's.
        comparisons: how many recipes are judged together.
        measure: loss or reward.
    """
    learned = f"{len(pilot.values)} runs of the baseline"
    n_items = pilot.n_items if items is None else items
    found = _plan(components_of_pilot(pilot), pilot.mean(), seeds, n_items, effect, comparisons, learned)
    return replace(found, sentence=found.sentence.replace(rows_of(LOSS), rows_of(measure)))


def from_difference(
    earlier: Difference, *, seeds: int, effect: float, items: int | None = None, comparisons: int = 1
) -> Power:
    """Plan a comparison from the result of an earlier one.

    Args:
        earlier: of a recipe and the baseline, with its variances.
        seeds: planned seeds per arm, at least 2.
        effect: smallest effect worth finding, a share of the baseline's mean, > 0.
        items: planned test items; None as many as the earlier.
        comparisons: how many recipes are judged together.

    Raises:
        DataError: a difference without variances.
    """
    parts = earlier.seed_variance, earlier.item_variance, earlier.cell_variance
    if parts[0] is None or parts[1] is None or parts[2] is None or not earlier.mean_against or not earlier.n_items:
        raise DataError(
            f"an earlier result must have a verdict, got a refused one of {earlier.arm}. Plan from a pilot instead."
        )
    learned = f"the earlier comparison of {earlier.arm} with {earlier.against}"
    n_items = earlier.n_items if items is None else items
    return _plan((parts[0], parts[1], parts[2]), earlier.mean_against, seeds, n_items, effect, comparisons, learned)


def speed_from_pilot(curves: Sequence[Curve], *, seeds: int, faster: float, comparisons: int = 1) -> Power:
    """Plan for speed: pairs of the baseline's runs are A/A comparisons of tokens to a common loss.

    Args:
        curves: of the baseline, one per seed, at least two.
        seeds: planned seeds per arm, at least 2.
        faster: smallest saving worth finding, a share in (0, 1).
        comparisons: how many recipes are judged together.

    Raises:
        DataError: fewer than two curves, or curves that end no lower than they began.
    """
    ratios = [log_ratios(a, b) for a, b in combinations(curves, 2)]
    known = [found[1] for found in ratios if found is not None]
    if not known or len(known) < len(ratios):
        raise DataError(
            f"a pilot of speed must have at least two curves that fall, got {len(curves)} curves and {len(known)} "
            f"comparable pairs of {len(ratios)}. Run the baseline with another seed, or for longer."
        )
    variance = float(np.mean(np.square(known)))  # around 0: neither run of a pair comes first
    level, aim = LEVEL / comparisons, -math.log1p(-faster)

    def found_with(n: int) -> float:
        return VarianceParts(variance / n, 0.0, 0.0, n, _ENDLESS).detectable(level)

    detectable = -math.expm1(-found_with(seeds))
    more = _least(lambda n: found_with(n) <= aim, seeds, MOST_SEEDS)
    learned = f"{len(curves)} runs of the baseline"
    return Power(
        seeds, None, faster, detectable, more, None, learned, _sentence(detectable, faster, seeds, None, more, None)
    )


def _plan(
    components: Components, mean: float, seeds: int, items: int, effect: float, comparisons: int, learned: str
) -> Power:
    if seeds < 2 or items < 2 or not effect > 0 or not mean > 0:
        raise DataError(
            f"a plan must have `seeds` and `items` of at least 2, `effect` and the baseline's mean above 0, got "
            f"{seeds}, {items}, {effect} and {mean}. One seed cannot tell a recipe from luck."
        )
    level, aim = LEVEL / comparisons, effect * mean

    def found_with(n_seeds: int, n_items: int) -> float:
        return VarianceParts.of(components, n_seeds, n_items).detectable(level)

    detectable = found_with(seeds, items) / mean
    more_seeds = _least(lambda n: found_with(n, items) <= aim, seeds, MOST_SEEDS)
    more_items = None
    if found_with(seeds, _ENDLESS) <= aim:
        more_items = _least(lambda n: found_with(seeds, n) <= aim, items, MOST_ITEMS)
    sentence = _sentence(detectable, effect, seeds, items, more_seeds, more_items)
    return Power(seeds, items, effect, detectable, more_seeds, more_items, learned, sentence)


def _least(fits: Callable[[int], bool], start: int, most: int) -> int | None:
    """The smallest number from `start` on that fits, where all larger ones do too; None above `most`."""
    if fits(start):
        return start
    low, high = start, min(2 * start, most)
    while not fits(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def _sentence(
    detectable: float, effect: float, seeds: int, items: int | None, more_seeds: int | None, more_items: int | None
) -> str:
    size = f"{seeds} seeds" if items is None else f"{seeds} seeds and {items} test rows"
    what = f"a saving of {saving(detectable)}" if items is None else f"an effect of {percent(detectable)} or more"
    if detectable < _ROUNDING:
        return f"The runs do not differ at all, so which {what.split()[1]} {size} would find is not known."
    if detectable <= effect:
        return f"{size} would find {what} in 4 of 5 comparisons."
    by_seeds = f"even {MOST_SEEDS} seeds do not suffice" if more_seeds is None else f"it takes {more_seeds} seeds"
    if items is None:
        takes = by_seeds
    elif more_items is None:
        takes = f"{by_seeds}, and no number of test rows suffices with {seeds} seeds"
    else:
        rows = f"but {more_items:,} test rows do" if more_seeds is None else f"or {more_items:,} test rows"
        takes = f"{by_seeds}, {rows}"
    worth = f"{percent(effect)} is worth finding"
    return f"Underpowered: {size} would find {what} in 4 of 5 comparisons, and {worth}; {takes}."
