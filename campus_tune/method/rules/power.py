"""What probes can show: the smallest rise of a domain's loss that the rule of regressions finds in 80 of 100 cases.

A rise is `value ± stderr`, stderr = spread/√n over n rows, `spread` the paired spread of a row's relative change. It is
shown when its lower bound is above `over` at `hold` looks in a row. The best level is the mean of three measurements
and common to all looks, so of the error's variance a quarter is shared by them.

>>> [round(smallest_rise(n, 0.1), 3) for n in (8, 64, 512)]
[0.205, 0.072, 0.038]
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from campus_tune.method.estimates import change, quantile
from campus_tune.method.probe_history import NEIGHBOURS, ProbeHistory
from campus_tune.method.rules.base import LEVEL

POWER = 0.8
LOOKS = 20  # measurements that a usual run has

_SHARED = 1 / (NEIGHBOURS + 1)  # of the variance of a rise: that of the best level


def smallest_rise(
    n: int, spread: float, *, over: float = 0.02, level: float = LEVEL, hold: int = 2, looks: int = LOOKS
) -> float:
    """The true relative rise that is shown at `hold` looks in a row with a chance of 80 %; infinite for a single row.

    Args:
        n: probe rows of the domain.
        spread: paired spread of a row's relative change over the best level, weighed by its nats: `stderr·√n`.
        over: of the rule.
        level: of the rule, over the number of domains.
        hold: of the rule.
        looks: measurements that share the level.

    Returns:
        A little more than is needed: that the best level is the luckiest of many is left out, and helps.
    """
    if n < 2:
        return math.inf
    normal, grid = NormalDist(), np.linspace(-5, 5, 201)
    density = np.exp(-(grid**2) / 2) / np.exp(-(grid**2) / 2).sum()

    def chance(margin: float) -> float:
        """That all looks are above a bound that is `margin` standard errors below the truth."""
        own = (margin - math.sqrt(_SHARED) * grid) / math.sqrt(1 - _SHARED)
        return float(sum(weight * normal.cdf(x) ** hold for weight, x in zip(density, own, strict=True)))

    low, high = -5.0, 10.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if chance(middle) >= POWER else (middle, high)
    return over + (quantile(1 - level / looks, n - 1) + high) * spread / math.sqrt(n)


def power_line(measured: ProbeHistory, *, over: float = 0.02, hold: int = 2) -> dict[str, float]:
    """Domain → the smallest rise that its probes can show, by what the run itself has measured.

    From the second measurement on: until a domain has a best level, by the change since the measurement before, whose
    variance is that of two measurements and not of one and a third.

    Args:
        measured: the probes.
        over: of the rule.
        hold: of the rule.
    """
    if len(measured.recent) < 2:
        return {}
    found, before, now = {}, measured.recent[-2], measured.recent[-1]
    for name in sorted(now):
        if name in measured.last.rise:
            stderr = measured.last.rise[name].stderr
        elif name in before and before[name].nll.any():
            stderr = change(before[name].nll, now[name].nll).stderr * math.sqrt((1 + 1 / NEIGHBOURS) / 2)
        else:
            continue
        n = len(now[name].ids)
        level, looks = LEVEL / len(now), len(measured)
        found[name] = smallest_rise(n, stderr * math.sqrt(n), over=over, level=level, hold=hold, looks=looks)
    return found
