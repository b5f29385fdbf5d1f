"""What the rows just trained say of the offers: rows of like place stand for them, and too few say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.free_losses import FEWEST_ALIKE, FreeLosses, _alike
from campus_tune.method.stages import Offer
from campus_tune.method.view import View
from campus_tune.words.types import IntArray, RowArray, RowLosses
from tests.losses import losses_of
from tests.strategies import examples

N = 40
UP = np.arange(N, dtype=np.int32)


def slowly(trained: IntArray, pool: RowArray, order: RowArray) -> list[int]:
    """The same by its words: the middle of n equal parts of the pool, and who is nearest to it."""
    place = {int(row): at for at, row in enumerate(order)}
    n, found = min(len(trained), len(pool)), []
    for part in range(n):
        at = place[int(pool[int((part + 0.5) * len(pool) / n)])]
        found.append(min(range(len(trained)), key=lambda k: (abs(place[int(trained[k])] - at), place[int(trained[k])])))
    return found


@examples(60)
@given(st.data())
def test_each_place_of_a_pool_has_the_trained_row_that_is_nearest_in_the_order(data: st.DataObject) -> None:
    order = np.array(data.draw(st.permutations(range(N))), dtype=np.int32)
    trained = np.array(data.draw(st.lists(st.integers(0, N - 1), max_size=20, unique=True)), dtype=np.int64)
    first, last = sorted(data.draw(st.lists(st.integers(0, N), min_size=2, max_size=2)))
    pool = order[first:last]
    assert _alike(trained, pool, order).tolist() == slowly(trained, pool, order)


def shown(rows: IntArray, per_row: float | None = None) -> RowLosses:
    """Losses of two tokens a row: its number in nats, or the same of all."""
    values = np.asarray(rows, dtype=np.float64) if per_row is None else np.full(len(rows), per_row)
    tokens = np.full(len(rows), 2)
    return losses_of(values * tokens, tokens, np.zeros(len(rows), dtype=np.int64))


def view(*pools: RowArray) -> View:
    offers = [Offer(name, pool, len(pool), len(pool), (0.0, 1.0), 0) for name, pool in zip("abc", pools, strict=False)]
    return View([offer.name for offer in offers], offers)


ORDERS = {"a": UP, "b": UP[::-1].copy()}


def test_an_offer_has_the_mean_loss_of_rows_like_its_own() -> None:
    trained = np.arange(0, N, 2)
    found = FreeLosses(trained, shown(trained)).of(view(UP[:10], UP[::-1][:10]), ORDERS)
    assert found is not None
    assert found.mean_loss == pytest.approx([4.2, 34.8], abs=0.8)  # rows 0 to 9, and 39 down to 30
    assert found.n_rows.tolist() == [5, 5]
    assert (found.tokens, found.rounds, found.outcome, found.start_loss) == (0, 0, "losses of training", None)
    assert np.isnan(found.stderr).all()


def test_where_one_offer_is_like_nothing_that_was_trained_none_is_believed() -> None:
    near = np.arange(12)  # all of the beginning of "a", which is the end of "b"
    assert FreeLosses(near, shown(near)).of(view(UP[:12], UP[::-1][:12]), ORDERS) is None
    few = np.arange(0, N, 14)[: FEWEST_ALIKE - 1]
    assert FreeLosses(few, shown(few)).of(view(UP), ORDERS) is None
    nothing = np.zeros(0, dtype=np.int64)
    assert FreeLosses(nothing, shown(nothing)).of(view(UP), ORDERS) is None


def test_rows_that_showed_no_loss_do_not_count() -> None:
    trained = np.arange(0, N, 2)
    losses = shown(trained)
    losses.tokens[::2] = 0
    with_them = FreeLosses(trained, losses).of(view(UP), ORDERS)
    without = FreeLosses(trained[1::2], shown(trained[1::2])).of(view(UP), ORDERS)
    assert with_them is not None
    assert without is not None
    assert with_them.mean_loss == pytest.approx(without.mean_loss)
    losses.tokens[:] = 0
    assert FreeLosses(trained, losses).level is None


def test_a_row_is_compared_with_its_own_start_where_a_selector_asks_for_that() -> None:
    trained, known = np.arange(N, dtype=np.int64), np.zeros(N, dtype=np.bool_)
    known[::2] = True
    start = shown(trained, 50.0)
    found = FreeLosses(trained, shown(trained), start, known).of(view(UP, UP[::-1]), ORDERS)
    assert found is not None
    assert found.start_loss is not None
    assert found.start_loss.tolist() == [50.0, 50.0]
    assert found.n_rows.tolist() == [N // 2, N // 2]


def test_the_level_is_the_mean_over_the_tokens_of_all_rows() -> None:
    rows = np.arange(3)
    assert FreeLosses(rows, losses_of(np.array([1.0, 2.0, 9.0]), np.array([1, 1, 2]), rows)).level == 3.0
