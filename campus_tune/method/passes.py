"""Passes: what may still be drawn. A pass is over when every row was drawn once; then all of them may be drawn again.

- `exact`: whatever is chosen, no row comes twice in a pass, and a pass is the trainer's epoch.
- `revisit`: sub-curricula ignore each other, so any row may come again. Only plain shuffling keeps passes of its own,
  which may end in the middle of a stage.

Under a policy each stratum keeps a pass of its own (`OwnPasses`), and a row's visit in it is that it was *offered*.
Where rows are thinned by what rewards show, that it was *taken*: the others stay free, and a pass is over when the part
`keep` of its rows was taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from campus_tune.method.masks import held, how_far, rows_where
from campus_tune.method.policy import Policy
from campus_tune.method.sampling import draw
from campus_tune.method.stages import Coverage
from campus_tune.words.cores import parts_of, side_by_side
from campus_tune.words.types import BoolArray, IntArray, RowArray

_ROUNDING = 1e-9
LEAST_BALANCE = -100  # turns that a row is owed at most; only a stratum of a few rows could ever come near


@dataclass(frozen=True, eq=False)
class Opened:
    """What of an order could be drawn when it was offered last.

    Args:
        order: easy → hard, shape (N,).
        n_open: how far the order was open.
        rows: that could be drawn of these, in its sequence.
    """

    order: RowArray
    n_open: int
    rows: RowArray


class Passes:
    """Which rows were planned in this pass, and how often in the run.

    Args:
        n_rows: N.
        coverage: exact or revisit.
        groups: domain number of each row, shape (N,), for random draws in proportion.
    """

    def __init__(self, n_rows: int, coverage: Coverage, groups: IntArray | None = None) -> None:
        self.n_rows, self.groups = n_rows, groups
        self.exact = coverage == "exact"
        self.spent = np.zeros(n_rows, dtype=np.bool_)  # rows that may not be drawn again in this pass
        self.seen = np.zeros(n_rows, dtype=np.uint8)  # how often each row was planned, cut at 255
        self._opened: dict[str, Opened] = {}  # what each order offered last; since then rows only went

    # -- what is left -------------------------------------------------------------------------------------------

    @property
    def n_free(self) -> int:
        """How many rows one stage could hold at most."""
        return self.n_rows - int(np.count_nonzero(self.spent)) if self.exact else self.n_rows

    @property
    def waiting(self) -> BoolArray:
        """Rows not drawn in this pass (exact), not drawn at all (revisit); shape (N,)."""
        return ~self.spent if self.exact else self.seen == 0

    def free(self, rows: RowArray) -> RowArray:
        """Those of `rows` that a sub-curriculum may still draw, in the same sequence."""
        return held(rows, self.is_free) if self._turned_away else rows

    def free_to(self, name: str, order: RowArray, n_open: int) -> RowArray:
        """Those of the first `n_open` rows of an order that its sub-curriculum may still draw, in the same sequence.

        Stages open an order step by step, and of what was open before only rows that have gone since are looked for.

        Args:
            name: of the order.
            order: easy → hard, shape (N,).
            n_open: how far it is open.
        """
        if not self._turned_away:
            return order[:n_open]
        last = self._opened.get(name)
        if last is None or last.order is not order or last.n_open > n_open:
            last = Opened(order, 0, order[:0])
        rows = np.concatenate([self.free(last.rows), self.free(order[last.n_open : n_open])])
        self._opened[name] = Opened(order, n_open, rows)
        return rows

    def reach(self, order: RowArray, n_rows: int, start: int = 0) -> int:
        """How far `order` must be open to hold `n_rows` drawable rows behind `start`; to its end where it has fewer."""
        if not self._turned_away:
            return min(len(order), start + n_rows)
        behind = how_far(order[start:], self.is_free, n_rows)
        return len(order) if behind is None else start + behind

    @property
    def _turned_away(self) -> bool:
        """Some rows may not be drawn."""
        return self.exact

    def is_free(self, rows: RowArray) -> BoolArray:
        """Which of some rows a sub-curriculum may still draw."""
        return np.logical_not(self.spent.take(rows))

    def movable(self, order: RowArray, n_used: int) -> BoolArray:
        """Places of an order whose rows it has not used, shape (N,).

        Args:
            order: easy → hard, shape (N,).
            n_used: rows at its beginning that it has been through, where rows come again.
        """
        return ~self.spent[order] if self.exact else np.arange(self.n_rows) >= n_used

    # -- draws --------------------------------------------------------------------------------------------------

    def draw_others(self, rng: np.random.Generator, rows: RowArray, n: int) -> RowArray:
        """`n` random rows for the `mix` beside `rows`, domains in proportion to what is left of them."""
        others = ~self.spent
        others[rows] = False
        return draw(rng, rows_where(others), n, self.groups)

    def draw_shuffled(self, rng: np.random.Generator, n: int) -> RowArray:
        """`n` random rows for a stage of plain shuffling: no row a second time before all have been drawn."""
        rows = draw(rng, rows_where(~self.spent), n)
        if not self.exact:
            self.spent[rows] = True
            if len(rows) < n:  # this pass is used up: the next one begins in the middle of the stage
                self.spent[:] = False
                others = np.setdiff1d(np.arange(self.n_rows, dtype=np.int32), rows)
                more = draw(rng, others, n - len(rows))
                self.spent[more] = True
                rows = np.concatenate([rows, more])
        return rows

    # -- what was drawn -----------------------------------------------------------------------------------------

    def n_repeats(self, rows: RowArray, epoch: int) -> int:
        """How many of `rows` were planned more often than epochs have gone by."""
        return int(np.count_nonzero(self.seen[rows] > epoch))

    def plan(self, rows: RowArray) -> None:
        """These rows will be trained."""
        self.seen[rows] += self.seen[rows] < 255
        if self.exact:
            self.spent[rows] = True

    def take_back(self, rows: RowArray, *, shuffled: bool) -> None:
        """These rows were planned last and will not be trained after all.

        Args:
            rows: of one stage, shape (n,).
            shuffled: plain shuffling drew them.
        """
        self.seen[rows] -= 1
        if shuffled:
            self.spent[rows] = False
            self._opened.clear()

    def begin_epoch(self) -> None:
        """Under exact coverage all rows may be drawn again."""
        if self.exact:
            self.go_on(np.zeros(self.n_rows, dtype=np.bool_))

    def go_on(self, spent: BoolArray) -> None:
        """These rows, and no others, were drawn in this pass, shape (N,)."""
        self.spent = spent
        self._opened.clear()

    def visits(self, to_come: RowArray) -> NDArray[np.uint8]:
        """How often each row was trained, cut at 255, shape (N,): what was planned but for the rows `to_come`."""
        visits = self.seen.copy()
        visits[to_come] -= 1
        return visits

    def counts(self, to_come: RowArray) -> tuple[int, int]:
        """(Rows trained at least once, visits beyond the first), of what was planned but for the rows `to_come`."""
        visits = self.visits(to_come)
        n_rows = int(np.count_nonzero(visits))
        return n_rows, int(visits.sum(dtype=np.int64)) - n_rows


class OwnPasses(Passes):
    """Each stratum has a pass of its own: it is over when each of its rows was offered, and the next one begins.

    A row's *balance* is how often it was offered, less the passes that were begun since: 0 it waits, 1 it had its turn
    in this pass, 2 in the next one too. So what a stage did is taken back by adding and subtracting, though passes
    began in the middle of it. Passes begin together where shares are natural.

    Args:
        n_rows: N.
        coverage: exact or revisit; under revisit only plain shuffling has passes.
        policy: strata, domains, and the rows that are never drawn.
    """

    def __init__(self, n_rows: int, coverage: Coverage, policy: Policy) -> None:
        super().__init__(n_rows, coverage)
        self.policy = policy
        self.balance = np.zeros(n_rows, dtype=np.int8)
        self.offered = np.zeros(len(policy.domain_names), dtype=np.int64)  # rows of each domain, since `before`
        self.before = np.zeros(len(policy.domain_names))  # passes of each domain until rows were left out, if they were
        self.keep = policy.kept_at(0.0)  # part of the rows after which a pass is over
        self._shut = policy.dropped  # rows that cannot be drawn now; a phase may shut more of them
        self._sized: IntArray | None = None  # open rows of each stratum, once somebody has asked
        self._left: IntArray | None = None  # of these, rows that wait

    @property
    def waiting(self) -> BoolArray:
        """Rows not offered in this pass (exact), not drawn at all (revisit), but for those dropped; shape (N,)."""
        waits = self.balance <= 0 if self.exact else self.seen == 0
        return waits if self.policy.dropped is None else waits & ~self.policy.dropped

    @property
    def unoffered(self) -> BoolArray:
        """Open rows that wait for their turn in this pass, shape (N,)."""
        return self._open(self.balance <= 0)

    def turned(self, times: int) -> BoolArray:
        """Open rows that had their turn, shape (N,): 1 in this pass only, 2 in the next one too."""
        return self._open(self.balance == 1 if times == 1 else self.balance > 1)

    @property
    def open_rows(self) -> BoolArray:
        """Rows that can be drawn now, shape (N,)."""
        return np.ones(self.n_rows, dtype=np.bool_) if self.shut is None else ~self.shut

    @property
    def open_sizes(self) -> IntArray:
        """Open rows of each stratum, shape (S,)."""
        if self._sized is None:
            codes = self.policy.codes if self.shut is None else self.policy.codes[~self.shut]
            self._sized = np.bincount(codes, minlength=len(self.policy.strata_names))
        return self._sized

    @property
    def shut(self) -> BoolArray | None:
        """Rows that cannot be drawn now, shape (N,); None for none."""
        return self._shut

    @shut.setter
    def shut(self, rows: BoolArray | None) -> None:
        if rows is not self._shut:
            self._shut, self._sized = rows, None
            self._look_anew()

    def _open(self, rows: BoolArray) -> BoolArray:
        return rows if self.shut is None else rows & ~self.shut

    @property
    def _turned_away(self) -> bool:
        """Some rows may not be drawn."""
        return self.exact or self.shut is not None

    def has_turned(self, rows: RowArray, times: int) -> BoolArray:
        """Which of some rows are open and had their turn, as in `turned`."""
        balance = self.balance.take(rows)
        turned = balance == 1 if times == 1 else balance > 1
        return turned if self.shut is None else turned & ~self.shut.take(rows)

    def is_free(self, rows: RowArray) -> BoolArray:
        """Which of some rows a sub-curriculum may still draw."""
        free = self.balance.take(rows) <= 0 if self.exact else np.ones(len(rows), dtype=np.bool_)
        return free if self.shut is None else free & ~self.shut.take(rows)

    def movable(self, order: RowArray, n_used: int) -> BoolArray:
        """Places of an order whose rows it has not used, shape (N,)."""
        return self.balance[order] <= 0 if self.exact else super().movable(order, n_used)

    def offer(self, rows: RowArray, *, marks: bool) -> None:
        """These rows have their turn.

        Args:
            rows: each once, shape (m,).
            marks: it counts for the pass.
        """
        self.offered += np.bincount(self.policy.domain_codes[rows], minlength=len(self.offered))
        if marks:
            balance = self.balance[rows]
            if self._owes_nothing:
                balance = np.maximum(balance, 0)
            balance = balance + np.int8(1)
            self.balance[rows] = balance
            if self._left is not None:  # these wait no longer
                gone = self.policy.codes[rows.compress(balance == 1)]
                self._left = self._left - np.bincount(gone, minlength=len(self._left))

    @property
    def _owes_nothing(self) -> bool:
        """A turn that a row did not take is none that it is owed: it was free, and others were wanted more."""
        return self.policy.thin is not None and self.policy.thin.by_rewards

    def begin(self, strata: BoolArray) -> None:
        """The next pass of some strata begins, shape (S,)."""
        if strata.any():

            def turn(part: slice) -> None:
                some = strata.take(self.policy.codes[part])
                some &= self.balance[part] > LEAST_BALANCE
                if self.shut is not None:
                    some &= ~self.shut[part]
                self.balance[part] -= some

            side_by_side(turn, parts_of(self.n_rows))
            self._look_anew()

    @property
    def left(self) -> IntArray:
        """Open rows of each stratum that wait for their turn in this pass, shape (S,)."""
        if self._left is None:
            n, codes = len(self.policy.strata_names), self.policy.codes

            def of_part(part: slice) -> IntArray:
                waits = self.balance[part] <= 0
                if self.shut is not None:
                    waits &= ~self.shut[part]
                return np.bincount(codes[part].compress(waits), minlength=n)

            self._left = np.sum(side_by_side(of_part, parts_of(self.n_rows)), axis=0)
        return self._left

    def _look_anew(self) -> None:
        """Rows that could not be drawn can be again, or other ones can: what was counted of them says nothing now."""
        self._left = None
        self._opened.clear()

    def begin_where_over(self, begun: BoolArray, *, together: bool) -> BoolArray:
        """Begin the next pass of strata that no row waits in, or none that must come.

        Args:
            begun: strata whose next pass begins in any case, shape (S,).
            together: of all strata or of none.

        Returns:
            The strata whose next pass begins, shape (S,).
        """
        spare = np.zeros_like(self.left)
        if self.keep < 1:
            spare = np.floor((1 - self.keep) * self.open_sizes + _ROUNDING).astype(np.int64)
        over: BoolArray = begun | (self.left <= spare)
        if together:
            over[:] = begun.any() or self.left.sum() <= spare.sum()
        self.begin(over)
        return over

    def plan(self, rows: RowArray) -> None:
        """These rows will be trained."""
        self.seen[rows] += self.seen[rows] < 255

    def withdraw(self, rows: RowArray, begun: IntArray, *, marked: bool) -> None:
        """These rows, offered last, are not to count as that.

        Args:
            rows: of one stage, shape (m,).
            begun: passes of each stratum that began in the stage, shape (S,).
            marked: they counted for the pass.
        """
        self.offered -= np.bincount(self.policy.domain_codes[rows], minlength=len(self.offered))
        if marked:
            self.balance[rows] -= 1
            ended = begun.astype(np.int8).take(self.policy.codes)
            self.balance += ended if self.shut is None else np.where(self.shut, 0, ended).astype(np.int8)
            if self._owes_nothing:  # a turn behind a pass's begin was one at once
                np.minimum(self.balance, 1, out=self.balance)
                self.balance[rows] = np.minimum(self.balance[rows], 0)
            self._look_anew()

    def leave_out(self, policy: Policy, *, together: bool) -> None:
        """From here on the rows that `policy` drops are never drawn; a pass that waited for nothing else is over.

        Args:
            policy: the same as before, but for more rows that are dropped.
            together: passes of all strata begin together.
        """
        self.before, self.offered = np.array(list(self.by_domain().values())), np.zeros_like(self.offered)
        self.policy = policy
        self.begin_where_over(np.zeros(len(policy.strata_names), dtype=np.bool_), together=together)

    def begin_epoch(self) -> None:
        """The trainer's epochs are no passes."""

    def go_on(self, spent: BoolArray) -> None:
        """These rows, and no others, had their turn in this pass, shape (N,)."""
        self.balance = spent.astype(np.int8)
        self._look_anew()

    def by_domain(self) -> dict[str, float]:
        """How many passes each domain has been through: rows offered ÷ rows that are not dropped."""
        sizes = self.policy.sizes(self.policy.domain_codes, len(self.offered))
        passes = self.before + self.offered / np.maximum(1, sizes)
        return dict(zip(self.policy.domain_names, passes.tolist(), strict=True))


def spent_by_visits(seen: NDArray[np.uint8], first: RowArray, n: int, rng: np.random.Generator) -> BoolArray:
    """The rows that count as drawn in an epoch that another mechanism began: `n` of them, the most visited.

    >>> spent_by_visits(np.array([2, 1, 2, 0]), np.array([3]), 3, np.random.default_rng(0)).tolist()
    [True, False, True, True]

    Args:
        seen: visits of each row, shape (N,).
        first: rows that count in any case, at most `n`.
        n: rows.
        rng: chooses among rows of equal visits.
    """
    spent = np.zeros(len(seen), dtype=np.bool_)
    spent[first] = True
    spent[np.lexsort((rng.random(len(seen)), -seen.astype(np.int64), ~spent))[:n]] = True
    return spent


def resorted(order: RowArray, places: BoolArray, ranking: RowArray) -> RowArray:
    """The same order with the rows at `places` dealt anew over these places, in the sequence of `ranking`.

    >>> resorted(np.array([0, 1, 2, 3]), np.array([False, True, False, True]), np.array([3, 2, 1, 0])).tolist()
    [0, 3, 2, 1]
    """
    moves = np.zeros(len(order), dtype=np.bool_)
    moves[order[places]] = True
    result = order.copy()
    result[places] = ranking[moves[ranking]]
    return result
