"""What a run's record says of what steered it: rules that fired, shares that moved, a bandit's chances, the clock.

Read for runs that something steered; others have none of these lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from campus_tune.method.firing_lines import answered, seen
from campus_tune.run.told import summed_up
from campus_tune.words.types import FloatArray, Json

CLOCK, HANDOVER = "campus: clock", "campus: handover"
MOVES_THE_CLOCK = ("widen", "back_off")  # actions that show in its progress


@dataclass(frozen=True)
class FiringFacts:
    """One firing of a rule.

    Args:
        kind: what was seen.
        name: of a milestone; the kind for the others.
        probe: the domain whose probe shows it; None for all of them, or for training itself.
        step: optimizer steps before it.
        value: that was measured; None where it is no number.
        bound: its confidence bound.
        against: what that is compared with.
        actions: what was to be done.
        what: it in words, with its numbers.
        answer: what was done about it in words; "" where it was only noted.
        times: how often this rule has fired, with this firing.
        is_open: a regression from which its probe has not recovered, so far.
    """

    kind: str
    name: str
    probe: str | None
    step: int
    value: float | None
    bound: float | None
    against: float | None
    actions: Sequence[str]
    what: str
    answer: str
    times: int
    is_open: bool = False

    @staticmethod
    def of(record: Json, *, is_open: bool = False) -> FiringFacts:
        """From the ledger's line of it."""
        numbers = {name: record[name] for name in ("kind", "name", "probe", "step", "value", "bound", "against")}
        return FiringFacts(
            **numbers,
            actions=record["actions"],
            what=seen(record),
            answer=", then ".join(answered(record)),
            times=record["times"],
            is_open=is_open,
        )


@dataclass(frozen=True)
class MovedShares:
    """The record has moved the shares that rows are drawn by.

    Args:
        step: optimizer steps before it.
        before: stratum → its share until then.
        after: stratum → its share from there on.
        signal: stratum → what they follow, of those of which something is known.
    """

    step: int
    before: Mapping[str, float]
    after: Mapping[str, float]
    signal: Mapping[str, float]


@dataclass(frozen=True)
class RewardFacts:
    """What a stage was worth to a bandit.

    Args:
        step: optimizer steps before the stage.
        chosen: its sub-curriculum.
        value: in [−1, 1], beside the others.
    """

    step: int
    chosen: str
    value: float


@dataclass(frozen=True)
class SteerFacts:
    """What steered a run.

    Args:
        sentences: it in words.
        firings: in their sequence.
        moved: each time that shares moved.
        edges: first step of each stage, and the step after the last.
        pi: sub-curriculum → a bandit's chance of it in each stage, shape (stages,); 0 where nothing was chosen.
        rewards: those that the bandit came to know.
        progress: (step, the clock's progress to the handover), where orders are offered; () where it is that of the
            steps.
        handover: share of the steps after which rows are shuffled.
        total_steps: of the run as planned.
    """

    sentences: tuple[str, ...]
    firings: tuple[FiringFacts, ...]
    moved: tuple[MovedShares, ...]
    edges: tuple[int, ...]
    pi: Mapping[str, FloatArray] = field(default_factory=dict)
    rewards: tuple[RewardFacts, ...] = ()
    progress: tuple[tuple[int, float], ...] = ()
    handover: float = 1.0
    total_steps: int = 1

    @property
    def stopped(self) -> FiringFacts | None:
        """The firing that has ended the run early; None where none has."""
        return next((firing for firing in self.firings if "stop" in firing.actions), None)


def read_steer(events: Sequence[Json]) -> SteerFacts | None:
    """What a run's ledger says of it; None for a run that nothing steered.

    Args:
        events: all of its lines, the run's first.
    """
    by_kind: dict[str, list[Json]] = {}
    for event in events:
        by_kind.setdefault(event["event"], []).append(event)
    decisions, fired = by_kind.get("decision", []), by_kind.get("event", [])
    future = events[0]["future"]
    clock = future.get(CLOCK) not in (None, "steps", {"by": "steps"})
    clock = clock or any(action in MOVES_THE_CLOCK for event in fired for action in event["actions"])
    arms = dict.fromkeys(name for decision in decisions for name in decision.get("pi", {}))
    if not (fired or arms or clock or "shares" in by_kind):
        return None
    step_of = {decision["stage"]: decision["step"] for decision in decisions}
    worth = {reward["stage"]: reward for one in decisions if (reward := one.get("reward")) is not None}
    return SteerFacts(
        sentences=tuple(summed_up(events)),
        firings=_firings(fired),
        moved=tuple(
            MovedShares(
                event["step"],
                event["before"],
                event["after"],
                {name: value for name, value in event["signal"].items() if value is not None},
            )
            for event in by_kind.get("shares", [])
        ),
        edges=(*(one["step"] for one in decisions), *(last["step"] + last["steps"] for last in decisions[-1:])),
        pi={name: np.array([one.get("pi", {}).get(name, 0.0) for one in decisions]) for name in arms},
        rewards=tuple(
            RewardFacts(step_of[stage], reward["chosen"], reward["scaled"]) for stage, reward in worth.items()
        ),
        progress=tuple((one["step"], one["progress"]) for one in decisions if "progress" in one) if clock else (),
        handover=float(future.get(HANDOVER, 1.0)),
        total_steps=future["total_steps"],
    )


def _firings(fired: Sequence[Json]) -> tuple[FiringFacts, ...]:
    """Those of a ledger's lines; a regression is open until its probe recovers."""
    recovered = {event["probe"]: i for i, event in enumerate(fired) if event["kind"] == "recovered"}
    return tuple(
        FiringFacts.of(event, is_open=event["kind"] == "regression" and recovered.get(event["probe"], -1) < i)
        for i, event in enumerate(fired)
    )
