"""Rewards that a budget does not pay for: probes that are measured too seldom, samples of stages that are too small."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from campus_tune.method.budget import FEWEST, Budget, Purpose, rounded_up
from campus_tune.method.phases import offers_until, phases_of
from campus_tune.method.selectors import OWN, PROBES
from campus_tune.preview.cost_plan import (
    FEWEST_TIMES,
    SMALLER,
    CostFacts,
    interval,
    measurements,
    needs,
    rests_on,
    unfitted,
)
from campus_tune.preview.steer_advice import bandit_of
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores.planning import stages_between
from campus_tune.words.findings import Finding


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
    if PROBES in asked and every > 1 and budget.share:
        what = (
            f"the probes are measured once in {every} stages, which is what budget: {config.budget:g} pays for: so "
            "many choices share one reward."
        )
        enough = _enough(budget, lambda larger: _stages_to_a_probe(config, larger, facts) == 1)
        yield Finding(
            "warning", what, f"Write budget: {enough:g}, or selector: {{name: {config.selector_name}, reward: norm}}."
        )
    n_rows = _sampled_rows(config, budget, facts)
    if OWN in asked and budget.share and n_rows < FEWEST["selection"]:
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
    fitted.fit(needs(config, fitted, facts), rests_on(config))
    return fitted


def _stages_to_a_probe(config: CampusConfig, budget: Budget, facts: CostFacts) -> int:
    """Stages between two measurements of the probes, as `Probing.choose` has it; 1 without probes."""
    if facts.probes is None:
        return 1
    fitted = _fitted(config, budget, facts)
    n_stages = stages_between(config, facts.steps_per_epoch, 0, facts.total_steps)
    if "probes" in fitted.unpaid or fitted.at_ends is not None:
        return n_stages
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
