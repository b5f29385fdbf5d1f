"""What a selector is: it takes one of the offered slices, given the record of the run and measurements.

A selector says what must be measured for its choice (`needs`), is handed a `View` with just that, and answers with a
name. It never sees a model: losses arrive as numbers, so `simulate` and the tests use the same code as a run. One that
compares losses also says how far each offer is from the one it would like best (`distances`): then offers are measured
only until the choice is clear (`race`), and the ledger says how clear it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from campus_tune.method.view import View
from campus_tune.words.registry import Registry
from campus_tune.words.types import FloatArray

LOSS, START_LOSS, PROBES = "loss", "start_loss", "probes"  # what a selector may need
OWN, NORM = "own", "norm"  # likewise, of each stage that is over: `PastStage.own_gain`, `norm_gain`

# Nats below which two distances are one. The same sums on other machines, or over another number of processes, differ
# by 1e-6 of a loss in float32 and by 1e-4 in bfloat16, and the standard errors of a decision are some 1e-2.
RESOLUTION = 1e-3


class Selector(ABC):
    """Picks one of the offers. Subclasses are final; settings are frozen."""

    needs: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def choose(self, view: View) -> str:
        """The name of the offer to train next, one of `view.names`."""

    def distances(self, view: View) -> FloatArray | None:
        """How far each offer is from the ideal one, in nats, shape (K,); None where this selector compares no losses.

        An offer of which nothing could be measured is infinitely far.
        """
        del view
        return None

    def chances(self, view: View) -> FloatArray | None:
        """How likely each offer is to be chosen, shape (K,), sum 1; None where this selector learns no chances."""
        del view
        return None

    def tied(self, view: View) -> list[str]:
        """The offers that are as near as the nearest one, but for noise of floats, in the recipe's sequence."""
        distances = self.distances(view)
        if distances is None:
            return []
        near = distances <= distances.min() + RESOLUTION
        return [name for name, is_near in zip(view.names, near, strict=True) if is_near]

    def margin(self, view: View) -> float | None:
        """How far ahead the nearest offer is, in nats; None where no two of them can be compared.

        A decision whose margin lies near `RESOLUTION` is one that other hardware could have decided otherwise.
        """
        distances = self.distances(view)
        if distances is None:
            return None
        finite = np.sort(distances[np.isfinite(distances)])
        return float(finite[1] - finite[0]) if len(finite) > 1 else None


class GreedySelector(Selector):
    """A selector that takes the offer with the smallest distance; ties go to the first in the recipe's sequence.

    Distances that are within `RESOLUTION` of the smallest are ties: noise of floats must not choose. A difference
    that lies by chance at just this edge can still fall on either side, which the ledger shows by its `margin`.
    """

    @abstractmethod
    def distance(self, loss: FloatArray, *, start_loss: FloatArray | None, probe_loss: float | None) -> FloatArray:
        """How far each offer is from the ideal one, shape (K,), from mean losses in nats, shape (K,)."""

    def distances(self, view: View) -> FloatArray:
        """`distance` of what the view holds; an offer of which nothing could be measured (NaN) is infinitely far."""
        assert view.mean_loss is not None, "a greedy selector is shown the offers' losses"
        raw = self.distance(view.mean_loss, start_loss=view.start_loss, probe_loss=view.probe_loss)
        return np.where(np.isnan(raw), np.inf, raw)

    def choose(self, view: View) -> str:
        """The nearest offer, the first of those that are tied."""
        return self.tied(view)[0]


SELECTORS: Registry[Selector] = Registry("selector")


def build_selector(setting: str | Mapping[str, Any]) -> Selector:
    """The selector that a recipe names: `matched`, or `{name: fixed, order: length}`.

    Raises:
        RecipeError: unknown name or option, or a value out of its range.
    """
    return SELECTORS.from_setting(setting)
