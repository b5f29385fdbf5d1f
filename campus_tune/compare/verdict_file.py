"""`verdict.json` of a comparison: the verdict on the runs that are there."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from campus_tune.compare.campaign import Campaign
from campus_tune.compare.detectable import VERDICT
from campus_tune.compare.verdict import Power, Verdict, judge
from campus_tune.words.files import atomic_write


def write_verdict(campaign: Campaign, planned: Sequence[Power]) -> Verdict:
    """Judge all runs, and write it down.

    Args:
        campaign: with its runs.
        planned: what was said before of what could be found.

    Raises:
        StorageError: it cannot be written.
    """
    from campus_tune.compare.proxy_agreement import of_comparison  # needs the trainer's libraries

    settings = campaign.plan.settings
    judged = judge(
        campaign.arms(),
        effect=settings.effect,
        faster=settings.speedup,
        tokens_tolerance=settings.tokens_tolerance,
    )
    told = tuple(one.to_mapping() for one in planned)
    verdict = replace(judged, planned=told, proxy=of_comparison(campaign.plan))
    content = json.dumps(verdict.to_mapping(), indent=1, allow_nan=False)
    atomic_write(campaign.plan.out / VERDICT, content + "\n")
    return verdict
