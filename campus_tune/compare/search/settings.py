"""The `search:` block of a YAML: which settings are tried, how often, and on which rows they are ranked.

>>> SearchSettings.from_mapping({"space": {"mix": [0, 0.5]}, "rows": "search.jsonl"}).trials
24
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from campus_tune.recipe.reader import CheckedSettings
from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import LARGEST_SEED, Files, Leaf, Range, Wording
from campus_tune.words.types import Json
from campus_tune.words.wording import shown

BLOCK = "search"
MOST_TRIALS = 1000
_WRITE = "Write space: {mix: [0, 0.25, 0.5]}."


class _Choices(Leaf):
    """Setting → what is tried for it; what each of them means is the campus block's to say (`space.read_space`)."""

    must = "a mapping from settings of the campus block to lists of choices"

    def read(self, what: str, value: object) -> dict[str, tuple[Any, ...]]:
        if not isinstance(value, Mapping) or not value:
            raise RecipeError(self.refusal(what, value, _WRITE))
        problems = []
        for name, choices in value.items():
            if not isinstance(name, str) or not name:
                problems.append(f"`{what}` must have names of settings as keys, got {shown(name)}. {_WRITE}")
            elif not isinstance(choices, list | tuple) or len(choices) < 2:
                problems.append(
                    f"`{what}: {name}` must be a list of two or more choices, got {shown(choices)}. A single one "
                    "belongs into the campus block."
                )
            else:
                twice = [
                    one
                    for i, one in enumerate(choices)
                    if any(one == other and isinstance(one, bool) == isinstance(other, bool) for other in choices[:i])
                ]
                problems += [
                    f"`{what}: {name}` must have different choices, got {shown(one)} twice. Remove one."
                    for one in twice
                ]
        if problems:
            raise RecipeError(problems)
        return {name: tuple(choices) for name, choices in value.items()}

    def schema(self) -> Json:
        several = {"type": "array", "minItems": 2, "uniqueItems": True}
        return {"type": "object", "additionalProperties": several, "minProperties": 1}


@dataclass(frozen=True)
class SearchSettings(CheckedSettings):
    """What is searched, and how.

    Args:
        space: setting of the campus block → the choices that are tried; a setting inside of another one is written
            with a dot: `{mix: [0, 0.5], thin.keep: [0.5, 0.7]}`.
        rows: files of held-out rows that rank the trials; neither probes, which steer, nor the test rows, which judge.
        trials: settings that are tried, besides the recipe as it stands.
        seeds: of each trial.
        sampler: how trials are drawn: random, each combination once, or tpe, which draws more of what went well
            (`pip install "campus_tune[search]"`). None is tpe where optuna is installed, and random where it is not; a
            search that goes on keeps its own.
        seed: of the sampler.

    Raises:
        RecipeError: with all that is wrong in the block.
    """

    block = BLOCK
    write = f"Write `{BLOCK}:` and below it space: {{mix: [0, 0.5]}} and rows: search.jsonl."

    space: Annotated[Mapping[str, tuple[Any, ...]], _Choices()]
    rows: Annotated[tuple[str, ...], Files(), Wording(write="Write rows: search.jsonl.")]
    trials: Annotated[int, Range(1, MOST_TRIALS)] = 24
    seeds: Annotated[int, Range(1, 100)] = 1
    sampler: Literal["random", "tpe"] | None = None
    seed: Annotated[int, Range(0, LARGEST_SEED)] = 0
