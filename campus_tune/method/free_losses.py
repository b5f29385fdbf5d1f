"""What the rows just trained say of the offers, where nothing pays for measuring these.

Training shows the loss of every row that it trains, for nothing. They are other rows than those that are offered, so
each offer is judged by rows like its own: along the offered slice, easy → hard, n places are marked as the race marks
them, in the middle of n equal parts, and for each the row is taken that was trained nearest to it *in that order*. n is
as many rows as the stage before has trained, at most as many as are offered. The mean over their answer tokens stands
for the offer's. It tells less than a measurement:

- only the stage before counts, for older losses are of another model; a row was seen before the steps behind it;
- an offer that the stage before has trained nothing like (fewer than four different rows stand for it) has no such
  loss, and where one has none, none is believed: they take turns;
- with dropout, a training forward is not the model's best.

A selector that compares with the probes, where nobody pays for those either, compares with the mean of all these rows
(`level`): each was seen before the step that learns from it, and a part of them was drawn from all rows.

`mix`, which draws a part of each stage from all rows, is what makes rows of every order be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from campus_tune.method.orders import rank_of_rows
from campus_tune.method.selectors.race import FIRST_ROUND, RaceResult
from campus_tune.method.view import View
from campus_tune.words.types import BoolArray, IntArray, RowArray, RowLosses

FEWEST_ALIKE = FIRST_ROUND // 2  # different rows that stand for an offer, as the smallest first round has


@dataclass(frozen=True, eq=False)
class FreeLosses:
    """The losses that training has shown of the stage before.

    Args:
        rows: of it, shape (n,).
        losses: of them, in its forwards.
        start: losses of all rows before training, shape (N,), where the selector needs them.
        known: rows whose start loss was measured, shape (N,); only these count then.
    """

    rows: IntArray
    losses: RowLosses
    start: RowLosses | None = None
    known: BoolArray | None = None

    @property
    def level(self) -> float | None:
        """Mean loss of all of them, nats; None of none."""
        return self.losses.mean() if self.losses.tokens.any() else None

    def of(self, view: View, orders: Mapping[str, RowArray]) -> RaceResult | None:
        """What they say of the offers; None where of one of them they say nothing.

        Args:
            view: that the offers are of.
            orders: sub-curriculum → its order, easy → hard.
        """
        told = self.losses.tokens > 0
        if self.known is not None:
            told &= self.known[self.rows]
        rows, losses = self.rows[told], self.losses.take(told)
        alike = [_alike(rows, offer.pool, orders[offer.name]) for offer in view.offers]
        sizes = np.array([len(np.unique(places)) for places in alike])
        if len(sizes) == 0 or sizes.min() < FEWEST_ALIKE:
            return None
        start = self.start
        return RaceResult(
            mean_loss=np.array([losses.take(places).mean() for places in alike]),
            stderr=np.full(len(alike), np.nan),
            n_rows=sizes,
            start_loss=None if start is None else np.array([start.take(rows[places]).mean() for places in alike]),
            rounds=0,
            tokens=0,
            outcome="losses of training",
        )


def _alike(trained: IntArray, pool: RowArray, order: RowArray) -> IntArray:
    """For each of some places along a pool, which trained row is nearest to it in the order, the easier of two.

    >>> order = np.arange(10, dtype=np.int32)
    >>> _alike(np.array([7, 0, 4]), order[2:8], order).tolist()
    [2, 2, 0]
    """
    n = min(len(trained), len(pool))
    if not n:
        return np.zeros(0, dtype=np.int64)
    place = rank_of_rows(order)
    marked = place[pool[(2 * np.arange(n) + 1) * len(pool) // (2 * n)]].astype(np.int64)
    by_place = np.argsort(place[trained], kind="stable")
    places = place[trained[by_place]].astype(np.int64)
    above = np.searchsorted(places, marked).clip(max=len(places) - 1)
    below = np.maximum(above - 1, 0)
    nearer = np.where(marked - places[below] <= np.abs(places[above] - marked), below, above)
    found: IntArray = by_place[nearer]
    return found
