"""Shares: which part of a stage's rows each domain gets. Pure functions, from sizes to whole rows.

    natural    as many as there are
    tempered   ∝ n^(1/τ): the larger τ, the more alike
    fixed      as the recipe says
    at_least   none below a least share
    at_phase   which of them holds now, cross-faded where one phase ends and the next begins
    following  more of what training shows to be hard, or to be falling
    split      into whole rows, none above what there is

A stratum is a domain, or a cell (`cells`): nothing here knows which. Shares are float64 of shape (S,), sum 1.

>>> sizes = np.array([8000, 1500, 500])
>>> natural(sizes).tolist(), at_least(natural(sizes), 0.1).round(4).tolist()
([0.8, 0.15, 0.05], [0.7579, 0.1421, 0.1])
>>> split(tempered(sizes, 2), 100, sizes).tolist()
[59, 26, 15]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from campus_tune.method.thin import exactly, take
from campus_tune.words.errors import RecipeError
from campus_tune.words.registry import nearest
from campus_tune.words.types import FloatArray, IntArray
from campus_tune.words.wording import listed, shown

TOLERANCE = 1e-6  # what shares that people write may be off 1 by
NAMED = 10  # domains that a refusal lists
_ROUNDING = 1e-9


def natural(sizes: IntArray) -> FloatArray:
    """Each stratum's part of the rows: `n_s / N`.

    Args:
        sizes: rows of each stratum, shape (S,); at least one row in all.
    """
    return np.asarray(sizes / sizes.sum(), dtype=np.float64)


def tempered(sizes: IntArray, temperature: float) -> FloatArray:
    """Shares between natural (τ = 1) and equal (τ → ∞): `∝ n_s^(1/τ)`. A stratum without rows stays without.

    Args:
        sizes: rows of each stratum, shape (S,); at least one row in all.
        temperature: τ > 0.

    Raises:
        RecipeError: a temperature that is not above 0.

    Reference:
        Multilingual pretraining (mT5 takes 1/τ = 0.3, XLM-R likewise).
    """
    if not temperature > 0:
        raise RecipeError(f"`temperature` must be above 0, got {temperature!r}. Write 1 for natural, 2 for less so.")
    with np.errstate(divide="ignore"):
        logs = np.log(sizes)  # −inf without rows
    parts = np.exp((logs - logs.max()) / temperature)
    return np.asarray(parts / parts.sum(), dtype=np.float64)


def fixed(shares: Mapping[str, float], names: Sequence[str], *, what: str = "shares") -> FloatArray:
    """The shares that a recipe writes, in the sequence of the domains; one that it does not name gets 0.

    >>> fixed({"math": 0.4, "code": 0.6}, ["chat", "code", "math"]).tolist()
    [0.0, 0.6, 0.4]

    Args:
        shares: domain → share.
        names: of the domains that the rows have.
        what: the setting's name in messages.

    Raises:
        RecipeError: a domain that no row has, a share below 0, or a sum that is not 1; all of them together.
    """
    known = f"of the domains {listed(names, NAMED)}"
    problems = [
        f"`{what}` must be {known}, got {name!r}.{nearest(str(name), names)} Correct or remove it."
        for name in shares
        if name not in names
    ]
    problems += [
        f"`{what}: {name}` must be a share in [0, 1], got {shown(value)}. Write such a number."
        for name, value in shares.items()
        if not 0 <= value <= 1
    ]
    total = math.fsum(shares.values())
    if not problems and abs(total - 1) > TOLERANCE:
        advice = "Scale them" if total > 0 else "Give a domain a share"
        problems.append(f"`{what}` must sum to 1, got {total:.6g} from {shown(dict(shares))}. {advice}.")
    if problems:
        raise RecipeError(problems)
    given = np.array([shares.get(name, 0.0) for name in names], dtype=np.float64)
    return np.asarray(given / given.sum(), dtype=np.float64)


def at_least(shares: FloatArray, least: float) -> FloatArray:
    """Lift every share to `least`, scale the others down, and again, until none is below.

    Args:
        shares: shape (S,), sum 1.
        least: in [0, 1/S].

    Raises:
        RecipeError: so much that S of them are more than 1.
    """
    n = len(shares)
    if not 0 <= least * n <= 1 + _ROUNDING:
        raise RecipeError(
            f"`least` must be in [0, {1 / n:.4g}] with {n} domains, got {least!r}. Lower it: {n} times it is above 1."
        )
    lifted = shares.copy()
    low = np.zeros(n, dtype=np.bool_)
    while (below := (lifted < least - 1e-12) & ~low).any():
        low |= below
        lifted[low] = least
        if not low.all():
            lifted[~low] *= (1 - least * np.count_nonzero(low)) / lifted[~low].sum()
    return lifted


@dataclass(frozen=True, eq=False)
class SharePhase:
    """Some of a run, and the shares that hold in it.

    Args:
        until: progress in (0, 1] at which the next one begins.
        shares: shape (S,), sum 1; None for natural ones.
        overlap: progress over which this phase and the next are cross-faded, half of it before `until`.
    """

    until: float
    shares: FloatArray | None = None
    overlap: float = 0.0

    @property
    def fade(self) -> tuple[float, float]:
        """Where its end begins, and where it is over."""
        return self.until - self.overlap / 2, self.until + self.overlap / 2


def check_phases(phases: Sequence[SharePhase]) -> None:
    """Phases follow each other up to 1, and no overlap reaches into another one.

    Raises:
        RecipeError: they do not.
    """
    untils = [phase.until for phase in phases]
    if not untils or not all(a < b for a, b in pairwise([0.0, *untils])) or untils[-1] != 1:
        raise RecipeError(f"`until` of the phases must rise and end at 1, got {untils}. Order them.")
    if phases[-1].overlap:
        raise RecipeError(
            f"`overlap` of the last phase must be 0, got {phases[-1].overlap!r}. Remove it: it belongs to a phase that "
            "another one follows."
        )
    before = 0.0  # where the overlap before is over
    for phase in phases:
        begin, end = phase.fade
        if phase.overlap < 0 or before > begin + _ROUNDING or end > 1 + _ROUNDING:
            raise RecipeError(
                f"`overlap` of the phase until {phase.until:g} must be at least 0, begin after {before:g}, where what "
                f"was before is over, and be over by 1, got {phase.overlap!r}, from {begin:g} to {end:g}. Shorten one."
            )
        before = end


def at_phase(phases: Sequence[SharePhase], natural: FloatArray, u: float) -> FloatArray:
    """The shares that hold at a moment: those of its phase; a mixture inside an overlap.

    With o the overlap of the phase that ends, `t = (u − (until − o/2)) / o` goes from 0 to 1 while `(1 − t)·this +
    t·next` holds. Without overlap the next phase holds from `until` on.

    Args:
        phases: in sequence, checked (`check_phases`).
        natural: shares of a phase that says none, shape (S,).
        u: progress in [0, 1].
    """
    shares = [natural if phase.shares is None else phase.shares for phase in phases]
    index = next((i for i, phase in enumerate(phases) if u < phase.fade[1]), len(phases) - 1)
    begin, _ = phases[index].fade
    if u <= begin or index == len(phases) - 1:
        return shares[index].copy()
    t = (u - begin) / phases[index].overlap
    return (1 - t) * shares[index] + t * shares[index + 1]


def following(natural: FloatArray, signal: FloatArray, *, kept: float = 0.2) -> FloatArray:
    """Shares that go where a signal is: `kept·natural + (1 − kept)·natural·signal / Σ natural·signal`.

    The signal is what training shows for nothing: the loss of a cell's rows, or its fall between a slow and a fast
    mean. On tiny models it hardly hurt, and helped where rows come again or answers are partly wrong.

    Args:
        natural: shape (S,), sum 1.
        signal: shape (S,); below 0 counts as 0, NaN (nothing known) as the mean of the known. Where nothing is above
            0 the shares are the natural ones.
        kept: part of the rows that stays natural, in [0, 1], so that none is starved and the signal stays alive.

    Reference:
        *Differs from* DoReMi, ODM: no reference model, no weights that add up over time: what is known now, alone.
    """
    known = np.isfinite(signal) & (natural > 0)
    pull = np.where(known, np.maximum(np.where(known, signal, 0.0), 0.0), 0.0)
    if not (natural * pull).sum() > 0:
        return natural.copy()
    pull = np.where(known, pull, (natural * pull).sum() / natural[known].sum())
    drawn = natural * (pull / pull.max())
    mixed: FloatArray = kept * natural + (1 - kept) * drawn / drawn.sum()
    return mixed


def split(shares: FloatArray, n: int, most: IntArray, u: float | None = None) -> IntArray:
    """`n` rows divided by shares, in whole rows, none above what a stratum has.

    By largest remainder where nothing is random. A stage of few rows would always leave out the same strata then, those
    whose share is less than a row; with `u` each remainder is the chance of one more row, and over stages shares hold.

    What one cannot give goes to the others in proportion to their shares; if none of these has any left, to those
    whose share is 0, in proportion to what they have.

    Args:
        shares: shape (S,), at least 0; only their proportions count.
        n: rows.
        most: rows that each stratum can give, shape (S,).
        u: in [0, 1), spread evenly over stages; None for largest remainder.

    Returns:
        Shape (S,), sum `min(n, most.sum())`.
    """
    n = min(n, int(most.sum()))
    full = most <= 0
    exact = np.zeros(len(shares), dtype=np.float64)
    while (left := n - float(exact.sum())) > _ROUNDING * max(1, n):
        parts = np.where(full, 0.0, shares)
        if not parts.sum() > 0:
            parts = np.where(full, 0.0, most - exact)
        exact = np.where(full, most, exact + left * parts / parts.sum())
        over = ~full & (exact >= most)
        if not over.any():
            break
        full |= over
        exact = np.minimum(exact, most)
    return _whole(exact, n, most, u)


def _whole(exact: FloatArray, n: int, most: IntArray, u: float | None) -> IntArray:
    """Whole numbers that sum to n: the largest remainders rounded up first, equal ones by number, or by chance."""
    floor = np.floor(exact + _ROUNDING).astype(np.int64)
    remainder = np.where(floor < most, exact - floor, -np.inf)
    left = n - int(floor.sum())
    if u is not None and left:
        return floor + exactly(take(np.maximum(0.0, remainder), u), remainder, left)
    first = np.lexsort((np.arange(len(exact)), -remainder))
    floor[first[:left]] += 1
    return floor
