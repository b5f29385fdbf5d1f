"""How sure the values of groups are, over other seeds and other sequences than those that were drawn.

All trainings with one seed are one observation: φᵢₛ is group i's value with seed s, of all sets, or on average over the
sequences that were walked with it. Two or three seeds say little of one group (Student's t(2) is 9.9 for five groups).
But every φᵢₛ weighs many trainings in the same way, so what chance does to one it does to all, unless there is a group
that makes trainings chancy. With the seeds' mean taken off, all groups say how far it goes:

    φᵢₛ = φᵢ + bₛ + eᵢₛ        V = MS_b / (G·S) + MS_e · (G − 1) / (G·S)

with the mean squares of seeds, S − 1 degrees of freedom, and of the rest, (G − 1)(S − 1). An interval is φᵢ ± c·s: s
the larger of √V and the group's own standard error, which guards against a chancy group, and c the mean of two of
Student's t points, weighted by their shares in V (Cochran and Cox), as the verdict of a comparison has it. All groups
are judged together, and so are all of them in all test domains: intervals are wide enough to be right together in 95 of
100 cases (Bonferroni). Of one seed there is none: how far another would move the values is not known.

Simulated, how often some interval leaves out the truth:

    every set trained; 3 and 5 groups, 2, 3 and 5 seeds, nothing of any worth, and noise that is independent, of seeds,
    larger for small sets, or ten times larger for one group: 0.2 to 4.7 %. Own errors alone: 5 %, intervals up to
    three times as wide; √V alone: up to 21 % where one group is chancy.
    60 trainings of drawn sequences; 7, 9 and 12 groups of unequal worth that add less, more or by pairs, 5 seeds: at
    most 0.7 %, for every other sequence is the reverse of the one before, and the mean is surer than it looks. With
    sequences drawn one by one 12 %, and values that are off by a fifth to a half more.
"""

from __future__ import annotations

import numpy as np

from campus_tune.evaluate.paired import LEVEL
from campus_tune.method.shapley import CoalitionWalk
from campus_tune.words.types import FloatArray

_TINY = np.finfo(np.float64).tiny


def intervals(walk: CoalitionWalk) -> tuple[FloatArray, FloatArray]:
    """(low, high) of each value, shape (G, V) each; NaN where they cannot be told.

    Those of column 0 are right together in 95 of 100 cases, and so are those of all other columns.

    Args:
        walk: with the units that are known.
    """
    from scipy.special import stdtrit  # type: ignore[import-untyped]  # scipy ships no types

    found = walk.shapley()
    seeds = np.array([unit.seed for unit in walk.units])
    gains = np.stack([unit.gains for unit in walk.units])  # (n, G, V)
    by_seed = np.stack([gains[seeds == seed].mean(0) for seed in np.unique(seeds)])  # (S, G, V)
    n, n_groups, n_columns = by_seed.shape
    if n < 2:
        nothing = np.full(found.values.shape, np.nan)
        return nothing, nothing
    of_seeds = by_seed.mean(1)  # (S, V)
    rest = by_seed - of_seeds[:, None] - by_seed.mean(0) + by_seed.mean((0, 1))  # (S, G, V)
    common = of_seeds.var(0, ddof=1) / n  # MS_b / (G·S), shape (V,)
    alone = (rest**2).sum((0, 1)) / (n_groups * n * (n - 1))  # MS_e · (G − 1) / (G·S)
    error = np.maximum(by_seed.std(0, ddof=1) / np.sqrt(n), np.sqrt(common + alone))
    share = common / np.maximum(common + alone, _TINY)
    together = n_groups * np.append(1, np.full(n_columns - 1, max(1, n_columns - 1)))  # (V,)
    points = [stdtrit(df, 1 - LEVEL / 2 / together) for df in (n - 1, (n_groups - 1) * (n - 1))]
    half = (share * points[0] + (1 - share) * points[1]) * error
    return found.values - half, found.values + half
