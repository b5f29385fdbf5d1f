"""Weighting: how much the rows of a stage count. The entries of a recipe and what they remember; see `weights`.

    plan       at a stage's opening: the planned weights, multiplied, cut at their limits, normalised
    live       for the stage: the live weights with their levels, the same numbers on the host and on the device
    close      at its end: what its losses say is the level of the next one

A planned weight is normalised over its optimizer step (over the stage, where steps hold fewer than 32 rows), a live one
divided by its mean over the last visits, which is known before the forward on every rank. Which rows are drawn does not
hang on any of it: a weighted run trains the rows that it would train without.

>>> column = build_weight("column")
>>> columns = {column: np.array([1.0, 3.0, 0.0])}
>>> weighting = Weighting([Entry("column", column)], tokens=np.array([2, 2, 4]), global_batch=3, columns=columns)
>>> weighting.plan(Planning(np.arange(3), np.ones(3), u=0.0, columns=columns), seeds=[0, 0, 0]).tolist()
[1.0, 3.0, 0.0]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from campus_tune.method.levels import Groups, Levels, Running, Visits
from campus_tune.method.weights import LiveWeight, OwnWeight, PlannedWeight, Planning, Weight, build_weight, normalised
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json, RowArray
from campus_tune.words.wording import listed

__all__ = ["Entry", "Live", "LiveEntry", "ShareWeight", "Weighting", "build_weight"]

FLOOR = 1e-3  # of a row's live weights: a step whose rows all count nothing would have no gradient
WHOLE_STEPS = 32  # rows of a step, below which planned weights are normalised over the stage
WEIGHTS = 7  # purpose of a generator, beside those of the draws
_ROUNDING = 1e-9  # of a progress
_TRIED = np.array([0.0, 1e-6, 0.1, 1.0, 3.0, 10.0, 60.0])  # losses in nats for which a live weight is asked beforehand


@dataclass(frozen=True)
class Entry:
    """One of a recipe's weights.

    Args:
        name: what records call it.
        weight: the formula.
        since: progress from which it holds.
        until: progress until which it holds; outside of it a row counts what it counts without.
        limit: how often its mean it is at most; None for no bound.
    """

    name: str
    weight: Weight
    since: float = 0.0
    until: float = 1.0
    limit: float | None = None

    def holds(self, u: float) -> bool:
        """Whether it holds at this progress."""
        return self.since <= u + _ROUNDING and u + _ROUNDING < self.until

    def inside(self, u: float) -> float:
        """Progress from where it begins to where it ends, in [0, 1]."""
        return min(1.0, max(0.0, (u - self.since) / (self.until - self.since)))


@dataclass(frozen=True, eq=False)
class ShareWeight(PlannedWeight):
    """Shares of domains as weights: w = share / natural share of the row's domain, and every row is drawn as ever.

    Args:
        groups: who has the shares.
        natural: their parts of the rows, shape (S,).
        shares_at: the shares at a progress, shape (S,); None for natural ones.
    """

    groups: Groups
    natural: FloatArray
    shares_at: Callable[[float], FloatArray | None]

    def __post_init__(self) -> None:
        """A recipe's `domains` says it, and has checked it."""

    def planned(self, shown: Planning) -> FloatArray:
        """By the shares of the moment."""
        shares = self.shares_at(shown.u)
        if shares is None:
            return np.ones(len(shown.rows))
        ratio = np.divide(shares, self.natural, out=np.ones(len(shares)), where=self.natural > 0)
        return np.asarray(ratio[self.groups.of(shown.rows)], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class LiveEntry:
    """A live weight in one stage.

    Args:
        name: what records call it.
        weight: the formula.
        groups: whose numbers it compares a row's loss with.
        level: these numbers, each of shape (G,); NaN of a group whose level is not known: its rows count 1.
        most: what the factor is cut at; None for no bound.
        spared: rows that count 1 whatever their group's level is, shape (N,); None for none.
    """

    name: str
    weight: LiveWeight
    groups: Groups
    level: tuple[FloatArray, ...]
    most: float | None = None
    spared: BoolArray | None = None

    def numbers(self, rows: IntArray | RowArray) -> list[FloatArray]:
        """The level of each of some rows, number by number, each of shape (n,)."""
        found = [number[self.groups.of(rows)] for number in self.level]
        return found if self.spared is None else [np.where(self.spared[rows], np.nan, number) for number in found]

    def of(self, loss: Any, level: Sequence[Any], xp: Any) -> Any:
        """The factor of each loss, of rows (n,) or tokens; `level` as `Live.numbers` gives it."""
        factor = self.weight.factor(loss, level, xp)
        if self.most is not None:
            factor = xp.clip(factor, None, self.most)
        return xp.where(xp.isnan(level[0]), xp.ones_like(factor), factor) if len(level) else factor


@dataclass(frozen=True, eq=False)
class Live:
    """The live weights of one stage: the row's own, then those of its tokens, all divided by their last mean.

    Args:
        rows: entries by the row's mean loss.
        tokens: entries by a token's own loss.
        mean: of their product over the last visits.
        shuffle: seeds of a control that deals the factors of the rows of a forward to others of them; None for none.
    """

    rows: tuple[LiveEntry, ...] = ()
    tokens: tuple[LiveEntry, ...] = ()
    mean: float = 1.0
    shuffle: tuple[int, ...] | None = None

    def __bool__(self) -> bool:
        return bool(self.rows or self.tokens)

    def numbers(self, rows: IntArray | RowArray) -> FloatArray:
        """The levels that some rows are compared with, number by number behind one another, shape (k, n)."""
        found = [number for entry in self.rows for number in entry.numbers(rows)]
        return np.stack(found) if found else np.zeros((0, len(rows)))

    def of_rows(self, losses: Any, numbers: Any, xp: Any) -> Any:
        """Product of the rows' factors, at least `FLOOR`, divided by the last mean; shape (n,).

        Args:
            losses: mean of each row, nats per token, shape (n,).
            numbers: of the same rows, shape (k, n).
            xp: numpy or torch.
        """
        product, begin = xp.ones_like(losses), 0
        for entry in self.rows:
            end = begin + len(entry.level)
            product = product * entry.of(losses, numbers[begin:end], xp)
            begin = end
        return xp.clip(product, FLOOR, None) / self.mean

    def of_tokens(self, losses: Any, xp: Any) -> Any:
        """Product of the tokens' factors, of the shape of their losses."""
        product = xp.ones_like(losses)
        for entry in self.tokens:
            product = product * entry.of(losses, (), xp)
        return product

    def dealt(self, n: int, step: int) -> IntArray | None:
        """Which row of a forward each of its `n` rows gets the factor of; None where each has its own."""
        if self.shuffle is None:
            return None
        return np.random.default_rng([*self.shuffle, step, n]).permutation(n)


class Weighting:
    """All weights of a run; what changes is what the last stages' losses said, and `earned`, which others set.

    Weights that wait for a sign of wrong rows (`act: auto`) are as if they were not there until it is.

    Args:
        entries: of the recipe, the shares of domains among them.
        tokens: answer tokens of each row, shape (N,).
        global_batch: B, rows of an optimizer step.
        columns: the numbers that a planned weight reads with the rows, each shape (N,).
        domains: of the rows.
        cells: of the rows; None where nothing compares with them.
        scope: the recipe's pacing: progress → scope.
        normalise: divide planned weights by their mean; False leaves them as they are.
        shuffle: a control deals the weights of a step's rows to others of them.
        seed: of that.
        spared: rows that those do nothing about which wait, shape (N,); None for none.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        *,
        tokens: IntArray,
        global_batch: int,
        columns: Mapping[Weight, FloatArray] | None = None,
        domains: Groups | None = None,
        cells: Groups | None = None,
        scope: Callable[[float], float] | None = None,
        normalise: bool = True,
        shuffle: bool = False,
        seed: int = 0,
        spared: BoolArray | None = None,
    ) -> None:
        self.entries, self.tokens, self.global_batch = tuple(entries), tokens, global_batch
        self.columns = dict(columns or {})
        self.domains = domains or Groups()
        self._scope = scope
        self._normalises, self._shuffles, self._seed = normalise, shuffle, seed
        live = [entry.weight for entry in self.entries if isinstance(entry.weight, LiveWeight)]
        self._is_live = bool(live)
        self._running = Running(cells) if cells and any(one.groups == "cells" for one in live) else None
        self._last = Visits.none()
        self.earned, self.spared = False, spared

    @property
    def idle(self) -> bool:
        """Every one of the weights waits for a sign of wrong rows, and there was none: nothing is multiplied."""
        return not any(self._acts(entry) for entry in self.entries)

    def _acts(self, entry: Entry) -> bool:
        return entry.weight.when == "always" or (entry.weight.when == "auto" and self.earned)

    @property
    def waits(self) -> bool:
        """Some weight acts once there is a sign of wrong rows."""
        return any(entry.weight.when == "auto" for entry in self.entries)

    @property
    def waiting(self) -> Groups | None:
        """Cells of which each is let be until enough of its rows were visited; None where nothing waits for that."""
        return None if self._running is None else self._running.groups

    # -- a stage is opened --------------------------------------------------------------------------------------

    def plan(self, shown: Planning, seeds: Sequence[int]) -> FloatArray | None:
        """The planned weights of a stage's rows, shape (n,); None where none holds now.

        Args:
            shown: rows, chances and progress. Its columns are `self.columns`.
            seeds: of the stage's draws.

        Raises:
            RecipeError: a step whose weights are all 0; a part of somebody else's whose numbers are no weights.
        """
        entries = [one for one in self.entries if isinstance(one.weight, PlannedWeight) and one.holds(shown.u)]
        if not entries:
            return None
        weights = np.ones(len(shown.rows))
        for entry in entries:
            factor = entry.weight.planned(shown)  # type: ignore[attr-defined]  # they are planned ones
            _refuse_unfit(entry.name, factor, (len(shown.rows),))
            weights = weights * (factor if entry.limit is None else np.minimum(factor, entry.limit))
        tokens, step = self.tokens[shown.rows], np.arange(len(weights)) // self.global_batch
        if self._shuffles:
            keys = np.random.default_rng([*seeds, WEIGHTS]).random(len(weights))
            weights = weights[np.lexsort((keys, step))]
        teaches = np.bincount(step, weights * tokens) > 0
        if empty := np.flatnonzero(~teaches & (np.bincount(step, tokens) > 0)).tolist():
            rows = shown.rows[step == empty[0]].tolist()
            raise RecipeError(
                f"`weights` must leave something of every optimizer step, got the weight 0 for all rows of "
                f"{len(empty)} of the {len(teaches)} steps of a stage (of the first: {listed(rows, 8)}): nothing would "
                "be trained in it. Leave such rows out of the training set, or give them a small weight."
            )
        if not self._normalises:
            return weights
        unit = step if self.global_batch >= WHOLE_STEPS else np.zeros_like(step)
        return normalised(weights, tokens, unit)

    def spread(self, shape: FloatArray, u: float, row: int) -> FloatArray:
        """How a row's planned weight is spread over its answer tokens, mean 1, shape (T,).

        Args:
            shape: by the weights of its messages, shape (T,).
            u: progress at which the stage was opened; where messages have no weight there, all tokens count alike.
            row: of which it is; a control deals what its tokens count to others of them.
        """
        if not any(
            isinstance(one.weight, OwnWeight) and one.weight.of == "message" and one.holds(u) for one in self.entries
        ):
            return np.ones(len(shape))
        return np.random.default_rng([self._seed, WEIGHTS, row]).permutation(shape) if self._shuffles else shape

    def live(self, u: float) -> Live:
        """The live weights of a stage that is opened at this progress; levels as they stand now.

        Raises:
            RecipeError: a part of somebody else's whose numbers are no weights.
        """
        rows: list[LiveEntry] = []
        tokens: list[LiveEntry] = []
        for entry in self.entries:
            if isinstance(entry.weight, LiveWeight) and entry.holds(u) and self._acts(entry):
                made = self._with_level(entry, entry.weight, u)
                (rows if entry.weight.kind == "row" else tokens).append(made)
        shuffle = (self._seed, WEIGHTS) if self._shuffles else None
        neutral = Live(tuple(rows), tuple(tokens), 1.0, shuffle)
        return Live(
            neutral.rows, neutral.tokens, self._mean(self._row_factors(neutral) * self._token_parts(u)), shuffle
        )

    def _with_level(self, entry: Entry, weight: LiveWeight, u: float) -> LiveEntry:
        """An entry with its numbers, and its limit in units of its factor."""
        by_cell = weight.groups == "cells" and self._running is not None
        running = self._running if by_cell else None
        groups = self.domains if running is None else running.groups
        scope = 1.0 if self._scope is None else self._scope(entry.inside(u))
        level = weight.level(Levels(self._last, groups, running), scope)
        _refuse_unfit_factors(entry.name, weight, level)
        spared = self.spared if entry.weight.when == "auto" else None
        made = LiveEntry(entry.name, weight, groups, level, spared=spared)
        if entry.limit is None:
            return made
        factors = self._row_factors(Live((made,))) if weight.kind == "row" else self._last.parts
        mean = self._mean(factors)
        return replace(made, most=entry.limit * mean)

    def _row_factors(self, live: Live) -> FloatArray:
        """Of the last visits, shape (m,)."""
        return np.asarray(live.of_rows(self._last.losses, live.numbers(self._last.rows), np), dtype=np.float64)

    def _token_parts(self, u: float) -> FloatArray | float:
        """What tokens' weights made of the last visits, if they still hold."""
        holds = any(one.weight.kind == "token" and one.holds(u) for one in self.entries)
        return self._last.parts if holds else 1.0

    def _mean(self, factors: FloatArray) -> float:
        """Token-weighted over the last visits; 1 before the first."""
        total = float(self._last.tokens.sum())
        mean = float((factors * self._last.tokens).sum()) / total if total else 1.0
        return mean if math.isfinite(mean) and mean > 0 else 1.0

    # -- a stage is over ----------------------------------------------------------------------------------------

    def close(self, rows: IntArray, losses: FloatArray, tokens: IntArray, parts: FloatArray | None = None) -> None:
        """Take what a stage showed.

        Args:
            rows: that were trained, in the sequence of the plan, shape (n,).
            losses: mean of each, nats per token, shape (n,).
            tokens: answer tokens, shape (n,).
            parts: mean over its tokens of the tokens' factors, shape (n,); None where there are none.
        """
        if not self._is_live:
            return
        parts = np.ones(len(rows)) if parts is None else parts
        known = np.isfinite(losses) & np.isfinite(parts) & (tokens > 0)
        visits = Visits(rows[known].astype(np.int64), losses[known], tokens[known].astype(np.int64), parts[known])
        if self._running is not None:
            self._running.take(visits)
        self._last = self._last.then(visits, self.domains)

    def state(self) -> Json:
        """What changes, as JSON; {} without live weights."""
        if not self._is_live:
            return {}
        running = {} if self._running is None else {"running": self._running.state()}
        return {"last": self._last.state(), **running}

    def load(self, state: Json) -> None:
        """Continue from `state()`; one of a recipe without live weights says nothing.

        Raises:
            ValueError: it cannot be.
        """
        if not self._is_live or "last" not in state:
            return
        last = Visits.of(state["last"])
        if len(last) and not 0 <= last.rows.min() <= last.rows.max() < len(self.tokens):
            raise ValueError(f"visits must be of rows below {len(self.tokens)}, got {last.rows.max()}")
        self._last = last
        if self._running is not None and "running" in state:
            self._running.load(state["running"])


# -- parts of others ---------------------------------------------------------------------------------------------------


def _refuse_unfit(name: str, weights: Any, shape: tuple[int, ...]) -> None:
    """Refuse what is no weight: below 0 a gradient turns around, and the audit would find it as it was planned.

    Raises:
        RecipeError: not one finite number of at least 0 for each.
    """
    if isinstance(weights, np.ndarray) and weights.shape == shape and weights.dtype.kind in "fiu":
        wrong = weights[~(np.isfinite(weights) & (weights >= 0))]
        if not len(wrong):
            return
        got = f"{wrong[0]:g}"
    else:
        got = f"{type(weights).__name__} of shape {np.shape(weights)}"
    raise RecipeError(
        f"`weights: {name}` must give an array of shape {shape} of finite numbers of at least 0, got {got}. Correct "
        "the part (campus_tune.testing.check_weight says more of it), or leave it out."
    )


def _refuse_unfit_factors(name: str, weight: LiveWeight, level: Sequence[FloatArray]) -> None:
    """The same of a live weight, for some losses at each level that is known.

    Raises:
        RecipeError: as there.
    """
    known = np.flatnonzero(~np.isnan(level[0])) if level else np.zeros(1, dtype=np.int64)
    group = np.repeat(known, len(_TRIED))
    losses = np.tile(_TRIED, len(known))
    _refuse_unfit(name, weight.factor(losses, [number[group] for number in level], np), losses.shape)
