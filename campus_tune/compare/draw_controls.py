"""The controls of who is drawn, which rows, and how much: what a part is compared with to say what it is owed to.

    uniform_weights   weights, domains by weights: the same rows, all count alike: do the weights matter at all?
    shuffled_weights  the same: a step's weights dealt to others of its rows: does it matter which rows have them?
    shuffled_scores   thin: scores dealt anew inside cells: as many rows come as often, but other ones
    random_prune      thin: {how: prune}: the same, by the name that it has there
    natural_shares    domains, phases: in proportion to the rows: do shares matter at all?
    mean_shares       phases, follow, reweight: the run's own shares on average, constant: does it matter that they
                      change?
    stacked           phases: the same shares on average, no phases: does the sequence matter, or what is in it?
    round_robin       a bandit: sub-curricula take turns: does it matter what it learned, or that they are mixed?
    replayed_choices  a bandit: the run's own choices in another sequence: does it matter when each was made?
    no_review         review: none
    uniform_review    review: any trained row: does it matter which come back?
    random_drop       drop: as many rows of each cell, at random
    drop_best         drop by value: as many rows of each cell, those that helped most: do values say anything?
    notes_only        rules that act: the same rules, and nothing is done about it

Each is the recipe with some settings changed, and is refused of a recipe that has no such part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from campus_tune.compare.recorded import (
    MEAN_SHARES,
    REPLAYED,
    STACKED,
    shares_of_settings,
    untold_shares,
    with_shares,
    without_shares,
)
from campus_tune.compare.told_only import ACTIONS, actions_of, noting
from campus_tune.method.selectors import Bandit
from campus_tune.recipe.config import ACTS, CampusConfig
from campus_tune.recipe.draw_blocks import Entry
from campus_tune.recipe.draw_rules import DROP_BEST, RANDOM_DROP, SHUFFLED_SCORES, SHUFFLED_WEIGHTS, find_score
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json

RANDOM_PRUNE = "random_prune"
NATURAL_SHARES, ROUND_ROBIN, NOTES_ONLY = "natural_shares", "round_robin", "notes_only"
NO_REVIEW, UNIFORM_REVIEW = "no_review", "uniform_review"
UNIFORM_WEIGHTS = "uniform_weights"


def of_recipe(config: CampusConfig) -> list[str]:
    """The one control of each part that a recipe has, in the sequence in which a comparison takes them.

    A recipe of nothing but weights is without them the baseline, which a comparison has anyway.
    """
    blocks = config.draw
    weighs_alone = config.is_shuffle and not config.draws_apart
    found = {
        UNIFORM_WEIGHTS: config.weighs and not weighs_alone,
        SHUFFLED_WEIGHTS: config.weighs and weighs_alone,
        SHUFFLED_SCORES: blocks.thin is not None and blocks.thin.how != "prune",
        RANDOM_PRUNE: blocks.thin is not None and blocks.thin.how == "prune",
        NATURAL_SHARES: _has_shares(config) and not blocks.counts_in_shares and not _has_phases(config),
        STACKED: _has_phases(config) and not untold_shares(config),
        ROUND_ROBIN: _has_bandit(config),
        NO_REVIEW: blocks.review is not None,
        RANDOM_DROP: bool(blocks.drop),
        NOTES_ONLY: bool(actions_of(config)),
    }
    return [name for name, used in found.items() if used]


def controlled(name: str, block: Json) -> Json:
    """The block that a control stands for. Of one whose shares are still to be averaged, with the recipe's.

    Args:
        name: of the control.
        block: the campus block of the recipe.

    Raises:
        RecipeError: the recipe has nothing that this would be the control of.
    """
    change, part, has = _CONTROLS[name]
    config = CampusConfig.from_mapping(block)
    if not has(config):
        raise RecipeError(f"`{name}` must be the control of {part}, got a recipe without. Leave this arm out.")
    acts = (("selector", config.selector), *ACTS.items())  # of the default, which a block does not say
    written = {name: said for name, said in acts if block.get(name) is None and getattr(config, name) is not None}
    return change({**block, **written}, config)


# -- scores that are also orders ---------------------------------------------------------------------------------------


def asked_of_orders(config: CampusConfig) -> dict[str, Json]:
    """Label → entry of the recipe's metrics whose scores the draw goes by too."""
    specs, found = config.specs, {}
    asked = [find_score(entry, specs).spec for _, entry in config.draw.entries()]
    for entry, spec in zip(config.metrics, specs, strict=True):
        if spec in asked:
            found[spec.label] = {**({"name": entry} if isinstance(entry, str) else entry), "label": spec.label}
    return found


def pinned(block: Json, entries: Mapping[str, Json]) -> Json:
    """The block with the metrics that its draw goes by written out, so that its orders may become others.

    Args:
        block: a campus block.
        entries: label → entry of the metrics, as `asked_of_orders` gives them.
    """

    def out(entry: Entry) -> Entry:
        if not isinstance(entry, str):
            return entry
        if entry in entries:
            return entries[entry]
        if entry.startswith("-") and entry[1:] in entries:
            written = entries[entry[1:]]
            return {**written, "name": turned(written["name"]), "label": turned(written["label"])}
        return entry

    block = dict(block)
    if not entries:
        return block
    cells = block.get("cells") or {}
    if (by := cells.get("by", "length")) != out(by):
        block["cells"] = {**cells, "by": out(by)}
    if block.get("thin"):
        block["thin"] = {**block["thin"], "by": out(block["thin"].get("by", "seen_loss"))}
    if block.get("drop"):
        block["drop"] = [{**one, "by": out(one["by"])} for one in block["drop"]]
    return block


def turned(name: str) -> str:
    """A metric's name or label with a minus more, or less."""
    return name[1:] if name.startswith("-") else f"-{name}"


# -- what each changes -------------------------------------------------------------------------------------------------


def _has_shares(config: CampusConfig) -> bool:
    """Rows are drawn in other shares than those that they have."""
    blocks = config.draw
    shares = blocks.domains is not None and not blocks.domains.changes_nothing
    return shares or _has_phases(config)


def _has_phases(config: CampusConfig) -> bool:
    """Phases say something of shares."""
    return any(phase.shares for phase in config.draw.phases)


def _has_bandit(config: CampusConfig) -> bool:
    """Sub-curricula are chosen by what they were worth."""
    return config.selector is not None and isinstance(config.build_selector(), Bandit)


def _change_over_time(config: CampusConfig) -> bool:
    """The shares of a run are not the same from its start to its end."""
    blocks = config.draw
    moves = blocks.domains is not None and (blocks.domains.follow is not None or blocks.domains.reweight is not None)
    return moves or _has_phases(config)


def _unweighted(block: Json, config: CampusConfig) -> Json:
    """All rows count alike; who is drawn, and which rows, is as it was."""
    block = {**block, "weights": None}
    return {**without_shares(block), "domains": None} if config.draw.counts_in_shares else block


def _averaged(name: str) -> Callable[[Json, CampusConfig], Json]:
    """The change of a control that has the shares of the recipe's own run."""

    def change(block: Json, config: CampusConfig) -> Json:
        shares = shares_of_settings(config)
        return dict(block) if shares is None else with_shares(name, block, shares)

    return change


def _set(name: str, value: object) -> Callable[[Json, CampusConfig], Json]:
    """The change of one setting."""
    return lambda block, _: {**block, name: value}


_BANDIT = "a bandit, `selector` exp3s, ucb or teacher"
_WEIGHTS = "`weights`, or of `domains: {by: weights}` with shares"
_CONTROLS: Mapping[str, tuple[Callable[[Json, CampusConfig], Json], str, Callable[[CampusConfig], bool]]] = {
    UNIFORM_WEIGHTS: (_unweighted, _WEIGHTS, lambda config: config.weighs),
    SHUFFLED_WEIGHTS: (_set("control", SHUFFLED_WEIGHTS), _WEIGHTS, lambda config: config.weighs),
    SHUFFLED_SCORES: (_set("control", SHUFFLED_SCORES), "`thin`", lambda config: config.thin is not None),
    RANDOM_PRUNE: (
        _set("control", SHUFFLED_SCORES),
        "`thin: {how: prune}`",
        lambda config: config.thin is not None and config.thin.how == "prune",
    ),
    NATURAL_SHARES: (
        lambda block, _: {**without_shares(block), "domains": None},
        "shares that are not natural, in `domains` or `phases`",
        _has_shares,
    ),
    MEAN_SHARES: (_averaged(MEAN_SHARES), "shares that change, by `phases` or `domains: follow`", _change_over_time),
    STACKED: (_averaged(STACKED), "`phases` with shares", _has_phases),
    ROUND_ROBIN: (_set("selector", ROUND_ROBIN), _BANDIT, _has_bandit),
    REPLAYED: (lambda block, _: dict(block), _BANDIT, _has_bandit),
    NO_REVIEW: (
        lambda block, _: {**noting(block, ["review"]), "review": None},
        "`review`",
        lambda config: config.review is not None,
    ),
    UNIFORM_REVIEW: (
        lambda block, _: {**block, "review": {**block["review"], "by": "uniform"}},
        "`review` by anything but uniform",
        lambda config: config.review is not None and config.review.by != "uniform",
    ),
    RANDOM_DROP: (_set("control", RANDOM_DROP), "`drop`", lambda config: bool(config.drop)),
    DROP_BEST: (
        _set("control", DROP_BEST),
        "`drop: [{by: value}]`",
        lambda config: config.draw.by_value,
    ),
    NOTES_ONLY: (
        lambda block, _: noting(block, ACTIONS),
        "rules that do more than note",
        lambda config: bool(actions_of(config)),
    ),
}
CONTROLS = tuple(_CONTROLS)
