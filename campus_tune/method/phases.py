"""Phases: what a run offers from which step to which. `handover: 0.8` is two of them, a curriculum and a shuffle.

>>> [(phase.name, phase.first_step, phase.end) for phase in phases_of(0.8, total_steps=100)]
[('curriculum', 0, 80), ('shuffle', 80, 100)]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from campus_tune.method.stages import SHUFFLE

CURRICULUM = "curriculum"


@dataclass(frozen=True)
class Phase:
    """Some steps of a run in which the same is offered.

    Args:
        name: of the phase.
        first_step: optimizer steps finished before it.
        end: optimizer steps finished when it is over; no stage crosses it.
        offers: sub-curricula are offered in it; else its rows are plainly shuffled.
    """

    name: str
    first_step: int
    end: int
    offers: bool


def phases_of(handover: float, total_steps: int) -> tuple[Phase, ...]:
    """The phases of a run, in sequence and without gaps; one that would hold no step is left out.

    Args:
        handover: progress in [0, 1] from which rows are plainly shuffled.
        total_steps: optimizer steps of the whole run.
    """
    edge = round(handover * total_steps)
    both = (Phase(CURRICULUM, 0, edge, offers=True), Phase(SHUFFLE, edge, total_steps, offers=False))
    return tuple(phase for phase in both if phase.first_step < phase.end)


def offers_until(phases: Iterable[Phase]) -> int:
    """The step from which nothing is offered any more: the handover. 0 where nothing ever is.

    >>> offers_until(phases_of(0.0, total_steps=100)), offers_until(phases_of(1.0, total_steps=100))
    (0, 100)
    """
    return max((phase.end for phase in phases if phase.offers), default=0)
