"""What bandits do that their names do not say: how many of their decisions can teach them anything.

    bandit_findings     from the settings alone
    few_decisions       once it is known how long the run is

What their rewards cost is in `reward_cost`. `check` prints all of it, and a run says the same before its first step.

>>> [str(one) for one in few_decisions(CampusConfig(metrics=["length", "mtld"], selector="ucb"), 100, 100)]
['warning: 12 decisions for 2 sub-curricula: a bandit cannot learn from so few; round_robin does the same. Write \
selector: round_robin, or stages: 34.']
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from campus_tune.method.phases import offers_until, phases_of
from campus_tune.method.selectors import Bandit
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.findings import Finding

ENOUGH = 10  # decisions for each sub-curriculum, below which a bandit has hardly tried them
HALF = 0.5  # of a stage at random: so much of its reward says nothing of the choice


def bandit_of(config: CampusConfig) -> Bandit | None:
    """The selector of a recipe that learns from rewards and has something to choose; None for others."""
    selector = None if config.selector is None else config.build_selector()
    return selector if isinstance(selector, Bandit) and len(config.metrics) > 1 else None


def bandit_findings(config: CampusConfig) -> Iterator[Finding]:
    """What a bandit's other settings take from it."""
    mix = config.share_at_random
    if bandit_of(config) is not None and mix > 0:
        what = (
            f"mix: {mix:g} draws {mix:.0%} of each stage at random, whatever is chosen: so much smaller is what a "
            f"bandit can see between sub-curricula, and it needs {1 / (1 - mix) ** 2:.1f} times as many decisions."
        )
        yield Finding("warning" if mix >= HALF else "info", what, "Write mix: 0.2." if mix >= HALF else "")


def few_decisions(config: CampusConfig, total_steps: int, steps_per_epoch: int) -> Iterator[Finding]:
    """A run that is over before a bandit has learned anything.

    Args:
        config: settings.
        total_steps: of the whole run.
        steps_per_epoch: of one pass over the rows.
    """
    if bandit_of(config) is None:
        return
    n_arms, steps = len(config.metrics), offers_until(phases_of(config.handover, total_steps))
    slices = n_arms if config.window == "slice" else 1
    n_decisions = round(steps * min(config.stages * slices, steps_per_epoch) / steps_per_epoch)
    if not 0 < n_decisions < ENOUGH * n_arms:
        return
    what = (
        f"{n_decisions} decisions for {n_arms} sub-curricula: a bandit cannot learn from so few; round_robin does the "
        "same."
    )
    stages = math.ceil(ENOUGH * n_arms * steps_per_epoch / (steps * slices))
    more = f", or stages: {stages}" if stages * slices <= steps_per_epoch else ""
    yield Finding("warning", what, f"Write selector: round_robin{more}.")
