"""Selectors that ask no model: one fixed order, turns, chance, a list, and plain shuffling. They cost nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from campus_tune.method.selectors.base import SELECTORS, Selector
from campus_tune.method.view import View
from campus_tune.words.annotated import check_options


@SELECTORS.register("fixed")
@dataclass(frozen=True)
class Fixed(Selector):
    """One sub-curriculum all the time; when it is used up, the first of the others in the recipe's sequence.

    Args:
        order: its metric's label; None takes the recipe's first metric.
    """

    order: str | None = None

    def choose(self, view: View) -> str:
        """`order` while it is offered."""
        return self.order if self.order is not None and self.order in view.names else view.names[0]


@SELECTORS.register("round_robin")
class RoundRobin(Selector):
    """Turns: the sub-curriculum that was chosen least often, the first in the recipe's sequence on a tie."""

    def choose(self, view: View) -> str:
        """The least often chosen offer."""
        return min(view.names, key=lambda name: view.times_chosen.get(name, 0))


@SELECTORS.register("random")
class RandomChoice(Selector):
    """A sub-curriculum at random, each as likely: the control for "does it matter which one is chosen?"."""

    def choose(self, view: View) -> str:
        """A seeded draw from `[seed, stage]`."""
        return view.names[int(np.random.default_rng([view.seed, view.stage, 1]).integers(len(view.names)))]


@SELECTORS.register("replayed")
@dataclass(frozen=True)
class Replayed(Selector):
    """Choices that were made before: the control for "does it matter when a sub-curriculum is chosen?".

    A comparison writes the choices of another run, shuffled in time: as often each, learned by nobody.

    Args:
        choices: labels of metrics, one for each stage from the first on. Where one is not offered, or there is none for
            a stage, the offer that was chosen least often is taken.
    """

    choices: tuple[str, ...]

    def __post_init__(self) -> None:
        check_options(self)
        object.__setattr__(self, "choices", tuple(self.choices))

    def choose(self, view: View) -> str:
        """The choice of this stage."""
        told = self.choices[view.stage] if view.stage < len(self.choices) else None
        return told if told is not None and told in view.names else RoundRobin().choose(view)


@SELECTORS.register("shuffle")
class Shuffle(Selector):
    """No curriculum at all: every stage is drawn at random. The plain baseline, through the same machine.

    A recipe with this selector needs no metrics; its stages, probes, ledger and audit are those of a curriculum,
    so that a comparison differs in the order of the rows and in nothing else.
    """

    def choose(self, view: View) -> str:
        """Never asked: a shuffled run offers no slices."""
        return view.names[0]
