"""Thinning a stage: which rows a lane offers, and which of these it takes. The formulas are in `thin`.

Scores are frozen at the stage's opening and seen beside those of all known rows of their cell. A stratum is not thinned
while nothing is known of the rows that would come without it: passing over rows by chance alone would leave them
untrained for nothing, and so a first pass by a score of the book is whole.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple, TypeAlias, TypedDict

import numpy as np

from campus_tune.method.policy import Policy
from campus_tune.method.prompt_scores import prompt_score
from campus_tune.method.standing import CellStanding, relative
from campus_tune.method.thin import Thin, ess, exactly, filled, take, tau
from campus_tune.method.walks import Walk
from campus_tune.words.cores import parts_of, side_by_side
from campus_tune.words.types import BoolArray, FloatArray, IntArray, RowArray

NOT_PAID = "not paid for"  # nothing is left to measure candidates with
NOTHING_KNOWN = "nothing is known of the rows offered"
_THOMPSON = 1  # of a stage's draws, beside the control's

MeasureRows: TypeAlias = Callable[[RowArray], FloatArray]


class Thinned(TypedDict, total=False):
    """What `Draw` is told of a thinning."""

    tau: float | None
    known: int | None
    ess: float | None
    skipped: str | None


class Selected(NamedTuple):
    """What came of thinning some candidates, each of shape (m,).

    Args:
        taken: rows of the stage.
        offered: these, and those that were passed over.
        unbiased: (n/m)/π of those that were taken, n of m offered: what makes up for the rows passed over.
    """

    taken: BoolArray
    offered: BoolArray
    unbiased: FloatArray


class Thinning:
    """How one stage is thinned.

    Args:
        policy: scores, cells, and the control.
        thin: the settings.
        seeds: of the stage's draws.
        measure: fresh scores of some rows; None where they cannot be paid for.
    """

    def __init__(self, policy: Policy, thin: Thin, seeds: list[int], measure: MeasureRows | None) -> None:
        self.policy, self.thin, self.seeds, self.measure = policy, thin, seeds, measure
        self.cells = None if policy.cells is None else policy.cells.codes
        self.n_known = 0  # rows that were offered and whose score was known
        self._scores: list[FloatArray] = []  # of the rows that were offered, cell-relative
        self._chances: list[FloatArray] = []  # of the rows that were taken
        self.skipped: str | None = None
        if thin.fresh:
            self.skipped = NOT_PAID if measure is None else None
        elif not self.known.any():
            self.skipped = NOTHING_KNOWN

    @cached_property
    def scores(self) -> FloatArray:
        """Of all rows at the stage's opening, shape (N,); NaN where unknown, and of rows that are dropped.

        A metric has scores of dropped rows too. They are nobody's like, and the control must not deal them to others.
        """
        scores, dropped = self._asked(), self.policy.dropped
        return self._controlled(scores if dropped is None else np.where(dropped, np.nan, scores), self.cells)

    def _asked(self) -> FloatArray:
        rates = self.policy.rates
        if self.thin.by_rewards:
            assert rates is not None, "thinning by what rewards show needs pass rates"
            rng = np.random.default_rng([*self.seeds, _THOMPSON])
            return prompt_score(self.thin.by, rates, rng=rng, when=rates.now + 1)
        assert self.policy.scores is not None, "thinning needs scores"
        return self.policy.scores(self.thin.by)

    @cached_property
    def known(self) -> BoolArray:
        """Rows whose score is known, shape (N,)."""
        return ~np.isnan(self.scores)

    @cached_property
    def standing(self) -> CellStanding:
        """What scores are seen beside: those of all known rows of their cell."""
        return CellStanding(self.thin.thinner.scale, self.scores, self.cells)

    @cached_property
    def own(self) -> FloatArray | None:
        """Each row's own chance, shape (N,), where it hangs on no other row and is known before rows are offered."""
        if not self.thin.thinner.own or self.thin.fresh:
            return None

        def of_part(part: slice) -> FloatArray:
            rows = np.arange(part.start, part.stop)
            return self.thin.chances(self.standing.of(rows), 0, np.zeros(0))

        whole = None if self.thin.gate is None else self.policy.n_rows  # a gate looks at all of them
        return np.concatenate(side_by_side(of_part, parts_of(self.policy.n_rows, whole)))

    def need(self, quotas: IntArray, most: IntArray) -> IntArray:
        """Rows to offer in each stratum, so that its quota is taken, shape (S,)."""
        if self.own is not None:
            return quotas
        wanted = [self.thin.thinner.most_offered(n) for n in quotas.tolist()]
        return np.minimum(np.array(wanted, dtype=np.int64), most)

    def select(self, found: Walk, quotas: IntArray, rng: np.random.Generator) -> Selected:
        """Which of the rows of a walk are taken, and which are offered.

        Args:
            found: the candidates, by stratum.
            quotas: rows to take of each stratum, shape (S,).
            rng: the lane's own generator.
        """
        scores, known = self._seen(found.rows)
        taken, offered = np.zeros((2, len(found.rows)), dtype=np.bool_)
        unbiased = np.ones(len(found.rows))
        begin = 0  # π is that of the first rows of each stratum, as many as are offered
        for end, n in zip(found.ends.tolist(), quotas.tolist(), strict=True):
            if known[begin : begin + min(n, end - begin)].any():
                chances = self.thin.chances(scores[begin:end], n, rng.random(end - begin))
                chances = lifted(filled(chances, n), n) if self.thin.thinner.own else chances
            else:
                chances = np.ones(min(n, end - begin))
            some = begin + np.flatnonzero(exactly(take(chances, rng.random()), chances, n))
            taken[some] = True
            offered[begin : begin + len(chances)] = True
            self._chances.append(chances[some - begin])
            unbiased[some] = len(some) / len(chances) / self._chances[-1] if len(some) else 1.0
            begin = end
        self._scores.append(scores[offered])
        self.n_known += int(np.count_nonzero(known & offered))
        return Selected(taken, offered, unbiased)

    def told(self) -> Thinned:
        """What a stage says of it: τ, rows known, effective sample size; or why nothing was thinned."""
        if self.skipped is not None or not self.n_known:
            return {"skipped": self.skipped or NOTHING_KNOWN}
        ratios = self.thin.thinner.scale == "ratio"  # other scores have no unit to vary in
        return {
            "tau": tau(np.concatenate(self._scores)) if ratios else None,
            "known": self.n_known,
            "ess": ess(np.concatenate(self._chances)),
        }

    def _seen(self, rows: RowArray) -> tuple[FloatArray, BoolArray]:
        """(Scores beside those of their cell, which are known) of the candidates."""
        if not self.thin.fresh:
            return self.standing.of(rows), self.known[rows]
        assert self.measure is not None, "a stage whose candidates are not paid for is not thinned"
        cells = None if self.cells is None else self.cells[rows]
        values = self._controlled(self.measure(rows), cells)
        return relative(self.thin.thinner.scale, values, cells, np.arange(len(rows))), ~np.isnan(values)

    def _controlled(self, scores: FloatArray, cells: RowArray | None) -> FloatArray:
        if self.policy.control != "shuffled_scores":
            return scores
        return permuted(scores, cells, np.random.default_rng(self.seeds))


def permuted(scores: FloatArray, cells: RowArray | None, rng: np.random.Generator) -> FloatArray:
    """The known scores dealt anew to the known rows of the same cell: all is as before but whose they are.

    Args:
        scores: shape (m,); NaN is unknown and stays.
        cells: of the rows, shape (m,); None for one cell.
        rng: a generator.
    """
    known = np.flatnonzero(~np.isnan(scores))
    mixed = rng.permutation(known)
    if cells is not None:
        known, mixed = (rows[np.argsort(cells[rows], kind="stable")] for rows in (known, mixed))
    result = scores.copy()
    result[known] = scores[mixed]
    return result


def lifted(pi: FloatArray, n: int) -> FloatArray:
    """Chances that add up to less than `n` raised towards 1, all by the same part of what they lack.

    >>> lifted(np.array([0.5, 0.5, 1.0]), 2).tolist(), lifted(np.array([0.5, 0.5, 1.0]), 3).tolist()
    ([0.5, 0.5, 1.0], [1.0, 1.0, 1.0])

    Args:
        pi: shape (m,).
        n: at most m.
    """
    total = float(pi.sum())
    if total >= n - 1e-9:
        return pi
    return pi + (1 - pi) * ((n - total) / (len(pi) - total))
