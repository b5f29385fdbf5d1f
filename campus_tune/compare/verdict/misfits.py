"""Do two arms bear a comparison? Every reason why not, as a clause that completes "No verdict: …"."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from campus_tune.compare.verdict.inputs import REWARD, ArmResults, ItemValues

FEWEST_ITEMS = 30
TOKENS_TOLERANCE = 0.01
_NOT_OF_PLUS = ("steps", "learning_rates")  # an arm that is given more compute takes more steps


def misfits(arm: ArmResults, base: ArmResults, *, tokens_tolerance: float = TOKENS_TOLERANCE) -> list[str]:
    """Why two arms cannot be compared, whatever was measured.

    Args:
        arm: whose runs.
        base: what they are compared with.
        tokens_tolerance: by which share their trained tokens may differ, ≥ 0; of arms that are trained by reward the
            steps are equal, and the tokens are what the answers were long.
    """
    reasons = [*_about_divergence(arm), *_about_divergence(base), *_about_seeds(arm, base)]
    both = [(seed, arm.seeds.index(seed), i) for i, seed in enumerate(base.seeds) if seed in arm.seeds]
    plus = "plus" in (arm.kind, base.kind)
    differ: dict[str, list[int]] = {}  # what all arms of a seed must have in common, and the seeds where they do not
    for seed, i, j in both if arm.shared and base.shared else ():
        mine, theirs = arm.shared[i], base.shared[j]
        for key in dict.fromkeys((*mine, *theirs)):
            if not (plus and key in _NOT_OF_PLUS) and mine.get(key) != theirs.get(key):
                differ.setdefault(key, []).append(seed)
    reasons += [
        f"{arm.name} and {base.name} differ in `{key}` (seed {', '.join(map(str, seeds))}), which all arms must share"
        for key, seeds in differ.items()
    ]
    if len(arm.trained) and len(base.trained) and not plus and arm.measure != REWARD:  # of which steps are equal
        apart = [(abs(arm.trained[i] / max(base.trained[j], 1) - 1), seed, i, j) for seed, i, j in both]
        off, seed, i, j = max(apart, default=(0.0, 0, 0, 0))
        if off > tokens_tolerance:
            reasons.append(
                f"{arm.name} trained {arm.trained[i]:,.0f} tokens and {base.name} {base.trained[j]:,.0f} with seed "
                f"{seed}: {off:.1%} apart, where {tokens_tolerance:.1%} is allowed"
            )
    return reasons


def misfits_of(a: ItemValues, b: ItemValues) -> list[str]:
    """Why two measurements cannot be compared. Other items come first: then not even a difference can be shown."""
    if not (len(a.values) and len(b.values)):
        return []  # no seed finished, which has been said
    if not same_items(a, b):
        return ["the two arms were measured on other test items"]
    few = a.n_items < FEWEST_ITEMS
    return [f"{a.n_items} test items are fewer than the {FEWEST_ITEMS} that an interval takes"] if few else []


def same_items(a: ItemValues, b: ItemValues) -> bool:
    """The same items in the same sequence, with the same weights and domains."""
    return (
        a.n_items == b.n_items
        and a.items == b.items
        and a.domains == b.domains
        and bool((a.domain == b.domain).all() and (a.weights == b.weights).all())
    )


def _about_divergence(arm: ArmResults) -> Iterator[str]:
    if arm.diverged:
        seeds = sorted(arm.diverged)
        named = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
        yield f"{arm.name} diverged with {named}, and leaving such a run out would flatter the arm"


def _about_seeds(arm: ArmResults, base: ArmResults) -> Iterator[str]:
    for one in (arm, base):
        losses = one.end.values
        same = combinations(range(len(one.seeds)), 2) if losses.size else ()
        equal = [(one.seeds[i], one.seeds[j]) for i, j in same if np.array_equal(losses[i], losses[j])]
        if one.measure == REWARD:  # all prompts may be passed, or none: not a sign of one draw told twice
            equal = []
        if len(set(one.seeds)) < len(one.seeds):
            yield f"{one.name} has a seed twice ({', '.join(map(str, one.seeds))}), which is no second draw"
        elif equal:
            seeds = min(equal, key=lambda pair: one.seeds.index(pair[1]))
            yield f"seeds {seeds[0]} and {seeds[1]} of {one.name} ended with exactly the same losses, so one is no draw"
    missing = sorted((set(base.seeds) ^ set(arm.seeds)) - set(arm.diverged) - set(base.diverged))
    if missing:
        yield f"only one of {arm.name} and {base.name} has seed {', '.join(map(str, missing))}"
    elif len({*arm.seeds, *base.seeds, *arm.diverged, *base.diverged}) < 2:
        yield "one seed cannot tell a recipe from luck; run at least three"
