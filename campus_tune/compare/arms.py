"""The arms of a comparison: the recipe, and the runs that say what its success or failure is owed to.

    recipe               the campus block as it stands
    random               plain shuffling, through the same machine: what everybody does
    random_same_pacing   the recipe with random orders in the place of its own: what pacing alone does
    reversed             the recipe with every order turned around: what any order that is not random does
    random_plus          plain shuffling for as much compute as the recipe cost in all

A recipe that says who is drawn, which rows, or how much they count has a control for each of these parts
(`draw_controls`). Every other name is a recipe of its own: the campus block with some settings changed.

Reference:
    Wu, Dyer, Neyshabur 2021, "When Do Curricula Work?", arXiv 2012.03107 (curricula, anti-curricula and random
    curricula at the same pacing).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from campus_tune.compare.draw_controls import CONTROLS, asked_of_orders, controlled, of_recipe, pinned, turned
from campus_tune.compare.recorded import OF_RUN, REPLAYED, awaits_run, untold_shares
from campus_tune.metrics.base import parse_metric
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.reward_rules import for_rewards
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json

Kind: TypeAlias = Literal["recipe", "baseline", "control", "plus"]

RECIPE, RANDOM, SAME_PACING, REVERSED, PLUS = "recipe", "random", "random_same_pacing", "reversed", "random_plus"
DEFAULT = (RECIPE, RANDOM, SAME_PACING, REVERSED)
KINDS: Mapping[str, Kind] = {
    RANDOM: "baseline",
    SAME_PACING: "control",
    REVERSED: "control",
    PLUS: "plus",
    **dict.fromkeys(CONTROLS, "control"),
}
MOST_ARMS = 5  # that a comparison has unless more are asked for
NAME = re.compile(r"\w[\w.+-]*")
_PER_SEED = 1000  # random orders of one arm and seed are numbered from here on


@dataclass(frozen=True)
class Arm:
    """One recipe in a comparison.

    Args:
        name: of its folder.
        kind: what it is there for.
        campus: its campus block; `random` metrics without a seed get that of the run.
        awaits: it has something that the recipe's own run with its seed has recorded: the settings do not say it.
    """

    name: str
    kind: Kind
    campus: Json
    awaits: bool = False

    def config(self, seed: int, recorded: Json | None = None) -> CampusConfig:
        """The settings of the run with this seed (≥ 0): random orders are drawn anew with each.

        Args:
            seed: of the run.
            recorded: what the arm has of the recipe's run with this seed, where it awaits one.

        Raises:
            RecipeError: the block is wrong, with all its problems.
        """
        campus = self.campus if recorded is None else OF_RUN[self.name].put(self.campus, recorded)
        metrics = []
        for i, entry in enumerate(campus.get("metrics", [])):
            written = {"name": entry} if isinstance(entry, str) else entry
            is_random = isinstance(written, Mapping) and str(written.get("name")).removeprefix("-") == "random"
            metrics.append({"seed": _PER_SEED * seed + i, **written} if is_random else entry)
        return CampusConfig.from_mapping({**campus, "metrics": metrics})


def default_arms(block: Json, *, by_reward: bool = False) -> tuple[str, ...]:
    """The arms of a comparison that asks for none: the recipe, its baseline, and the controls of what it uses.

    Args:
        block: the campus block of the recipe.
        by_reward: it is trained by reward, where nothing acts on losses.

    Raises:
        RecipeError: the block is wrong, with all its problems.
    """
    config = CampusConfig.from_mapping(block)
    config = for_rewards(config) if by_reward else config
    parts = of_recipe(config)
    if by_reward and config.is_shuffle and not parts:  # an order that is none has no control of its own
        return (RECIPE, RANDOM)
    if not parts:
        return DEFAULT
    orders = () if config.is_shuffle else (SAME_PACING, REVERSED)
    return (RECIPE, RANDOM, *parts, *orders)[:MOST_ARMS]


def make_arms(block: Json, asked: Mapping[str, Json]) -> list[Arm]:
    """The arms that a comparison asks for, the baseline first.

    Args:
        block: the campus block of the recipe.
        asked: name → settings that differ from what the name stands for.

    Raises:
        RecipeError: all that is wrong with them, with the arm's name before each problem; no baseline, or nothing to
            compare with it.
    """
    problems = [
        f"`compare: arms` names must be letters, digits and . + - _, got {name!r}. They name folders: change it."
        for name in asked
        if not NAME.fullmatch(name)
    ]
    if RANDOM not in asked:
        named = ", ".join(asked) or "none"
        problems.append(
            f"`compare: arms` must have {RANDOM!r}, which the others are compared with, got {named}. Add it."
        )
    if not any(kind_of(name) == "recipe" for name in asked):
        problems.append(f"`compare: arms` must have a recipe besides the controls, got none. Add {RECIPE!r}.")
    if block.get("seed") is not None:
        problems.append(
            f"`campus: seed` must be left out where seeds are compared, got {block['seed']}: every run would draw the "
            "same. Remove it."
        )
    problems += [
        f"`compare: arms: {name}: seed` must be left out, got {change['seed']}: every run of it would draw the same. "
        "Remove it."
        for name, change in asked.items()
        if change.get("seed") is not None
    ]
    if problems:
        raise RecipeError(problems)
    CampusConfig.from_mapping(block)  # its own problems come once, and not with every arm
    block = {key: value for key, value in block.items() if key != "evaluate"}  # looked at once, at the end
    recipe = CampusConfig.from_mapping(block)
    arms = []
    for name, change in asked.items():
        try:
            arm = Arm(name, kind_of(name), {**_base(name, block), **change}, awaits_run(name, recipe))
            if arm.awaits and RECIPE not in asked:
                raise RecipeError(f"`compare: arms` must have {RECIPE!r}, {OF_RUN[name].whose}. Add it.")
            if arm.awaits and name != REPLAYED and untold_shares(recipe):
                raise RecipeError(
                    f"`compare: arms` must have average shares that the settings say where shares are weights, got "
                    f"{name} of shares that only the run knows. Leave this arm out, or write by: sampling."
                )
            arm.config(0)
            arms.append(arm)
        except RecipeError as error:
            problems += [f"arm {name!r}: {problem}" for problem in error.problems]
    if problems:
        raise RecipeError(problems)
    return sorted(arms, key=lambda arm: ("baseline", "recipe", "control", "plus").index(arm.kind))


def kind_of(name: str) -> Kind:
    """What an arm of this name is there for."""
    return KINDS.get(name, "recipe")


def _base(name: str, block: Json) -> Json:
    """The block that a name stands for."""
    if name in (RANDOM, PLUS):
        kept: Json = {key: block[key] for key in ("stages", "batching", "level", "passes") if key in block}
        return {**kept, "metrics": [], "selector": "shuffle"}
    if name in CONTROLS:
        return controlled(name, block)
    if name not in (SAME_PACING, REVERSED):
        return dict(block)
    drawn_by = asked_of_orders(CampusConfig.from_mapping(block))
    metrics, renamed = [], {}
    for entry in block.get("metrics", []):
        written = {"name": entry} if isinstance(entry, str) else dict(entry)
        label = parse_metric(entry).label
        if name == SAME_PACING:  # orders are called as the recipe's, but for those whose scores the draw goes by
            renamed[label] = f"random {label}" if label in drawn_by else label
            metrics.append({"name": "random", "label": renamed[label]})
        else:  # with every order turned around, under a name that says so
            renamed[label] = turned(label)
            metrics.append({**written, "name": turned(written["name"]), "label": renamed[label]})
    block = pinned(block, drawn_by)  # the draw goes by the recipe's scores as before
    selector = block.get("selector")
    if isinstance(selector, Mapping) and selector.get("order") in renamed:
        block["selector"] = {**selector, "order": renamed[selector["order"]]}
    if block.get("phases"):
        block["phases"] = [
            {**phase, **({"offer": [renamed[label] for label in phase["offer"]]} if phase.get("offer") else {})}
            for phase in block["phases"]
        ]
    return {**block, "metrics": metrics}
