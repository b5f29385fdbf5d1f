"""What values will cost, before a run: how many probe rows are asked for gradients, how often, and whether it is paid.

`campus-tune check` and the run itself ask the same function, so they say the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from campus_tune.method.budget import Budget, rounded_up
from campus_tune.method.value import ALL
from campus_tune.model.probes import Probes
from campus_tune.model.valuable import refuse_value
from campus_tune.preview.cost_plan import SMALLER
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.errors import CampusError, DataError
from campus_tune.words.findings import Finding
from campus_tune.words.types import IntArray

if TYPE_CHECKING:
    from transformers import Trainer

FEWEST = 30  # probe rows of a domain: fifteen in each half
TIMES = 4  # measurements that the account should pay for, before more rows are asked


@dataclass(frozen=True)
class ValuePlan:
    """What is asked for values, and how often.

    Args:
        rows: probe rows of each domain.
        cost: forward tokens of one measurement.
        every: stages from one to the next.
        paid: the account pays for one at least.
    """

    rows: Mapping[str, IntArray]
    cost: float
    every: int
    paid: bool

    @staticmethod
    def of(probes: Probes, budget: Budget, share: float, n_stages: int, *, seed: int) -> ValuePlan:
        """As many probe rows as are paid for several times, all the same each time.

        Args:
            probes: of the run.
            budget: says what a forward token costs.
            share: of the training compute that values may cost.
            n_stages: about how many stages the run has.
            seed: of the choice.
        """
        account = share * budget.training_tokens  # a row that is trained costs its tokens
        wanted = min(n_stages, TIMES)
        for part in SMALLER:  # rows are not all as long as their mean
            rows = probes.subset(part * account / wanted, seed=seed, fewest=FEWEST)
            tokens = int(sum(probes.rows.tokens[of_domain].sum() for of_domain in rows.values()))
            times = int(account // max(1, tokens))
            if times >= wanted:
                break
        return ValuePlan(rows, tokens / budget.ratio, max(1, math.ceil(n_stages / max(1, times))), times > 0)

    def too_small(self, budget: Budget, share: float, n_stages: int) -> str | None:
        """That the account does not pay for a single measurement, and what does; None where it does."""
        if self.paid:
            return None
        once = self.cost * budget.ratio / budget.training_tokens
        times = min(n_stages, TIMES)
        return (
            f"`value: budget` is too small: the gradients of {FEWEST} probe rows of each domain cost {once:.1%} of the "
            f"training compute each time, and {share:.1%} are allowed. They are measured once, before training, and "
            f"the values are by these. Write value: {{budget: {rounded_up(once):g}}} to allow that, or "
            f"{rounded_up(times * once):g} for {times} times."
        )


def refuse_probes(probes: Probes) -> None:
    """Halves of few rows agree on nothing, and a name must mean one thing.

    Raises:
        DataError: a domain of fewer, or one among others with the name of all of them.
    """
    if ALL in probes.domains and len(probes.domains) > 1:
        others = ", ".join(domain for domain in probes.domains if domain != ALL)
        raise DataError(
            f"`value` must have no probe domain called {ALL!r} beside others, for so all of them together are called, "
            f"got it beside {others}. Give it another name, or take `value` out of the recipe."
        )
    few = {domain: len(rows) for domain, rows in probes.domains.items() if len(rows) < FEWEST}
    if few:
        named = ", ".join(f"{n} of {domain!r}" for domain, n in few.items())
        raise DataError(
            f"`value` must have at least {FEWEST} probe rows of each domain, of which each half says by itself what a "
            f"row is worth, got {named}. Give more of them, merge domains, or take `value` out of the recipe."
        )


def value_findings(
    trainer: Trainer, config: CampusConfig, probes: Probes | None, budget: Budget, n_stages: int
) -> Iterator[Finding]:
    """What `campus-tune check` says of a recipe that asks for values; nothing of another.

    Args:
        trainer: of the recipe.
        config: resolved settings.
        probes: held-out rows; what is said where there are none, the settings say.
        budget: says what a forward token costs.
        n_stages: about how many stages the run has.
    """
    if config.value is None or probes is None:
        return
    try:
        refuse_value(trainer, adam=config.value.adam)
        refuse_probes(probes)
    except CampusError as error:
        yield Finding("error", str(error))
        return
    plan = ValuePlan.of(probes, budget, config.value.budget, n_stages, seed=config.seed or 0)
    unpaid = plan.too_small(budget, config.value.budget, n_stages)
    if unpaid is not None:
        what, _, remedy = unpaid.partition(" Write ")
        yield Finding("warning", what, f"Write {remedy}")
        return
    once = plan.cost * budget.ratio / budget.training_tokens
    times = math.ceil(n_stages / plan.every)
    often = "before every stage" if plan.every == 1 else f"every {plan.every} stages"
    yield Finding(
        "info",
        f"`value`: the gradients of {sum(map(len, plan.rows.values()))} probe rows are measured {often}, about {times} "
        f"times. That costs about {times * once:.1%} of the training compute, beside the budget.",
    )
