"""The curriculum: opens a stage and remembers. What could be given is in `pools`, what may still be drawn in `passes`.

No torch, no trainer, no model: a plan is a function of integers and of the choices made, so `simulate` replays it
without a GPU and a resumed run needs only its state. Every draw is made by a generator of its own, seeded with `[seed,
epoch, stage]`, so there is no random state to remember either.

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
  this progress on, plain shuffling (a phase of its own). No stage crosses the end of a phase, (prefix) the stage grid
  or, unless it is a revisited slice, an epoch's end.
- a policy (`policy`): who is drawn and which. Then the trainer's epoch is a mere counter (`apart`).
- weights (`weighting`): how much each row of a stage counts. They never change which rows it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from campus_tune.method.apart import Apart
from campus_tune.method.passes import Passes, resorted, spent_by_visits
from campus_tune.method.phases import offers_until, phases_of
from campus_tune.method.policy import Policy
from campus_tune.method.pools import Pools
from campus_tune.method.sampling import draw
from campus_tune.method.stages import (
    MIX,
    OFFER,
    SHUFFLE,
    Coverage,
    Draw,
    Offer,
    Schedule,
    Stage,
    Window,
    slice_bounds,
    stage_grid,
    steps_of_epoch,
)
from campus_tune.method.steering import Steering
from campus_tune.method.thinning import MeasureRows
from campus_tune.method.weighting import Live, Weighting
from campus_tune.method.weights import Planning
from campus_tune.words.arrays import pack, unpack
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json, RowArray

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
        policy: who is drawn and which; None for all alike.
        weighting: how much rows count; None for all alike.
        steering: what the record makes of all of this; None where nothing steers.
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
        policy: Policy | None = None,
        weighting: Weighting | None = None,
        steering: Steering | None = None,
    ) -> None:
        self.schedule = schedule
        self.weighting, self.live = weighting, Live()  # the stage's live weights
        self.orders = dict(orders)
        self.n_rows, self.global_batch, self.total_steps = n_rows, global_batch, total_steps
        self.steps_per_epoch = steps_of_epoch(n_rows, global_batch, drop_last=drop_last)
        self.phases = phases_of(schedule.handover if orders else 0.0, total_steps)
        self.steering = steering
        self.pools = Pools(schedule, n_rows, global_batch, self.steps_per_epoch)
        self.apart: Apart | None = None
        if policy is not None:
            self.apart = Apart(policy, schedule, n_rows=n_rows, global_batch=global_batch, total_steps=total_steps)
        self.passes = Passes(n_rows, schedule.coverage, groups) if self.apart is None else self.apart.passes

        self.step = 0  # optimizer steps finished
        self._left_out = 0  # steps of epochs that were ended early
        self.stage: Stage | None = None
        self.n_stages = 0
        self.pointers = dict.fromkeys(self.orders, 0)  # the slice each offers next; a pass begins them anew
        self.times_chosen = dict.fromkeys(self.orders, 0)  # over the whole run; a pointer may also skip slices
        self.rows_by_choice = dict.fromkeys([*self.orders, SHUFFLE], 0)
        self.barred: set[str] = set()  # sub-curricula that offer nothing for now: their scores say nothing

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
    def handover_step(self) -> int:
        """The step from which rows are plainly shuffled: the schedule's, or an earlier one where a rule said so."""
        planned, told = offers_until(self.phases), None if self.steering is None else self.steering.handed_over_at
        return planned if told is None else min(planned, told)

    @property
    def n_decisions(self) -> int:
        """About how many stages of the run offer something, by the schedule."""
        steps = offers_until(self.phases)
        if not self.pools.sliced:
            return max(1, round(steps * self.schedule.stages / self.steps_per_epoch))
        return max(1, round(steps * self.schedule.stages * max(1, len(self.orders)) / self.steps_per_epoch))

    @property
    def handed_over(self) -> bool:
        """From here on the rows are plainly shuffled."""
        return self.step >= self.handover_step

    @property
    def progress(self) -> float:
        """The clock's progress towards the handover, in [0, 1]."""
        return self._progress_at(self.step)

    def _progress_at(self, step: int) -> float:
        """The same at a step from this one on."""
        planned = offers_until(self.phases)
        if not planned:
            return 1.0
        steps = min(1.0, step / planned)
        return steps if self.steering is None else self.steering.progress(steps, (step - self.step) / planned)

    def step_rows(self, step: int | None = None) -> RowArray:
        """The rows of optimizer step `step` (default: the next one), which must lie in the current stage."""
        assert self.stage is not None, "open() a stage before asking for its rows"
        j = (self.step if step is None else step) - self.stage.first_step
        assert 0 <= j < self.stage.n_steps, f"step {j} of a stage of {self.stage.n_steps}"
        return self.stage.rows[j * self.global_batch : (j + 1) * self.global_batch]

    def coverage_counts(self) -> tuple[int, int]:
        """(rows trained at least once, row visits beyond the first) over the run so far: finished steps only."""
        return (0, 0) if self.stage is None else self.passes.counts(self._to_come(self.stage))

    def visits(self) -> NDArray[np.uint8]:
        """How often each row was trained so far, cut at 255, shape (N,): finished steps only."""
        return self.passes.seen if self.stage is None else self.passes.visits(self._to_come(self.stage))

    def _to_come(self, stage: Stage) -> RowArray:
        return stage.rows[(self.step - stage.first_step) * self.global_batch :]

    # -- deciding -----------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """The sub-curricula that have something to offer, in the recipe's sequence; empty once handed over."""
        if self.handed_over:
            return []
        names = [name for name in self.orders if name not in self.barred]
        if self.apart is not None:
            names = self.apart.offering(names)
        if self.pools.sliced and not self.passes.exact:
            n_slices = len(self.pools.bounds)
            if names and all(self.pointers[name] >= n_slices for name in names):
                self.pointers = dict.fromkeys(self.orders, 0)  # every order is used up: a new pass begins
            names = [name for name in names if self.pointers[name] < n_slices]
        return names

    def offer(self, name: str) -> Offer:
        """What one of `names()` would train next."""
        order, pointer, room = self.orders[name], self.pointers[name], self._room()
        mix = self.schedule.mix if self.apart is None else self.apart.mix
        if self.pools.sliced and self.apart is not None:
            kept = self.apart.kept
            return self.pools.full_slice(name, order, self.passes, pointer=pointer, room=room, mix=mix, kept=kept)
        if self.pools.sliced:
            return self.pools.next_slice(name, order, self.passes, pointer=pointer, room=room)
        rows = min(self.pools.to_grid(self.steps_in_epoch), room)
        return self.pools.open_prefix(
            name, order, self.passes, pointer=pointer, progress=self.progress, stage_rows=rows, mix=mix
        )

    def offers(self) -> list[Offer]:
        """What each sub-curriculum would train next, in the recipe's sequence; empty once handed over."""
        return [self.offer(name) for name in self.names()]

    def open(self, offer: Offer | None = None, measure: MeasureRows | None = None) -> Stage:
        """Commit to one of `offers()`, or without one to shuffling: its rows become the next stage.

        Args:
            offer: the chosen one.
            measure: fresh scores of rows, for a policy that thins by them; None where they cannot be paid for.
        """
        draw, n_random, unbiased = None, 0, None
        if self.apart is not None:
            order = None if offer is None else self.orders[offer.name]
            n_rows = self.shuffled_rows() if offer is None else offer.stage_rows
            drawn = self.apart.open(self.n_stages, self.epoch, n_rows, offer, order, measure)
            rows, draw, unbiased = drawn.rows, drawn.draw, drawn.unbiased
            n_offered, n_random = (int(np.count_nonzero(draw.lane == lane)) for lane in (OFFER, MIX))
        else:
            rng = np.random.default_rng([self.schedule.seed, self.epoch, self.n_stages])
            rows, n_random = self._draw(rng, offer)
            rows, n_offered = rows[rng.permutation(len(rows))], len(rows) - n_random
        if offer is not None:
            if self.apart is not None and offer.slice < min(self.pointers[offer.name], len(self.pools.bounds) - 1):
                self.pointers = dict.fromkeys(self.orders, 0)  # all rows had their turn before the epoch was over
            self.pointers[offer.name] = offer.slice + 1
            self.times_chosen[offer.name] += 1
            self.rows_by_choice[offer.name] += n_offered
        self.rows_by_choice[SHUFFLE] += n_random
        self.stage = Stage(
            index=self.n_stages,
            epoch=self.epoch,
            chosen=SHUFFLE if offer is None else offer.name,
            first_step=self.step,
            n_steps=-(-len(rows) // self.global_batch),
            rows=rows,
            scope=(0.0, 1.0) if offer is None else offer.scope,
            n_random=n_random,
            n_repeats=self.passes.n_repeats(rows, self.epoch),
            widened=offer is not None and offer.widened,
            draw=draw,
            weights=self._weigh(rows, unbiased),
        )
        self.n_stages += 1
        self.passes.plan(rows)
        return self.stage

    def _weigh(self, rows: RowArray, unbiased: FloatArray | None) -> NDArray[np.float32] | None:
        """The planned weights of a stage that is being opened; its live ones are in `live` from here on."""
        if self.weighting is None:
            return None
        u = self.step / self.total_steps
        self.live = self.weighting.live(u)
        unbiased = np.ones(len(rows)) if unbiased is None else unbiased
        shown = Planning(rows, unbiased, u, self.weighting.columns)
        planned = self.weighting.plan(shown, [self.schedule.seed, self.epoch, self.n_stages])
        return None if planned is None else planned.astype(np.float32)

    def _draw(self, rng: np.random.Generator, offer: Offer | None) -> tuple[RowArray, int]:
        """(Rows of a stage without a policy, how many of them are random)."""
        if offer is None:
            rows = self.passes.draw_shuffled(rng, self.shuffled_rows())
            return rows, len(rows)
        rows = draw(rng, offer.pool, offer.n_rows)
        if not self.schedule.mix:
            return rows, 0
        extra = self.passes.draw_others(rng, rows, offer.stage_rows - len(rows))
        return np.concatenate([rows, extra]), len(extra)

    def shuffled_rows(self) -> int:
        """Rows of the next stage, if it is shuffled."""
        return min(self.pools.to_grid(self.steps_in_epoch), self._room())

    def _room(self) -> int:
        """Rows that the next stage may hold at most: no phase, no exact epoch and no run ends inside of it."""
        ends = [self.last_step, *(phase.end for phase in self.phases if phase.end > self.step)]
        if self.apart is not None:
            ends += [edge for edge in self.apart.edges if edge > self.step]
            return min((min(ends) - self.step) * self.global_batch, self.apart.room)
        if self.passes.exact:
            ends.append(self.epoch_end)
        return min((min(ends) - self.step) * self.global_batch, self.passes.n_free)

    def advance(self) -> None:
        """One optimizer step is finished. An epoch's end frees all rows again (exact coverage)."""
        self.step += 1
        if self.apart is not None:
            self.apart.move(self.step)
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
            if self.apart is not None:
                self.apart.take_back(stage, others)
            self.passes.take_back(others, shuffled=stage.chosen == SHUFFLE)
            self.stage = stage.cut(done, trained)
        n_steps = self.epoch_end - self.step
        self._left_out += n_steps
        self._begin_epoch()
        return n_steps

    def _begin_epoch(self) -> None:
        """Exact coverage begins a pass."""
        self.passes.begin_epoch()
        if self.passes.exact:
            self.pointers = dict.fromkeys(self.orders, 0)

    # -- re-scoring ---------------------------------------------------------------------------------------------

    @property
    def untrained(self) -> BoolArray:
        """Rows that wait: not drawn in this pass (exact), not drawn at all (revisit); shape (N,)."""
        return self.passes.waiting

    def frontier(self, n_stages: int) -> BoolArray:
        """Rows that wait and that some order could open within the next `n_stages` stages; shape (N,)."""
        steps = n_stages * max(1, self.steps_per_epoch // self.schedule.stages)
        progress = self._progress_at(self.step + steps)
        reached = np.zeros(self.n_rows, dtype=np.bool_)
        for name, order in self.orders.items():
            reached[order[: self.pools.reach(self.pointers[name], n_stages, progress)]] = True
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
        places = self.passes.movable(order, self.pools.n_used(self.pointers[name]))
        self.orders[name] = resorted(order, places, ranking)
        return order[places], self.orders[name][places]

    def bar(self, name: str, *, barred: bool) -> None:
        """Offer a sub-curriculum no longer, or again: its scores say nothing for now."""
        if barred and name in self.orders:
            self.barred.add(name)
        else:
            self.barred.discard(name)

    # -- state --------------------------------------------------------------------------------------------------

    def state(self) -> Json:
        """Everything that changes, as JSON: the run goes on from it as if it had never stopped."""
        state = {
            "step": self.step,
            "left_out": self._left_out,
            "n_stages": self.n_stages,
            "pointers": dict(self.pointers),
            "times_chosen": dict(self.times_chosen),
            "rows_by_choice": dict(self.rows_by_choice),
            "barred": sorted(self.barred),
            "spent": pack(self.passes.spent if self.apart is None else self.apart.passes.balance > 0),
            "seen": pack(self.passes.seen),
            "stage": None if self.stage is None else self.stage.state(),
        }
        if self.weighting is not None and (levels := self.weighting.state()):
            state["levels"] = levels
        return state if self.apart is None else {**state, "apart": self.apart.state()}

    def load(self, state: Json) -> None:
        """Continue from `state()`; the orders and the schedule must be those it was taken under.

        With a policy the state may be one without, and the other way round: the current stage then ends earlier where
        it could not go on as it is, and the next one is drawn as is said now.

        Raises:
            ValueError: it is of other rows, or a stage in it that cannot be.
        """
        self.step, self._left_out, self.n_stages = state["step"], state["left_out"], state["n_stages"]
        self.pointers = {name: state["pointers"].get(name, 0) for name in self.orders}
        self.times_chosen = {name: state["times_chosen"].get(name, 0) for name in self.orders}
        self.rows_by_choice = dict.fromkeys([*self.orders, SHUFFLE], 0) | state["rows_by_choice"]
        self.barred = set(state["barred"]) & set(self.orders)
        self.passes.seen = unpack(state["seen"], "u", self.n_rows)
        spent = unpack(state["spent"], "b", self.n_rows)
        self.stage = None if state["stage"] is None else Stage.of(state["stage"], self.step, self.n_rows)
        if self.weighting is not None:
            self.weighting.load(state.get("levels", {}))
        if self.stage is not None:
            if self.weighting is None:
                self.stage = replace(self.stage, weights=None)
            else:
                self.live = self.weighting.live(self.stage.first_step / self.total_steps)
        told = state.get("apart")
        if self.apart is None:
            self.passes.go_on(spent)
            if told is not None and self.stage is not None:
                self._go_on_without_policy(self.stage)
            return
        if told is None and self.stage is not None:
            self.stage = self._in_full_steps(self.stage, spent)
        self.apart.load(told, spent)
        self.apart.move(self.step)

    def _go_on_without_policy(self, stage: Stage) -> None:
        """A policy drew until here. Under exact coverage this epoch goes on as one in which every row comes once.

        As many rows count as drawn as it had steps for, the most visited first; and the stage ends with the epoch.
        """
        self.stage = replace(stage, draw=None)
        if not self.passes.exact:
            return
        batch, done = self.global_batch, self.step - stage.first_step
        left = min(self.n_rows - self.steps_in_epoch * batch, (self.epoch_end - self.step) * batch)
        rows, others = np.split(stage.rows, [done * batch + left])
        self.passes.seen[others] -= 1
        self.stage = self.stage.cut(-(-len(rows) // batch), rows)
        rng = np.random.default_rng([self.schedule.seed, self.epoch, self.n_stages])
        to_come = rows[done * batch :]
        n_spent = self.steps_in_epoch * batch + len(to_come)
        self.passes.go_on(spent_by_visits(self.passes.seen, to_come, n_spent, rng))

    def _in_full_steps(self, stage: Stage, spent: BoolArray) -> Stage:
        """A stage that was opened without a policy: an epoch's last step, where it is a short one, is not its own."""
        rows = stage.rows
        if self.step < stage.first_step + stage.n_steps:
            rows, others = np.split(rows, [len(rows) // self.global_batch * self.global_batch])
            self.passes.take_back(others, shuffled=False)
            if self.passes.exact or stage.chosen == SHUFFLE:
                spent[others] = False
        lane = np.full(len(rows), MIX if stage.chosen == SHUFFLE else OFFER, dtype=np.uint8)
        draw_ = Draw(lane, (), offered=len(rows), passed_over=0)
        return replace(stage.cut(-(-len(rows) // self.global_batch), rows), draw=draw_)
