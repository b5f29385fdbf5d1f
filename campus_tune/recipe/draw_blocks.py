"""Blocks that say who is drawn, and which rows: cells, domains, phases, thin, review (`drop` is in `drop_block`).

Each of them is read by itself here; what they ask of one another, of the metrics and of the run's length is in
`campus_tune/recipe/draw_rules.py`. `from` and `until` are progress in [0, 1] everywhere; outside of them a block does
nothing. No value is ever the bare word `on` or `off`: other readers of YAML take these for true and false.

>>> ThinSettings.from_mapping({"how": "rank", "by": "seen_loss", "from": 0.5}).to_mapping()["from"]
0.5
>>> DomainSettings.from_mapping({"shares": {"math": 0.5, "code": 0.4}})
Traceback (most recent call last):
campus_tune.words.errors.RecipeError: `domains: shares` must sum to 1, got 0.9. Write {math: 0.5556, code: 0.4444}.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from campus_tune.method.prompt_scores import PROMPT_SCORES
from campus_tune.method.reweight import SHARES, SkillGraph, build_reweight
from campus_tune.method.shares import TOLERANCE
from campus_tune.method.thin import KNOBS, THINNERS
from campus_tune.metrics import METRICS, parse_metric
from campus_tune.recipe.graph_file import with_graph
from campus_tune.recipe.reader import CheckedSettings, Entries, Part
from campus_tune.words.annotated import leaves
from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import Given, Leaf, Number, Range, Wording
from campus_tune.words.types import Json
from campus_tune.words.wording import shown

NATURAL = "natural"  # shares as the rows have them
TEMPERATURE = "temperature"
BOOK = ("seen_loss", "surprise", "excess")  # what training shows of a row, which is no metric
BY_REWARDS = tuple(PROMPT_SCORES)  # and what rewards show of a prompt: middle, easy_first, learning_progress

Shares: TypeAlias = str | Mapping[str, float]  # `natural`, {math: 0.4, …}, {temperature: 2}
Entry: TypeAlias = str | Mapping[str, Any]  # a part: its name, or a mapping; of a metric, its label too


# -- leaves ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScoredBy(Leaf):
    """What rows are scored by: a word, whose meaning hangs on the recipe's metrics, or a metric with its options.

    Args:
        words: which are no metrics.
    """

    words: tuple[str, ...] = ()

    @property
    def must(self) -> str:
        """The words that are no metrics come first."""
        return ", ".join([*self.words, "a metric"] if self.words else ["a metric"])

    def read(self, what: str, value: object) -> Any:
        """A mapping is read as a metric at once; a word waits for the recipe's metrics, whose label it may be."""
        if isinstance(value, Mapping):
            try:
                parse_metric(value)
            except RecipeError as error:
                raise RecipeError([f"`{what}`: {problem}" for problem in error.problems]) from error
        elif not isinstance(value, str) or not value.strip("- "):
            raise RecipeError(self.refusal(what, value, "Write length, -length or {name: column, column: level}."))
        return copy.deepcopy(value)

    def schema(self) -> Json:
        """A word or a metric: which words there are hangs on the recipe."""
        return {"anyOf": [{"type": "string", "pattern": "[^- ]"}, {"$ref": f"#/$defs/{METRICS.kind}"}]}


class _Shares(Leaf):
    """`natural`, a share for each name, or {temperature: 2}."""

    must = "natural, a mapping of names to shares, or {temperature: 2}"

    def read(self, what: str, value: object) -> Shares:
        if value == NATURAL:
            return NATURAL
        if not isinstance(value, Mapping) or not value:
            raise RecipeError(self.refusal(what, value, "Write {math: 0.4, code: 0.6}."))
        if odd := [name for name in value if not isinstance(name, str)]:
            advice = f"Quote it: {{{str(odd[0])!r}: …}}."
            raise RecipeError(f"`{what}` must name each of them by a text, got {odd[0]!r}. {advice}")
        if list(value) == [TEMPERATURE]:
            Number(_TEMPERATURES).read(f"{what}: {TEMPERATURE}", value[TEMPERATURE])
            return dict(value)
        problems = [p for name, one in value.items() for p in Number(Range(0, 1)).problems(f"{what}: {name}", one)]
        if problems:
            raise RecipeError(problems)
        total = math.fsum(value.values())
        if abs(total - 1) > TOLERANCE:
            raise RecipeError(f"`{what}` must sum to 1, got {total:g}. {_rescaled(value, total)}")
        return dict(value)

    def schema(self) -> Json:
        temperature = {
            "type": "object",
            "properties": {TEMPERATURE: Number(_TEMPERATURES).schema()},
            "additionalProperties": False,
            "required": [TEMPERATURE],
        }
        shares = {"type": "object", "additionalProperties": Number(Range(0, 1)).schema(), "minProperties": 1}
        return {"anyOf": [{"const": NATURAL}, shares, temperature]}


_TEMPERATURES = Range(0, 1000, "(]")


def _rescaled(shares: Mapping[str, float], total: float) -> str:
    """What to write instead: the same shares, made to sum to 1."""
    if total <= 0:
        return "Give at least one of them more than 0."
    scaled = {name: round(share / total, 4) for name, share in shares.items()}
    largest = max(scaled, key=scaled.__getitem__)
    scaled[largest] = round(scaled[largest] + 1 - math.fsum(scaled.values()), 4)  # what rounding took
    return f"Write {{{', '.join(f'{name}: {share:g}' for name, share in scaled.items())}}}."


class _Best(Leaf):
    """{metric: share}: the best rows by one score."""

    must = "a mapping of one metric to the share of its best rows"

    def read(self, what: str, value: object) -> dict[str, float]:
        if not isinstance(value, Mapping) or len(value) != 1 or not all(isinstance(name, str) for name in value):
            raise RecipeError(self.refusal(what, value, "Write {length: 0.3}."))
        for name, share in value.items():
            Number(PART).read(f"{what}: {name}", share)
        return dict(value)

    def schema(self) -> Json:
        share = Number(PART).schema()
        return {"type": "object", "additionalProperties": share, "minProperties": 1, "maxProperties": 1}


PART = Range(0, 1, "()")


class _How(Leaf):
    """A thinner by its name. Methods that are a thinner and a weight are known by name."""

    @property
    def must(self) -> str:
        """All of them."""
        return f"one of {', '.join(THINNERS.names())}"

    def problems(self, what: str, value: object) -> list[str]:
        """`infobatch` and `importance` are no misspellings."""
        if not isinstance(value, str):
            return self.refusal(what, value, "Write how: rank.")
        if value in MADE_OF:
            made_of = f"that is {MADE_OF[value]} whose rows are weighed. Write thin: {{how: {MADE_OF[value]}}}"
            return [f"`{what}` must be {self.must}, got {value!r}: {made_of} and weights: [unbiased]."]
        try:
            THINNERS.get(value)
        except RecipeError as error:
            return [problem.replace(f"`{THINNERS.kind}`", f"`{what}`", 1) for problem in error.problems]
        return []

    def schema(self) -> Json:
        return {"enum": THINNERS.names()}


MADE_OF: Mapping[str, str] = {"infobatch": "prune", "importance": "proportional"}  # methods by their thinner


class _Reweight(Part):
    """A reweighting; the file that a graph is in is read here, so that the settings hold what it says."""

    def read(self, what: str, value: object) -> Any:
        return super().read(what, with_graph(value))

    def schema(self) -> Json:
        options = {name: one.schema() for name, one in leaves(SkillGraph).items()}
        by_file = {
            "type": "object",
            "properties": {**options, "name": {"const": "skill_graph"}, "graph": {"type": "string", "minLength": 1}},
            "additionalProperties": False,
            "required": ["name", "graph"],
        }
        return {"anyOf": [super().schema(), by_file]}


# -- blocks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CellSettings(CheckedSettings):
    """Inside which rows scores are compared: the bands of a difficulty inside each domain.

    Args:
        by: the difficulty: a metric, by its name, its label among the recipe's `metrics`, or a mapping.
        bands: of equal size, inside each domain.
        of: another column beside the domain, where rows come from several sets.
    """

    block = "cells"
    write = "Write cells: {by: length, bands: 5}."

    by: Annotated[Entry, ScoredBy()] = "length"
    bands: Annotated[int, Range(1, 100)] = 5
    of: str | None = None


@dataclass(frozen=True)
class DomainSettings(CheckedSettings):
    """Who is drawn: the share of each domain, or of each cell, in every stage.

    Args:
        shares: `natural` (as the rows have them), a share for each name, or {temperature: 2}, which draws the small
            ones more often. Who is not named gets nothing.
        least: smallest share of any of them.
        over: what has a share: domains or cells.
        follow: what the shares follow, 20 % kept natural, from 5 % of the run on: the loss that training shows
            (seen_loss), or its fall (progress). None follows nothing.
        reweight: how the shares are moved by losses: lagging, doremi, odm or skill_graph, by name or as a mapping with
            options. None moves nothing.
        by: sampling (rows are drawn in these shares), or weights (all are drawn as ever, and count in these shares).
    """

    block = "domains"
    write = "Write domains: {shares: {math: 0.4, code: 0.6}}."
    unsaid = ("reweight",)

    shares: Annotated[Shares, _Shares()] = NATURAL
    least: Annotated[float, Range(0, 1, "[)")] = 0.0
    over: Literal["domains", "cells"] = "domains"
    follow: Literal["seen_loss", "progress"] | None = None
    reweight: Annotated[Entry | None, _Reweight(SHARES, build_reweight)] = None
    by: Literal["sampling", "weights"] = "sampling"

    @property
    def changes_nothing(self) -> bool:
        """Natural shares of domains, and nothing besides: what is drawn without the block."""
        return self == DomainSettings(by=self.by)

    def clashes(self, wrong: set[str]) -> list[str]:
        """Shares that are fixed, or have a floor, and follow something; or that two things move."""
        if self.follow is None or "follow" in wrong:
            return []
        if self.reweight is not None and "reweight" not in wrong:
            got = f"{self.follow} and reweight: {shown(self.reweight)}"
            return [f"`domains: follow` must be alone to move the shares, got {got}. Leave out one of them."]
        given = {"shares": None if self.shares == NATURAL else self.shares, "least": self.least or None}
        return [
            f"`domains: follow` must start from natural shares, of which 20 % stay, got {name}: {shown(value)}. Leave "
            f"out `{name}` or `follow`."
            for name, value in given.items()
            if value is not None and name not in wrong
        ]


@dataclass(frozen=True)
class PhaseSettings(CheckedSettings):
    """One part of a run with shares, orders or a share at random of its own.

    Args:
        until: progress at which it ends; 1 for the last one.
        shares: of the domains, as under `domains`; None is those of `domains`.
        overlap: progress over which it goes over into the next one, half of it before `until` and half behind.
        offer: labels of the metrics that are offered in it; None offers all.
        mix: share of its stages that is drawn at random; None is the recipe's.
        top: {metric: share}: only this share of the rows is open, those of the highest scores.
    """

    block = "phases"
    must = "a mapping with until"
    write = "Write phases: [{until: 0.5}, {until: 1}]."

    until: Annotated[float, Range(0, 1, "(]")]
    shares: Annotated[Shares | None, _Shares()] = None
    overlap: Annotated[float, Range(0, 1, "[)")] = 0.0
    offer: Annotated[tuple[str, ...] | None, Wording("a list of labels", "Write [length].")] = None
    mix: Annotated[float | None, Range(0, 1, "[)")] = None
    top: Annotated[Mapping[str, float] | None, _Best()] = None

    @property
    def draws(self) -> bool:
        """It says something of the draw besides shares."""
        return self.offer is not None or self.mix is not None or self.top is not None


@dataclass(frozen=True)
class Spanned(CheckedSettings):
    """Settings that hold from one point of a run's progress to another."""

    written: ClassVar[Mapping[str, str]] = {"since": "from"}  # Python keeps the word `from` for itself

    def backwards(self, wrong: set[str], since: float, until: float) -> list[str]:
        """`from` is not before `until`."""
        if wrong & {"since", "until"} or since < until:
            return []
        return [f"`{self.block}: from` must be before its until, got from: {since:g}, until: {until:g}. Exchange them."]


@dataclass(frozen=True)
class ThinSettings(Spanned):
    """Which rows: more are offered than are trained, and a score says which are taken. Compared inside cells.

    Args:
        how: top (the highest scores), proportional (to the score), rank (by its place), prune (drops a part of those
            below their cell's mean).
        by: what a row showed in training (seen_loss, surprise, excess), what rewards have shown of a prompt (middle,
            easy_first, learning_progress), or a metric; a minus turns it around.
        keep: share of the offered rows that is trained; None is 0.5, and nothing with prune. By what rewards show: part
            of the prompts after which all can be drawn again; 1 is every prompt.
        drop: share of the rows below the mean that prune leaves out; None is 0.5 with prune.
        power: of the score, or of its place; None is 1 with proportional, 1/keep − 1 with rank.
        floor: share of the draw that is uniform, with proportional; None is 0.3 there.
        gate: how unequal the scores must be (τ, at least 1) before proportional does anything; None has no gate.
        detrend: losses seen at different times are taken less the mean of their stage.
        fresh: measure the offered rows under the model as it is, on the budget.
        since: progress from which it holds.
        until: progress until which it holds.
    """

    block = "thin"
    write = "Write thin: {how: rank, by: seen_loss, keep: 0.5}."

    how: Annotated[str | None, Given(), _How()] = None
    by: Annotated[Entry, ScoredBy((*BOOK, *BY_REWARDS))] = "seen_loss"
    keep: Annotated[float | None, Range(0, 1, "(]")] = None
    drop: Annotated[float | None, PART] = None
    power: Annotated[float | None, Range(0, 100)] = None
    floor: Annotated[float | None, Range(0, 1, "[]")] = None
    gate: Annotated[float | None, Range(1, 1000)] = None
    detrend: bool = True
    fresh: bool = False
    since: Annotated[float, Range(0, 1, "[)")] = 0.0
    until: Annotated[float, Range(0, 1, "(]")] = 1.0

    @classmethod
    def from_mapping(cls, given: object, *, what: str = "", **apart: Any) -> Self:
        """One thinner, by a mapping; what is asked for and is a weight is answered by name.

        Raises:
            RecipeError: with all that is wrong in it.
        """
        if given == "unbiased" or (isinstance(given, Mapping) and "unbiased" in given):
            raise RecipeError(
                "`thin` must say which rows are trained, got unbiased, which says how much they count. Write it "
                "beside: thin: {how: proportional} and weights: [unbiased]."
            )
        if isinstance(given, list | tuple):
            raise RecipeError(
                f"`thin` must be one mapping, got a list of {len(given)}: two thinners would take each other's rows. "
                "Keep one."
            )
        return super().from_mapping(given, what=what, **apart)

    @property
    def score(self) -> str:
        """What it goes by, in one word."""
        return self.by if isinstance(self.by, str) else parse_metric(self.by).label

    @property
    def reversed_by(self) -> bool:
        """A minus turns its score around."""
        name = self.by if isinstance(self.by, str) else str(self.by.get("name"))
        return name.startswith("-")

    @property
    def book_score(self) -> str | None:
        """What of the book it goes by; None where it goes by a metric."""
        name = self.by.removeprefix("-") if isinstance(self.by, str) else ""
        return name if name in BOOK else None

    @property
    def by_rewards(self) -> bool:
        """It goes by what rewards show of a prompt."""
        return isinstance(self.by, str) and self.by.removeprefix("-") in BY_REWARDS

    def clashes(self, wrong: set[str]) -> list[str]:
        """Settings of another thinner, a score that cannot be measured on demand, a span that goes backwards."""
        found = self.backwards(wrong, self.since, self.until)
        if wrong & {"how", "by"}:
            return found
        thinner: Any = THINNERS.get(str(self.how))  # a class, or what makes one
        takes = THINNERS.options(str(self.how))
        found += [
            f"`thin: {name}` must be left out with how: {self.how}, which takes {', '.join(takes)}, got "
            f"{getattr(self, name):g}. Remove it."
            for name in KNOBS
            if name not in wrong and name not in takes and getattr(self, name) is not None
        ]
        if "keep" not in wrong and self.keep == 1 and not self.by_rewards:
            found += Number(PART).problems("thin: keep", self.keep)
        if self.by_rewards and getattr(thinner, "own", False):
            found.append(
                f"`thin: how` must choose among all prompts with by: {self.score}, got {self.how}, by which a row's "
                "chance is its own. Write how: top."
            )
        by_ratio = getattr(thinner, "scale", None) == "ratio"
        if "gate" not in wrong and self.gate is not None and not by_ratio:
            found.append(
                f"`thin: gate` must be left out with how: {self.how}, got {self.gate:g}: it asks how unequal the "
                "chances of proportional are. Remove it."
            )
        if by_ratio and self.reversed_by:
            found.append(
                f"`thin: by` must not be turned around with how: {self.how}, got {shown(self.by)}: a chance that is "
                "proportional to a score needs one that is never negative. Write how: rank."
            )
        known = self.book_score in ("surprise", "excess") or self.by_rewards
        if "fresh" not in wrong and self.fresh and known:
            found.append(
                f"`thin: fresh` must go with by: seen_loss or a metric, got {self.score}: it is known of trained "
                "rows alone. Write fresh: false, or by: seen_loss."
            )
        return found


@dataclass(frozen=True)
class ReviewSettings(Spanned):
    """Rows that come back: a share of every stage is drawn from rows that were trained before.

    Args:
        share: of each stage.
        by: spacing (the interval doubles with every visit that shows the row is known), forgetting (the rows whose
            loss rose and that waited longest first), uniform (any trained row: the control).
        spacing: stages before a row comes back for the first time.
        since: progress from which it holds.
        until: progress until which it holds.
    """

    block = "review"
    write = "Write review: {share: 0.1, by: spacing}."

    share: Annotated[float, PART] = 0.1
    by: Literal["spacing", "forgetting", "uniform"] = "spacing"
    spacing: Annotated[int, Range(1, 128)] = 2
    since: Annotated[float, Range(0, 1, "[)")] = 0.0
    until: Annotated[float, Range(0, 1, "(]")] = 1.0

    def clashes(self, wrong: set[str]) -> list[str]:
        """A span that goes backwards."""
        return self.backwards(wrong, self.since, self.until)


PHASES = Entries(PhaseSettings.as_leaf(), "Write phases: [{until: 0.5}, {until: 1}], or null for none.", least=1)
