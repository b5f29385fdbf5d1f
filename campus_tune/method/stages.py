"""The pieces a curriculum is made of: its schedule, what it offers, what it opened, and where it may be cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from campus_tune.method.pacing import Pacing
from campus_tune.words.arrays import pack, unpack
from campus_tune.words.types import IntArray, Json, RowArray

Window: TypeAlias = Literal["prefix", "slice"]
Coverage: TypeAlias = Literal["exact", "revisit"]

SHUFFLE = "shuffle"  # the name under which random stages are opened and counted
OFFER, MIX, REVIEW = range(3)  # lanes: why a row is in a stage
LANES = ("offer", "mix", "review")


@dataclass(frozen=True)
class Schedule:
    """How a curriculum opens its orders. Frozen: what changes lives in `Curriculum`.

    Args:
        pacing: u → scope.
        stages: T ≥ 1, slices per sub-curriculum (slice) or stages per epoch (prefix).
        window: prefix or slice.
        coverage: exact or revisit.
        mix: share of each stage drawn at random, in [0, 1).
        handover: progress in [0, 1] from which stages are plainly shuffled; 0 is shuffling from the start.
        seed: of every draw.
    """

    pacing: Pacing
    stages: int
    window: Window = "prefix"
    coverage: Coverage = "exact"
    mix: float = 0.0
    handover: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Offer:
    """What one sub-curriculum would train next.

    Args:
        name: of the sub-curriculum.
        pool: the rows it would draw from, easy → hard, shape (L,).
        n_rows: how many of them the stage would train.
        stage_rows: rows of the whole stage; what `n_rows` leaves is drawn at random (`mix`).
        scope: (from, to) of its order, in shares.
        slice: which slice (window slice) or which stage of the epoch (window prefix).
        widened: the scope had to open further than the pacing says, to fill the stage.
    """

    name: str
    pool: RowArray
    n_rows: int
    stage_rows: int
    scope: tuple[float, float]
    slice: int
    widened: bool = False


@dataclass(frozen=True, eq=False)
class Draw:
    """How a policy drew a stage's rows.

    Args:
        lane: why each row is in the stage, in training order: 0 offer, 1 mix, 2 review; uint8, shape (n,).
        shares: part of the offered and mixed rows that each stratum got, shape (S,).
        offered: rows that count as offered in this pass.
        passed_over: those of them that are not trained.
        tau: √(1 + CV²) of the scores that thinned it; None where nothing was thinned.
        known: rows that were offered and whose score was known; None where nothing was thinned.
        ess: effective sample size of the inclusion probabilities, as a part of the rows; None likewise.
        skipped: why it was not thinned although thinning was on.
        shortage: stratum → what helped where it had too few rows: `widened`, `next pass`, `given to others`.
    """

    lane: NDArray[np.uint8]
    shares: tuple[float, ...]
    offered: int
    passed_over: int
    tau: float | None = None
    known: int | None = None
    ess: float | None = None
    skipped: str | None = None
    shortage: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One decided stage.

    Args:
        index: stages opened before it in this run.
        epoch: which pass over the rows it began in.
        chosen: name of the sub-curriculum, or `shuffle`.
        first_step: optimizer steps finished before it.
        n_steps: whole number of optimizer steps.
        rows: in training order, shape (n,); step j takes `rows[j·B : (j+1)·B]`.
        scope: of the chosen offer; (0, 1) when shuffled.
        n_random: rows drawn at random (mix, or all of a shuffled stage).
        n_repeats: rows that had been trained before in this epoch's worth of rows (revisit only).
        widened: see `Offer`.
        draw: how a policy drew it; None without one.
        weights: planned, of each row's loss in its step, shape (n,); None where nothing is planned to count otherwise.
    """

    index: int
    epoch: int
    chosen: str
    first_step: int
    n_steps: int
    rows: RowArray
    scope: tuple[float, float]
    n_random: int
    n_repeats: int
    widened: bool
    draw: Draw | None = None
    weights: NDArray[np.float32] | None = None

    def cut(self, n_steps: int, rows: RowArray) -> Stage:
        """The same stage with its first steps only."""
        draw = self.draw
        if draw is not None:  # what is not trained was not offered either
            lane = draw.lane[: len(rows)]
            draw = replace(draw, lane=lane, offered=int(np.count_nonzero(lane != REVIEW)), passed_over=0)
        weights = None if self.weights is None else self.weights[: len(rows)]
        return replace(self, n_steps=n_steps, rows=rows, draw=draw, weights=weights)

    def state(self) -> Json:
        """It as JSON."""
        state = {**vars(self), "rows": pack(self.rows), "scope": list(self.scope)}
        del state["draw"], state["weights"]
        if self.weights is not None:
            state["weights"] = pack(self.weights)
        draw = self.draw
        if draw is None:
            return state
        arrays = {"lane": pack(draw.lane), "shares": list(draw.shares), "shortage": dict(draw.shortage)}
        return {**state, "draw": {**vars(draw), **arrays}}

    @staticmethod
    def of(saved: Json, step: int, n_rows: int) -> Stage:
        """The stage that `state` was called of.

        Args:
            saved: its JSON.
            step: at which the run stands, in the stage.
            n_rows: N.

        Raises:
            ValueError: a stage that cannot be.
        """
        draw = saved.get("draw")
        if draw is not None:
            draw = Draw(**{**draw, "lane": unpack(draw["lane"], "u"), "shares": tuple(draw["shares"])})
        rows = unpack(saved["rows"], "i")
        weights = unpack(saved["weights"], "f", len(rows)) if "weights" in saved else None
        stage = Stage(**{**saved, "rows": rows, "scope": tuple(saved["scope"]), "draw": draw, "weights": weights})
        done = step - stage.first_step
        whole = draw is None or len(draw.lane) == len(rows)
        if not (0 <= done <= stage.n_steps and len(rows) and rows.min() >= 0 and rows.max() < n_rows and whole):
            raise ValueError(
                f"a stage must be one of {n_rows} rows in which step {step} lies, got one of {len(rows)} "
                f"rows from step {stage.first_step} on, of {stage.n_steps} steps"
            )
        return stage


def slice_bounds(pacing: Pacing, stages: int, n_rows: int, global_batch: int) -> IntArray:
    """Where an order is cut into slices: the first `bounds[k]` rows are open after slice k.

    `s(k) = pacing(k / (T − 1))`, rounded to whole optimizer steps, at least one step each; the last is N. Fewer
    than T slices come out when the rows make fewer than T steps.

    >>> from campus_tune.method.pacing import linear
    >>> slice_bounds(linear(start=0.25), 4, n_rows=40, global_batch=10).tolist()
    [10, 20, 30, 40]
    """
    k = np.arange(stages)
    scopes = pacing(k / max(1, stages - 1)) if stages > 1 else np.ones(1)
    steps = np.round(scopes * n_rows / global_batch).astype(np.int64)
    steps = np.maximum.accumulate(np.maximum(steps, 1) - k) + k  # strictly growing: no slice is empty
    whole = max(1, n_rows // global_batch)  # the rows beyond the last whole step belong to the last slice
    bounds: IntArray = np.unique(np.minimum(steps, whole)) * global_batch
    bounds[-1] = n_rows
    return bounds


def steps_of_epoch(n_rows: int, global_batch: int, *, drop_last: bool) -> int:
    """Optimizer steps of one pass over the rows; a last, short step counts unless it is dropped.

    >>> steps_of_epoch(10, 4, drop_last=False), steps_of_epoch(10, 4, drop_last=True)
    (3, 2)
    """
    return n_rows // global_batch if drop_last else -(-n_rows // global_batch)


def stage_grid(stages: int, steps_per_epoch: int) -> IntArray:
    """Step boundaries of T equal stages in an epoch, 0 and the epoch's end included.

    >>> stage_grid(4, 10).tolist()
    [0, 2, 5, 7, 10]
    """
    return np.unique(np.arange(stages + 1) * steps_per_epoch // stages)
