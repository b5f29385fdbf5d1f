"""Apart: what a curriculum does otherwise under a policy, and what of it is remembered.

Every stage is opened by `draws`, every stratum keeps a pass of its own (`passes.OwnPasses`), and the trainer's epoch is
a mere counter: no stage ends with it, and every step is full. What is remembered beside the passes is what the current
stage passed over, so that a stage that is cut short gives back all that it will not train.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from campus_tune.method.draws import Moment, OpenedStage, Opening
from campus_tune.method.passes import OwnPasses
from campus_tune.method.policy import Policy
from campus_tune.method.stages import REVIEW, SHUFFLE, Offer, Schedule, Stage
from campus_tune.method.thinning import MeasureRows
from campus_tune.words.arrays import pack, unpack
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import BoolArray, Json, RowArray

_ROUNDING = 1e-9


class Apart:
    """A policy at work.

    Args:
        policy: who and which.
        schedule: the frozen settings.
        n_rows: N.
        global_batch: B, rows per optimizer step.
        total_steps: optimizer steps of the whole run.

    Raises:
        RecipeError: so few rows are open in some phase that they do not fill a step.
    """

    def __init__(self, policy: Policy, schedule: Schedule, *, n_rows: int, global_batch: int, total_steps: int) -> None:
        assert policy.n_rows == n_rows, f"a policy of {policy.n_rows} rows for a curriculum of {n_rows}"
        self.policy, self.schedule, self.total_steps = policy, schedule, total_steps
        self.global_batch = global_batch
        self.passes = OwnPasses(n_rows, schedule.coverage, policy)
        self.review_rows = 0  # rows that came back, over the run
        self.passed_over = np.zeros(0, dtype=np.int32)  # rows that the current stage offered and did not take
        self.begun = np.zeros(len(policy.strata_names), dtype=np.int64)  # passes of each stratum that began with it
        for u in [0.0, *(one.shares.until for one in policy.periods[:-1])]:
            self._refuse_less_than_a_step(u)
        self.move(0)

    def move(self, step: int) -> None:
        """The run stands at this step."""
        self.u = min(1.0, step / self.total_steps)
        self.passes.shut, self.passes.keep = self.policy.shut_at(self.u), self.policy.kept_at(self.u)

    @property
    def edges(self) -> list[int]:
        """The steps at which phases end, as it is now."""
        return [math.ceil(end * self.total_steps - _ROUNDING) for end in self.policy.ends]

    @property
    def mix(self) -> float:
        """Share of a stage that is drawn at random."""
        period = self.policy.period(self.u)
        return self.schedule.mix if period is None or period.mix is None else period.mix

    @property
    def kept(self) -> float:
        """Share of the offered rows that thinning takes now; 1 where a row's chance is its own, or nothing thins."""
        thin = self.policy.thin
        if thin is None or not thin.holds(self.u):
            return 1.0
        n = self.passes.n_rows
        return n / thin.thinner.offered(n)

    def offering(self, names: Sequence[str]) -> list[str]:
        """Those of some sub-curricula that the phase offers."""
        period = self.policy.period(self.u)
        return [name for name in names if period is None or period.offer is None or name in period.offer]

    @property
    def room(self) -> int:
        """Rows that can be drawn now, in whole steps: each is in a stage at most once."""
        return int(self.passes.open_sizes.sum()) // self.global_batch * self.global_batch

    def open(
        self, stage: int, epoch: int, n: int, offer: Offer | None, order: RowArray | None, measure: MeasureRows | None
    ) -> OpenedStage:
        """Draw the rows of a stage.

        Args:
            stage: its index.
            epoch: of its first step.
            n: its rows.
            offer: that was chosen; None to shuffle.
            order: of the chosen sub-curriculum.
            measure: fresh scores of candidates.
        """
        marks = self.passes.exact or offer is None
        moment = Moment(self.schedule.seed, epoch, stage, self.u)
        opening = Opening(self.policy, self.passes, moment, measure=measure, marks=marks)
        n_review = opening.review(n)
        rest = n - n_review
        if offer is None or order is None:
            n_random = round(self.mix * rest) if opening.by_rewards else 0
            opening.mix(rest - n_random)
            opening.mix(n_random, at_random=True)
        else:
            n_mix = min(rest - 1, round(self.mix * rest))
            opening.offer(offer, order, rest - n_mix, sliced=self.schedule.window == "slice")
            opening.mix(n_mix, at_random=opening.by_rewards)
        drawn = opening.close()
        self.review_rows += n_review
        self.passed_over, self.begun = drawn.passed_over, drawn.begun
        return drawn

    def take_back(self, stage: Stage, rows: RowArray) -> None:
        """The last `rows` of the stage will not be trained: they and what was passed over had no turn.

        Args:
            stage: the current one, as it was opened.
            rows: its last ones, shape (k,).
        """
        assert stage.draw is not None, "a stage under a policy says how it was drawn"
        if not len(rows):
            return
        lane = stage.draw.lane[len(stage.rows) - len(rows) :]
        marked = self.passes.exact or stage.chosen == SHUFFLE
        self.passes.withdraw(np.concatenate([rows[lane != REVIEW], self.passed_over]), self.begun, marked=marked)
        if marked:
            together = self.policy.shares_at(self.u) is None
            self.passes.begin_where_over(np.zeros(len(self.begun), dtype=np.bool_), together=together)
        self.review_rows -= int(np.count_nonzero(lane == REVIEW))
        self.passed_over, self.begun = self.passed_over[:0], np.zeros_like(self.begun)

    # -- leaving rows out in the middle of a run ---------------------------------------------------------------

    def most_left_out(self, worst_first: RowArray) -> int:
        """How many of the first of some rows can be left out from here on, so that every step to come is full.

        Args:
            worst_first: rows that can be drawn in some phase, shape (w,).
        """
        most = len(worst_first)
        for u in [self.u, *(edge / self.total_steps for edge in self.edges if self.u < edge / self.total_steps < 1)]:
            shut = self.policy.shut_at(u)
            opened = np.ones(self.policy.n_rows, dtype=np.bool_) if shut is None else ~shut
            spare = int(np.count_nonzero(opened)) - self.global_batch
            most = min(most, int(np.searchsorted(np.cumsum(opened[worst_first]), max(0, spare), side="right")))
        return most

    def leave_out(self, rows: BoolArray) -> None:
        """From here on some rows are never drawn. Between two stages: what is open of one was drawn with them.

        Args:
            rows: beside those that are dropped already, shape (N,).
        """
        self.policy = self.policy.leaving_out(rows)
        self.passes.shut = self.policy.shut_at(self.u)
        self.passes.leave_out(self.policy, together=self.policy.shares_at(self.u) is None)

    # -- state --------------------------------------------------------------------------------------------------

    def state(self) -> Json:
        """What changes, beside the rows that had their turn: as JSON."""
        odd = np.flatnonzero((self.passes.balance < 0) | (self.passes.balance > 1)).astype(np.int32)
        return {
            "odd": pack(odd),  # rows whose balance is neither 0 nor 1, and which it is
            "balance": pack(self.passes.balance[odd]),
            "offered": dict(zip(self.policy.domain_names, self.passes.offered.tolist(), strict=True)),
            "passed_over": pack(self.passed_over),
            "begun": self.begun.tolist(),
            "review_rows": self.review_rows,
            **({"before": self.passes.before.tolist()} if self.passes.before.any() else {}),
        }

    def load(self, state: Json | None, spent: BoolArray) -> None:
        """Continue from `state()`.

        Args:
            state: None of a run that had no policy: its visits count as offers. So they do where domains are others.
            spent: rows that had their turn, shape (N,).
        """
        self.passes.go_on(spent)
        codes, n = self.policy.domain_codes, len(self.policy.domain_names)
        self.passes.offered = np.bincount(codes, self.passes.seen, n).astype(np.int64)
        if state is None:
            return
        self.passes.balance[unpack(state["odd"], "i")] = unpack(state["balance"], "i")
        told = state["offered"]
        if told.keys() == set(self.policy.domain_names):
            self.passes.offered = np.array([told[name] for name in self.policy.domain_names], dtype=np.int64)
            self.passes.before = np.array(state.get("before", np.zeros(n)), dtype=np.float64)
        self.passed_over = unpack(state["passed_over"], "i")
        if len(state["begun"]) == len(self.begun):  # else the future was changed, and passes go on as they are
            self.begun = np.array(state["begun"], dtype=np.int64)
        self.review_rows = state["review_rows"]

    def _refuse_less_than_a_step(self, u: float) -> None:
        """Every step is full, and holds a row once."""
        self.passes.shut = self.policy.shut_at(u)
        if not self.room:
            n_open = int(np.count_nonzero(self.passes.open_rows))
            raise RecipeError(
                f"the rows that can be drawn from progress {u:g} on must fill a step of {self.global_batch} rows, got "
                f"{n_open} of {self.passes.n_rows}. Drop fewer, raise `top`, or lower the batch size."
            )
