"""What the blocks that steer ask of one another, of the other blocks, of the probes.

A block's own words are read in `campus_tune/recipe/steer_blocks.py`. Three questions are asked at three moments: what the
settings alone say (`problems`), what a run without probes cannot do (`without_probes`), and, once the start model was
measured, which milestone and which target it has reached already (`already_met`).

>>> blocks = SteerBlocks(when={"stagnation": {"then": ("hand_over",)}})
>>> list(blocks.problems(DrawBlocks(), unordered="selector: shuffle"))
['`when: stagnation` must have orders to hand over, got selector: shuffle: rows are plainly shuffled anyway. Write then: note.']
"""  # noqa: E501  # a message is one line

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

from campus_tune.method.clock import Clock
from campus_tune.method.firing import Action
from campus_tune.method.reweight import build_reweight
from campus_tune.method.rules import Rule, already_met
from campus_tune.recipe.draw_rules import DrawBlocks
from campus_tune.recipe.steer_blocks import LEVELS, NOTE, Answer, ClockSettings, MilestoneSettings, rule_of
from campus_tune.words.registry import nearest

if TYPE_CHECKING:
    from campus_tune.method.probe_history import Measurement

USUAL: Mapping[str, Answer] = {"stagnation": {"then": NOTE}, "regression": {"then": NOTE}}  # where there are probes
ORDERS: Mapping[Action, str] = {"widen": "widen", "back_off": "narrow", "hand_over": "hand over"}  # what needs orders
OF_DOMAINS: tuple[Action, ...] = ("review", "raise")  # done for the domain whose probe shows it


class AskedAction(NamedTuple):
    """One action, and the setting that asks for it.

    Args:
        setting: as messages call it.
        action: what is done.
        probe: the domain whose probe shows the event; None for each that does.
        at_all: the event is seen at some domain, and not of all of them together.
    """

    setting: str
    action: Action
    probe: str | None


@dataclass(frozen=True)
class SteerBlocks:
    """The blocks of one recipe that steer; None or empty without one.

    Args:
        milestones: levels that probes should reach.
        when: event → what is done about it; None is what is usual.
        clock: what progress is read from.
    """

    milestones: Sequence[MilestoneSettings] = ()
    when: Mapping[str, Answer] | None = None
    clock: ClockSettings | None = None

    def rules(self, *, has_probes: bool) -> tuple[Rule, ...]:
        """The rules: milestones as they are written, then the events by name.

        Args:
            has_probes: there are probes; without, nothing is watched that the recipe does not ask for.
        """
        usual = USUAL if has_probes else {}
        when = usual if self.when is None else self.when
        return (*(one.rule for one in self.milestones), *(rule_of(event, when[event]) for event in sorted(when)))

    @property
    def measured_by(self) -> Clock:
        """The clock itself."""
        return Clock() if self.clock is None else self.clock.clock

    def asked(self) -> Iterator[AskedAction]:
        """Every action that a setting asks for."""
        probes = dict(self.named_probes())
        for setting, actions in self.answers():
            yield from (AskedAction(setting, action, probes.get(f"{setting}: probe")) for action in actions)

    def answers(self) -> Iterator[tuple[str, tuple[Action, ...]]]:
        """(Setting, what it does) of every milestone, and of every event that the recipe speaks of."""
        yield from ((f"milestones: {one.name}", one.then) for one in self.milestones)
        yield from ((f"when: {event}", answer["then"]) for event, answer in (self.when or {}).items())

    def asks(self, *actions: Action) -> str | None:
        """The first setting that asks for one of these actions; None where nobody does."""
        return next((one.setting for one in self.asked() if one.action in actions), None)

    def without(self, wrong: Collection[str]) -> SteerBlocks:
        """The blocks that are right by themselves."""
        return SteerBlocks(**{f.name: getattr(self, f.name) for f in fields(self) if f.name not in wrong})

    # -- what is wrong ---------------------------------------------------------------------------------------------

    def problems(self, draw: DrawBlocks, *, unordered: str = "", sliced: bool = False) -> Iterator[str]:
        """All that does not go together, of blocks that are right by themselves.

        Args:
            draw: the blocks of the draw.
            unordered: the setting by which nothing is ordered; empty where something is.
            sliced: `window: slice`.
        """
        yield from self._of_names()
        for one in self.asked():
            yield from _of_orders(one, unordered, sliced=sliced)
            yield from _of_draw(one, draw)
        if self.clock is not None and self.clock.by != "steps" and (unordered or sliced):
            got = unordered or "window: slice"
            advice = "Write window: prefix, or clock: steps." if got == "window: slice" else "Write clock: steps."
            yield f"`clock: {self.clock.by}` must have orders that open by it, got {got}. {advice}"
        widen, back_off = self.asks("widen"), self.asks("back_off")
        if widen and back_off:
            yield (
                f"`when` must not undo what it does, got widen (`{widen}`) and back_off (`{back_off}`) in one recipe. "
                "Keep one of them, and note the other: then: note."
            )

    def _of_names(self) -> Iterator[str]:
        """Milestones that records could not tell apart."""
        names = [one.name for one in self.milestones]
        for name in dict.fromkeys(name for name in names if names.count(name) > 1):
            yield f"`milestones: name` must be of one milestone, got {name!r} twice. Rename one of them: {name} 2."

    def without_probes(self, draw: DrawBlocks) -> Iterator[str]:
        """What a run without probes cannot do.

        Args:
            draw: the blocks of the draw.
        """
        give = "Give probes: {path: ./probes.jsonl}"
        for name, block in (("milestones", self.milestones), ("when", self.when)):
            if block:
                yield f"`{name}` must have probes to be judged by, got none. {give}, or take `{name}` out."
        if self.clock is not None and self.clock.by == "competence":
            yield f"`clock: competence` must have probes to go by, got none. {give}, or write clock: steps."
        reweight = None if draw.domains is None or draw.over_cells else draw.domains.reweight  # cells have no probes
        if reweight is not None and build_reweight(reweight).signal == "probes":
            name = reweight if isinstance(reweight, str) else reweight["name"]
            yield (
                f"`domains: reweight` must have probes to be {name}, got none. {give}, or write reweight: odm, which "
                "goes by the losses of training."
            )

    # -- what only the probes tell -----------------------------------------------------------------------------------

    def named_probes(self) -> Iterator[tuple[str, str]]:
        """(Setting, domain) of every probe that is named."""
        yield from ((f"milestones: {one.name}: probe", one.probe) for one in self.milestones)
        for event, answer in (self.when or {}).items():
            if answer.get("probe") is not None:
                yield f"when: {event}: probe", answer["probe"]

    def unknown_probes(self, domains: Collection[str]) -> list[str]:
        """What is said of probes that no row is of; empty where all are known.

        Args:
            domains: of the probes.
        """
        known = ", ".join(domains) or "there are none"
        return [
            f"`{setting}` must be a domain of the probes ({known}), got {name!r}.{nearest(name, domains)} Name one of "
            "them."
            for setting, name in self.named_probes()
            if name not in domains
        ]

    def rowless(self, domains: Collection[str]) -> list[str]:
        """What is said of domains that would be raised or reviewed and have no rows; empty where all have some.

        Args:
            domains: of the rows that are trained.
        """
        return [
            f"`{one.setting}` must be of a domain that is trained ({', '.join(domains)}) to {one.action} it, got "
            f"{one.probe!r}.{nearest(one.probe, domains)} Write then: note."
            for one in self.asked()
            if one.action in OF_DOMAINS and one.probe is not None and one.probe not in domains
        ]

    def already_met(self, start: Measurement) -> list[str]:
        """What is said of milestones, and of a clock's target, that the start model has reached; empty where none is.

        Args:
            start: the measurement before the first step, of all domains that milestones name.
        """
        found = []
        for one in self.milestones:
            rule = one.rule
            if already_met(rule, start) and (seen := rule.reading(start)) is not None:
                what = next(name for name in LEVELS if getattr(one, name) is not None)
                found.append(
                    f"`milestones: {one.name}` must be ahead of the start model, got {what}: {seen.against:g}, and "
                    f"{one.probe} has {seen.value:.3g} before the first step. Write {what}: "
                    f"{_ahead(what, seen.value):g}, or take it out."
                )
        target = None if self.clock is None else self.clock.target
        competence = [math.exp(-loss.value) for loss in start.loss.values()]
        mean = math.fsum(competence) / max(1, len(competence))
        if target is not None and mean >= target:
            found.append(
                f"`clock: target` must be ahead of the start model, got {target:g}, and the probes have {mean:.3g} "
                f"before the first step. Write target: {_ahead('competence', mean):g}, or clock: steps."
            )
        return found


def _ahead(what: str, value: float) -> float:
    """A level that is some way ahead of what was measured: a tenth of a loss, half of what is missing to 1."""
    return float(f"{0.9 * value if what == 'loss' else (1 + value) / 2:.3g}")


def _of_orders(asked: AskedAction, unordered: str, *, sliced: bool) -> Iterator[str]:
    """An action on orders where there are none, or where they do not open step by step."""
    if asked.action not in ORDERS:
        return
    if unordered:
        yield (
            f"`{asked.setting}` must have orders to {ORDERS[asked.action]}, got {unordered}: rows are plainly shuffled "
            "anyway. Write then: note."
        )
    elif sliced and asked.action != "hand_over":
        yield (
            f"`{asked.setting}` must have an order that opens step by step to be {asked.action}, got window: slice. "
            "Write window: prefix, or then: note."
        )


def _of_draw(asked: AskedAction, draw: DrawBlocks) -> Iterator[str]:
    """An action on shares, phases or review that the recipe has not, or that another block decides."""
    if asked.action == "review" and draw.review is None:
        yield (
            f"`{asked.setting}` must have a `review` block whose rows it can double, got none. Add review: {{share: "
            "0.05}, or write then: note."
        )
    if asked.action == "next_phase" and len(draw.phases) < 2:
        got = f"{len(draw.phases)} of them" if draw.phases else "none"
        yield (
            f"`{asked.setting}` must have `phases` to go on to, got {got}. Write phases: [{{until: 0.5}}, {{until: "
            "1}], or then: note."
        )
    deciding = "" if draw.domains is None else "reweight" if draw.domains.reweight else draw.domains.follow and "follow"
    if asked.action == "raise" and deciding:
        yield (
            f"`{asked.setting}` must leave the shares to `domains: {deciding}`, got raise, which would decide them "
            f"too. Write then: note, or take `{deciding}` out."
        )
