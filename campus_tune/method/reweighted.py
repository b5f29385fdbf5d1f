"""What a reweighting has come to so far: shares that its bound holds back, and the average that a second run draws by.

Both are functions of a steering's record, as its shares are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from campus_tune.method.steering import Steering
from campus_tune.words.types import FloatArray
from campus_tune.words.wording import listed

IN_A_ROW = 5  # changes of shares, at its bound after each of which a share is told
NAMED = 5  # strata that a sentence names
_ROUNDING = 1e-9


def at_most_five(steering: Steering, base: FloatArray) -> str | None:
    """That shares have been at their upper bound five changes in a row, as a sentence; None where no other one has.

    Asked before each stage it speaks once of each row of changes: at the fifth.

    Args:
        steering: with its record.
        base: what is drawn without it, shape (S,).
    """
    before = steering.at_stage(len(steering.history.stages) - 1)
    if steering.reweight is None or not (new := set(held_back(steering, base)) - set(held_back(before, base))):
        return None
    return (
        f"`reweight` gave {listed(sorted(new), NAMED)} the most that `most: {steering.reweight.most:g}` lets it have, "
        f"{IN_A_ROW} times in a row. Look at the rows: if they are right, write a larger share under `domains: "
        "shares`, or raise `most`."
    )


def held_back(steering: Steering, base: FloatArray) -> list[str]:
    """Strata whose share was above the one without steering, and as high as it could be, after the last five changes.

    Args:
        steering: with its record.
        base: what is drawn without it, shape (S,).
    """
    if steering.reweight is None:
        return []
    losses, every = steering.losses(), steering.reweight.every
    n = len(losses) // every
    if n < IN_A_ROW:
        return []
    changes = [losses.first(k * every) for k in range(n - IN_A_ROW + 1, n + 1)]
    shares, ceilings = (
        np.array([of(base, past, least=steering.least) for past in changes])
        for of in (steering.reweight.shares, steering.reweight.ceiling)
    )
    held = np.all((shares >= ceilings * (1 - _ROUNDING)) & (shares > base * (1 + _ROUNDING)), axis=0)
    return [name for name, is_held in zip(steering.names, np.atleast_1d(held).tolist(), strict=True) if is_held]


def mean_shares(steering: Steering, base_at: Callable[[int], FloatArray]) -> FloatArray:
    """The average of the shares over the run so far, by the steps of its stages, shape (S,); the base before the first.

    Args:
        steering: with its record.
        base_at: step → what is drawn from there on without steering, shape (S,): phases change it.
    """
    ends = [0, *(stage.end for stage in steering.history.stages)]
    if not ends[-1]:
        return base_at(0)
    drawn = [steering.at_stage(k).shares(base_at(step)) for k, step in enumerate(ends[:-1])]
    return np.asarray(np.average(drawn, axis=0, weights=np.diff(ends)), dtype=np.float64)
