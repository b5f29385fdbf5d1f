"""The block that says how much rows count: `weights`, a list of entries, each a name or a mapping.

An entry is one of the parts of `method.weights` with that part's own options, and beside them what every weight takes:
from when until when it holds, how much at most, and whether planned weights are divided by their mean.

>>> entry = WeightSettings.from_mapping({"name": "focal", "gamma": 2, "from": 0.5})
>>> entry.weight, entry.span(0.6)
(Focal(gamma=2, of='token'), (0.5, 1.0))
>>> WeightSettings.from_mapping({"name": "focal", "limt": 5})
Traceback (most recent call last):
campus_tune.words.errors.RecipeError: `weights: focal` takes name, gamma, of, from, until, limit, normalise, got 'limt'. Did you mean 'limit'? Correct or remove it.
"""  # noqa: E501  # a message is one line

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Any, Literal, Self

from campus_tune.method.weighting import Entry
from campus_tune.method.weights import WEIGHTS, LiveWeight, OwnWeight, PlannedWeight, Unbiased, Weight, build_weight
from campus_tune.recipe.draw_blocks import Spanned, ThinSettings
from campus_tune.recipe.reader import Entries, part_schema
from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import Range, Wording, keys
from campus_tune.words.types import Json

HIGHEST_LIMIT = 1e6
_LIMIT = Wording("a number of at least 1, for weights are 1 on average", "Write limit: 5, or leave it out for none.")


@dataclass(frozen=True)
class WeightSettings(Spanned):
    """One weight: the part, and what every weight takes besides the part's own options.

    Args:
        part: the name and the part's own options.
        since: progress from which it holds; None is the weight's own: 0.1 for robust, else 0.
        until: progress until which it holds; None is the handover for self_paced, else 1.
        limit: how often its mean a factor is at most; None has no limit.
        normalise: planned weights are divided by their mean over each step (step), or stay as they are (none); one
            for all entries. None is step.
    """

    block = "weights"
    must = "a name or a mapping"
    write = "Write weights: [unbiased, {name: column, column: weight}]."
    apart = ("part",)
    unsaid = ("since", "until", "limit", "normalise")

    part: Mapping[str, Any]
    since: Annotated[float | None, Range(0, 1, "[)")] = None
    until: Annotated[float | None, Range(0, 1, "(]")] = None
    limit: Annotated[float | None, Range(1, HIGHEST_LIMIT), _LIMIT] = None
    normalise: Literal["step", "none"] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.part, str):  # made in Python, as a recipe would write it
            object.__setattr__(self, "part", {"name": self.part})
        super().__post_init__()

    @property
    def where(self) -> str:
        """Which of several weights is meant."""
        return f"{self.block}: {self.name}: "

    @property
    def name(self) -> str:
        """Of the weight, which is what records call it."""
        return str(self.part.get("name"))

    @property
    def weight(self) -> Weight:
        """The formula."""
        return build_weight(self.part)

    def clashes(self, wrong: set[str]) -> list[str]:
        """What the part itself says of its options."""
        del wrong
        object.__setattr__(self, "part", copy.deepcopy(dict(self.part)))  # settings do not change with the caller's own
        try:
            build_weight(self.part)
        except RecipeError as error:
            return error.problems
        return []

    def span(self, handover: float) -> tuple[float, float]:
        """(From, until) where it holds.

        Args:
            handover: of the recipe.
        """
        weight = self.weight
        until = handover if weight.paced else 1.0
        return weight.since if self.since is None else self.since, until if self.until is None else self.until

    def entry(self, handover: float) -> Entry:
        """It as the method takes it.

        Args:
            handover: of the recipe.
        """
        since, until = self.span(handover)
        return Entry(self.name, self.weight, since, until, self.limit)

    # -- what does not go together -------------------------------------------------------------------------------

    def never_holds(self, handover: float) -> Iterator[str]:
        """A span of nothing, by what is written or by what its nulls stand for; `handover` is the recipe's."""
        since, until = self.span(handover)
        if since < until:
            return
        if self.until is None:
            got, advice = f"from: {since:g}, and it ends with the handover ({until:g})", "Write until: 1 beside it."
        elif self.since is None:
            got, advice = f"until: {until:g}, and its own from is {since:g}", "Write from: 0 beside it."
        else:
            got, advice = f"from: {since:g}, until: {until:g}", "Write until: 1, or an earlier from."
        yield f"`{self.where}from` must be before its until, got {got}. {advice}"

    def contradicts(self, other: WeightSettings, handover: float) -> Iterator[str]:
        """The same weight twice, or two that pull against each other at the same time; `handover` is the recipe's."""
        first, second = self.weight, other.weight
        if self.name == other.name:
            if isinstance(first, LiveWeight) or first == second:
                yield f"`weights` must have {self.name} once, got it twice: which of them holds? Keep one."
            elif all(isinstance(weight, OwnWeight) and weight.of == "message" for weight in (first, second)):
                yield (
                    "`weights: column` must be of messages once, got two entries with of: message: one weight is "
                    "spread over a message's tokens. Multiply them in the data, and keep one."
                )
            return
        spans = self.span(handover), other.span(handover)
        begins, ends = max(since for since, _ in spans), min(until for _, until in spans)
        if {first.favours, second.favours} == {"hard", "easy"} and begins < ends:
            between = (begins + ends) / 2
            yield (
                f"`weights` must not contradict each other, got {self.name} for {first.favours} rows and {other.name} "
                f"for {second.favours} ones, both from {begins:g} until {ends:g}. Keep one, or part them: {self.name} "
                f"until: {between:g}, {other.name} from: {between:g}."
            )

    # -- as data -------------------------------------------------------------------------------------------------

    @classmethod
    def from_mapping(cls, given: object, *, what: str = "", **apart: Any) -> Self:
        """The settings of a name, or of a mapping with the part's options and those of all weights.

        Raises:
            RecipeError: with all that is wrong in it.
        """
        given = {"name": given} if isinstance(given, str) else given
        if not isinstance(given, Mapping):
            return super().from_mapping(given, what=what, **apart)
        everyones = [cls.key(name) for name in cls.known()]
        part = {key: value for key, value in given.items() if key not in everyones}
        common = {key: value for key, value in given.items() if key in everyones}
        problems: list[str] = []
        with suppress(RecipeError):  # of a name that nobody knows the part is refused as a whole
            own = ["name", *WEIGHTS.options(str(given.get("name")))]
            problems = keys(f"{cls.block}: {given['name']}", given, [*own, *everyones])
            part = {key: value for key, value in part.items() if key in own}
        try:
            settings = super().from_mapping(common, what=what, part=part)
        except RecipeError as error:
            raise RecipeError([*problems, *error.problems]) from error
        if problems:
            raise RecipeError(problems)
        return settings

    def to_mapping(self) -> Json:
        """The part's options as they are written, then those of all weights that are not null."""
        return {**copy.deepcopy(dict(self.part)), **super().to_mapping()}

    @classmethod
    def schema(cls) -> Json:
        """Written once, in `weight_schema`."""
        return {"$ref": f"#/$defs/{WEIGHTS.kind}"}

    @classmethod
    def of_all(cls) -> Json:
        """The options that every weight takes, as JSON schema."""
        properties: Json = super().schema()["properties"]
        return properties


ENTRIES = Entries(WeightSettings.as_leaf(), "Write weights: [unbiased], always a list, or null for none.", least=1)


def weight_schema() -> Json:
    """One entry as JSON schema."""
    return part_schema(WEIGHTS, more=WeightSettings.of_all())


# -- what does not go together -----------------------------------------------------------------------------------------


def weight_problems(
    entries: Sequence[WeightSettings], handover: float, thin: ThinSettings | None, *, shares: bool
) -> Iterator[str]:
    """Entries that contradict one another, or ask for what the recipe does not have.

    Args:
        entries: right by themselves.
        handover: of the recipe.
        thin: what makes some rows likelier than others.
        shares: domains have planned weights too.
    """
    for entry in entries:
        yield from entry.never_holds(handover)
    for one, other in combinations(entries, 2):
        yield from one.contradicts(other, handover)
    unbiased = any(isinstance(entry.weight, Unbiased) for entry in entries)
    if unbiased and thin is None:
        yield (
            "`weights: unbiased` must have `thin`, whose chances it makes up for, got none: all rows would count 1. "
            "Add thin: {how: prune}, or leave unbiased out."
        )
    elif unbiased and thin is not None and thin.how == "top":
        yield (
            "`weights: unbiased` must go with a `thin` that gives every row a chance, got how: top: nothing makes up "
            "for rows that never come. Write how: rank, or leave unbiased out."
        )
    said = {entry.normalise for entry in entries} - {None}
    planned = shares or any(isinstance(entry.weight, PlannedWeight) for entry in entries)
    if len(said) > 1:
        yield "`weights: normalise` must be one for all entries, got step and none. Write it in one of them."
    elif said == {"none"} and not planned:
        yield (
            "`weights: normalise` must be of weights that are planned (column, unbiased), got "
            f"{', '.join(entry.name for entry in entries)}: what a forward decides is divided by its last mean. Remove "
            "it."
        )
