"""What a search may try: the campus block of the recipe, with one choice of each setting put into it.

    mix: [0, 0.25, 0.5]        a setting of the block
    thin.keep: [0.5, 0.7]      a setting inside of one; `pacing.power` is an option of the pacing that the recipe names
    thin: [null, {…}]          a whole part, there or not

A *point* has the number of one choice per setting. Nothing that is not a recipe is ever a trial: every choice must fit
at least one combination, or it is refused with what the recipe's own reader says of it; a combination whose choices do
not go together is left out. So is one that is the recipe itself, or the same as another: `thin.keep` says nothing where
`thin.how` is not there.

>>> space = read_space({"mix": (0, 0.5), "stages": (5, 10)}, {"metrics": ["length"], "stages": 5})
>>> space.n_points, space.changes((1, 1)), space.block_of((1, 1))["stages"]
(4, {'mix': 0.5, 'stages': 10}, 10)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, TypeAlias

import numpy as np

from campus_tune.method.pacing import PACINGS
from campus_tune.metrics import METRICS, parse_metric
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.annotated import defaults, plain
from campus_tune.words.errors import RecipeError
from campus_tune.words.hashing import as_json
from campus_tune.words.registry import Registry
from campus_tune.words.types import Json
from campus_tune.words.wording import shown

Point: TypeAlias = tuple[int, ...]

WHERE = "search: space"
# Settings that make no other recipe of it, or by which trials could no longer be compared.
KEPT = {
    "seed": "another seed is luck and no setting",
    "probes": "trials that are steered by other rows are no trials of one recipe",
    "evaluate": "official tasks watch and change nothing",
    "scores": "where scores are kept changes nothing",
    "level": "a known difficulty is shown beside the run and changes nothing",
    "control": "what it makes random is a control of `compare`",
    "resume": "a trial is a run from its start",
}
_TRIES = 64  # combinations in which a choice that does not fit the recipe as it stands is looked at


@dataclass(frozen=True)
class Space:
    """The settings that are tried.

    Args:
        block: the campus block of the recipe.
        choices: setting → choices, in the sequence of the YAML.
        own: what the recipe is as settings; a point that is the same is no trial.
    """

    block: Json
    choices: Mapping[str, tuple[Any, ...]]
    own: str

    @property
    def sizes(self) -> tuple[int, ...]:
        """Choices of each setting."""
        return tuple(len(choices) for choices in self.choices.values())

    @property
    def n_points(self) -> int:
        """Combinations, those that do not go together among them."""
        return math.prod(self.sizes)

    def changes(self, point: Point) -> Json:
        """Setting → its choice at a point."""
        return {name: choices[i] for (name, choices), i in zip(self.choices.items(), point, strict=True)}

    def point_of(self, changes: Json) -> Point:
        """Where these changes stand; `changes` backwards.

        Raises:
            ValueError: the space has no such point.
        """
        told = {name: as_json(plain(choice)) for name, choice in changes.items()}  # 1 is not true there
        return tuple(
            [as_json(plain(choice)) for choice in of].index(told.get(name, "")) for name, of in self.choices.items()
        )

    def block_of(self, point: Point) -> Json:
        """The campus block at a point.

        Raises:
            RecipeError: a setting is none.
        """
        block = copy.deepcopy(self.block)
        for name, choice in self.changes(point).items():
            block = put(block, name, choice)
        return block

    def identity(self, point: Point) -> str | None:
        """What tells the recipe of a point from others, seeds aside; None where its choices do not go together."""
        try:
            return _identity(self.block_of(point))
        except RecipeError:
            return None


def read_space(choices: Mapping[str, tuple[Any, ...]], block: Json) -> Space:
    """The space of a `search:` block, looked at before anything is trained.

    Args:
        choices: setting → choices.
        block: the campus block of the recipe.

    Raises:
        RecipeError: all that is wrong: settings that nobody knows (with the nearest known one), that are not to be
            searched, or that are given twice; choices that fit in no combination.
    """
    block = {key: value for key, value in block.items() if key != "evaluate"}
    space = Space(block, dict(choices), _identity(block))
    problems = [
        f"`{WHERE}` must leave `{name.partition('.')[0]}` alone, got {name}: {KEPT[name.partition('.')[0]]}. Remove it."
        for name in choices
        if name.partition(".")[0] in KEPT
    ]
    problems += [
        f"`{WHERE}` must say of each setting once what is tried, got {outer} and {name}, which is inside of it. Keep "
        "one of them."
        for name in choices
        for outer in choices
        if name.startswith(f"{outer}.")
    ]
    if not problems:
        for number, name in enumerate(choices):
            problems += dict.fromkeys(
                problem for i in range(len(choices[name])) for problem in _misfit(space, number, i)
            )
    if problems:
        raise RecipeError(problems)
    return space


def put(block: Json, name: str, choice: object) -> Json:
    """A campus block with one setting changed.

    >>> put({"pacing": "linear", "mix": 0.5}, "pacing.start", 0.1)  # a part that was written as its name
    {'pacing': {'name': 'linear', 'start': 0.1}, 'mix': 0.5}

    Args:
        block: is not changed itself.
        name: of the setting, `outer.inner` where it is inside of another one.
        choice: its value.

    Raises:
        RecipeError: the outer setting has no settings inside.
    """

    def inside(there: object, names: Sequence[str]) -> object:
        if not names:
            return choice
        there = {"name": there} if isinstance(there, str) else {} if there is None else there
        if not isinstance(there, Mapping):
            outer = name.removesuffix("." + ".".join(names))
            raise RecipeError(
                f"`{outer}` must have settings inside of it for {name} to be one, got {shown(there)}. Write whole "
                f"choices: {outer}: [one, another]."
            )
        return {**there, names[0]: inside(there.get(names[0]), names[1:])}

    outer, *names = name.split(".")
    there = block[outer] if block.get(outer) is not None else plain(defaults(CampusConfig).get(outer))
    return {**block, outer: inside(there, names)}


def _identity(block: Json) -> str:
    """The settings in one of the ways in which they can be written: `pacing: root` is root with all its defaults."""
    told = CampusConfig.from_mapping(block).to_mapping()
    told["pacing"] = _with_defaults(PACINGS, told["pacing"])
    told["metrics"] = [
        [spec.label, spec.reverse, _with_defaults(METRICS, {"name": spec.name, **spec.options})]
        for spec in map(parse_metric, told["metrics"])
    ]
    return as_json(_as_floats(told))


def _with_defaults(parts: Registry[Any], setting: str | Mapping[str, Any]) -> Json:
    """A named part with all its options."""
    written = {"name": setting} if isinstance(setting, str) else dict(setting)
    options = signature(parts.get(str(written["name"]))).parameters.values()
    return {**{one.name: one.default for one in options if one.default is not one.empty}, **written}


def _as_floats(value: object) -> object:
    """2 is 2.0, all the way down."""
    if isinstance(value, Mapping):
        return {name: _as_floats(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_as_floats(one) for one in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _misfit(space: Space, number: int, choice: int) -> list[str]:
    """Why a choice fits neither the recipe as it stands nor any of some combinations; nothing where it does."""
    name = list(space.choices)[number]
    try:
        _identity(put(space.block, name, space.choices[name][choice]))
    except RecipeError as error:
        problems = error.problems
    else:
        return []
    draws = np.random.default_rng(0)
    for _ in range(_TRIES if len(space.sizes) > 1 else 0):
        point = [int(draws.integers(size)) for size in space.sizes]
        point[number] = choice
        if space.identity(tuple(point)) is not None:
            return []
    return [f"`{WHERE}: {name}`: {problem}" for problem in problems]
