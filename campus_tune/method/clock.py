"""The clock: how far along a run is on its way to the handover, which says how far the orders are open.

    steps        u = optimizer steps ÷ those of the handover
    tokens       u = tokens trained ÷ those that the handover's steps train on average
    competence   u = clip((C − C₀) / (C* − C₀), u_steps / 2, min(1, 2·u_steps))

C is the mean competence over the probes' domains, the best of all measurements so far, C₀ the first and C* the target.
The bounds let it be half as fast as the steps, or twice: a run ends where the trainer ends, whatever the probes say.

Only pacing goes by it. The handover, phases, and every `from` and `until` are of the steps, for no stage crosses them.

The competence clock is ours. Platanios et al. 2019 call "competence" a function of *time*, √(t(1 − c₀²)/T + c₀²): that
is `clock: steps` with root pacing.

>>> clock = Clock("competence", 0.75)
>>> clock.at(0.5, [0.25, 0.3]), clock.at(0.5, [0.25, 0.625, 0.5]), Clock().at(0.3)
(0.25, 0.75, 0.3)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

By: TypeAlias = Literal["steps", "tokens", "competence"]

SLOWEST, FASTEST = 0.5, 2.0  # times as fast as the steps


@dataclass(frozen=True)
class Clock:
    """What progress is read from.

    Args:
        by: steps, tokens or competence.
        target: C*, the mean competence at which the orders are open, in (0, 1]; of the competence clock.
    """

    by: By = "steps"
    target: float | None = None

    def at(self, steps: float, competence: Sequence[float] = (), tokens: float = 0.0) -> float:
        """Progress towards the handover, in [0, 1].

        Args:
            steps: the same by steps.
            competence: mean over the probes' domains at each measurement so far; the clock of steps without any.
            tokens: the same by tokens.
        """
        if self.by == "tokens":
            return min(1.0, tokens)
        if self.by == "steps" or not competence or self.target is None:
            return steps
        start = competence[0]
        reached = (max(competence) - start) / (self.target - start) if self.target > start else 1.0
        return float(min(max(reached, SLOWEST * steps), min(1.0, FASTEST * steps)))
