"""One run that is to be made: which arm, with which seed, for how long, and of which rows."""

from __future__ import annotations

from dataclasses import dataclass

from campus_tune.compare.arms import Arm
from campus_tune.data.subset import Subset
from campus_tune.words.types import Json


@dataclass(frozen=True)
class Leg:
    """A part of a run that is trained in several: it is saved where one ends, and goes on from there.

    Args:
        until: the step at which it ends; None at the end of the run.
        since: the step at which the leg before it has ended, if its checkpoint is there; 0 begins the run.
        marks: shares of the run's steps at which its loss is measured on the way, in (0, 1).
    """

    until: int | None = None
    since: int = 0
    marks: tuple[float, ...] = ()


@dataclass(frozen=True)
class Task:
    """One run that is to be made.

    Args:
        arm: its name in the plan, or one that the plan does not know; its name is that of the folder.
        seed: of the run.
        max_steps: other steps than the recipe's.
        recorded: what the arm has of the recipe's run with this seed, where it awaits one.
        only: the rows that are trained; None for all.
        leg: the part of the run that is made; None for all of it, with a result of another kind.
    """

    arm: str | Arm
    seed: int
    max_steps: int | None = None
    recorded: Json | None = None
    only: Subset | None = None
    leg: Leg | None = None

    @property
    def name(self) -> str:
        """Of its arm."""
        return self.arm if isinstance(self.arm, str) else self.arm.name
