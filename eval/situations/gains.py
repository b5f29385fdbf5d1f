"""How much of what could be gained was gained: an arm's gain as a share of the oracle's, with an interval.

With the losses per token of plain shuffling, of an arm and of the oracle (which leaves the wrong rows out, or knows the
true levels), each on the same seeds and test items,

    ρ = (shuffle − ours) / (shuffle − oracle) = G / P

A ratio of two means that vary together has no standard error worth the name, so the interval is Fieller's: all ρ at
which the contrast G − ρP is not told from 0. The test of that contrast is the one of every verdict (seeds and test
items both drawn again, `compare.verdict.bootstrap`); where seeds alone vary, it is Fieller's own formula. It follows
that there is no interval, and no share worth a word, where the oracle's own gain P is not told from 0.

    D(ρ) = G − ρP        V(ρ) = V_G − 2ρ·C + ρ²·V_P        C = (V_G + V_P − V_{G−P}) / 2        |D(ρ)| ≤ c(ρ)·√V(ρ)

The same three variances of the same draws give V at every ρ, for the seeds', the items' and the cells' part each.

Reference:
    Fieller, "Some problems in interval estimation", J. R. Stat. Soc. B 16, 1954.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from campus_tune.compare.verdict.bootstrap import RESAMPLES, VarianceParts, crossed_spread
from campus_tune.compare.verdict.inputs import ArmResults
from campus_tune.evaluate.paired import LEVEL
from campus_tune.words.types import FloatArray, Json

NO_GAIN = "the oracle's own gain is not told from 0"
ONE_SEED = "fewer than two seeds are finished in all three arms"
_FARTHEST = 1e6  # of an interval's end from the share


@dataclass(frozen=True)
class Share:
    """A share of the oracle's gain.

    Args:
        value: the share; None where the oracle gained nothing.
        low: lower end of its 95 % interval; None where there is none.
        high: upper end.
        gain: of the arm, nats per token.
        possible: of the oracle, likewise.
        n_seeds: that all three arms finished.
        refused: why there is no interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    gain: float | None = None
    possible: float | None = None
    n_seeds: int = 0
    refused: str | None = None

    def to_mapping(self) -> Json:
        """The same as strict JSON takes it."""
        return dict(vars(self))


def share_of_gain(
    ours: ArmResults, base: ArmResults, oracle: ArmResults, *, resamples: int = RESAMPLES, seed: int = 0
) -> Share:
    """An arm's gain as a share of the oracle's, on the seeds that all three finished.

    Args:
        ours: the arm.
        base: plain shuffling.
        oracle: the arm that knows.
        resamples: of the bootstrap.
        seed: of the bootstrap; the same seed gives the same interval.
    """
    seeds = [one for one in base.seeds if one in ours.seeds and one in oracle.seeds]
    if len(seeds) < 2:
        return Share(None, n_seeds=len(seeds), refused=ONE_SEED)
    mine, theirs, best = (
        arm.end.take([arm.seeds.index(one) for one in seeds]).values for arm in (ours, base, oracle)
    )  # (S, I) each
    weights = base.end.weights
    gains, possibles = theirs - mine, theirs - best
    per_token = len(seeds) * float(weights.sum())
    gain, possible = float(gains.sum()) / per_token, float(possibles.sum()) / per_token
    whole = [np.ones(len(weights), dtype=np.bool_)]
    contrasts = np.stack([gains, possibles, gains - possibles])
    spreads = [one for (one,) in crossed_spread(contrasts, weights, whole, resamples=resamples, seed=seed)]
    value = gain / possible if possible > 0 else None
    found = Share(value, gain=gain, possible=possible, n_seeds=len(seeds))
    if value is None or possible <= spreads[1].critical() * spreads[1].stderr:
        return Share(**{**vars(found), "refused": NO_GAIN})

    def beyond(share: float) -> float:
        """Above 0 where this share is told from the one that was found."""
        spread = spread_at(share, spreads)
        return abs(gain - share * possible) - spread.critical(LEVEL) * spread.stderr

    return Share(**{**vars(found), "low": _end(beyond, value, -1.0), "high": _end(beyond, value, 1.0)})


def spread_at(share: float, spreads: list[VarianceParts]) -> VarianceParts:
    """The spread of G − ρP.

    Args:
        share: ρ.
        spreads: of G, of P, and of G − P, from the same draws.
    """
    of_gain, of_possible, of_both = (np.array([one.seeds, one.items, one.cells]) for one in spreads)
    together: FloatArray = (of_gain + of_possible - of_both) / 2
    parts = np.maximum(of_gain - 2 * share * together + share**2 * of_possible, 0.0)  # rounding may leave less than 0
    return VarianceParts(*parts.tolist(), spreads[0].n_seeds, spreads[0].n_items)


def _end(beyond: Callable[[float], float], value: float, way: float) -> float | None:
    """The first share on this side of `value` that is told from it; None where none is."""
    from scipy.optimize import brentq

    step, inside = 1e-3, value
    while step < _FARTHEST:
        outside = value + way * step
        if beyond(outside) > 0:
            return float(brentq(beyond, inside, outside, xtol=1e-9)) if beyond(inside) < 0 else value
        inside, step = outside, 2 * step
    return None
