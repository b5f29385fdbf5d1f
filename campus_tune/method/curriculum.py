"""The curriculum: orders + pacing → what each sub-curriculum offers next, and the rows of the chosen stage.

This is the middle of the three parts that teach the method: `pacing` says how far an order is open, the
curriculum turns that into offers, a `selector` takes one. No torch, no trainer, no model: a plan is a function of
integers and of the choices made, so `simulate` replays it without a GPU and a resumed run needs only its state.

The loop a caller runs (the trainer's callback, the simulator and the tests all do exactly this):

    while not curriculum.finished:
        offers = curriculum.offers()                       # [] once the run is handed over to shuffling
        stage = curriculum.open(selector's choice of them, or None to shuffle)
        for _ in range(stage.n_steps):
            rows = curriculum.step_rows()                  # one optimizer step, ≤ global_batch rows
            curriculum.advance()

Windows and coverage (DESIGN words):

- `slice`, as CAMPUS published it: an order is cut at the scopes `s(k) = pacing(k/(T−1))`; a sub-curriculum's
  pointer k counts how often it was chosen. `prefix`, as Platanios 2019: T equal stages per epoch, each drawn at
  random from the first `s·N` rows of the chosen order.
- `exact`: every row once per epoch whatever is chosen. A slice skips rows trained by others, and the few rows
  that do not fill an optimizer step stay for the next slice, so rounding neither loses nor repeats a row.
  `revisit`, as published: pointers ignore each other, rows repeat or stay unseen, and the counts are kept.
- `mix`: this share of each stage is drawn at random from the other rows, domains in proportion. `handover`: from
  this progress on, plain shuffling. No stage crosses the handover, (prefix) the stage grid or, unless it is a
  revisited slice, an epoch's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from campus_tune.method.pacing import scope_at
from campus_tune.method.sampling import draw
from campus_tune.method.stages import (
    SHUFFLE,
    Coverage,
    Offer,
    Schedule,
    Stage,
    Window,
    slice_bounds,
    stage_grid,
    steps_of_epoch,
)
from campus_tune.words.arrays import pack, unpack
from campus_tune.words.types import BoolArray, IntArray, Json, RowArray

__all__ = ["SHUFFLE", "Coverage", "Curriculum", "Offer", "Schedule", "Stage", "Window", "slice_bounds", "stage_grid"]


class Curriculum:
    """Orders and how far each has been used; offers the next slices and opens the chosen one.

    Args:
        schedule: the frozen settings.
        orders: name → permutation of the rows, each shape (N,), in the recipe's sequence. May be empty, then
            every stage is shuffled.
        n_rows: N ≥ global_batch.
        global_batch: B, rows per optimizer step over all ranks and accumulation.
        total_steps: optimizer steps of the whole run.
        groups: domain number of each row, shape (N,), for random draws in proportion.
        drop_last: an epoch ends with its last full step; the rows left over wait for the next epoch.
    """

    def __init__(
        self,
        schedule: Schedule,
        orders: Mapping[str, RowArray],
        *,
        n_rows: int,
        global_batch: int,
        total_steps: int,
        groups: IntArray | None = None,
        drop_last: bool = False,
    ) -> None:
        self.schedule = schedule
        self.orders = dict(orders)
        self.n_rows, self.global_batch, self.total_steps = n_rows, global_batch, total_steps
        self.groups = groups
        self.steps_per_epoch = steps_of_epoch(n_rows, global_batch, drop_last=drop_last)
        self.handover_step = round(schedule.handover * total_steps) if orders else 0
        self._bounds = slice_bounds(schedule.pacing, schedule.stages, n_rows, global_batch)
        self._grid = stage_grid(schedule.stages, self.steps_per_epoch)

        self.step = 0  # optimizer steps finished
        self._left_out = 0  # steps of epochs that were ended early
        self.stage: Stage | None = None
        self.n_stages = 0
        self.pointers = dict.fromkeys(self.orders, 0)  # the slice each offers next; a pass begins them anew
        self.times_chosen = dict.fromkeys(self.orders, 0)  # over the whole run; a pointer may also skip slices
        self.rows_by_choice = dict.fromkeys([*self.orders, SHUFFLE], 0)
        self.barred: set[str] = set()  # sub-curricula that offer nothing for now: their scores say nothing
        self._spent = np.zeros(n_rows, dtype=np.bool_)  # rows that may not be drawn again in this pass
        self._seen = np.zeros(n_rows, dtype=np.uint8)  # how often each row was planned, cut at 255

    # -- where the run is ---------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The epoch of the next step."""
        return self.place // self.steps_per_epoch

    @property
    def steps_in_epoch(self) -> int:
        """Steps of this epoch that are finished."""
        return self.place % self.steps_per_epoch

    @property
    def epoch_end(self) -> int:
        """The step at which this epoch ends, if the run does not end before."""
        return self.step + self.steps_per_epoch - self.steps_in_epoch

    @property
    def last_step(self) -> int:
        """The step at which the run ends: an epoch that was ended early is not made up for by another one."""
        epochs = -(-self.total_steps // self.steps_per_epoch)
        return min(self.total_steps, epochs * self.steps_per_epoch - self._left_out)

    @property
    def finished(self) -> bool:
        """No step is left."""
        return self.step >= self.last_step

    @property
    def place(self) -> int:
        """The step at which the run would stand if no epoch had been ended early."""
        return self.step + self._left_out

    @property
    def needs_decision(self) -> bool:
        """The current stage is over and the run is not."""
        return not self.finished and (self.stage is None or self.step >= self.stage.first_step + self.stage.n_steps)

    @property
    def handed_over(self) -> bool:
        """From here on the rows are plainly shuffled."""
        return self.step >= self.handover_step

    @property
    def progress(self) -> float:
        """The clock's progress towards the handover, in [0, 1]."""
        return min(1.0, self.step / self.handover_step) if self.handover_step else 1.0

    def step_rows(self, step: int | None = None) -> RowArray:
        """The rows of optimizer step `step` (default: the next one), which must lie in the current stage."""
        assert self.stage is not None, "open() a stage before asking for its rows"
        j = (self.step if step is None else step) - self.stage.first_step
        assert 0 <= j < self.stage.n_steps, f"step {j} of a stage of {self.stage.n_steps}"
        return self.stage.rows[j * self.global_batch : (j + 1) * self.global_batch]

    def coverage_counts(self) -> tuple[int, int]:
        """(rows trained at least once, row visits beyond the first) over the run so far: finished steps only."""
        visits = self._seen.copy()
        if self.stage is not None:
            visits[self.stage.rows[(self.step - self.stage.first_step) * self.global_batch :]] -= 1
        seen = int(np.count_nonzero(visits))
        return seen, int(visits.sum(dtype=np.int64)) - seen

    # -- deciding -----------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The sub-curricula that have something to offer, in the recipe's sequence; empty once handed over."""
        if self.handed_over:
            return []
        names = [name for name in self.orders if name not in self.barred]
        if self.schedule.window == "slice" and self.schedule.coverage == "revisit":
            if names and all(self.pointers[name] >= len(self._bounds) for name in names):
                self.pointers = dict.fromkeys(self.orders, 0)  # every order is used up: a new pass begins
            names = [name for name in names if self.pointers[name] < len(self._bounds)]
        return names

    def offer(self, name: str) -> Offer:
        """What one of `names()` would train next. A selector that measures nothing needs only the chosen one's."""
        return self._slice_offer(name) if self.schedule.window == "slice" else self._prefix_offer(name)

    def offers(self) -> list[Offer]:
        """What each sub-curriculum would train next, in the recipe's sequence; empty once handed over."""
        return [self.offer(name) for name in self.names()]

    def open(self, offer: Offer | None = None) -> Stage:
        """Commit to one of `offers()`, or without one to shuffling: its rows become the next stage."""
        rng = np.random.default_rng([self.schedule.seed, self.epoch, self.n_stages])
        if offer is None:
            rows, name, scope, widened = self._shuffled(rng), SHUFFLE, (0.0, 1.0), False
            n_random = len(rows)
        else:
            rows, n_random = self._with_mix(rng, offer)
            name, scope, widened = offer.name, offer.scope, offer.widened
            self.pointers[name] = offer.slice + 1
            self.times_chosen[name] += 1
        self.stage = Stage(
            index=self.n_stages,
            epoch=self.epoch,
            chosen=name,
            first_step=self.step,
            n_steps=-(-len(rows) // self.global_batch),
            rows=rows[rng.permutation(len(rows))],
            scope=scope,
            n_random=n_random,
            n_repeats=int(np.count_nonzero(self._seen[rows] > self.epoch)),
            widened=widened,
        )
        self.n_stages += 1
        self.rows_by_choice[SHUFFLE] += n_random
        if name != SHUFFLE:
            self.rows_by_choice[name] += len(rows) - n_random
        self._seen[rows] += self._seen[rows] < 255
        if self.schedule.coverage == "exact":
            self._spent[rows] = True
        return self.stage

    def advance(self) -> None:
        """One optimizer step is finished. An epoch's end frees all rows again (exact coverage)."""
        self.step += 1
        if self.steps_in_epoch == 0:
            self._begin_epoch()

    def end_epoch(self) -> int:
        """Leave out what is left of the epoch: the next step is the first one of the next epoch.

        Of the current stage only what was trained stays; its other rows count as never planned.

        Returns:
            How many steps were left out.
        """
        stage = self.stage
        if stage is not None:
            done = self.step - stage.first_step
            trained, others = np.split(stage.rows, [done * self.global_batch])
            self._seen[others] -= 1
            if stage.chosen == SHUFFLE:
                self._spent[others] = False
            self.stage = replace(stage, n_steps=done, rows=trained)
        n_steps = self.epoch_end - self.step
        self._left_out += n_steps
        self._begin_epoch()
        return n_steps

    def _begin_epoch(self) -> None:
        """All rows may be drawn again (exact coverage)."""
        if self.schedule.coverage == "exact":
            self._spent[:] = False
            self.pointers = dict.fromkeys(self.orders, 0)

    # -- re-scoring ---------------------------------------------------------------------------------------------

    @property
    def untrained(self) -> BoolArray:
        """Rows that wait: not drawn in this pass (exact), not drawn at all (revisit); shape (N,)."""
        return ~self._spent if self.schedule.coverage == "exact" else self._seen == 0

    def frontier(self, n_stages: int) -> BoolArray:
        """Rows that wait and that some order could open within the next `n_stages` stages; shape (N,)."""
        reached = np.zeros(self.n_rows, dtype=np.bool_)
        for name, order in self.orders.items():
            reached[order[: self._reach_after(name, n_stages)]] = True
        return reached & self.untrained

    def resort(self, name: str, ranking: RowArray) -> tuple[RowArray, RowArray]:
        """Put new scores into an order: the rows that it has not used yet change places among themselves.

        What is open and how far stays as it was, whatever the scores say: the rows that wait are dealt anew over the
        places that rows that wait hold. Under exact coverage these are the rows untrained in this pass, in a revisited
        slice those behind its pointer, in a revisited prefix all rows.

        Args:
            name: of the order.
            ranking: all rows by their new scores, easy → hard, shape (N,).

        Returns:
            The rows that changed places among themselves, in the old sequence and in the new one.
        """
        order = self.orders[name]
        places = self._movable(name)
        old = order[places]
        moves = np.zeros(self.n_rows, dtype=np.bool_)
        moves[old] = True
        new = ranking[moves[ranking]]
        self.orders[name] = order.copy()
        self.orders[name][places] = new
        return old, new

    def bar(self, name: str, *, barred: bool) -> None:
        """Offer a sub-curriculum no longer, or again: its scores say nothing for now."""
        if barred and name in self.orders:
            self.barred.add(name)
        else:
            self.barred.discard(name)

    def _movable(self, name: str) -> BoolArray:
        """Places of an order whose rows it has not used, shape (N,)."""
        order = self.orders[name]
        if self.schedule.coverage == "exact":
            return ~self._spent[order]
        used = 0
        if self.schedule.window == "slice" and self.pointers[name]:
            used = int(self._bounds[min(self.pointers[name], len(self._bounds)) - 1])
        return np.arange(self.n_rows) >= used

    def _reach_after(self, name: str, n_stages: int) -> int:
        """How far an order may be open after `n_stages` more stages."""
        if self.schedule.window == "slice":
            return int(self._bounds[min(self.pointers[name] + n_stages, len(self._bounds)) - 1])
        steps = n_stages * max(1, self.steps_per_epoch // self.schedule.stages)
        progress = min(1.0, (self.step + steps) / max(1, self.handover_step))
        return max(self.global_batch, round(scope_at(self.schedule.pacing, progress) * self.n_rows))

    # -- how an offer and a stage are cut -----------------------------------------------------------------------

    def _slice_offer(self, name: str) -> Offer:
        """The next slice of an order, in whole steps; a slice with less than a step left moves on to the next."""
        order, last = self.orders[name], len(self._bounds) - 1
        k = min(self.pointers[name], last)
        if self.schedule.coverage == "revisit":
            pool = order[self._bounds[k - 1] if k else 0 : self._bounds[k]]
            n_rows = len(pool)
        else:
            pool = self._free(order[: self._bounds[k]])
            while len(pool) < self.global_batch and k < last:
                k += 1
                pool = self._free(order[: self._bounds[k]])
            n_rows = len(pool) if k == last else len(pool) // self.global_batch * self.global_batch
        total = self._stage_rows(self._grown_by_mix(n_rows))
        n_rows = self._from_offer(total, n_rows)
        scope = (float(self._bounds[k - 1] / self.n_rows) if k else 0.0, float(self._bounds[k] / self.n_rows))
        return Offer(name, pool[:n_rows], n_rows, total, scope, slice=k)

    def _prefix_offer(self, name: str) -> Offer:
        """The open part of an order; where it holds fewer rows than a stage, it opens as far as needed."""
        order = self.orders[name]
        total = self._stage_rows(self._grid_rows())
        n_rows = self._from_offer(total, total)
        n_open = max(1, round(scope_at(self.schedule.pacing, self.progress) * self.n_rows))
        pool = self._free(order[:n_open])
        widened = len(pool) < n_rows
        if widened:
            n_open = self._reach(order, n_rows)
            pool = self._free(order[:n_open])
        scope = (0.0, n_open / self.n_rows)
        return Offer(name, pool, n_rows, total, scope, slice=self.pointers[name], widened=widened)

    def _with_mix(self, rng: np.random.Generator, offer: Offer) -> tuple[RowArray, int]:
        """The offer's rows and, for the `mix` share, rows drawn at random from all others."""
        chosen = draw(rng, offer.pool, offer.n_rows)
        if not self.schedule.mix:
            return chosen, 0
        others = ~self._spent
        others[chosen] = False
        extra = draw(rng, np.flatnonzero(others).astype(np.int32), offer.stage_rows - len(chosen), self.groups)
        return np.concatenate([chosen, extra]), len(extra)

    def _shuffled(self, rng: np.random.Generator) -> RowArray:
        """Random rows for one stage of plain shuffling: without replacement until all have been drawn."""
        n_rows = self._stage_rows(self._grid_rows())
        pool = np.flatnonzero(~self._spent).astype(np.int32)
        rows = draw(rng, pool, n_rows)
        if self.schedule.coverage == "revisit":
            self._spent[rows] = True
            if len(rows) < n_rows:  # this pass is used up: the next one begins in the middle of the stage
                self._spent[:] = False
                pool = np.setdiff1d(np.arange(self.n_rows, dtype=np.int32), rows)
                more = draw(rng, pool, n_rows - len(rows))
                self._spent[more] = True
                rows = np.concatenate([rows, more])
        return rows

    def _free(self, rows: RowArray) -> RowArray:
        """Those of `rows` that may still be drawn, in the same sequence."""
        return rows if self.schedule.coverage == "revisit" else rows.compress(~self._spent.take(rows))

    def _reach(self, order: RowArray, n_rows: int) -> int:
        """How far `order` must be open to hold `n_rows` drawable rows."""
        if self.schedule.coverage == "revisit":
            return n_rows
        return int(np.searchsorted(np.cumsum(~self._spent.take(order)), n_rows)) + 1

    def _grid_rows(self) -> int:
        """Rows to the next boundary of the stage grid of this epoch."""
        done = self.steps_in_epoch
        return int(self._grid[np.searchsorted(self._grid, done, side="right")] - done) * self.global_batch

    def _grown_by_mix(self, n_rows: int) -> int:
        """A stage in which `n_rows` are the part that is not random, in whole steps, at least one."""
        if not self.schedule.mix:
            return n_rows
        return max(1, int(n_rows / (1.0 - self.schedule.mix) / self.global_batch + 1e-9)) * self.global_batch

    def _stage_rows(self, wanted: int) -> int:
        """`wanted` rows, cut at the handover, the run's end, and (unless slices are revisited) the epoch's end."""
        ends = [self.last_step]
        if not self.handed_over:
            ends.append(self.handover_step)
        if self.schedule.coverage == "exact":
            ends.append(self.epoch_end)
        n_rows = min(wanted, (min(ends) - self.step) * self.global_batch)
        if self.schedule.coverage == "exact":
            n_rows = min(n_rows, self.n_rows - int(np.count_nonzero(self._spent)))
        return min(n_rows, self.n_rows)

    def _from_offer(self, total: int, available: int) -> int:
        """How many of a stage's `total` rows come from the offer and not from the `mix`."""
        return min(available, max(1, total - round(self.schedule.mix * total)))

    # -- state --------------------------------------------------------------------------------------------------

    def state(self) -> Json:
        """Everything that changes, as JSON: the run goes on from it as if it had never stopped."""
        stage = self.stage
        return {
            "step": self.step,
            "left_out": self._left_out,
            "n_stages": self.n_stages,
            "pointers": dict(self.pointers),
            "times_chosen": dict(self.times_chosen),
            "rows_by_choice": dict(self.rows_by_choice),
            "barred": sorted(self.barred),
            "spent": pack(self._spent),
            "seen": pack(self._seen),
            "stage": None if stage is None else {**vars(stage), "rows": pack(stage.rows), "scope": list(stage.scope)},
        }

    def load(self, state: Json) -> None:
        """Continue from `state()`; the orders and the schedule must be those it was taken under.

        Raises:
            ValueError: it is of other rows, or a stage in it that cannot be.
        """
        self.step, self._left_out, self.n_stages = state["step"], state["left_out"], state["n_stages"]
        self.pointers = {name: state["pointers"].get(name, 0) for name in self.orders}
        self.times_chosen = {name: state["times_chosen"].get(name, 0) for name in self.orders}
        self.rows_by_choice = dict.fromkeys([*self.orders, SHUFFLE], 0) | state["rows_by_choice"]
        self.barred = set(state["barred"]) & set(self.orders)
        self._spent = unpack(state["spent"], "b", self.n_rows)
        self._seen = unpack(state["seen"], "u", self.n_rows)
        self.stage = None if state["stage"] is None else self._stage_of(state["stage"])

    def _stage_of(self, saved: Json) -> Stage:
        stage = Stage(**{**saved, "rows": unpack(saved["rows"], "i"), "scope": tuple(saved["scope"])})
        done, rows = self.step - stage.first_step, stage.rows
        if not (0 <= done <= stage.n_steps and len(rows) and rows.min() >= 0 and rows.max() < self.n_rows):
            raise ValueError(
                f"a stage must be one of {self.n_rows} rows in which step {self.step} lies, got one of {len(rows)} "
                f"rows from step {stage.first_step} on, of {stage.n_steps} steps"
            )
        return stage
