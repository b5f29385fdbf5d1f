"""The best trial, trained anew: with fresh seeds, beside the recipe and plain shuffling, judged on rows of their own.

It is a comparison like any other, in a folder of its own with its own page, and can be extended like any other. The
verdict on the best trial against the recipe takes the recipe for the baseline; everything else is `compare`'s own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from campus_tune.compare import detectable
from campus_tune.compare.arms import RANDOM, RECIPE, make_arms
from campus_tune.compare.campaign import Campaign
from campus_tune.compare.plan import Plan
from campus_tune.compare.search.space import Point, Space
from campus_tune.compare.trainings import Makes
from campus_tune.compare.verdict import Judgement, Verdict, judge
from campus_tune.compare.verdict_file import write_verdict
from campus_tune.data.held_out import HeldOut
from campus_tune.words.types import Json

FOLDER = "compare"  # in a search's folder


def arms_of_best(space: Space, point: Point, name: str) -> Mapping[str, Json]:
    """What a comparison asks for: plain shuffling, the recipe, and the best trial as a change of it.

    Args:
        space: that was searched.
        point: the best trial's.
        name: of it as an arm.
    """
    block = space.block_of(point)
    return {RANDOM: {}, RECIPE: {}, name: {key: block[key] for key in block if block[key] != space.block.get(key)}}


def plan_of_best(judging: Plan, space: Space, point: Point, name: str) -> Plan:
    """The plan of that comparison.

    Args:
        judging: one without the best trial.
        space: that was searched.
        point: the best trial's.
        name: of it as an arm.
    """
    return replace(judging, arms=tuple(make_arms(judging.block, arms_of_best(space, point, name))))


def confirm(campaign: Campaign, bench: Makes | None, test: HeldOut, name: str) -> tuple[Verdict, Judgement]:
    """All runs that are missing; the verdict, and that on the best trial against the recipe.

    Args:
        campaign: of the comparison.
        bench: of this process.
        test: rows that judge.
        name: of the best trial as an arm.

    Raises:
        CampusError: a run cannot be made; those that are finished are kept.
    """
    campaign.begin(test)
    campaign.train(["baseline"], bench)
    plans = detectable.from_baseline(campaign)
    detectable.say(campaign, plans)
    campaign.train(["recipe"], bench)
    verdict = write_verdict(campaign, plans)
    settings, arms = campaign.plan.settings, {arm.name: arm for arm in campaign.arms()}
    against = judge(
        [replace(arms[RECIPE], kind="baseline"), arms[name]],
        effect=settings.effect,
        faster=settings.speedup,
        tokens_tolerance=settings.tokens_tolerance,
    )
    return verdict, against.judgements[name]
