"""One run that is to be made: which arm, with which seed, for how long, and of which rows."""

from __future__ import annotations

from dataclasses import dataclass

from campus_tune.compare.arms import Arm
from campus_tune.data.subset import Subset
from campus_tune.words.types import Json


@dataclass(frozen=True)
class Task:
    """One run that is to be made.

    Args:
        arm: its name in the plan, or one that the plan does not know; its name is that of the folder.
        seed: of the run.
        max_steps: other steps than the recipe's.
        recorded: what the arm has of the recipe's run with this seed, where it awaits one.
        only: the rows that are trained; None for all.
    """

    arm: str | Arm
    seed: int
    max_steps: int | None = None
    recorded: Json | None = None
    only: Subset | None = None

    @property
    def name(self) -> str:
        """Of its arm."""
        return self.arm if isinstance(self.arm, str) else self.arm.name
