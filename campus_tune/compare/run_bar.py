"""A progress bar over the steps of the runs that this process makes, and what is told while it is there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sized
from typing import Any, Protocol

from campus_tune.words.progress import bar, notebook, on_the_way, say


class Counted(Protocol):
    """Runs that are told and counted: a comparison's, an ablation's."""

    say: Callable[[str], object]

    @property
    def outcomes(self) -> Sized:
        """Those that are finished."""
        ...

    @property
    def n_runs(self) -> int:
        """All of them."""
        ...


class RunBar:
    """One bar for the present run; lines are printed above it.

    Args:
        campaign: whose lines shall not tear the bar.
    """

    def __init__(self, campaign: Counted) -> None:
        self._bar: Any = None  # until a run of this process has made a step: others make theirs elsewhere
        self._campaign = campaign
        campaign.say = on_the_way
        self.conclude: Callable[[str], object] = say  # what was asked for

    def tick(self, step: int) -> None:
        """That many steps of the present run are finished."""
        if self._bar is None:
            seen = notebook() is not None or bool(getattr(sys.stderr, "isatty", bool)())
            self._bar = bar(desc="", unit="step", delay=1, disable=not seen)
        self._bar.n = step
        self._bar.desc = f"run {len(self._campaign.outcomes) + 1} of {self._campaign.n_runs}"
        self._bar.update(0)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
