"""Does a small model's benchmark say what a larger one's does? Rank agreement of the arms, with an interval.

The arms that two bases share in the same situation are ranked by their loss at the end, plain shuffling among them;
controls and oracles are left out, for nobody chooses one of them. Kendall's τ_b is 1 where both rank alike, 0 by
chance, −1 where the one is the other's reverse. Its interval is over seeds: each base's seeds are drawn again, all arms
of a seed together, and means move by √(n/(n − 1)) of what the draws say, for n draws have (n − 1)/n of the variance.
With the three seeds and five arms of an expensive base this is an orientation, not a proof.

Reference:
    Kendall, "The treatment of ties in ranking problems", Biometrika 33, 1945.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from campus_tune.words.types import FloatArray, Json
from eval.situations.judged import BASELINE, ArmFound, Found

BASES = ("tasks", "text", "smol")  # the cheapest first
DRAWS = 9999


@dataclass(frozen=True)
class Agreement:
    """How far two bases rank the same arms alike.

    Args:
        situations: of the one and of the other base.
        arms: that both have, plain shuffling among them.
        value: τ_b; None where one base ranks nothing.
        low: lower end of its 95 % interval.
        high: upper end.
        seeds: of the one and of the other.
    """

    situations: tuple[str, str]
    arms: tuple[str, ...]
    value: float | None
    low: float | None
    high: float | None
    seeds: tuple[int, int]

    def to_mapping(self) -> Json:
        """The same as strict JSON takes it."""
        return {name: list(one) if isinstance(one, tuple) else one for name, one in vars(self).items()}


def transfers(found: Sequence[Found], *, draws: int = DRAWS, seed: int = 0) -> list[Agreement]:
    """Every situation that two bases share.

    Args:
        found: the judged situations.
        draws: of the bootstrap.
        seed: of the bootstrap; the same seed gives the same intervals.
    """
    told = []
    for i, one in enumerate(found):
        for other in found[i + 1 :]:
            pair = sorted((one, other), key=lambda each: BASES.index(each.base) if each.base in BASES else len(BASES))
            if one.base != other.base and plain_name(one) == plain_name(other):
                agreed = agreement(*pair, draws=draws, seed=seed)
                told += [] if agreed is None else [agreed]
    return told


def plain_name(found: Found) -> str:
    """The name of a situation without that of its base."""
    return found.name.removeprefix(f"{found.base}_")


def agreement(one: Found, other: Found, *, draws: int = DRAWS, seed: int = 0) -> Agreement | None:
    """Rank agreement of the arms that two situations share; None with fewer than two besides plain shuffling.

    Args:
        one: of the first base.
        other: of the second.
        draws: of the bootstrap.
        seed: of the bootstrap.
    """
    shared = [name for name in one.arms if name in other.arms]
    shared = [name for name in shared if all(_ranked(each.arms[name]) for each in (one, other))]
    if len(shared) < 2:
        return None
    effects = [effects_of(each, shared) for each in (one, other)]
    rng = np.random.default_rng(seed)
    drawn = [means_drawn(each, draws, rng) for each in effects]
    taus = kendall(*drawn)
    value = float(kendall(*(each.mean(1)[None] for each in effects))[0])
    known = np.isfinite(taus).all() and min(each.shape[1] for each in effects) > 1
    low, high = np.quantile(taus, (0.025, 0.975)).tolist() if known else (None, None)
    return Agreement(
        (one.name, other.name),
        (BASELINE, *shared),
        value if np.isfinite(value) else None,
        low,
        high,
        (effects[0].shape[1], effects[1].shape[1]),
    )


def _ranked(arm: ArmFound) -> bool:
    return arm.kind in ("recipe", "plus") and arm.difference is not None and bool(arm.difference.by_seed)


def effects_of(found: Found, arms: Sequence[str]) -> FloatArray:
    """Difference to plain shuffling of each arm with each seed that all of them have, shape (A + 1, S).

    Args:
        found: a situation.
        arms: of it; plain shuffling comes first, and is 0.
    """
    seeds = [seed for seed in found.seeds if all(seed in found.arms[name].seeds for name in arms)]
    lines = [[0.0] * len(seeds)]
    for name in arms:
        arm = found.arms[name]
        assert arm.difference is not None
        by_seed = dict(zip(arm.seeds, arm.difference.by_seed, strict=True))
        lines.append([by_seed[seed] for seed in seeds])
    return np.array(lines)


def means_drawn(effects: FloatArray, draws: int, rng: np.random.Generator) -> FloatArray:
    """Means over seeds that are drawn again, shape (B, A).

    Args:
        effects: shape (A, S).
        draws: B.
        rng: of the draws.
    """
    n = effects.shape[1]
    means = effects.mean(1)
    drawn: FloatArray = effects[:, rng.integers(n, size=(draws, n))].mean(-1).T  # (B, A)
    return means + (drawn - means) * np.sqrt(n / max(1, n - 1))


def kendall(a: FloatArray, b: FloatArray) -> FloatArray:
    """Kendall's τ_b of each line of two arrays, NaN where a line does not vary.

    >>> kendall(np.array([[1.0, 2, 3]]), np.array([[1.0, 3, 2]])).round(3).tolist()
    [0.333]

    Args:
        a: shape (B, A).
        b: the same.
    """
    first, second = np.triu_indices(a.shape[1], 1)
    signs = [np.sign(each[:, first] - each[:, second]) for each in (a, b)]
    untied = np.sqrt((signs[0] != 0).sum(1) * (signs[1] != 0).sum(1))
    with np.errstate(invalid="ignore"):
        return np.asarray((signs[0] * signs[1]).sum(1) / untied, dtype=np.float64)
