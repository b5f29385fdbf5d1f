"""The policy: who is drawn, and which of them. Frozen settings and arrays; `draws` opens a stage's rows by it.

A recipe that says nothing of shares, phases, thinning, review or dropping has none (`None`), and is planned as ever.
With one the curriculum draws *apart*: every stratum keeps a pass of its own, and the trainer's epoch is a mere counter.

    strata    groups of rows whose shares are kept: domains, or cells. One of all rows where nothing is said
    cells     groups of rows whose scores are compared with each other
    shares    what part of a stage's rows each stratum gets; natural: as many as there are
    periods   the user's phases: shares, and what is offered, mixed and open in them
    thin      offer more rows than are trained
    review    rows that come back
    dropped   rows that never come

What holds at a moment is a pure function of the run's progress u and, where shares follow what training shows, of the
book. Progress is that of the whole run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from campus_tune.method.shares import SharePhase, at_phase, following, natural
from campus_tune.words.types import BoolArray, FloatArray, IntArray, RowArray

if TYPE_CHECKING:
    from campus_tune.method.book import Book
    from campus_tune.method.cells import Cells
    from campus_tune.method.pass_rates import PassRates
    from campus_tune.method.review import Review
    from campus_tune.method.steering import Steering
    from campus_tune.method.thin import Thin

ALL_ROWS = "all rows"  # the one stratum, or domain, of rows without any
FOLLOW_FROM = 0.05  # progress from which shares follow what training shows: before, it shows too little
_ROUNDING = 1e-9  # of a progress: a phase that begins at a step begins there
Control: TypeAlias = Literal["shuffled_scores"]
Signal: TypeAlias = Literal["seen_loss", "progress"]


@dataclass(frozen=True, eq=False)
class Period:
    """One of the phases that a user writes.

    Args:
        shares: of the strata, and until when.
        offer: sub-curricula that it offers, in the recipe's sequence; None for all, empty to shuffle.
        mix: share of its stages that is drawn at random; None for the schedule's.
        top: rows that are open in it, shape (N,); None for all.
    """

    shares: SharePhase
    offer: tuple[str, ...] | None = None
    mix: float | None = None
    top: BoolArray | None = None


@dataclass(frozen=True, eq=False)
class Policy:
    """Who and which. Nothing of it changes but the book, which the run writes at the end of each stage.

    Rows that are left out from some stage on are in another policy, which takes its place (`leaving_out`).

    Args:
        n_rows: N.
        strata: number of each row's stratum, shape (N,); None for one stratum of all rows.
        strata_names: of the S strata.
        domains: number of each row's domain, shape (N,), for the passes that are reported; None for one.
        domain_names: of the G domains.
        cells: inside which scores are compared; None for one cell of all rows.
        shares: of the strata, shape (S,), sum 1; None for natural ones, which are those of the rows that can be drawn.
        follow: what of the book's cells the shares follow, from 5 % of the run on; needs the book.
        kept: part of the rows whose shares stay natural while the others follow.
        periods: the phases, in sequence, the last until 1; their shares win over `shares`.
        thin: offer more rows than are trained, by `scores(thin.by)`.
        review: rows that come back; needs the book.
        dropped: rows that are never drawn, shape (N,).
        control: `shuffled_scores` permutes the scores inside cells, by the seed and the stage.
        scores: a score of every row by its name, shape (N,), higher is more wanted; NaN where it is unknown.
        book: what training showed of each row.
        rates: what rewards showed of each prompt, where a trainer goes by rewards.
        steering: what the record has made of shares and phases; None where nothing steers.
        fixed: the record moves none of these shares: they are weights, and all rows are drawn as ever.
    """

    n_rows: int
    strata: IntArray | RowArray | None = None
    strata_names: tuple[str, ...] = (ALL_ROWS,)
    domains: IntArray | RowArray | None = None
    domain_names: tuple[str, ...] = (ALL_ROWS,)
    cells: Cells | None = None
    shares: FloatArray | None = None
    follow: Signal | None = None
    kept: float = 0.2
    periods: tuple[Period, ...] = ()
    thin: Thin | None = None
    review: Review | None = None
    dropped: BoolArray | None = None
    control: Control | None = None
    scores: Callable[[str], FloatArray] | None = None
    book: Book | None = None
    rates: PassRates | None = None
    steering: Steering | None = None
    fixed: bool = False

    @cached_property
    def codes(self) -> RowArray:
        """Number of each row's stratum, in as few bytes as sort fast, shape (N,)."""
        return _codes(self.strata, self.n_rows, len(self.strata_names))

    @cached_property
    def domain_codes(self) -> RowArray:
        """Number of each row's domain, likewise."""
        return _codes(self.domains, self.n_rows, len(self.domain_names))

    @cached_property
    def natural(self) -> FloatArray:
        """Each stratum's part of the rows that are not dropped, shape (S,)."""
        return natural(self.sizes(self.codes, len(self.strata_names)))

    def sizes(self, codes: RowArray, n: int) -> IntArray:
        """Rows of each of `n` groups that are not dropped."""
        return np.bincount(codes if self.dropped is None else codes[~self.dropped], minlength=n)

    def leaving_out(self, rows: BoolArray) -> Policy:
        """The same, and these rows, shape (N,), are dropped too. Shares that a recipe writes stay what they are."""
        return replace(self, dropped=rows if self.dropped is None else rows | self.dropped)

    def period(self, u: float) -> Period | None:
        """The phase at a progress; None where the user wrote none. One begins where the one before is over."""
        last = self.periods[-1] if self.periods else None
        return next((one for one, end in zip(self.periods, self.ends, strict=True) if u < end - _ROUNDING), last)

    @property
    def ends(self) -> list[float]:
        """Progress at which each phase ends, as it is now."""
        untils = [one.shares.until for one in self.periods]
        return untils if self.steering is None else self.steering.ends(untils)

    def unsteered(self, u: float) -> FloatArray | None:
        """Shares of the strata at a progress, shape (S,), before the record has moved them; None for natural ones."""
        phases = [one.shares for one in self.periods]
        if not phases:
            return self.shares
        if all(phase.shares is None for phase in phases):
            return None
        phases = phases if self.steering is None else self.steering.phases(phases)
        return at_phase(phases, self.natural, u + _ROUNDING)

    def shares_at(self, u: float) -> FloatArray | None:
        """Shares of the strata at a progress, shape (S,); None for natural ones."""
        base, steering = self.unsteered(u), self.steering
        if steering is not None and steering.moves_shares and not self.fixed:
            return steering.shares(self.natural if base is None else base)
        if self.follow is None or u < FOLLOW_FROM or len(self.strata_names) == 1:
            return base
        return following(self.natural if base is None else base, self._signal(self.follow), kept=self.kept)

    def shut_at(self, u: float) -> BoolArray | None:
        """Rows that cannot be drawn at a progress: dropped, or not of the phase's best; None for none."""
        period = self.period(u)
        return self.dropped if period is None else self._shut[self.periods.index(period)]

    @cached_property
    def _shut(self) -> list[BoolArray | None]:
        """The same for each phase."""
        tops = [one.top for one in self.periods]
        if self.dropped is None:
            return [None if top is None else ~top for top in tops]
        return [self.dropped if top is None else ~top | self.dropped for top in tops]

    def kept_at(self, u: float) -> float:
        """Part of its rows after which a pass is over at a progress: those that rewards speak against may never come.

        All of them but where rows are thinned by what rewards show.
        """
        thin = self.thin
        if thin is None or not thin.by_rewards or not thin.holds(u):
            return 1.0
        return float(getattr(thin.thinner, "keep", 1.0))

    def _signal(self, name: Signal) -> FloatArray:
        """What training shows of each stratum, shape (S,): of its cells, by their rows; NaN where unknown."""
        assert self.book is not None, "shares that follow what training shows need the book"
        signal, cells = self.book.levels.signal(name), self.cells
        if cells is None or len(self.strata_names) == len(signal):
            return signal
        known, n = np.isfinite(signal), len(self.strata_names)
        of, rows = cells.strata_of[known], cells.sizes[known]
        with np.errstate(invalid="ignore"):
            return np.bincount(of, signal[known] * rows, n) / np.bincount(of, rows, n)


def _codes(codes: IntArray | RowArray | None, n_rows: int, n: int) -> RowArray:
    """Codes of `n` groups as int16 where they fit: numpy sorts those in linear time."""
    kind = np.int16 if n <= np.iinfo(np.int16).max else np.int32
    return np.zeros(n_rows, dtype=kind) if codes is None else codes.astype(kind)
