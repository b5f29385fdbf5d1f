"""The race: measure the offers on samples that grow until the best is separated or the budget is spent.

Evaluating every offered row costs about as much as training on it (4 offers under LoRA: twice). A sample is
enough, when it is the right one:

- **stratified along the slice**: the pool, easy → hard, is cut in n equal parts and one row is taken of each;
- **shared**: the row taken is the one with the smallest hash in its part, so offers that share rows mostly share
  their samples too, and a shared row is measured once;
- **nested**: doubling n halves each part, so every row measured before stays in the sample;
- **paired**: two offers are compared by the standard error of their *difference*, in which shared rows cancel.

Round by round (8, 16, 32 … rows per offer) all offers are measured until the best is `z = 2` standard errors ahead
of every other, the samples are the whole slices, or the next round does not fit the budget. Which of these it was is
in the ledger. Where the budget does not pay for eight rows of each offer, the first round takes four; where it does
not pay for those, nothing is measured, and training's own losses are looked at (`free_losses`). The standard error of a
token-weighted mean is that of a ratio estimator, by linearisation, with the finite-population correction.

Reference: Mnih, Szepesvári, Audibert 2008 (racing with growing samples); Cochran 1977, ch. 6 (ratio estimators).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from campus_tune.method.budget import FEWEST
from campus_tune.method.selectors.base import Selector
from campus_tune.method.view import View
from campus_tune.words.hashing import hash_rows
from campus_tune.words.types import BoolArray, FloatArray, IntArray, RowArray, RowLosses

Measure: TypeAlias = Callable[[RowArray], RowLosses]  # rows, ascending → their losses under the current model
Outcome: TypeAlias = Literal[
    "separated",
    "budget spent",
    "all rows measured",
    "not measured",
    "only one offer",
    "not paid for",
    "losses of training",
]

FIRST_ROUND = FEWEST["selection"]  # rows per offer
SEPARATION = 2.0  # standard errors


@dataclass(frozen=True)
class RaceResult:
    """How the offers were measured.

    Args:
        mean_loss: of each offer, nats, shape (K,); NaN where an offer had no row to measure.
        stderr: of each, nats, shape (K,).
        n_rows: rows in each offer's sample, shape (K,).
        start_loss: the same samples' loss before training, nats, shape (K,), if the selector needs it.
        rounds: how many times the samples grew, the first included.
        tokens: forward tokens spent.
        outcome: why it ended.
        asked: forward tokens that the smallest first round would have taken, where they are not paid for.
    """

    mean_loss: FloatArray
    stderr: FloatArray
    n_rows: IntArray
    start_loss: FloatArray | None
    rounds: int
    tokens: int
    outcome: Outcome
    asked: int = 0


def stratified_sample(pool: RowArray, n: int, *, seed: Sequence[int]) -> RowArray:
    """One row of each of `n` equal parts of `pool`, the one with the smallest seeded hash; nested under doubling.

    >>> pool = np.arange(64, dtype=np.int32)
    >>> set(stratified_sample(pool, 8, seed=[1])) <= set(stratified_sample(pool, 16, seed=[1]))
    True
    """
    if n >= len(pool):
        return pool
    edges = np.arange(n) * len(pool) // n
    priority = hash_rows(pool, *seed)
    lowest = np.minimum.reduceat(priority, edges)
    part = np.zeros(len(pool), dtype=np.int64)
    part[edges[1:]] = 1
    is_lowest = priority == lowest[np.cumsum(part)]
    sample: RowArray = pool[is_lowest]
    return sample


def measure_offers(
    selector: Selector,
    view: View,
    measure: Measure,
    *,
    row_tokens: IntArray,
    budget_tokens: float,
    first_tokens: float = np.inf,
    most_tokens: float = np.inf,
    start_losses: RowLosses | None = None,
    known: BoolArray | None = None,
) -> RaceResult:
    """Measure the offers until the selector's choice is separated or the budget is spent.

    Args:
        selector: whose distance is to be separated; one that has none is shown as much as the budget pays for.
        view: K ≥ 1 offers, stage, seed and probe loss; `mean_loss` is filled in here.
        measure: forward of the current model; each row is asked for once.
        row_tokens: forward tokens of every row of the training set, shape (N,).
        budget_tokens: forward tokens this race may spend. The first round may cost more than this.
        first_tokens: forward tokens above which the first round takes half of its rows.
        most_tokens: forward tokens that even that must not cost, else nothing is measured.
        start_losses: losses of all rows before training, shape (N,), where the selector needs them.
        known: rows whose start loss was measured, shape (N,); only these are sampled.

    Returns:
        The last round's estimates.
    """
    pools = [offer.pool if known is None else offer.pool[known[offer.pool]] for offer in view.offers]
    book = _Book(measure, row_tokens)
    n, rounds = FIRST_ROUND, 0
    samples = _samples(pools, n, view)
    if book.price(samples) > min(first_tokens, most_tokens):
        n //= 2
        samples = _samples(pools, n, view)
    if book.price(samples) > most_tokens:
        nothing = _estimate(pools, [pool[:0] for pool in pools], book, start_losses)
        return replace(nothing, outcome="not paid for", asked=book.price(samples))
    while True:
        book.ask(samples)
        rounds += 1
        result = _estimate(pools, samples, book, start_losses)
        result = replace(result, rounds=rounds, tokens=book.tokens)
        if not any(len(pool) for pool in pools):
            return replace(result, outcome="not measured")
        if all(len(sample) == len(pool) for sample, pool in zip(samples, pools, strict=True)):
            return replace(result, outcome="all rows measured")
        shown = replace(view, mean_loss=result.mean_loss, start_loss=result.start_loss)
        if _separated(pools, samples, book, selector, shown, start_losses):
            return replace(result, outcome="separated")
        n *= 2
        samples = _samples(pools, n, view)
        if book.tokens + book.price(samples) > budget_tokens:
            return result


def _samples(pools: Sequence[RowArray], n: int, view: View) -> list[RowArray]:
    return [stratified_sample(pool, n, seed=[view.seed, view.stage]) for pool in pools]


class _Book:
    """Rows measured so far in one race, and what they cost."""

    def __init__(self, measure: Measure, row_tokens: IntArray) -> None:
        self.measure, self.row_tokens = measure, row_tokens
        self.rows = np.zeros(0, dtype=np.int32)
        self.losses = RowLosses.zeros(0)
        self.tokens = 0

    def new(self, samples: Sequence[RowArray]) -> RowArray:
        return np.setdiff1d(np.concatenate(samples), self.rows).astype(np.int32)

    def price(self, samples: Sequence[RowArray]) -> int:
        return int(self.row_tokens[self.new(samples)].sum())

    def ask(self, samples: Sequence[RowArray]) -> None:
        new = self.new(samples)
        if not len(new):
            return
        rows = np.sort(np.concatenate([self.rows, new]))
        losses = RowLosses.zeros(len(rows))
        losses.put(np.searchsorted(rows, self.rows), self.losses)
        losses.put(np.searchsorted(rows, new), self.measure(new))
        self.rows, self.losses = rows, losses
        self.tokens += int(self.row_tokens[new].sum())

    def find(self, sample: RowArray) -> IntArray:
        return np.searchsorted(self.rows, sample)


def _influence(values: FloatArray, tokens: FloatArray, pool_size: int) -> FloatArray:
    """Each sampled row's part in the error of the ratio Σvalues/Σtokens, so that the variance is its sum of squares."""
    n = len(values)
    if n < 2:
        return np.zeros(n)
    ratio = values.sum() / tokens.sum()
    correction = np.sqrt(n / (n - 1) * max(0.0, 1.0 - n / pool_size))
    return np.asarray((values - ratio * tokens) / tokens.sum() * correction, dtype=np.float64)


def _estimate(
    pools: Sequence[RowArray], samples: Sequence[RowArray], book: _Book, start: RowLosses | None
) -> RaceResult:
    mean, stderr = np.full(len(pools), np.nan), np.full(len(pools), np.nan)
    start_mean = None if start is None else np.full(len(pools), np.nan)
    for k, (pool, sample) in enumerate(zip(pools, samples, strict=True)):
        if not len(sample):
            continue
        losses = book.losses.take(book.find(sample))
        mean[k] = losses.mean()
        stderr[k] = np.sqrt((_influence(losses.nll_sum, losses.tokens.astype(float), len(pool)) ** 2).sum())
        if start is not None and start_mean is not None:
            start_mean[k] = start.take(sample.astype(np.int64)).mean()
    sizes = np.array([len(sample) for sample in samples])
    return RaceResult(mean, stderr, sizes, start_mean, rounds=0, tokens=0, outcome="budget spent")


def _separated(
    pools: Sequence[RowArray],
    samples: Sequence[RowArray],
    book: _Book,
    selector: Selector,
    shown: View,
    start: RowLosses | None,
) -> bool:
    """The best offer is ahead of every other by `SEPARATION` standard errors of the difference."""
    distances = selector.distances(shown)
    if distances is None or shown.mean_loss is None:
        return False
    # How distance moves with loss: +1 or −1 for the selectors we ship, by a finite difference for any.
    h = 1e-3
    moved = selector.distances(replace(shown, mean_loss=shown.mean_loss + h))
    assert moved is not None, "a selector that has distances has them for all losses"
    measured = np.isfinite(distances)
    slopes = np.where(measured, (moved - np.where(measured, distances, 0.0)) / h, 0.0)
    weights = np.zeros((len(pools), len(book.rows)))
    for k, (pool, sample) in enumerate(zip(pools, samples, strict=True)):
        idx = book.find(sample)
        losses = book.losses.take(idx)
        values = losses.nll_sum if start is None else losses.nll_sum - start.nll_sum[sample]
        weights[k, idx] = slopes[k] * _influence(values, losses.tokens.astype(float), len(pool))
    best = int(np.argmin(distances))
    errors = np.sqrt(((weights - weights[best]) ** 2).sum(axis=1))
    others = measured & (np.arange(len(pools)) != best)
    return bool((distances - distances[best] > SEPARATION * errors)[others].all())
