"""Pools: what could be given. An order, cut by pacing and window into the rows that a sub-curriculum offers next.

Every cut is a function of settings, sizes, the position and what may still be drawn (`passes`); nothing is remembered.

- `slice`: the order is cut at the scopes `s(k) = pacing(k / (T − 1))`; pointer k says which slice comes next. Under
  exact coverage a slice skips rows that others trained, in whole steps; one with less than a step left moves on to the
  next, and what does not fill a step waits for it.
- `prefix`: the first `s·N` rows of the order, s the pacing of the run's progress; where these hold fewer rows than the
  stage takes, as many more as needed.
"""

from __future__ import annotations

import numpy as np

from campus_tune.method.pacing import scope_at
from campus_tune.method.passes import Passes
from campus_tune.method.stages import Offer, Schedule, slice_bounds, stage_grid
from campus_tune.words.types import RowArray


class Pools:
    """How the orders of one run are cut. Nothing of it changes.

    Args:
        schedule: the frozen settings.
        n_rows: N.
        global_batch: B, rows per optimizer step.
        steps_per_epoch: optimizer steps of one pass over the rows.
    """

    def __init__(self, schedule: Schedule, n_rows: int, global_batch: int, steps_per_epoch: int) -> None:
        self.schedule, self.n_rows, self.global_batch = schedule, n_rows, global_batch
        self.bounds = slice_bounds(schedule.pacing, schedule.stages, n_rows, global_batch)
        self.grid = stage_grid(schedule.stages, steps_per_epoch)
        self.sliced = schedule.window == "slice"

    def next_slice(self, name: str, order: RowArray, passes: Passes, *, pointer: int, room: int) -> Offer:
        """The slice of an order that comes next.

        Args:
            name: of the sub-curriculum.
            order: its rows, easy → hard, shape (N,).
            passes: what may still be drawn.
            pointer: the slice, if it still has a step's worth of rows.
            room: rows that the next stage may hold at most.
        """
        last = len(self.bounds) - 1
        k = min(pointer, last)
        if not passes.exact:
            pool = order[self.bounds[k - 1] if k else 0 : self.bounds[k]]
        else:
            pool = passes.free_to(name, order, self.bounds[k])
            while len(pool) < self.global_batch and k < last:
                k += 1
                pool = passes.free_to(name, order, self.bounds[k])
        whole = len(pool) // self.global_batch * self.global_batch if passes.exact and k < last else len(pool)
        stage_rows = whole
        if self.schedule.mix:
            stage_rows = self._with_mix(whole, self.schedule.mix)
        stage_rows = min(stage_rows, room)
        n_rows = self._from_offer(stage_rows, whole, self.schedule.mix)
        return Offer(name, pool[:n_rows], n_rows, stage_rows, self._scope(k), slice=k)

    def full_slice(
        self, name: str, order: RowArray, passes: Passes, *, pointer: int, room: int, mix: float, kept: float
    ) -> Offer:
        """The slice of an order that comes next under a policy: whole steps, and all rows of its scope as the pool.

        It holds what the slice itself has, for shares may want other rows of the scope than lie in it. Where all rows
        had their turn before the epoch is over, the order begins anew.

        Args:
            name: of the sub-curriculum.
            order: its rows, easy → hard, shape (N,).
            passes: what may still be drawn.
            pointer: the slice, if it still has a step's worth of rows.
            room: rows that the next stage may hold at most.
            mix: share of the stage that is drawn at random.
            kept: share of the offered rows that is taken.
        """
        last, widths = len(self.bounds) - 1, np.diff(self.bounds, prepend=0)
        k = min(pointer, last)
        if not passes.exact:
            pool = passes.free(order[self.bounds[k] - widths[k] : self.bounds[k]])
        else:
            pool = passes.free_to(name, order, self.bounds[k])
            while len(pool) < self.global_batch and k < last:
                k += 1
                pool = passes.free_to(name, order, self.bounds[k])
            if len(pool) < self.global_batch:
                k, pool = 0, passes.free_to(name, order, self.bounds[0])
        offered = min(len(pool), int(widths[k])) if len(pool) >= self.global_batch else int(widths[k])
        stage_rows = min(self._with_mix(max(1, int(offered * kept)), mix), room)
        n_rows = self._from_offer(stage_rows, stage_rows, mix)
        return Offer(name, pool, n_rows, stage_rows, self._scope(k), slice=k, widened=len(pool) < n_rows)

    def open_prefix(
        self,
        name: str,
        order: RowArray,
        passes: Passes,
        *,
        pointer: int,
        progress: float,
        stage_rows: int,
        mix: float,
    ) -> Offer:
        """The part of an order that is open.

        Args:
            name: of the sub-curriculum.
            order: its rows, easy → hard, shape (N,).
            passes: what may still be drawn.
            pointer: how often it was chosen in this pass.
            progress: of the clock, in [0, 1].
            stage_rows: of the next stage.
            mix: share of it that is drawn at random.
        """
        n_rows = self._from_offer(stage_rows, stage_rows, mix)
        n_open = max(1, self._opened(progress))
        pool = passes.free_to(name, order, n_open)
        widened = len(pool) < n_rows
        if widened:
            n_open = passes.reach(order, n_rows - len(pool), n_open)
            pool = passes.free_to(name, order, n_open)
        return Offer(name, pool, n_rows, stage_rows, (0.0, n_open / self.n_rows), slice=pointer, widened=widened)

    def to_grid(self, steps_in_epoch: int) -> int:
        """Rows to the next boundary of an epoch's T equal stages."""
        boundary = self.grid[self.grid.searchsorted(steps_in_epoch, side="right")]
        return int(boundary - steps_in_epoch) * self.global_batch

    def n_used(self, pointer: int) -> int:
        """Rows at an order's beginning that its slices have been through; a prefix never leaves any behind."""
        if not (self.sliced and pointer):
            return 0
        return int(self.bounds[min(pointer, len(self.bounds)) - 1])

    def reach(self, pointer: int, n_stages: int, progress: float) -> int:
        """How far an order may be open after some more stages.

        Args:
            pointer: of the order now.
            n_stages: at least one.
            progress: of the clock then.
        """
        if self.sliced:
            return self.n_used(pointer + n_stages)
        return max(self.global_batch, self._opened(progress))

    def _opened(self, progress: float) -> int:
        return round(scope_at(self.schedule.pacing, progress) * self.n_rows)

    def _scope(self, k: int) -> tuple[float, float]:
        """Of slice k, in shares of its order."""
        return (float(self.bounds[k - 1] / self.n_rows) if k else 0.0, float(self.bounds[k] / self.n_rows))

    def _with_mix(self, rows: int, mix: float) -> int:
        """Rows of a stage, in whole steps, in which `rows` are the part that is not random."""
        return max(1, int(rows / (1.0 - mix) / self.global_batch + 1e-9)) * self.global_batch

    def _from_offer(self, stage_rows: int, available: int, mix: float) -> int:
        """How many of a stage's rows come from the offer and not from the `mix`."""
        return min(available, max(1, stage_rows - round(mix * stage_rows)))
