"""Draws: a stage's rows under a policy. Lanes × strata × thinning, in one pass of O(N) numpy.

    review   ⌊share · n⌋ rows that come back, or as many as are due
    offer    rows of the chosen sub-curriculum; none in a stage that is shuffled
    mix      the others, at random: the schedule's or the phase's share of what review leaves

Each lane but review is cut into strata by the shares at this progress; where they are natural, in proportion to what
the lane's pool holds. In whole rows: what is left of one is the chance of one more, for by largest remainder a stratum
whose share of a stage is less than half a row would never come. Without thinning its rows are drawn uniformly (from a
slice: in its sequence). With it more rows are offered than are taken, and those passed over had their turn. By what
rewards show of a prompt *all* rows that are free are considered, and had no turn if they are not taken; what is mixed
in is then not thinned.

A stratum that has too few rows is helped, in this sequence, and `Draw.shortage` says how: its scope is *widened* along
the order; its *next pass* begins; its rows are *given to others*. A row is in a stage at most once, whatever the lane.

Every draw has a generator of its own, seeded with `[seed, epoch, stage, purpose]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from campus_tune.method.masks import held, rows_where
from campus_tune.method.passes import OwnPasses
from campus_tune.method.policy import Policy
from campus_tune.method.review import pick, pick_enlarged
from campus_tune.method.shares import split
from campus_tune.method.stages import MIX, OFFER, REVIEW, Draw, Offer
from campus_tune.method.thinning import MeasureRows, Thinning
from campus_tune.method.walks import Tier, Walk, grouped, walk
from campus_tune.words.types import BoolArray, FloatArray, IntArray, RowArray

HELP = ("widened", "next pass", "given to others")  # what helps a stratum with too few rows, the worst last
WIDENED, NEXT_PASS, GIVEN = range(3)
POOL, BEYOND, AGAIN = range(3)  # tiers of a lane; and, where a stage was cut short, rows that are ahead of their pass
SCORES, SEQUENCE, REMAINDERS, AT_RANDOM = 3, 4, 5, 6  # purposes of generators beside the lanes'
GOLDEN = (5**0.5 - 1) / 2

Tiers: TypeAlias = Sequence[Callable[[], Tier]]


@dataclass(frozen=True)
class Moment:
    """When a stage is opened.

    Args:
        seed: of the run.
        epoch: of its first step.
        stage: its index.
        u: progress of the whole run.
    """

    seed: int
    epoch: int
    stage: int
    u: float

    def seeds(self, purpose: int) -> list[int]:
        """Of one of the stage's generators."""
        return [self.seed, self.epoch, self.stage, purpose]

    def remainders(self, lane: int) -> float:
        """Where a lane's remainders of a row fall, uniform in [0, 1) over seeds; and over stages, as evenly as can be.

        Multiples of the golden section lie apart from one another, so what a stratum lacks in one stage it gets in one
        of the next, and there is nothing to remember.
        """
        start = np.random.default_rng([self.seed, lane, REMAINDERS]).random()
        return float(start + self.stage * GOLDEN) % 1.0


@dataclass(frozen=True, eq=False)
class OpenedStage:
    """A stage's rows.

    Args:
        rows: in training order, shape (n,).
        draw: how they were drawn.
        unbiased: what makes up for the rows that were passed over instead of each, shape (n,).
        passed_over: rows that were offered and not taken, shape (k,).
        begun: passes of each stratum that began with it, shape (S,).
    """

    rows: RowArray
    draw: Draw
    unbiased: FloatArray
    passed_over: RowArray
    begun: IntArray


class Opening:
    """One stage while it is opened: lane after lane.

    Args:
        policy: who and which.
        passes: what may still be drawn; what a lane offers is written to it at once.
        moment: when.
        measure: fresh scores of candidates; None where they cannot be paid for.
        marks: what is offered counts for the passes.
    """

    def __init__(
        self, policy: Policy, passes: OwnPasses, moment: Moment, *, measure: MeasureRows | None, marks: bool
    ) -> None:
        self.policy, self.passes, self.moment, self.marks = policy, passes, moment, marks
        self.shares = policy.shares_at(moment.u)
        self.thinning: Thinning | None = None
        if policy.thin is not None and policy.thin.holds(moment.u):
            self.thinning = Thinning(policy, policy.thin, moment.seeds(SCORES), measure)
        self._thins = self.thinning is not None and self.thinning.skipped is None
        self.by_rewards = self.thinning is not None and self.thinning.thin.by_rewards
        self._codes = policy.codes if len(policy.strata_names) > 1 else None
        self._taken = np.zeros(policy.n_rows, dtype=np.bool_)  # rows of the stage so far
        self._lanes: list[tuple[int, RowArray]] = []
        self._unbiased: list[FloatArray] = []  # of the same rows
        self._passed_over = [np.zeros(0, dtype=np.int32)]
        self._offered = 0
        self._begun = np.zeros(len(policy.strata_names), dtype=np.int64)
        self._shortage: dict[str, int] = {}

    # -- lanes --------------------------------------------------------------------------------------------------

    def review(self, n: int) -> int:
        """Let some of the stage's `n` rows come back; gives how many."""
        settings, book = self.policy.review, self.policy.book
        if settings is None or book is None or not settings.holds(self.moment.u):
            return 0
        free, rng, stage = self.passes.open_rows & ~self._taken, self._rng(REVIEW), self.moment.stage
        factors = {} if self.policy.steering is None else self.policy.steering.reviewed()
        if not factors:
            rows = pick(settings, book, stage, settings.rows_of(n), rng, free)
        else:
            factor = np.array([factors.get(name, 1.0) for name in self.policy.domain_names])
            codes, lane = self.policy.domain_codes, (settings.rows_of(n), n // 2)
            rows = pick_enlarged(settings, book, stage, *lane, rng, free, domains=codes, factor=factor)
        self._add(REVIEW, rows)
        return len(rows)

    def offer(self, offer: Offer, order: RowArray, n: int, *, sliced: bool) -> None:
        """Draw `n` rows from what a sub-curriculum offers.

        Args:
            offer: the chosen one.
            order: all of its rows, easy → hard, shape (N,).
            n: rows.
            sliced: in the order's sequence; else at random.
        """
        rng, exact = self._rng(OFFER), self.passes.exact
        low, high = (round(scope * len(order)) for scope in offer.scope)
        low = 0 if exact else low  # else what lies before a slice was not used by it

        def beyond() -> Tier:
            rows = np.concatenate([order[high:], order[:low]]) if low else order[high:]
            return Tier(rows, lambda some: self.passes.is_free(some) & self._is_left(some))

        def again(times: int) -> Tier:
            rows = order if sliced else np.concatenate([rng.permutation(order[:high]), order[high:]])
            return Tier(rows, lambda some: self.passes.has_turned(some, times) & self._is_left(some))

        pool = Tier(offer.pool if sliced else rng.permutation(offer.pool), self._is_left)
        tiers: Tiers = [lambda: pool, beyond, lambda: again(1), lambda: again(2)]
        self._lane(OFFER, tiers if exact else tiers[:AGAIN], n, rng, even=None if sliced else pool)

    def mix(self, n: int, *, at_random: bool = False) -> None:
        """Draw `n` rows of all, of those that wait for their turn first.

        Args:
            n: rows.
            at_random: in any case; else they are thinned as the others, if the stage is.
        """
        if n <= 0:
            return
        rng = self._rng(AT_RANDOM if at_random else MIX)

        def shuffled(rows: BoolArray) -> Tier:
            return Tier(rng.permutation(rows_where(rows & ~self._taken)), self._is_left)

        pool = shuffled(self.passes.unoffered)
        nothing = Tier(pool.rows[:0], pool.ok)
        turned = [lambda times=times: shuffled(self.passes.turned(times)) for times in (1, 2)]
        tiers: Tiers = [lambda: pool, lambda: nothing, *turned]
        self._lane(MIX, tiers, n, rng, even=pool, at_random=at_random)

    def close(self) -> OpenedStage:
        """All lanes are drawn: their rows, in a random sequence."""
        rows = np.concatenate([rows for _, rows in self._lanes])
        lane = np.repeat(*np.array([(lane, len(rows)) for lane, rows in self._lanes]).T).astype(np.uint8)
        sequence = self._rng(SEQUENCE).permutation(len(rows))
        new, passed_over = rows[lane != REVIEW], np.concatenate(self._passed_over)
        draw = Draw(
            lane=lane[sequence],
            shares=tuple((self._sizes(new) / max(1, len(new))).tolist()),
            offered=self._offered,
            passed_over=len(passed_over),
            shortage={name: HELP[help_] for name, help_ in self._shortage.items()},
            **({} if self.thinning is None else self.thinning.told()),
        )
        return OpenedStage(rows[sequence], draw, np.concatenate(self._unbiased)[sequence], passed_over, self._begun)

    # -- one lane -----------------------------------------------------------------------------------------------

    def _lane(
        self, lane: int, tiers: Tiers, n: int, rng: np.random.Generator, *, even: Tier | None, at_random: bool = False
    ) -> None:
        """Walk the tiers, take `n` rows, and let all that were offered have their turn.

        Args:
            lane: its number.
            tiers: of its rows.
            n: rows.
            rng: its generator.
            even: the pool, where it is drawn from in proportion; None where its sequence says who comes.
            at_random: nothing is thinned.
        """
        thinning = self.thinning if self._thins and not at_random else None
        found, quotas = self._candidates(tiers, n, even, self.moment.remainders(lane), thinning)
        taken = offered = np.ones(len(found.rows), dtype=np.bool_)
        unbiased = None
        if thinning is not None:
            taken, offered, unbiased = thinning.select(found, quotas, rng)
            offered = taken if self.by_rewards else offered
        rows, tier = found.rows[offered], found.tier[offered]
        self._note(self._sizes(rows[tier == BEYOND]) > 0, WIDENED)
        begun = self._sizes(rows[tier >= AGAIN]) > 0
        self._note(begun, NEXT_PASS)
        self.passes.offer(rows, marks=self.marks)
        if self.marks:
            self._begun += self.passes.begin_where_over(begun, together=self.shares is None)
        self._offered += len(rows)
        self._passed_over.append(found.rows[offered & ~taken])
        self._add(lane, found.rows[taken], None if unbiased is None else unbiased[taken])

    def _candidates(
        self, tiers: Tiers, n: int, even: Tier | None, u: float, thinning: Thinning | None
    ) -> tuple[Walk, IntArray]:
        """The rows that a lane considers, by stratum, and how many of each stratum it takes."""
        weight = None if thinning is None else thinning.own
        most = self.passes.open_sizes - sum(self._sizes(rows) for _, rows in self._lanes)
        if self.shares is not None:
            quotas = split(self.shares, n, most, u)
            self._note(split(self.shares, n, np.full(len(most), n), u) > most, GIVEN)
            wanted = quotas if thinning is None else self._wanted(thinning, tiers, quotas, most)
            return walk(tiers, self._codes, wanted, weight), quotas
        quotas = np.array([n])
        wanted = quotas if thinning is None else self._wanted(thinning, tiers, quotas, np.array([most.sum()]))
        if weight is not None or self._codes is None or (thinning is not None and self.by_rewards):
            return walk(tiers, None, wanted, weight), quotas
        there = None if even is None else self._sizes(held(even.rows, even.ok))
        if there is not None and there.sum() >= wanted[0]:
            found = walk(tiers, self._codes, split(there.astype(np.float64), int(wanted[0]), there, u))
        else:
            found = grouped(walk(tiers, None, wanted), self._codes, len(most))
        return found, split(found.sizes.astype(np.float64), n, found.sizes, u)

    def _wanted(self, thinning: Thinning, tiers: Tiers, quotas: IntArray, most: IntArray) -> IntArray:
        """Rows to consider so that quotas are taken: what the thinner needs, or all of the pool, as `quotas` has it."""
        if not self.by_rewards:
            return thinning.need(quotas, most)
        pool = tiers[POOL]()
        there = self._sizes(held(pool.rows, pool.ok))
        return np.maximum(quotas, there if len(quotas) == len(there) else there.sum())

    def _add(self, lane: int, rows: RowArray, unbiased: FloatArray | None = None) -> None:
        self._lanes.append((lane, rows))
        self._unbiased.append(np.ones(len(rows)) if unbiased is None else unbiased)
        self._taken[rows] = True

    def _note(self, strata: BoolArray, what: int) -> None:
        """These strata were short of rows, shape (S,), and what helped; the worst of it stays."""
        for stratum in np.flatnonzero(strata).tolist():
            name = self.policy.strata_names[stratum]
            self._shortage[name] = max(what, self._shortage.get(name, what))

    def _is_left(self, rows: RowArray) -> BoolArray:
        """Which of some rows the stage does not hold yet."""
        return np.logical_not(self._taken.take(rows))

    def _sizes(self, rows: RowArray) -> IntArray:
        """How many of some rows are in each stratum, shape (S,)."""
        n = len(self.policy.strata_names)
        return np.array([len(rows)]) if self._codes is None else np.bincount(self._codes[rows], minlength=n)

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng(self.moment.seeds(purpose))
