"""How sure the values of groups are, over other seeds and other sequences than those that were drawn.

An interval is φ ± c·s, and c the mean of two of Student's t points, weighted by their shares in s² (Cochran and Cox),
as the verdict of a comparison has it. All groups are judged together, and so are all of them in all test domains:
intervals are wide enough to be right together in 95 of 100 cases (Bonferroni). Of one seed there is none: how far
another would move the values is not known.

*Where every set is trained*, seeds are all that chance has, and two or three of them say little of one group: t(2) is
9.9 for five groups. But every φᵢ weighs as many trainings in the same way, so what chance does to one it does to all,
unless it is a group that makes trainings chancy. With the seeds' mean taken off, all groups say how far it goes:

    φᵢₛ = φᵢ + bₛ + eᵢₛ        V = MS_b / (G·S) + MS_e · (G − 1) / (G·S)

with the mean squares of seeds, S − 1 degrees of freedom, and of the rest, (G − 1)(S − 1); s is the larger of √V and the
group's own standard error, which guards against such a group. Simulated with no value at all, 3 and 5 groups, 2, 3 and
5 seeds, and noise that is independent, of seeds, larger for small sets, or ten times larger for one group: some
interval left out the truth in 0.2 to 4.7 % of cases; own errors alone make it 5 %, with intervals up to three times as
wide. √V alone would have 21 % where one group is chancy.
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
    n_groups, n_columns = found.values.shape
    n, n_seeds = len(walk.units), len({unit.seed for unit in walk.units})
    if n_seeds < 2:
        nothing = np.full(found.values.shape, np.nan)
        return nothing, nothing
    if walk.exact:
        of_seeds, rest = _mean_squares(np.stack([unit.gains for unit in walk.units]))
        seeds, others = of_seeds / (n_groups * n), rest * (n_groups - 1) / (n_groups * n)  # (V,)
        df = (n_groups - 1) * (n - 1)
    else:
        seeds, others = (np.nan_to_num(error**2).mean(0) for error in (found.by_seed, found.by_sequence))
        df = n - n_seeds or n - 1  # where each seed has one sequence, their error is that of both
    error = np.maximum(found.stderr, np.sqrt(seeds + others))
    share = seeds / np.maximum(seeds + others, _TINY)
    together = n_groups * np.append(1, np.full(n_columns - 1, max(1, n_columns - 1)))  # (V,)
    points = [stdtrit(degrees, 1 - LEVEL / 2 / together) for degrees in (n_seeds - 1, df)]
    half = (share * points[0] + (1 - share) * points[1]) * error
    return found.values - half, found.values + half


def _mean_squares(gains: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(MS_b, MS_e) of seeds × groups, shape (V,) each.

    Args:
        gains: shape (S, G, V).
    """
    n, n_groups, _ = gains.shape
    seeds = gains.mean(1)  # (S, V)
    rest = gains - seeds[:, None] - gains.mean(0) + gains.mean((0, 1))
    of_rest = (rest**2).sum((0, 1)) / ((n_groups - 1) * (n - 1))
    return np.asarray(n_groups * seeds.var(0, ddof=1)), np.asarray(of_rest)
