"""A firing: a rule saw what it watches for. Data alone, so that records, policies and the ledger share one word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from campus_tune.words.types import Json

Kind: TypeAlias = Literal["milestone", "saturated", "stagnation", "regression", "recovered"]
Action: TypeAlias = Literal[
    "note", "widen", "back_off", "hand_over", "review", "raise", "rollback", "stop", "next_phase"
]


@dataclass(frozen=True)
class Firing:
    """One firing of one rule.

    Args:
        kind: what was seen.
        name: of the milestone; the kind for the others.
        probe: the domain whose probe shows it; None for all of them together, or for training itself.
        measurement: index of the measurement of the probes at which it was seen.
        stage: stages decided before it.
        step: optimizer steps finished.
        progress: of the whole run, in [0, 1].
        value: what was measured: a loss, a competence, an accuracy; a relative gain or rise.
        bound: its confidence bound, on the side that has to be right.
        against: what the bound is compared with.
        actions: what is done about it, in sequence.
        times: how often this rule has fired, with this firing.
    """

    kind: Kind
    name: str
    probe: str | None
    measurement: int
    stage: int
    step: int
    progress: float
    value: float
    bound: float
    against: float
    actions: tuple[Action, ...] = ("note",)
    times: int = 1

    def line(self) -> Json:
        """It as JSON: of a checkpoint's state, and of the ledger."""
        return {**vars(self), "actions": list(self.actions)}

    @staticmethod
    def of(line: Json) -> Firing:
        """The reverse.

        Raises:
            TypeError: something in it is missing, or is not its own.
        """
        actions: Sequence[Action] = line["actions"]
        return Firing(**{**line, "actions": tuple(actions)})
