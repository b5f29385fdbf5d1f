"""Do two arms bear a comparison? Every reason why not, as a clause that completes "No verdict: …"."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from campus_tune.compare.verdict.inputs import Arm, Measured

FEWEST_ITEMS = 30
TOKENS_TOLERANCE = 0.01
_NOT_OF_PLUS = ("steps", "learning_rates")  # an arm that is given more compute takes more steps


def misfits(arm: Arm, base: Arm, *, tokens_tolerance: float = TOKENS_TOLERANCE) -> list[str]:
    """Why two arms cannot be compared, whatever was measured.

    Args:
        arm: whose runs.
        base: what they are compared with.
        tokens_tolerance: by which share their trained tokens may differ, ≥ 0.
    """
    reasons = [*_about_divergence(arm), *_about_divergence(base), *_about_seeds(arm, base)]
    return [*reasons, *_about_shared(arm, base), *_about_tokens(arm, base, tokens_tolerance)]


def misfits_of(a: Measured, b: Measured) -> list[str]:
    """Why two measurements cannot be compared. Other items come first: then not even a difference can be shown."""
    if not (len(a.values) and len(b.values)):
        return []  # no seed finished, which has been said
    if not same_items(a, b):
        return ["the two arms were measured on other test items"]
    few = a.n_items < FEWEST_ITEMS
    return [f"{a.n_items} test items are fewer than the {FEWEST_ITEMS} that an interval takes"] if few else []


def same_items(a: Measured, b: Measured) -> bool:
    """The same items in the same sequence, with the same weights and domains."""
    return (
        a.n_items == b.n_items
        and a.items == b.items
        and a.domains == b.domains
        and bool((a.domain == b.domain).all() and (a.weights == b.weights).all())
    )


def _about_divergence(arm: Arm) -> Iterator[str]:
    if arm.diverged:
        seeds = sorted(arm.diverged)
        named = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
        yield f"{arm.name} diverged with {named}, and leaving such a run out would flatter the arm"


def _about_seeds(arm: Arm, base: Arm) -> Iterator[str]:
    for one in (arm, base):
        if len(set(one.seeds)) < len(one.seeds):
            yield f"{one.name} has a seed twice ({', '.join(map(str, one.seeds))}), which is no second draw"
        elif (pair := _equal_seeds(one)) is not None:
            yield f"seeds {pair[0]} and {pair[1]} of {one.name} ended with exactly the same losses, so one is no draw"
    missing = sorted((set(base.seeds) ^ set(arm.seeds)) - set(arm.diverged) - set(base.diverged))
    if missing:
        yield f"only one of {arm.name} and {base.name} has seed {', '.join(map(str, missing))}"
    elif len({*arm.seeds, *base.seeds, *arm.diverged, *base.diverged}) < 2:
        yield "one seed cannot tell a recipe from luck; run at least three"


def _equal_seeds(arm: Arm) -> tuple[int, int] | None:
    """Two seeds with the same losses of all items."""
    values = arm.end.values
    if values.size:
        for i, seed in enumerate(arm.seeds):
            for j in range(i):
                if np.array_equal(values[i], values[j]):
                    return arm.seeds[j], seed
    return None


def _places(arm: Arm, base: Arm) -> list[tuple[int, int, int]]:
    """The seeds that both finished: seed, place in `arm`, place in `base`."""
    return [(seed, arm.seeds.index(seed), i) for i, seed in enumerate(base.seeds) if seed in arm.seeds]


def _about_shared(arm: Arm, base: Arm) -> Iterator[str]:
    """What all arms of a seed must have in common."""
    ignored = _NOT_OF_PLUS if "plus" in (arm.kind, base.kind) else ()
    differ: dict[str, list[int]] = {}
    for seed, i, j in _places(arm, base) if arm.shared and base.shared else ():
        mine, theirs = arm.shared[i], base.shared[j]
        for key in dict.fromkeys((*mine, *theirs)):
            if key not in ignored and mine.get(key) != theirs.get(key):
                differ.setdefault(key, []).append(seed)
    for key, seeds in differ.items():
        named = ", ".join(map(str, seeds))
        yield f"{arm.name} and {base.name} differ in `{key}` (seed {named}), which all arms must share"


def _about_tokens(arm: Arm, base: Arm, tolerance: float) -> Iterator[str]:
    if not (len(arm.trained) and len(base.trained)) or "plus" in (arm.kind, base.kind):
        return
    apart = [(abs(arm.trained[i] / max(base.trained[j], 1) - 1), seed, i, j) for seed, i, j in _places(arm, base)]
    off, seed, i, j = max(apart, default=(0.0, 0, 0, 0))
    if off > tolerance:
        yield (
            f"{arm.name} trained {arm.trained[i]:,.0f} tokens and {base.name} {base.trained[j]:,.0f} with seed {seed}: "
            f"{off:.1%} apart, where {tolerance:.1%} is allowed"
        )
