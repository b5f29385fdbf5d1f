"""What some controls have of the recipe's own run with their seed: the settings do not say it, the run has recorded it.

    mean_shares       its shares on average
    stacked           the same, where its phases do not say them
    replayed_choices  its sub-curricula, as often, in another sequence

Such an arm awaits that run, and is trained after it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from campus_tune.compare.told_only import actions_of, noting
from campus_tune.method.stages import SHUFFLE
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.draw_blocks import TEMPERATURE, DomainSettings, PhaseSettings
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json

MEAN_SHARES, STACKED, REPLAYED = "mean_shares", "stacked", "replayed_choices"
_SALT = 0x5EC  # of the sequence of choices


@dataclass(frozen=True)
class OfRun:
    """How an arm comes to what the recipe's run has recorded.

    Args:
        whose: that run, for messages.
        read: from a result's choices and its seed, what is recorded.
        put: into a campus block.
    """

    whose: str
    read: Callable[[Sequence[Json], int], Json]
    put: Callable[[Json, Json], Json]


def awaits_run(name: str, config: CampusConfig) -> bool:
    """An arm of this name has something that only the recipe's run says.

    Args:
        name: of the arm.
        config: of the recipe.
    """
    return name in OF_RUN and (name == REPLAYED or shares_of_settings(config) is None)


# -- shares on average -------------------------------------------------------------------------------------------------


def with_shares(name: str, block: Json, shares: Mapping[str, float]) -> Json:
    """The block of `mean_shares` or `stacked` with its shares in it.

    Args:
        name: of the control.
        block: the campus block of the recipe.
        shares: of the strata, on average over the run.
    """
    domains = {**(block.get("domains") or {}), "shares": dict(shares), "least": 0.0}
    domains |= {name: None for name in ("follow", "reweight") if name in domains}
    block = noting(block, ["raise"])
    return {**(_with_phases(block, None) if name == STACKED else without_shares(block)), "domains": domains}


def shares_of_settings(config: CampusConfig) -> dict[str, float] | None:
    """The average of a recipe's shares over its run, where its settings say it; None where only the run can.

    An overlap moves nothing: what one phase loses in it is what the other loses.
    """
    phases: Sequence[PhaseSettings] = config.phases or ()
    domains = config.domains or DomainSettings()
    mean: dict[str, float] = {}
    if not phases or domains.least or domains.follow is not None or domains.reweight is not None:
        return None
    if actions_of(config) & {"next_phase", "raise"}:
        return None
    for phase, (begin, end) in zip(phases, pairwise([0.0, *(phase.until for phase in phases)]), strict=True):
        if not isinstance(phase.shares, Mapping) or list(phase.shares) == [TEMPERATURE]:
            return None
        for name, share in phase.shares.items():
            mean[name] = mean.get(name, 0.0) + (end - begin) * share
    return _to_one(mean)


def untold_shares(config: CampusConfig) -> bool:
    """Shares that are weights, and whose average neither the settings nor the run's draws say."""
    return config.draw.counts_in_shares and shares_of_settings(config) is None


def shares_of_run(choices: Sequence[Json]) -> dict[str, float]:
    """The same from a run's own record: each stage's shares, by its rows.

    Args:
        choices: of a result: stages with `rows` and `shares`.

    Raises:
        RecipeError: the run kept no shares.
    """
    mean: dict[str, float] = {}
    for choice in choices:
        for name, share in (choice.get("shares") or {}).items():
            mean[name] = mean.get(name, 0.0) + share * choice["rows"]
    if not sum(mean.values()) > 0:
        raise RecipeError(
            "`mean_shares` and `stacked` must have the shares of the recipe's run, got a result that has none. Delete "
            "its folder: the run is repeated."
        )
    return _to_one(mean)


def _to_one(shares: Mapping[str, float]) -> dict[str, float]:
    total = math.fsum(shares.values())
    return {name: share / total for name, share in shares.items()}


def without_shares(block: Json) -> Json:
    """The block without what its phases say of shares; without phases, if they say nothing else."""
    phases = block.get("phases") or []
    kept = [{key: value for key, value in phase.items() if key not in ("shares", "overlap")} for phase in phases]
    return _with_phases(block, kept if any(set(phase) > {"until"} for phase in kept) else None)


def _with_phases(block: Json, phases: list[Json] | None) -> Json:
    """The block with other phases: without any, no rule ends one."""
    return {**(noting(block, ["next_phase"]) if phases is None else block), "phases": phases}


# -- choices -----------------------------------------------------------------------------------------------------------


def choices_of_run(choices: Sequence[Json], seed: int) -> list[str]:
    """The sub-curricula that a run has chosen, as often, in a random sequence.

    Args:
        choices: of a result: stages with `chosen`.
        seed: of the run.

    Returns:
        One for each stage up to the last that was chosen; for a stage that was shuffled, where nobody asks, any.

    Raises:
        RecipeError: the run chose none.
    """
    stages = [choice["chosen"] for choice in choices]
    chosen = [i for i, name in enumerate(stages) if name != SHUFFLE]
    if not chosen:
        raise RecipeError(
            f"`{REPLAYED}` must have the choices of the recipe's run, got a result that has none. Delete its folder: "
            "the run is repeated."
        )
    stages = [choices[chosen[0]]["chosen"] if name == SHUFFLE else name for name in stages]
    for i, other in zip(chosen, np.random.default_rng([seed, _SALT]).permutation(chosen).tolist(), strict=True):
        stages[i] = choices[other]["chosen"]
    return stages[: chosen[-1] + 1]


OF_RUN: Mapping[str, OfRun] = {
    MEAN_SHARES: OfRun(
        "whose shares this arm averages",
        lambda choices, _: {"shares": shares_of_run(choices)},
        lambda block, recorded: with_shares(MEAN_SHARES, block, recorded["shares"]),
    ),
    STACKED: OfRun(
        "whose shares this arm averages",
        lambda choices, _: {"shares": shares_of_run(choices)},
        lambda block, recorded: with_shares(STACKED, block, recorded["shares"]),
    ),
    REPLAYED: OfRun(
        "whose choices this arm replays",
        lambda choices, seed: {"choices": choices_of_run(choices, seed)},
        lambda block, recorded: {**block, "selector": {"name": "replayed", **recorded}},
    ),
}
