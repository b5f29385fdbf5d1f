"""One run that is to be made: which arm, with which seed, for how long, and of which rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from campus_tune.compare.arms import Arm
from campus_tune.data.subset import Subset
from campus_tune.words.types import IntArray, Json


@dataclass(frozen=True)
class AsLong:
    """As long as a run of all rows was: with as many tokens, or with the passes that these rows had in it.

    Args:
        tokens: that it trained.
        rows_per_step: of an optimizer step.
        passes: as many passes over its own rows, and so as many fewer tokens as it has fewer of all.
    """

    tokens: int
    rows_per_step: int
    passes: bool = False

    @classmethod
    def of(cls, outcome: Json, *, passes: bool = False) -> Self:
        """As long as the run of a result.

        Args:
            outcome: of a run of all rows.
            passes: as above.
        """
        return cls(int(outcome["tokens"]), int(outcome["shared"]["global_batch"]), passes)

    def steps(self, every: IntArray, kept: IntArray, *, short: bool) -> int:
        """Optimizer steps of a run of some rows, drawn evenly.

        >>> import numpy as np
        >>> AsLong(tokens=800, rows_per_step=2).steps(np.full(8, 100), np.full(4, 50), short=False)
        8

        Args:
            every: tokens of each row of the run of all, shape (N,).
            kept: those of the rows that are trained, shape (n,).
            short: the last step of an epoch has the rows that are left over, and so fewer.
        """
        total = int(kept.sum())
        tokens = self.tokens * total / int(every.sum()) if self.passes else float(self.tokens)
        passes = tokens // total if short else 0.0
        rest = (tokens - passes * total) / (self.rows_per_step * total / len(kept))
        return max(1, int(passes) * -(-len(kept) // self.rows_per_step) + round(rest))


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
        as_long: as which run, in the place of steps.
        leg: the part of the run that is made; None for all of it, with a result of another kind.
    """

    arm: str | Arm
    seed: int
    max_steps: int | None = None
    recorded: Json | None = None
    only: Subset | None = None
    as_long: AsLong | None = None
    leg: Leg | None = None

    @property
    def name(self) -> str:
        """Of its arm."""
        return self.arm if isinstance(self.arm, str) else self.arm.name

    def asked(self) -> Json:
        """What the settings do not say of it, for its result: rows and length, where these are not the recipe's."""
        only = None if self.only is None else self.only.to_mapping()
        as_long = None if self.as_long is None else dict(vars(self.as_long))
        return {name: value for name, value in (("only", only), ("as_long", as_long)) if value is not None}
