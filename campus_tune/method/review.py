"""Review: rows that were trained before come back, in a lane of their own, before they are forgotten.

A row's interval says after how many stages it is due again: `spacing` at first, doubled by each visit that shows a loss
near its best, back to `spacing` by one that shows it forgotten. Trained at stage 3, and always known: due at 5, 9, 17.

- spacing: the rows that are most overdue, by age ÷ interval.
- forgetting: of the due rows those of the highest `last loss · (1 + age / interval)`.
- uniform: any row that was trained in an earlier stage. The control.

Between equal rows chance decides. Review visits are neither offers nor part of a pass.

References:
    Amiri et al. 2017, Repeat before Forgetting: recall = f(loss · delay / strength), and the next delay is where f
    falls to η; *ours is its cheap form*, with the strength counted in doublings and no held-out accuracy. MSSR
    (2603.09892) fits a memory strength per row and finds growing intervals best. Of plain replay 1 % already saves
    most of what is forgotten (TRACE, Qwen2.5-7B).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from campus_tune.method.sampling import highest
from campus_tune.method.shares import split
from campus_tune.words.types import BoolArray, FloatArray, IntArray, RowArray

ReviewBy: TypeAlias = Literal["spacing", "forgetting", "uniform"]

KNOWN = 1.1  # times its best loss, up to which a row is known
LONGEST = 255  # stages of an interval, which the book keeps in a byte


@dataclass(frozen=True)
class Review:
    """The `review` block of a recipe.

    Args:
        share: of each stage's rows that is given to rows that come back, in [0, 1).
        by: which of them.
        spacing: stages until a row is due for the first time.
        since: progress from which rows come back.
        until: progress until which they do.
    """

    share: float
    by: ReviewBy = "spacing"
    spacing: int = 2
    since: float = 0.0
    until: float = 1.0

    def holds(self, u: float) -> bool:
        """Whether rows come back at this progress."""
        return self.since <= u < self.until

    def rows_of(self, n: int) -> int:
        """How many of a stage's `n` rows are given to them: `⌊share · n⌋`."""
        return int(self.share * n + 1e-9)


class Remembered(Protocol):
    """What review asks of the book: columns of all rows, shape (N,); read only."""

    @property
    def last(self) -> NDArray[Any]:
        """Loss at the last visit, nats per token; NaN of a row that was never trained."""
        ...

    @property
    def stage(self) -> NDArray[Any]:
        """Stage of the last visit."""
        ...

    @property
    def interval(self) -> NDArray[Any]:
        """Stages from the last visit until a row is due."""
        ...


def next_interval(interval: IntArray, loss: FloatArray, best_before: FloatArray, spacing: int) -> IntArray:
    """The intervals after a visit.

    Args:
        interval: before it, shape (n,); 0 of a row that was never trained.
        loss: what the visit shows, shape (n,).
        best_before: lowest loss of the visits before, shape (n,); NaN of a row that was never trained.
        spacing: the first interval, in stages.

    Returns:
        Shape (n,), in [spacing, 255].
    """
    known = loss <= KNOWN * best_before  # never of a NaN
    return np.where(known, np.minimum(2 * interval.astype(np.int64), LONGEST), spacing)


def pick(
    review: Review, book: Remembered, stage: int, n: int, rng: np.random.Generator, free: BoolArray | None = None
) -> RowArray:
    """The rows that come back in a stage: n of them, or fewer where fewer are due.

    Args:
        review: the settings.
        book: what training showed of each row.
        stage: that is opened.
        n: rows that the lane holds.
        rng: the stage's own generator.
        free: rows that may be drawn, shape (N,); None for all.

    Returns:
        Different rows, rising, shape (k,), k ≤ n.
    """
    trained = ~np.isnan(book.last) & (book.stage < stage)
    rows = np.flatnonzero(trained if free is None else trained & free)
    if review.by != "uniform":
        age, interval = stage - book.stage[rows].astype(np.int64), np.maximum(1, book.interval[rows].astype(np.int64))
        due = age >= interval
        rows, waited = rows[due], age[due] / interval[due]
    if review.by == "uniform":
        scores = np.zeros(len(rows))
    elif review.by == "spacing":
        scores = waited
    else:
        scores = book.last[rows] * (1 + waited)
    return rows[highest(scores, n, rng.random(len(rows)))].astype(np.int32)


def pick_enlarged(
    review: Review,
    book: Remembered,
    stage: int,
    n: int,
    most: int,
    rng: np.random.Generator,
    free: BoolArray,
    *,
    domains: IntArray | RowArray,
    factor: FloatArray,
) -> RowArray:
    """The rows that come back where some domains get more of the lane: it grows by these (`lane_quotas`).

    Each domain gives those of its own that would come back first. Where so few of them are due that the lane would hold
    less than usual, rows of the others make up for it.

    Args:
        review: the settings.
        book: what training showed of each row.
        stage: that is opened.
        n: rows of the lane as it usually is.
        most: that it may grow to.
        rng: the stage's own generator.
        free: rows that may be drawn, shape (N,).
        domains: number of each row's domain, shape (N,).
        factor: of each domain, shape (G,).

    Returns:
        Different rows, shape (k,).
    """
    trained = np.bincount(domains[free & ~np.isnan(book.last)], minlength=len(factor))
    quotas = lane_quotas(trained, factor, n, most=most)
    own = [pick(review, book, stage, quota, rng, free & (domains == code)) for code, quota in enumerate(quotas)]
    rows, rest = np.concatenate(own), free.copy()
    rest[rows] = False
    return np.concatenate([rows, pick(review, book, stage, max(0, n - len(rows)), rng, rest)])


def lane_quotas(trained: IntArray, factor: FloatArray, rows: int, *, most: int) -> list[int]:
    """Rows of the lane that each domain gets: its part of the trained rows, times a factor of its own.

    A domain that regressed is given more rows than before, and no other one fewer: the lane grows, to `most` rows. One
    that holds more by itself does not shrink.

    >>> lane_quotas(np.array([60, 40]), np.array([2.0, 1.0]), 10, most=100)
    [12, 4]

    Args:
        trained: rows of each domain that can come back, shape (G,).
        factor: at least 1, shape (G,).
        rows: of the lane, where all factors are 1.
        most: that the lane may hold.
    """
    if not trained.sum():
        return [0] * len(trained)
    wanted = rows * factor * trained / trained.sum()
    n = round(min(float(wanted.sum()), max(rows, most)))
    return [int(quota) for quota in split(wanted, n, trained)]
