"""The `compare:` block of a YAML: which arms, which seeds, which rows decide.

>>> CompareSettings.from_mapping({"test": {"path": "test.jsonl"}, "seeds": 3}).seeds
(0, 1, 2)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, Self

from campus_tune.compare.arms import DEFAULT
from campus_tune.recipe.blocks import DOMAIN, EvaluateSettings
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.reader import CheckedSettings
from campus_tune.words.annotated import plain
from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import LARGEST_SEED, Files, Leaf, Place, Range, Text, Whole, Wording, keys
from campus_tune.words.types import Json
from campus_tune.words.wording import shown

BLOCK = "compare"
MOST_SEEDS = 1000
MOST_DEVICES = 1024


class _Test(Leaf):
    """A file, files, or `{path, domain_column}`; the column is taken from it by `CompareSettings.from_mapping`."""

    must = "a file of held-out rows or a list of files"

    def read(self, what: str, value: object) -> tuple[str, ...]:
        given = value if isinstance(value, Mapping) else {"path": value}
        problems = keys(what, given, ["path", "domain_column"])
        if not Files().takes(given.get("path")):
            problems += self.refusal(what, value, "Write test: {path: test.jsonl}.")
        if given.get("domain_column") is not None:
            problems += Text().problems(f"{what}: domain_column", given["domain_column"])
        if problems:
            raise RecipeError(problems)
        return Files().read(what, given["path"])

    def schema(self) -> Json:
        column = {
            "type": ["string", "null"],
            "minLength": 1,
            "default": DOMAIN,
            "description": "none: files are domains",
        }
        mapping = {
            "type": "object",
            "properties": {"path": Files().schema(), "domain_column": column},
            "additionalProperties": False,
            "required": ["path"],
        }
        return {"anyOf": [*Files().schema()["anyOf"], mapping]}


class _Arms(Leaf):
    """A list of names, or a mapping name → settings that differ."""

    must = "a list of names, or a mapping of names to settings"

    def read(self, what: str, value: object) -> dict[str, Json]:
        if isinstance(value, list) and all(isinstance(name, str) for name in value):
            value = dict.fromkeys(value)
        if not isinstance(value, Mapping) or not value:
            raise RecipeError(self.refusal(what, value, f"Write arms: [{', '.join(DEFAULT)}]."))
        problems = [
            f"`{what}: {name}` must be settings of the campus block, got {shown(change)}. Write {{stages: 10}}."
            for name, change in value.items()
            if change is not None and not isinstance(change, Mapping)
        ]
        if problems:
            raise RecipeError(problems)
        return {str(name): dict(change or {}) for name, change in value.items()}

    def schema(self) -> Json:
        # What a change leaves of the recipe decides whether it may be so: the keys are checked, the values later.
        changes = {"type": ["object", "null"], "properties": CampusConfig.schema()["properties"]}
        names = {"type": "array", "items": {"type": "string"}, "minItems": 1}
        return {"anyOf": [names, {"type": "object", "additionalProperties": changes, "minProperties": 1}]}


@dataclass(frozen=True)
class _Numbers(Leaf):
    """Different whole numbers, kept as a tuple, or one that stands for several.

    Args:
        what: they are.
        write: an example.
        most: the largest of them.
        longest: how many, at most.
        count: one number says how many there are, from 0 on; else it is the only one.
        twice: why none may come twice.
    """

    what: str
    write: str
    most: int
    longest: int
    count: bool
    twice: str

    @property
    def must(self) -> str:
        return self.what

    def read(self, what: str, value: object) -> tuple[int, ...]:
        given = value
        if isinstance(value, int) and not isinstance(value, bool):
            given = list(range(min(value, self.longest + 1))) if self.count else [value]
        if (
            not isinstance(given, list | tuple)
            or not 0 < len(given) <= self.longest
            or not all(map(Whole(Range(0, self.most)).takes, given))
        ):
            raise RecipeError(self.refusal(what, value, self.write))
        twice = [one for one, n in Counter(given).items() if n > 1]
        if twice:
            raise RecipeError(f"`{what}` must be different, got {twice[0]} twice: {self.twice} Remove it.")
        return tuple(given)

    def schema(self) -> Json:
        items = {"type": "integer", "minimum": 0, "maximum": self.most}
        one = {**items, "minimum": 1, "maximum": self.longest} if self.count else items
        several = {"type": "array", "items": items, "minItems": 1, "maxItems": self.longest, "uniqueItems": True}
        return {"anyOf": [one, several]}


_SEEDS = _Numbers(
    what=f"how many, or a list of whole numbers (at most {MOST_SEEDS}, each in [0, {LARGEST_SEED}])",
    write="Write seeds: 5.",
    most=LARGEST_SEED,
    longest=MOST_SEEDS,
    count=True,
    twice="a repeated run is no second observation.",
)
_DEVICES = _Numbers(
    what=f"numbers of GPUs below {MOST_DEVICES}",
    write="Write devices: [0, 1].",
    most=MOST_DEVICES - 1,
    longest=MOST_DEVICES,
    count=False,
    twice="each has one run at a time.",
)


class _Once(Leaf):
    """Official tasks, looked at once."""

    must = "a mapping"
    block = EvaluateSettings

    def read(self, what: str, value: object) -> EvaluateSettings:
        if isinstance(value, EvaluateSettings):
            return value
        if not isinstance(value, Mapping):
            raise RecipeError(self.refusal(what, value, "Write evaluate: {suite: campus}."))
        if "every" in value:
            raise RecipeError(
                f"`{what}` must look once, at the end, got every: {shown(value['every'])}. Remove `every`."
            )
        return EvaluateSettings.from_mapping(value)

    def schema(self) -> Json:
        schema = EvaluateSettings.schema()
        return {**schema, "properties": {name: one for name, one in schema["properties"].items() if name != "every"}}


@dataclass(frozen=True)
class CompareSettings(CheckedSettings):
    """How arms are compared.

    Args:
        test: files of held-out rows that decide, by reward of held-out prompts; never those of the probes.
        domain_column: their column with the domain; None makes each file a domain.
        arms: name → settings of the campus block that differ from the recipe's. `recipe`, `random`,
            `random_same_pacing`, `reversed`, `random_plus` and the controls of the recipe's `weights`, `domains`,
            `phases`, `thin`, `review`, `drop`, of a bandit and of rules that act are known names (`uniform_weights`,
            `shuffled_weights`, `natural_shares`, `mean_shares`, `stacked`, `shuffled_scores`, `random_prune`,
            `round_robin`, `replayed_choices`, `no_review`, `uniform_review`, `random_drop`, `drop_best`, `notes_only`);
            others are recipes of their own.
        seeds: of the runs; each arm is trained with each.
        effect: the smallest effect worth finding, as a share of the random arm's final loss, or of its reward.
        speedup: the smallest saving of tokens worth finding, as a share.
        points: of each curve, besides the first.
        tokens_tolerance: how far arms may differ in trained tokens, as a share; by reward, arms take equal steps.
        evaluate: official tasks on each trained model: `{suite, tasks, data, limit, allow_code_execution}`.
        sharpness: measure how sharp the minimum is that each run ended in.
        trainer: of a recipe with `reward_funcs`: grpo or rloo; null takes the one whose fields the YAML has, else grpo.
        samples: answers to each test prompt of such a recipe, drawn with one seed as in training; 0 takes the likeliest
            answer, token by token.
        proxy: a folder of `campus-tune proxy`, or of a finished run: does it rank the training rows as the trained
            model does? At most 2 000 of them are measured in the first two runs of plain shuffling.
        jobs: runs at once, on CPU cores.
        devices: accelerators, each with a run of its own; None takes the first one.

    Raises:
        RecipeError: with all that is wrong in the block.
    """

    block = BLOCK
    write = f"Write `{BLOCK}:` and below it test: {{path: test.jsonl}}."
    apart = ("domain_column",)

    test: Annotated[tuple[str, ...], _Test()]
    domain_column: str | None = DOMAIN
    arms: Annotated[Mapping[str, Json], _Arms()] = field(default_factory=lambda: {name: {} for name in DEFAULT})
    seeds: Annotated[tuple[int, ...], _SEEDS] = (0, 1, 2, 3, 4)
    effect: Annotated[float, Range(0, 1, "()")] = 0.02
    speedup: Annotated[float, Range(0, 1, "()")] = 0.1
    points: Annotated[int, Range(1, 10_000)] = 20
    tokens_tolerance: Annotated[float, Range(0, 1)] = 0.01
    evaluate: Annotated[EvaluateSettings | None, _Once()] = None
    sharpness: Annotated[bool, Wording(write="Write true.")] = False
    trainer: Literal["grpo", "rloo"] | None = None
    samples: Annotated[int, Range(0, 1024)] = 0
    proxy: Annotated[str | None, Place("a folder of campus-tune proxy, or of a finished run", "proxy: ./proxy")] = None
    jobs: Annotated[int, Range(1, 256)] = 1
    devices: Annotated[tuple[int, ...] | None, _DEVICES] = None

    @classmethod
    def from_mapping(cls, given: object, *, what: str = "", **apart: Any) -> Self:
        """Read the `compare:` block; the domain column stands inside of `test`.

        Raises:
            RecipeError: with all that is wrong in it.
        """
        test = given.get("test") if isinstance(given, Mapping) else None
        column = test.get("domain_column", DOMAIN) if isinstance(test, Mapping) else DOMAIN
        return super().from_mapping(
            given, what=what, domain_column=None if column in (None, "none") else column, **apart
        )

    def to_mapping(self) -> Json:
        """What makes two comparisons the same one: all but how the runs are shared out."""
        return {
            f.name: plain(getattr(self, f.name)) for f in fields(self) if f.name not in ("jobs", "devices", "proxy")
        }
