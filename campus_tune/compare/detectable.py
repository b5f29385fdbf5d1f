"""Which effect a comparison could find, before it is made: from an earlier one, or from its runs of the baseline."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from campus_tune.compare.campaign import Campaign
from campus_tune.compare.file_shapes import VERDICT as VERDICT_SHAPE
from campus_tune.compare.plan import Plan
from campus_tune.compare.verdict import (
    FINISHED,
    REWARD,
    Power,
    Verdict,
    arm_of,
    from_difference,
    from_pilot,
    speed_from_pilot,
)
from campus_tune.words.errors import DataError
from campus_tune.words.json_shapes import read_json

VERDICT = "verdict.json"
NOTHING = "the default expectation is no difference"


def from_earlier(folder: Path, plan: Plan) -> list[Power]:
    """What an earlier comparison, by its folder, says of one of this size, recipe by recipe.

    Raises:
        DataError: no verdict is there, or none that says how much seeds and rows differ.
    """
    path = folder / VERDICT
    try:
        verdict = Verdict.from_mapping(read_json(path, VERDICT_SHAPE))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # other JSON than a verdict's
        raise DataError(
            f"`--earlier` must be the folder of a finished comparison, got {str(folder)!r} ({error}). Name another one."
        ) from error
    settings, n = plan.settings, _recipes(plan)
    found = [one.difference for one in verdict.judgements.values() if one.kind == "recipe" and one.verdict]
    plans = [
        from_difference(one, seeds=len(settings.seeds), effect=settings.effect, comparisons=n)
        for one in found
        if one is not None
    ]
    if not plans:
        raise DataError(f"`--earlier` must have a verdict on a recipe, got none in {path}. Plan with --pilot instead.")
    return plans


def from_baseline(campaign: Campaign) -> list[Power]:
    """What the finished runs of the baseline say, of the end and of speed; nothing of fewer than two.

    Where their loss did not fall, speed is left out: the verdict will say so, and it is no reason to stop.
    """
    plan, settings = campaign.plan, campaign.plan.settings
    done = [one for one in campaign.results(plan.baseline.name) if one["status"] == FINISHED]
    if len(done) < 2:
        return []
    pilot, n, seeds = arm_of(done), _recipes(plan), len(settings.seeds)
    measure, way = pilot.measure, "rise" if pilot.measure == REWARD else "fall"
    plans = []
    if pilot.end.mean() > 0:
        plans.append(from_pilot(pilot.end, seeds=seeds, effect=settings.effect, comparisons=n, measure=measure))
    else:
        campaign.say(f"which effect could be found is not known: the mean {measure} of `random` is not above 0")
    with suppress(DataError):
        plans.append(speed_from_pilot(pilot.curves, seeds=seeds, faster=settings.speedup, comparisons=n))
    if not any(one.n_items is None for one in plans):
        campaign.say(
            f"which saving could be found is not known: the {measure} of `random` did not {way} with every seed"
        )
    return plans


def say(campaign: Campaign, plans: list[Power]) -> None:
    """Tell what could be found, and what to expect."""
    for power in plans:
        campaign.say(power.sentence)
    if len(campaign.plan.settings.seeds) == 1:
        campaign.say("there will be no verdict: one seed cannot tell a recipe from luck. Run at least three: --seeds 3")
    elif not plans:
        campaign.say("which effect could be found is not known from fewer than two finished runs of `random`")
    campaign.say(NOTHING)


def _recipes(plan: Plan) -> int:
    """How many arms are judged together."""
    return max(1, sum(arm.kind in ("recipe", "plus") for arm in plan.arms))
