"""Putting new scores into an order that is in use: only rows that wait may move, and nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.curriculum import Curriculum, Schedule
from campus_tune.method.orders import order_rows
from campus_tune.method.pacing import linear
from tests.strategies import Plan, examples, plans


def curriculum(n: int = 24, **settings_: Any) -> Curriculum:
    """Two orders of `n` rows, forwards and backwards, two rows a step."""
    schedule = Schedule(linear(start=0.25), **{"stages": 4, "window": "prefix", "handover": 1.0, **settings_})
    orders = {"up": np.arange(n, dtype=np.int32), "down": np.arange(n, dtype=np.int32)[::-1].copy()}
    return Curriculum(schedule, orders, n_rows=n, global_batch=2, total_steps=n // 2)


def train_stage(plan: Curriculum, name: str) -> set[int]:
    """Open and finish one stage; the rows it trained."""
    stage = plan.open(plan.offer(name))
    for _ in range(stage.n_steps):
        plan.advance()
    return set(stage.rows.tolist())


def test_rows_that_wait_are_dealt_anew_over_the_places_of_rows_that_wait() -> None:
    plan = curriculum(8, stages=2)
    trained = train_stage(plan, "up")
    before = plan.orders["up"].copy()
    ranking = np.array([7, 6, 5, 4, 3, 2, 1, 0], dtype=np.int32)
    old, new = plan.resort("up", ranking)
    after = plan.orders["up"]
    assert all(after[place] == row for place, row in enumerate(before.tolist()) if row in trained)
    waiting = [row for row in ranking.tolist() if row not in trained]
    assert [row for row in after.tolist() if row not in trained] == waiting == new.tolist()
    assert old.tolist() == [row for row in before.tolist() if row not in trained]


def test_another_order_is_left_alone() -> None:
    plan = curriculum()
    down = plan.orders["down"].copy()
    plan.resort("up", down)
    assert (plan.orders["down"] == down).all()


def test_the_callers_array_is_not_written_to() -> None:
    n = 6
    mine = np.arange(n, dtype=np.int32)
    plan = Curriculum(Schedule(linear(), 2), {"up": mine}, n_rows=n, global_batch=2, total_steps=3)
    plan.resort("up", mine[::-1].copy())
    assert mine.tolist() == list(range(n))


@examples(60)
@given(plan=plans(), seed=st.integers(0, 5))
def test_a_resorted_curriculum_keeps_every_promise(plan: Plan, seed: int) -> None:
    """Orders stay permutations, an epoch trains every row once under exact coverage, offers have the same sizes."""
    made, rng = plan.make(), np.random.default_rng(seed)
    in_epoch: list[int] = []
    while not made.finished:
        names = made.names()
        offer = made.offer(names[int(rng.integers(len(names)))]) if names else None
        if offer is not None:
            made.resort(offer.name, order_rows(rng.normal(size=made.n_rows), seed=seed))
            assert sorted(made.orders[offer.name].tolist()) == list(range(made.n_rows))
            resized = made.offer(offer.name)
            assert (resized.n_rows, resized.scope) == (offer.n_rows, offer.scope)
            offer = resized
        for _ in range(made.open(offer).n_steps):
            in_epoch += made.step_rows().tolist()
            epoch = made.epoch
            made.advance()
            if made.epoch > epoch:
                if made.schedule.coverage == "exact":
                    assert len(set(in_epoch)) == len(in_epoch)
                in_epoch = []


def test_a_revisited_slice_moves_only_the_rows_behind_its_pointer() -> None:
    plan = curriculum(window="slice", coverage="revisit")
    used = train_stage(plan, "up")
    plan.resort("up", np.arange(24, dtype=np.int32)[::-1].copy())
    assert set(plan.orders["up"][: len(used)].tolist()) == used
    assert plan.orders["up"][len(used) :].tolist() == sorted(set(range(24)) - used, reverse=True)


def test_a_revisited_prefix_moves_all_rows() -> None:
    plan = curriculum(coverage="revisit")
    train_stage(plan, "up")
    plan.resort("up", np.arange(24, dtype=np.int32)[::-1].copy())
    assert plan.orders["up"].tolist() == list(range(23, -1, -1))


# -- the frontier -----------------------------------------------------------------------------------------------------


def test_the_frontier_is_what_some_order_could_open_before_the_next_time() -> None:
    plan = curriculum()  # scope 0.25 at the start, 1 at the end of 12 steps, 3 steps a stage
    frontier = np.flatnonzero(plan.frontier(1))
    reach = round((0.25 + 0.75 * 3 / 12) * 24)
    assert frontier.tolist() == sorted({*range(reach), *range(24 - reach, 24)})
    assert plan.frontier(4).all()


def test_trained_rows_are_no_frontier() -> None:
    plan = curriculum()
    trained = train_stage(plan, "up")
    assert not set(np.flatnonzero(plan.frontier(4)).tolist()) & trained
    assert plan.untrained.sum() == 24 - len(trained)


def test_the_frontier_of_slices_is_their_next_ones() -> None:
    plan = curriculum(window="slice")
    bounds = [6, 12, 18, 24]
    assert np.flatnonzero(plan.frontier(1)).tolist() == sorted({*range(bounds[0]), *range(24 - bounds[0], 24)})
    train_stage(plan, "up")
    assert set(range(6, 12)) <= set(np.flatnonzero(plan.frontier(1)).tolist())


@examples(40)
@given(plan=plans(), n_stages=st.integers(1, 3))
def test_what_is_trained_next_was_on_the_frontier_unless_the_scope_had_to_widen(plan: Plan, n_stages: int) -> None:
    made = plan.make()
    if not made.names() or made.schedule.mix:
        return
    frontier = made.frontier(n_stages)
    offer = made.offer(made.names()[0])
    assert offer.widened or frontier[offer.pool].all() or made.schedule.coverage == "revisit"


# -- sub-curricula whose scores say nothing ---------------------------------------------------------------------------


def test_a_barred_order_offers_nothing_until_it_is_let_in_again() -> None:
    plan = curriculum()
    plan.bar("up", barred=True)
    assert [offer.name for offer in plan.offers()] == ["down"]
    assert plan.state()["barred"] == ["up"]
    again = curriculum()
    again.load(plan.state())
    assert again.names() == ["down"]
    again.bar("up", barred=False)
    assert again.names() == ["up", "down"]


def test_with_every_order_barred_rows_are_shuffled() -> None:
    plan = curriculum()
    for name in ("up", "down"):
        plan.bar(name, barred=True)
    assert plan.offers() == []
    assert not plan.handed_over
    assert plan.open().chosen == "shuffle"


def test_a_name_that_is_no_order_cannot_be_barred() -> None:
    plan = curriculum()
    plan.bar("a member of an ensemble", barred=True)
    assert plan.barred == set()


@pytest.mark.parametrize("coverage", ["exact", "revisit"])
def test_barring_the_last_order_of_a_revisited_pass_does_not_hang(coverage: str) -> None:
    plan = curriculum(window="slice", coverage=coverage)
    plan.bar("up", barred=True)
    plan.bar("down", barred=True)
    assert plan.names() == []
