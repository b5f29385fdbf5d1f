"""What a recipe must leave out where a model is trained by reward, and what it can say only there.

Losses of answers say nothing of a prompt whose answers the model makes itself: what goes by them is refused by name.
What rewards show of a prompt is known nowhere else.

>>> from campus_tune.recipe.config import CampusConfig
>>> for_rewards(CampusConfig()).weights is None, for_rewards(CampusConfig(metrics=["length", "mtld"])).selector
(True, 'round_robin')
>>> list(of_losses(CampusConfig(weights=["focal"])))[0]
'`weights` must be left out where a model is trained by reward, got [{name: focal}]: the trainer weighs answers by their advantage. Remove it.'
"""  # noqa: E501  # a message is one line

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from campus_tune.method.selectors import SELECTORS, build_selector
from campus_tune.recipe.draw_blocks import BY_REWARDS
from campus_tune.recipe.drop_block import SUSPECTS, VALUE
from campus_tune.recipe.passes_block import PassSettings
from campus_tune.recipe.prompt_metrics import metric_problems
from campus_tune.recipe.reader import in_yaml
from campus_tune.words.errors import RecipeError
from campus_tune.words.wording import cut

if TYPE_CHECKING:
    from campus_tune.recipe.config import CampusConfig

BY_TURNS = "round_robin"  # which order is next, where no loss can say it
_BY_REWARD = "where a model is trained by reward"
_MIDDLE = "thin: {how: top, by: middle}"
_WHY = {
    "probes": "they are measured by the losses of answers. Remove it: TRL scores an `eval_dataset` by the rewards",
    "value": "it is measured by the losses of probes. Remove it",
    "review": f"rows come back by their losses. For prompts that come again by what rewards show write {_MIDDLE}",
    "milestones": "they are read off the losses of probes. Remove it",
    "when": "events are read off the losses of probes. Remove it",
    "weights": "the trainer weighs answers by their advantage. Remove it",
}


def for_rewards(config: CampusConfig) -> CampusConfig:
    """The settings as a trainer that goes by rewards takes them: what acts on losses by default is not there.

    Raises:
        RecipeError: with all that goes by losses of answers.
    """
    if config.acts_by_default:
        config = replace(config, weights=None, drop=None)
    if problems := list(of_losses(config)):
        raise RecipeError(problems)
    if config.selector is None and len(config.metrics) > 1:
        config = replace(config, selector=BY_TURNS)
    return config


def of_losses(config: CampusConfig) -> Iterator[str]:
    """What of a recipe goes by the losses of answers, each with what to do."""
    for name, why in _WHY.items():
        if given := getattr(config, name):
            yield _left_out(name, given, why)
    yield from _of_draw(config)
    yield from metric_problems(config.scored, answer=(config.passes or PassSettings()).answer)
    if config.selector is not None and (asked := build_selector(config.selector).needs):
        free = [name for name in SELECTORS.names() if not getattr(SELECTORS.get(name), "needs", True)]
        yield (
            f"`selector` must go without losses {_BY_REWARD}, got {config.selector_name}, which asks for "
            f"{', '.join(sorted(asked))}. Write one of {', '.join(free)}, or leave it out."
        )
    if config.clock_part.by != "steps":
        yield _left_out("clock", config.clock_part.by, "progress is that of the steps. Remove it")
    if config.batching not in ("auto", "plain"):
        yield (
            f"`batching` must be plain {_BY_REWARD}, got {config.batching}: the trainer cuts what it has generated. "
            "Leave it out."
        )
    if config.control in ("drop_best", "shuffled_weights"):
        yield _left_out("control", config.control, "nothing is valued or weighed. Write shuffled_scores, or remove it")


def _of_draw(config: CampusConfig) -> Iterator[str]:
    """Who is drawn, and which, by losses."""
    domains, thin = config.domains, config.thin
    if domains is not None:
        moved = {"follow": domains.follow, "reweight": domains.reweight}
        for name, given in moved.items():
            if given is not None:
                yield _left_out(f"domains: {name}", given, "shares would follow losses. Write fixed `shares`")
        if domains.by == "weights":
            yield _left_out("domains: by", "weights", "rows are not weighed. Write by: sampling")
    for entry in config.drop or ():
        if entry.by in (SUSPECTS, VALUE):
            yield _left_out("drop: by", entry.by, "it is found by the losses of answers. Remove the entry")
    if thin is None:
        return
    if thin.book_score is not None:
        yield (
            f"`thin: by` must be one of {', '.join(BY_REWARDS)} or a metric {_BY_REWARD}, got {thin.book_score}, which "
            f"losses of answers show. Write {_MIDDLE}."
        )
    if thin.fresh:
        yield _left_out("thin: fresh", True, "what is measured anew is a loss. Remove it")


def only_by_rewards(config: CampusConfig) -> Iterator[str]:
    """What of a recipe rewards alone show, so that a trainer without them cannot follow it."""
    if config.passes is not None:
        yield (
            f"`passes` must be left out where rows have their answers, got {cut(in_yaml(config.passes), 80)}: it says "
            "what a pass is where answers have rewards. Remove it, or train with trl's GRPOTrainer or RLOOTrainer."
        )
    if config.thin is not None and config.thin.by_rewards:
        yield (
            f"`thin: by` must be a score of rows that have their answers, got {config.thin.score}, which rewards show "
            "of a prompt. Write by: seen_loss, or train with trl's GRPOTrainer or RLOOTrainer."
        )


def _left_out(name: str, got: object, why: str) -> str:
    return f"`{name}` must be left out {_BY_REWARD}, got {cut(in_yaml(got), 80)}: {why}."
