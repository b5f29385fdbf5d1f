"""Levels: what the losses of the last stages say of each group of rows. What live weights compare a loss with.

Two things are kept, and both are a fold over the stages in the sequence of the plan:

- the *last visits*: those of the last stage, and of a domain that had fewer than twenty there, older ones up to twenty;
- the *running level* of each cell, the mean and spread of `book.CellLevels`, and how often it was visited.

A group of which fewer than twenty visits are known has the level of all rows, or none where these are fewer too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from campus_tune.method.book import LEAST_SPREAD, CellLevels
from campus_tune.words.arrays import pack, unpack
from campus_tune.words.types import FloatArray, IntArray, Json, RowArray

ENOUGH = 20  # visits of a group, below which it has no level of its own


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of all rows.

    Args:
        codes: number of each row's group, shape (N,); None for one group of all.
        names: of the G groups.
    """

    codes: IntArray | RowArray | None = None
    names: tuple[str, ...] = ("all rows",)

    def of(self, rows: IntArray | RowArray) -> IntArray:
        """Numbers of some rows' groups, shape (n,)."""
        if self.codes is None:
            return np.zeros(len(rows), dtype=np.int64)
        return np.asarray(self.codes[rows], dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Visits:
    """Visits of rows, the oldest first, each shape (m,).

    Args:
        rows: that were trained.
        losses: mean, nats per token.
        tokens: answer tokens.
        parts: mean over the tokens of what token weights made of them; 1 without any.
    """

    rows: IntArray
    losses: FloatArray
    tokens: IntArray
    parts: FloatArray

    @staticmethod
    def none() -> Visits:
        """Before the first."""
        return Visits(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0))

    def __len__(self) -> int:
        return len(self.rows)

    def then(self, more: Visits, groups: Groups) -> Visits:
        """`more`, and before it as many of these as its groups lack to twenty."""
        n = len(groups.names)
        lacking = ENOUGH - np.bincount(groups.of(more.rows), minlength=n)
        own = groups.of(self.rows)
        backwards = np.argsort(own[::-1], kind="stable")  # of each group, the youngest first
        ranked = own[::-1][backwards]
        place = np.arange(len(ranked)) - np.searchsorted(ranked, ranked)
        kept = np.sort(len(own) - 1 - backwards[place < lacking[ranked]])
        return Visits(**{name: np.concatenate([old[kept], vars(more)[name]]) for name, old in vars(self).items()})

    def state(self) -> Json:
        """They as JSON."""
        return {name: pack(values) for name, values in vars(self).items()}

    @staticmethod
    def of(state: Mapping[str, Json]) -> Visits:
        """Those that `state` was called of.

        Raises:
            ValueError: they cannot be.
        """
        kinds = {"rows": "i", "losses": "f", "tokens": "i", "parts": "f"}
        n = state["rows"]["n"]
        return Visits(**{name: unpack(state[name], kind, n) for name, kind in kinds.items()})


class Running:
    """The running level of each group's losses, and its visits.

    Args:
        groups: of the rows.
    """

    def __init__(self, groups: Groups) -> None:
        self.groups = groups
        self.cells = CellLevels(len(groups.names))
        self.visits = np.zeros(len(groups.names), dtype=np.int64)

    def take(self, visits: Visits) -> None:
        """Fold more visits, in their sequence."""
        codes = self.groups.of(visits.rows)
        self.cells.take(codes, visits.losses)
        self.visits += np.bincount(codes, minlength=len(self.visits))

    def state(self) -> Json:
        """It as JSON."""
        cells = {name: pack(values) for name, values in vars(self.cells).items()}
        return {**cells, "visits": pack(self.visits)}

    def load(self, state: Json) -> None:
        """Continue from `state()`; of other groups than these nothing is known.

        Raises:
            ValueError: it cannot be.
        """
        if state["visits"]["n"] != len(self.visits):
            return
        for name in vars(self.cells):
            setattr(self.cells, name, unpack(state[name], "f", len(self.visits)))
        self.visits = unpack(state["visits"], "i", len(self.visits))


class Levels:
    """What is known of each group's losses at a stage's opening.

    Args:
        visits: the last ones.
        groups: of the rows.
        running: of the same groups; None where nothing asks for it.
    """

    def __init__(self, visits: Visits, groups: Groups, running: Running | None = None) -> None:
        self._losses, self._running = visits.losses, running
        codes = groups.of(visits.rows)
        self._counts = np.bincount(codes, minlength=len(groups.names))
        by_group = np.argsort(codes, kind="stable")
        self._parts = np.split(visits.losses[by_group], np.cumsum(self._counts)[:-1])

    def quantile(self, share: float) -> FloatArray:
        """The loss below which this share of each group's last visits lies, shape (G,); NaN where it is not known."""
        return self._each(lambda losses: float(np.quantile(losses, share)))

    def mean(self) -> FloatArray:
        """Mean loss of each group's last visits, shape (G,), NaN likewise."""
        return self._each(lambda losses: float(losses.mean()))

    def running(self) -> tuple[FloatArray, FloatArray]:
        """(Mean, spread) of each group as they ran over the whole run, shape (G,); NaN below twenty visits."""
        assert self._running is not None, "a weight that compares with cells has their running level"
        known = self._running.visits >= ENOUGH
        cells = self._running.cells
        spread = np.maximum(cells.spread, LEAST_SPREAD)
        return np.where(known, cells.mean, np.nan), np.where(known, spread, np.nan)

    def _each(self, number: Callable[[FloatArray], float]) -> FloatArray:
        overall = number(self._losses) if len(self._losses) >= ENOUGH else np.nan
        return np.array([number(part) if len(part) >= ENOUGH else overall for part in self._parts])
