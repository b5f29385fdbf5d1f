"""What steering does that its names do not say: bandits that cannot learn, rewards that nobody can afford.

    bandit_findings     from the settings alone
    few_decisions       once it is known how long the run is
    unpaid_rewards      once it is known what its rows and probes cost

`check` prints them, and a run says the same before its first step.

>>> [str(one) for one in few_decisions(CampusConfig(metrics=["length", "mtld"], selector="ucb"), 100, 100)]
['warning: 12 decisions for 2 sub-curricula: a bandit cannot learn from so few; round_robin does the same. Write \
selector: round_robin, or stages: 34.']
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

from campus_tune.method.budget import FEWEST, Budget, Purpose, rounded_up
from campus_tune.method.phases import offers_until, phases_of
from campus_tune.method.selectors import OWN, PROBES, Bandit
from campus_tune.preview.cost_plan import FEWEST_TIMES, SMALLER, CostFacts, interval, measurements, needs, unfitted
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores.planning import stages_between
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


def unpaid_rewards(
    config: CampusConfig, budget: Budget, facts: CostFacts, every: int | None = None
) -> Iterator[Finding]:
    """A budget that does not pay for a reward of each stage.

    Args:
        config: resolved settings.
        budget: of the run; what it was fitted to does not matter.
        facts: of the run.
        every: stages between two measurements of the probes, where a run knows; None reckons it.
    """
    bandit = bandit_of(config)
    asked = frozenset() if bandit is None else bandit.needs
    every = _stages_to_a_probe(config, budget, facts) if every is None else every
    if PROBES in asked and every > 1:
        what = (
            f"the probes are measured once in {every} stages, which is what budget: {config.budget:g} pays for: so "
            "many choices share one reward."
        )
        enough = _enough(budget, lambda larger: _stages_to_a_probe(config, larger, facts) == 1)
        yield Finding(
            "warning", what, f"Write budget: {enough:g}, or selector: {{name: {config.selector_name}, reward: norm}}."
        )
    n_rows = _sampled_rows(config, budget, facts)
    if OWN in asked and n_rows < FEWEST["selection"]:
        what = (
            f"reward: own measures a sample of each stage twice, and what budget: {config.budget:g} leaves for that "
            f"pays for {n_rows:.1f} rows: below {FEWEST['selection']} nothing is measured, and nothing learned."
        )
        enough = _enough(budget, lambda larger: _sampled_rows(config, larger, facts) >= FEWEST["selection"])
        yield Finding(
            "warning", what, f"Write budget: {enough:g}, or selector: {{name: {config.selector_name}, reward: norm}}."
        )


def _enough(budget: Budget, pays: Callable[[Budget], bool]) -> float:
    """The next larger budget that pays, as a recipe would have it."""
    share = budget.share
    while True:
        share *= 1.02
        larger = unfitted(replace(budget, share=rounded_up(share)))
        if pays(larger):
            return larger.share


def _fitted(config: CampusConfig, budget: Budget, facts: CostFacts) -> Budget:
    """The budget as a run begins with it."""
    fitted = unfitted(budget)
    fitted.fit(needs(config, fitted, facts))
    return fitted


def _stages_to_a_probe(config: CampusConfig, budget: Budget, facts: CostFacts) -> int:
    """Stages between two measurements of the probes, as `Probing.choose` has it; 1 without probes."""
    if facts.probes is None:
        return 1
    fitted = _fitted(config, budget, facts)
    n_stages = stages_between(config, facts.steps_per_epoch, 0, facts.total_steps)
    allowance, fewest = fitted.per_probe(n_stages + 1), fitted.fewest("probes")
    if fitted.caps is None:
        return interval(facts.probes(allowance, fewest), allowance, n_stages)
    longest, cap = max(1, n_stages // FEWEST_TIMES), fitted.part("probes")
    costs = [facts.probes(share * allowance, fewest) for share in SMALLER]
    return next(
        (n for cost in costs for n in range(1, longest + 1) if cost * measurements(n_stages, n) <= cap), longest
    )


def _sampled_rows(config: CampusConfig, budget: Budget, facts: CostFacts) -> float:
    """Rows of a stage's sample that are paid for at the first decision, as `StageRewards` reckons."""
    fitted = _fitted(config, budget, facts)
    scoring = needs(config, unfitted(budget), facts)["scoring"].usual
    if fitted.caps is not None:
        scoring = min(scoring, fitted.part("scoring"))
    to_come: list[Purpose] = [*fitted.to_come, *(("probes",) if facts.probes is not None else ())]
    free = fitted.total - scoring - sum(fitted.part(one) for one in to_come)
    end = offers_until(phases_of(config.handover, facts.total_steps))
    return max(0.0, free) / stages_between(config, facts.steps_per_epoch, 0, end) / (2 * facts.row)
