"""Blocks that say what steers a run: milestones, what is done about an event, the clock.

Each of them is read by itself here; what they ask of the other blocks is in `campus_tune/recipe/steer_rules.py`. What is
done is an action, or several in sequence (`then: [rollback, hand_over]`).

>>> MilestoneSettings.from_mapping({"name": "fractions", "probe": "math", "loss": 0.8}).then
('note',)
>>> WHEN.read("when", {"stagnation": "note"})
{'stagnation': {'then': ('note',)}}
>>> ClockSettings.from_mapping("competence")
Traceback (most recent call last):
campus_tune.words.errors.RecipeError: `clock: target` must be given with by: competence, got nothing. Write clock: {by: competence, target: 0.8}, or clock: steps.
"""  # noqa: E501  # a message is one line

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeAlias, get_args

from campus_tune.method.clock import Clock
from campus_tune.method.firing import Action
from campus_tune.method.rules import RULES, Milestone, Rule
from campus_tune.recipe.reader import CheckedSettings, Entries, mapping_schema
from campus_tune.words.annotated import leaves
from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import Leaf, Range, Several, keys
from campus_tune.words.registry import nearest
from campus_tune.words.types import Json
from campus_tune.words.wording import shown

MILESTONE = "milestone"  # the rule that has a block of its own
NOTE: tuple[Action, ...] = ("note",)

Answer: TypeAlias = Mapping[str, Any]  # to an event: `then` and the options of its rule


# -- leaves ------------------------------------------------------------------------------------------------------------


class _Then(Several):
    """Actions in sequence: each once, and nothing behind the end of the run."""

    def read(self, what: str, value: object) -> tuple[str, ...]:
        """Kept as a tuple."""
        if isinstance(value, bool):
            advice = "YAML reads yes, no, on and off as true and false: write note."
            raise RecipeError(self.refusal(what, value, advice))
        given = super().read(what, value)
        if twice := [action for action in self.words if given.count(action) > 1]:
            raise RecipeError(f"`{what}` must name an action once, got {twice[0]} twice. Keep one of them.")
        if "stop" in given[:-1]:
            raise RecipeError(f"`{what}` must end with stop, got {given[-1]} behind it. Put stop last.")
        return given

    def schema(self) -> Json:
        """A list that names none twice; that stop is last JSON Schema cannot say."""
        word, several = super().schema()["anyOf"]
        return {"anyOf": [word, {**several, "uniqueItems": True}]}


THEN = _Then(get_args(Action))


def options_of(event: str) -> dict[str, Leaf]:
    """What the rule of an event takes: its own options, what is done about it, and how often at most.

    Raises:
        RecipeError: there is no such rule.
    """
    return {**leaves(RULES.get(event)), "then": THEN}


def events() -> list[str]:
    """The events that `when` can answer: all rules but milestones."""
    return [name for name in RULES.names() if name != MILESTONE]


class _When(Leaf):
    """{event: action, or actions, or {then: …, times: 2, option: …}}; kept with `then` written out."""

    @property
    def must(self) -> str:
        """An example says it better than words."""
        return "a mapping of events to actions"

    def read(self, what: str, value: object) -> dict[str, Answer]:
        if not isinstance(value, Mapping):
            raise RecipeError(self.refusal(what, value, "Write {stagnation: note, regression: note}, or {} for none."))
        found: dict[str, Answer] = {}
        problems: list[str] = []
        for event, entry in value.items():
            try:
                found[event] = _event(what, event, entry)
            except RecipeError as error:
                problems += error.problems
        if problems:
            raise RecipeError(problems)
        return found

    def schema(self) -> Json:
        """Every event that there is."""
        known = {event: mapping_schema(RULES.get(event), options_of(event)) for event in events()}
        entries = {event: {"anyOf": [*THEN.schema()["anyOf"], options]} for event, options in known.items()}
        return {"type": "object", "properties": entries, "additionalProperties": False}


WHEN = _When()


def _event(what: str, event: object, entry: object) -> Answer:
    """One event with what is done about it and the options of its rule.

    Raises:
        RecipeError: with all that is wrong in it.
    """
    if event == MILESTONE:
        raise RecipeError(
            f"`{what}` must be of {', '.join(events())}, got {MILESTONE}, which has a block of its own. Write "
            "milestones: [{name: fractions, probe: math, loss: 0.8, then: note}]."
        )
    try:
        known = options_of(str(event))
    except RecipeError as error:
        raise RecipeError(
            f"`{what}` takes {', '.join(events())}, got {shown(event)}.{nearest(str(event), events())} Correct or "
            "remove it."
        ) from error
    where = f"{what}: {event}"
    if entry is None or (isinstance(entry, int | float) and not isinstance(entry, bool)):
        own = next(iter(known))  # `saturated: 0.99` says what it means, and not what to do
        meant = f"{event}: {{{own}: {entry}, then: note}}" if entry is not None else f"{event}: note, or leave it out"
        raise RecipeError(THEN.refusal(where, entry, f"Write {meant}."))
    read: dict[str, Any] = {"then": NOTE}
    problems: list[str] = []
    if isinstance(entry, Mapping):
        problems += keys(where, entry, list(known))
        for name in [name for name in known if name in entry]:
            try:
                read[name] = known[name].read(f"{where}: {name}", entry[name])
            except RecipeError as error:
                problems += error.problems
    else:
        read["then"] = THEN.read(where, entry)
    if problems:
        raise RecipeError(problems)
    try:
        rule_of(event, read)
    except RecipeError as error:
        raise RecipeError([problem.replace(RULES.kind, what, 1) for problem in error.problems]) from error
    return read


def rule_of(event: object, settings: Answer) -> Rule:
    """The rule of an event.

    Args:
        event: its name.
        settings: `then` and the options of the rule.

    Raises:
        RecipeError: an option that the rule refuses.
    """
    return RULES.build(str(event), settings)


# -- blocks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MilestoneSettings(CheckedSettings):
    """A level that a probe should reach: of its loss, its competence or its accuracy, one of them.

    Args:
        name: that reports and records call it by.
        probe: the domain of the probes that shows it.
        loss: nats per token that it must be below.
        competence: exp(−loss) that it must be above.
        accuracy: share of tokens that the model finds most likely, that it must be above.
        hold: measurements in a row at which the 95 % bound must be on the right side.
        then: what is done once it is met: an action, or several in sequence.
        times: how often at most.
    """

    block = "milestones"
    must = "a mapping with name, probe and a level"
    write = "Write milestones: [{name: fractions, probe: math, loss: 0.8}]."

    name: str
    probe: str
    loss: Annotated[float | None, Range(0, 1000, "(]")] = None
    competence: Annotated[float | None, Range(0, 1, "()")] = None
    accuracy: Annotated[float | None, Range(0, 1, "(]")] = None
    hold: Annotated[int, Range(1, 100)] = 2
    then: Annotated[tuple[Action, ...], THEN] = NOTE
    times: Annotated[int, Range(1, 1000)] = 1

    @property
    def rule(self) -> Milestone:
        """The formula."""
        return Milestone(**vars(self))

    def clashes(self, wrong: set[str]) -> list[str]:
        """None of the levels, or more than one."""
        if wrong & {*LEVELS}:
            return []
        given = [f"{name}: {getattr(self, name):g}" for name in LEVELS if getattr(self, name) is not None]
        if len(given) == 1:
            return []
        got = " and ".join(given) or "none"
        advice = f"Keep {given[0]}, and give the others milestones of their own." if given else "Write loss: 0.8."
        return [f"`milestones` must have one of {', '.join(LEVELS)}, got {got}. {advice}"]


LEVELS = ("loss", "competence", "accuracy")
MILESTONES = Entries(
    MilestoneSettings.as_leaf(),
    "Write milestones: [{name: fractions, probe: math, loss: 0.8}], or null for none.",
    least=1,
)


@dataclass(frozen=True)
class ClockSettings(CheckedSettings):
    """What progress towards the handover is read from.

    Args:
        by: steps, tokens, or competence (what the probes say, half to twice as fast as the steps).
        target: mean competence of the probes' domains at which the orders are open, with by: competence.
    """

    block = "clock"
    must = "steps, tokens, or a mapping"
    write = "Write clock: steps, clock: tokens or clock: {by: competence, target: 0.8}."

    by: Literal["steps", "tokens", "competence"] = "steps"
    target: Annotated[float | None, Range(0, 1, "(]")] = None

    @property
    def clock(self) -> Clock:
        """The formula."""
        return Clock(self.by, self.target)

    def clashes(self, wrong: set[str]) -> list[str]:
        """A target without competence, and the other way round."""
        if wrong or (self.target is None) == (self.by != "competence"):
            return []
        if self.target is None:
            advice = "Write clock: {by: competence, target: 0.8}, or clock: steps."
            return [f"`clock: target` must be given with by: competence, got nothing. {advice}"]
        got = f"{self.target:g}: it is a competence"
        return [f"`clock: target` must be left out with by: {self.by}, got {got}. Write by: competence, or remove it."]

    @classmethod
    def from_mapping(cls, given: object, *, what: str = "", **apart: Any) -> Self:
        """The settings of a word, or of a mapping.

        Raises:
            RecipeError: with all that is wrong in it.
        """
        return super().from_mapping({"by": given} if isinstance(given, str) else given, what=what, **apart)

    @classmethod
    def schema(cls) -> Json:
        """A word that needs no target, or a mapping with what it needs."""
        mapping = super().schema()
        by, target = mapping["properties"]["by"], mapping["properties"]["target"]
        alone = [word for word in by["enum"] if word != "competence"]
        without = {"by": {**by, "enum": alone}, "target": {"type": "null"}}
        paced = {"by": {**by, "enum": ["competence"]}, "target": {**target, "type": "number"}}
        return {
            "anyOf": [
                {"enum": alone},
                {**mapping, "properties": without},
                {**mapping, "properties": paced, "required": ["by", "target"]},
            ]
        }
