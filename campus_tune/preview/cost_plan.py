"""What a run will cost, added up before its first step from what is known then: rows, tokens, stages, probes.

`campus-tune check` and the run itself ask the same function, so they say the same. What cannot be known ahead (which
rows a decision will sample) is an average here; the run asks before each measurement how much is left, and what would
exceed that is not measured (see `budget`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from campus_tune.method.budget import FEWEST, RESTS_ON, Budget, Need, Purpose, Rests, rounded_up
from campus_tune.method.phases import offers_until, phases_of
from campus_tune.method.selectors import LOSS, OWN, PROBES, START_LOSS, Bandit
from campus_tune.metrics import build_metric, leaves
from campus_tune.model.probes import Probes
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.policy import thin_of
from campus_tune.scores.asking import Asking
from campus_tune.scores.fresh import FreshScores
from campus_tune.scores.planning import refreshes_to_come, stages_between
from campus_tune.scores.questions import Questions, unscored
from campus_tune.scores.run_scores import Scores
from campus_tune.words.wording import listed

SHARED = 0.5  # of an offer's sample: rows that an offer before it has asked for already
_MANY = 1000  # rows, of which a thinner's offers are counted
SMALLER = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.25, 0.0)  # parts of the probes' allowance that are tried where it is capped
MOST_NAMED = 8  # metrics without an order, in a sentence
FEWEST_TIMES = 4  # measurements of the probes that a run makes whatever its budget, besides the last one

ProbeCost = Callable[[float, int], int]  # (tokens for one measurement, fewest rows of a domain) → what it takes
# (tokens for scores before training, fewest rows of a probe domain, fewest training rows) → what directions take
DirectionCost = Callable[[float, int, int], int]


@dataclass(frozen=True)
class CostFacts:
    """What the cost of a run follows from.

    Args:
        n_rows: N.
        total_steps: optimizer steps of the run.
        steps_per_epoch: of them, in one pass over the rows.
        row: mean forward tokens of a row under the model in hand.
        scored: mean forward tokens of a row in everything that is measured before training; 0 where nothing is.
        rescored: the same at a re-scoring.
        prompt: mean tokens of a prompt, for the scorer.
        probes: what one measurement of the probes takes; None without probes.
        candidate: mean forward tokens of a row that is measured before it may be taken; 0 where none is.
        directions: what making all directions takes that slopes are measured along, before training and at each
            re-scoring; None where no slopes are.
        directed: candidates are measured along some of them, too.
        fewest_scored: what the fewest scores before training really take, of the rows that would be measured; None
            takes their mean.
    """

    n_rows: int
    total_steps: int
    steps_per_epoch: int
    row: float
    scored: float
    rescored: float
    prompt: float
    probes: ProbeCost | None
    candidate: float = 0.0
    directions: DirectionCost | None = None
    directed: bool = False
    fewest_scored: Callable[[], float] | None = None

    def stages(self, config: CampusConfig, end: int) -> int:
        """Stages from the beginning to step `end`: none is shorter than one step."""
        return min(max(1, end), stages_between(config, self.steps_per_epoch, 0, end))


def facts_of(asking: Asking, probes: Probes | None, total_steps: int, steps_per_epoch: int) -> CostFacts:
    """The facts of a run; nothing is measured for them."""
    thin = asking.config.thin
    fresh = FreshScores(asking, Scores()) if thin is not None and thin.fresh else None
    return CostFacts(
        n_rows=len(asking.texts),
        total_steps=total_steps,
        steps_per_epoch=steps_per_epoch,
        row=float(np.mean(asking.passages.rows.tokens)),
        scored=float(np.mean(asking.start_tokens())),
        rescored=float(np.mean(asking.live_tokens() + asking.feature_tokens())),
        prompt=float(np.mean(asking.texts.prompt_tokens)),
        probes=None if probes is None else partial(probes.cost, seed=asking.config.seed or 0),
        candidate=0.0 if fresh is None else float(np.mean(fresh.price)),
        directions=None if asking.passages.directions is None else asking.direction_cost,
        directed=fresh is not None and any(passage.towards is not None for passage in fresh.passages),
        fewest_scored=asking.fewest_cost,
    )


def needs(config: CampusConfig, budget: Budget, facts: CostFacts) -> dict[Purpose, Need]:
    """What the run will spend on each purpose, in forward tokens; the budget is not changed."""
    # Scores: all rows, or as many as the part pays for, or the fewest.
    # Directions of slopes come first, here and there.
    ahead = _of_directions(budget.part("scoring"), facts)
    part = budget.part("scoring") - ahead.usual
    rows = min(facts.n_rows, max(FEWEST["scoring"], part / max(1.0, facts.scored)))
    found: dict[Purpose, Need] = {"scoring": _need(facts.scored, rows, FEWEST["scoring"]).after(ahead)}
    # The same for each re-scoring, of the rows that wait: half of them, over the run.
    refreshes = refreshes_to_come(config, facts.total_steps, facts.steps_per_epoch, step=0)
    if refreshes:
        allowance = (budget.part("rescoring") / refreshes - ahead.usual) / max(1.0, facts.rescored)
        rows = min(facts.n_rows / 2, max(FEWEST["rescoring"], allowance))
        found["rescoring"] = _need(refreshes * facts.rescored, rows, FEWEST["rescoring"]).after(ahead, refreshes)
    # A scorer's pairs: prompts are read three times, answers written once and read twice.
    scorer, times = Questions(config).scorer, 1 + refreshes
    if scorer is not None:
        pair = 3 * facts.prompt + 3 * scorer.new_tokens
        pairs = min(scorer.pairs, facts.n_rows, max(FEWEST["scorer"], budget.part("scorer") / times / pair))
        found["scorer"] = _need(times * pair, pairs, FEWEST["scorer"])
    # Offers: the first round of every decision; what is left of the budget pays for further ones.
    if measures_offers(config):
        end = offers_until(phases_of(config.handover, facts.total_steps))
        n_decisions = facts.stages(config, end) if config.handover else 0
        offers = 1 + (1 - SHARED) * (len(config.labels) - 1)
        rows = min(offers * FEWEST["selection"], facts.n_rows)
        found["selection"] = _need(n_decisions * facts.row, rows, rows)
    # Probes: every measurement takes the same rows.
    if facts.probes is not None:
        n_stages = facts.stages(config, facts.total_steps)
        about = stages_between(config, facts.steps_per_epoch, 0, facts.total_steps)
        allowance, fewest = budget.per_probe(about + 1), FEWEST["probes"]
        tokens = facts.probes(allowance, fewest)
        usual = tokens * measurements(n_stages, interval(tokens, allowance, about))
        seldom, few = measurements(n_stages, max(1, about // FEWEST_TIMES)), facts.probes(0.0, fewest // 2)
        twice = measurements(n_stages, n_stages)
        found["probes"] = Need(usual, facts.probes(0.0, fewest) * seldom, few * seldom, few * min(twice, seldom))
    # What is left out is told apart by what it would really cost: rows are not all as long as their mean.
    if facts.fewest_scored is not None and sum(need.least for need in found.values()) > budget.total:
        found["scoring"] = replace(found["scoring"], barest=facts.fewest_scored())
    return found


def rests_on(config: CampusConfig) -> list[Rests]:
    """Pairs of purposes of which the first says nothing without the second: offers are compared with something."""
    compared: dict[str, Purpose] = {PROBES: "probes", START_LOSS: "scoring"}
    needed = config.build_selector().needs
    return [*RESTS_ON, *(("selection", on) for need, on in compared.items() if need in needed)]


def _of_directions(part: float, facts: CostFacts) -> Need:
    """What all directions take once, in a run that may spend `part` on scores before training."""
    cost, rows, n = facts.directions, FEWEST["scoring"], FEWEST["probes"]
    if cost is None:
        return Need(0, 0, 0, 0)
    least = cost(0.0, n // 2, rows)
    return Need(cost(part, n, rows), cost(0.0, n, rows), least, least)


def _need(price: float, rows: float, fewest: float) -> Need:
    least = price * min(rows, fewest / 2)
    return Need(price * rows, price * min(rows, fewest), least, least)


def measures_offers(config: CampusConfig) -> bool:
    """Whether decisions ask the model."""
    return len(config.labels) > 1 and not config.is_shuffle and LOSS in config.build_selector().needs


def asks_the_model(config: CampusConfig, *, has_probes: bool) -> bool:
    """Whether anything of a run, with settings as they were written, is measured under the model that it trains."""
    if not config.budget:
        return False
    if has_probes:
        return True
    asks = any(build_metric(spec).needs_probes for spec in leaves(config.scored))
    if asks or (config.selector is not None and PROBES in config.build_selector().needs):
        return False  # refused when the run begins
    config = config.resolved(has_probes=False, domain_in_data=False, seed=0)
    return measures_offers(config) or OWN in config.build_selector().needs or bool(Questions(config).live)


def interval(tokens: int, allowance: float, n_stages: int) -> int:
    """Stages between two measurements of the probes: each one if that is paid for, at most a quarter of the run."""
    seldom = n_stages // FEWEST_TIMES
    wanted = math.ceil(tokens / allowance) if allowance > 0 else seldom  # probes that came with a resume have no part
    return max(1, min(wanted, seldom))


def measurements(n_stages: int, every: int) -> int:
    """How often the probes are measured: before a stage every so often, and after the last one."""
    return math.ceil(n_stages / every) + 1


# -- what a person is told -------------------------------------------------------------------------------------------


def budget_warnings(config: CampusConfig, budget: Budget, facts: CostFacts) -> list[str]:
    """What a person should know of a budget that does not pay for the usual numbers of rows, before training.

    Args:
        config: resolved settings.
        budget: to which `fit` was applied.
        facts: of the run.
    """
    if budget.cut_short:
        return [" ".join(filter(None, too_small(config, budget, facts)))]
    unpaid, smaller = unpaid_candidates(config, budget, facts), made_smaller(config, budget, facts)
    return [*([] if smaller is None else [smaller]), *([] if unpaid is None else [" ".join(unpaid)])]


def too_small(config: CampusConfig, budget: Budget, facts: CostFacts) -> tuple[str, str]:
    """What a budget does not pay for, what is done without it, what would help; arguments as of `budget_warnings`."""
    done = done_without(config, budget)
    if not budget.share:
        return f"budget: 0 measures nothing: {done}.", ""
    least = _shares(config, budget, facts, "least")
    # What scores before training really cost: rows are not all as long as their mean.
    turned_out = budget.ratio * budget.short / budget.training_tokens  # 0 where nobody came to ask
    really = max(turned_out, _shares(config, budget, facts, "barest")["scoring"])
    all_of_it = sum(least.values()) + max(0.0, really - least["scoring"])
    parts = ", ".join(f"{name} {share:.1%}" for name, share in least.items() if share >= 0.0005)
    what = (
        f"the budget is too small for this run: the fewest rows that can be measured cost about {all_of_it:.1%} of its "
        f"training compute ({parts}), and budget: {config.budget:g} allows {config.budget:.1%}. It is kept: {done}."
    )
    usual = rounded_up(max(all_of_it, sum(_shares(config, budget, facts, "fewest").values())))
    ways = [f"budget: {rounded_up(all_of_it):g}"]
    for stages in range(min(config.stages, facts.steps_per_epoch) - 1, 0, -1):
        fewer = needs(replace(config, stages=stages), unfitted(budget), facts)
        if sum(need.least for need in fewer.values()) <= budget.total:
            ways.append(f"stages: {stages}")
            break
    ahead = " `campus-tune score`, ahead of training, pays for scores." if "scoring" in budget.unpaid else ""
    return what, f"Write {' or '.join(ways)}; budget: {usual:g} pays for the usual numbers of rows.{ahead}"


def done_without(config: CampusConfig, budget: Budget) -> str:
    """What a run does where its budget does not pay for something, in words."""
    unpaid, needed, said = budget.unpaid, config.build_selector().needs, []
    labels = [label for label in config.labels if label in unscored(config, unpaid)]
    if labels:
        said.append(f"there is no order by {listed([f'`{label}`' for label in labels], MOST_NAMED)}")
    elif "scoring" in unpaid:
        said.append("no loss before training is measured")
    if "rescoring" in unpaid and "scoring" not in unpaid:
        said.append("rows are not scored again")
    if budget.at_ends is not None:
        said.append("the probes are measured before the first stage and after the last one only")
    elif "probes" in unpaid:
        said.append("the probes are not measured")
    blind = PROBES in needed and (budget.at_ends is not None or "probes" in unpaid)
    if blind and isinstance(config.build_selector(), Bandit):
        said.append("no choice is rewarded")
    elif "selection" in unpaid:
        free = "are compared by the losses of the rows just trained, or "
        if START_LOSS in needed and "scoring" in unpaid:
            free = ""
        said.append(f"offers {free}take turns")
    return "; ".join(said) or "nothing is asked of the model"


def unpaid_probes(budget: Budget, tokens: float) -> str:
    """That what is left of a budget does not pay for the probes any more; `tokens` is what one measurement takes."""
    once, left = (budget.ratio * n / budget.training_tokens for n in (tokens, budget.left))
    return (
        f"the probes are not measured any more: that costs {once:.1%} of the training compute, and {left:.1%} are left "
        f"of the budget. Write budget: {rounded_up(budget.spent_share() + 2 * once):g} to go on measuring."
    )


def made_smaller(config: CampusConfig, budget: Budget, facts: CostFacts) -> str | None:
    """That fewer rows than usual are measured so that the budget is kept; None where the usual numbers fit."""
    if not budget.halved or budget.cut_short:
        return None
    share = sum(_shares(config, budget, facts, "fewest").values())
    return (
        f"the usual numbers of rows would cost about {share:.1%} of the training compute: down to half of them are "
        f"measured, to keep to budget: {config.budget:g}. budget: {rounded_up(share):g} pays for the usual ones."
    )


def candidate_tokens(config: CampusConfig, budget: Budget, facts: CostFacts) -> float:
    """Forward tokens of all rows that the run would measure before it takes some of them."""
    if config.thin is None or not facts.candidate:
        return 0.0
    steps = facts.total_steps * (config.thin.until - config.thin.since)
    offered = thin_of(config.thin).thinner.most_offered(_MANY) / _MANY
    once = _of_directions(budget.part("scoring"), facts).usual if facts.directed else 0.0
    n_stages = facts.stages(config, facts.total_steps) * (config.thin.until - config.thin.since)
    return steps * facts.n_rows / facts.steps_per_epoch * offered * facts.candidate + n_stages * once


def unpaid_candidates(config: CampusConfig, budget: Budget, facts: CostFacts) -> tuple[str, str] | None:
    """How many stages can be thinned by fresh scores, and what would pay for all; None where they are paid for."""
    tokens = candidate_tokens(config, budget, facts)
    left = _left_for_candidates(config, budget, facts)
    if tokens <= left:
        return None
    share = budget.ratio * tokens / budget.training_tokens
    what = (
        f"fresh scores of all candidates cost about {share:.0%} of the training compute, and what budget: "
        f"{config.budget:g} leaves for them pays for about {left / tokens:.0%} of the stages: the others are not "
        "thinned."
    )
    while True:
        larger = unfitted(replace(budget, share=rounded_up(share)))
        if candidate_tokens(config, larger, facts) <= _left_for_candidates(config, larger, facts):
            return what, f"Write budget: {larger.share:g}, or a larger `keep`, or thin: {{fresh: false}}."
        share *= 1.02


def _left_for_candidates(config: CampusConfig, budget: Budget, facts: CostFacts) -> float:
    """Forward tokens that the usual numbers of all other measurements leave; of those the race takes half."""
    left = budget.total - sum(need.usual for need in needs(config, unfitted(budget), facts).values())
    return max(0.0, left / 2 if measures_offers(config) else left)


def _shares(config: CampusConfig, budget: Budget, facts: CostFacts, size: str) -> dict[Purpose, float]:
    """What each purpose costs, as shares of the training compute; `size` is usual, fewest or least."""
    found = needs(config, unfitted(budget), facts)
    return {name: budget.ratio * getattr(need, size) / budget.training_tokens for name, need in found.items()}


def pays_for_all_rows(config: CampusConfig, budget: Budget, facts: CostFacts) -> float:
    """The budget that measures every row before training, beside all else, as a recipe would have it."""
    everything = facts.n_rows * facts.scored  # directions beside
    share = budget.ratio * everything / budget.training_tokens / budget.weight("scoring")
    while True:
        larger = unfitted(replace(budget, share=rounded_up(share)))
        larger.fit(needs(config, larger, facts))
        if larger.part("scoring") - _of_directions(larger.part("scoring"), facts).usual >= everything:
            return larger.share
        share *= 1.02


def unfitted(budget: Budget) -> Budget:
    """The same budget before anything was made smaller, with nothing spent."""
    return Budget(budget.share, budget.training_tokens, budget.ratio, budget.purposes)
