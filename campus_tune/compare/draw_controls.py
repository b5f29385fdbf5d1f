"""The controls of who is drawn, which rows, and how much: what a part is compared with to say what it is owed to.

    uniform_weights   weights, domains by weights: the same rows, all count alike: do the weights matter at all?
    shuffled_weights  the same: a step's weights dealt to others of its rows: does it matter which rows have them?
    shuffled_scores   thin: scores dealt anew inside cells: as many rows come as often, but other ones
    random_prune      thin: {how: prune}: the same, by the name that it has there
    natural_shares    domains, phases: in proportion to the rows: do shares matter at all?
    mean_shares       phases, follow: the run's own shares on average, constant: does it matter that they change?
    stacked           phases: the same shares on average, no phases: does the sequence matter, or what is in it?
    no_review         review: none
    uniform_review    review: any trained row: does it matter which come back?
    random_drop       drop: as many rows of each cell, at random

Each is the recipe with some settings changed, and is refused of a recipe that has no such part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.draw_blocks import TEMPERATURE, Entry, PhaseSettings
from campus_tune.recipe.draw_rules import RANDOM_DROP, SHUFFLED_SCORES, SHUFFLED_WEIGHTS, find_score
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json

RANDOM_PRUNE = "random_prune"
NATURAL_SHARES, MEAN_SHARES, STACKED = "natural_shares", "mean_shares", "stacked"
NO_REVIEW, UNIFORM_REVIEW = "no_review", "uniform_review"
UNIFORM_WEIGHTS = "uniform_weights"
AVERAGED = (MEAN_SHARES, STACKED)  # that have the shares of the recipe's own run


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
        NO_REVIEW: blocks.review is not None,
        RANDOM_DROP: bool(blocks.drop),
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
    return change(block, config)


def with_shares(name: str, block: Json, shares: Mapping[str, float]) -> Json:
    """The block of `mean_shares` or `stacked` with its shares in it.

    Args:
        name: of the control.
        block: the campus block of the recipe.
        shares: of the strata, on average over the run.
    """
    domains = {**(block.get("domains") or {}), "shares": dict(shares), "follow": None, "least": 0.0}
    phases = None if name == STACKED else _without_shares(block)
    return {**block, "domains": domains, "phases": phases}


def shares_of_settings(config: CampusConfig) -> dict[str, float] | None:
    """The average of a recipe's shares over its run, where its settings say it; None where only the run can.

    An overlap moves nothing: what one phase loses in it is what the other loses.
    """
    phases: Sequence[PhaseSettings] = config.phases or ()
    floor = config.domains.least if config.domains is not None else 0.0
    mean: dict[str, float] = {}
    if floor or not phases or (config.domains is not None and config.domains.follow is not None):
        return None
    for phase, (begin, end) in zip(phases, pairwise([0.0, *(phase.until for phase in phases)]), strict=True):
        if not isinstance(phase.shares, Mapping) or list(phase.shares) == [TEMPERATURE]:
            return None
        for name, share in phase.shares.items():
            mean[name] = mean.get(name, 0.0) + (end - begin) * share
    return _to_one(mean)


def untold_shares(config: CampusConfig) -> bool:
    """Shares that are weights, and whose average neither the settings nor the run's draws say."""
    return config.draw.counts_in_shares and shares_of_settings(config) is None


def shares_of_run(choices: Sequence[Json]) -> dict[str, float]:
    """The same from a run's own record: each stage's shares, by its rows.

    Args:
        choices: of a result: stages with `rows` and `shares`.

    Raises:
        RecipeError: the run kept no shares.
    """
    mean: dict[str, float] = {}
    for choice in choices:
        for name, share in (choice.get("shares") or {}).items():
            mean[name] = mean.get(name, 0.0) + share * choice["rows"]
    if not sum(mean.values()) > 0:
        raise RecipeError(
            "`mean_shares` and `stacked` must have the shares of the recipe's run, got a result that has none. Delete "
            "its folder: the run is repeated."
        )
    return _to_one(mean)


def _to_one(shares: Mapping[str, float]) -> dict[str, float]:
    total = math.fsum(shares.values())
    return {name: share / total for name, share in shares.items()}


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


def _change_over_time(config: CampusConfig) -> bool:
    """The shares of a run are not the same from its start to its end."""
    blocks = config.draw
    follows = blocks.domains is not None and blocks.domains.follow is not None
    return follows or _has_phases(config)


def _without_shares(block: Json) -> list[Json] | None:
    """The phases without what they say of shares."""
    phases = block.get("phases") or []
    kept = [{key: value for key, value in phase.items() if key not in ("shares", "overlap")} for phase in phases]
    return kept if any(set(phase) > {"until"} for phase in kept) else None


def _unweighted(block: Json, config: CampusConfig) -> Json:
    """All rows count alike; who is drawn, and which rows, is as it was."""
    block = {**block, "weights": None}
    return {**block, "domains": None, "phases": _without_shares(block)} if config.draw.counts_in_shares else block


def _averaged(name: str) -> Callable[[Json, CampusConfig], Json]:
    """The change of a control that has the shares of the recipe's own run."""

    def change(block: Json, config: CampusConfig) -> Json:
        shares = shares_of_settings(config)
        return dict(block) if shares is None else with_shares(name, block, shares)

    return change


def _set(name: str, value: object) -> Callable[[Json, CampusConfig], Json]:
    """The change of one setting."""
    return lambda block, _: {**block, name: value}


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
        lambda block, _: {**block, "domains": None, "phases": _without_shares(block)},
        "shares that are not natural, in `domains` or `phases`",
        _has_shares,
    ),
    MEAN_SHARES: (_averaged(MEAN_SHARES), "shares that change, by `phases` or `domains: follow`", _change_over_time),
    STACKED: (_averaged(STACKED), "`phases` with shares", _has_phases),
    NO_REVIEW: (_set("review", None), "`review`", lambda config: config.review is not None),
    UNIFORM_REVIEW: (
        lambda block, _: {**block, "review": {**block["review"], "by": "uniform"}},
        "`review` by anything but uniform",
        lambda config: config.review is not None and config.review.by != "uniform",
    ),
    RANDOM_DROP: (_set("control", RANDOM_DROP), "`drop`", lambda config: bool(config.drop)),
}
CONTROLS = tuple(_CONTROLS)
