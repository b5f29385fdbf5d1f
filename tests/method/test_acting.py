"""Rows left out in the middle of a run: when, which, and that the plan holds without them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.acting import Acting, drawn_instead, unseen
from campus_tune.method.policy import Policy
from campus_tune.method.suspicion import Suspicion
from campus_tune.words.types import BoolArray, RowArray
from tests.method.policies import Life, anything, lived

seeds = st.integers(0, 10**6)


def suspicion_of(scores: Any, suspects: Any = ()) -> Suspicion:
    mask = np.zeros(len(scores), dtype=np.bool_)
    mask[list(suspects)] = True
    return Suspicion(np.asarray(scores, dtype=np.float64), np.zeros(len(scores)), mask, None)


def to_a_boundary(life: Life, at: int) -> None:
    """Train until a stage is over, at step `at` or later."""
    while not life.curriculum.finished and (life.curriculum.step < at or not life.curriculum.needs_decision):
        life.step()


def some_rows(life: Life, seed: int) -> RowArray:
    """Rows that may go, as a run chooses them: by made-up scores, within the bounds."""
    scores = np.random.default_rng(seed).random(life.curriculum.n_rows)
    return Acting(0.4, act="always").choose(suspicion_of(scores), life.curriculum).rows


def mask_of(life: Life, rows: RowArray) -> BoolArray:
    mask = np.zeros(life.curriculum.n_rows, dtype=np.bool_)
    mask[rows] = True
    return mask


def trained(life: Life, first: int = 0) -> list[int]:
    return [row for stage in life.stages[first:] for row in stage.rows.tolist()]


# -- when, and which ---------------------------------------------------------------------------------------------------


def test_it_is_time_once_it_is_late_enough_and_every_row_was_seen() -> None:
    life, acting = lived(Policy(16), n_orders=0, steps=8, stages=4), Acting(since=0.75)
    found = []
    while not life.curriculum.finished:
        if life.curriculum.needs_decision:
            found.append((life.curriculum.step, acting.due(life.curriculum), Acting(since=0.0).due(life.curriculum)))
        life.step()
    assert found == [(step, step >= 6, step >= 4) for step in range(8)]
    assert not acting.due(life.curriculum)  # nothing is left to train


def test_rows_that_were_dropped_before_are_not_waited_for() -> None:
    dropped = np.arange(16) < 4
    life = lived(Policy(16, dropped=dropped), n_orders=0, steps=8, stages=4)
    for _ in range(3):
        life.step()
    assert not unseen(life.curriculum).any()
    assert Acting(since=0.1).due(life.curriculum)


def test_rows_of_a_stage_that_is_not_over_are_no_rows_that_were_seen() -> None:
    life = lived(Policy(16), n_orders=0, steps=8, stages=1)
    life.step()
    assert unseen(life.curriculum).sum() == 0  # planned, and asked at its end alone
    life.curriculum.end_epoch()
    assert unseen(life.curriculum).sum() == 12


def test_suspects_go_or_the_worst_or_nobody() -> None:
    found = suspicion_of([1.0, 5.0, np.nan, 3.0, 4.0], suspects=[3, 1])
    assert Acting(0.5).named(found).tolist() == [1, 3]
    assert Acting(0.5, act="never").named(found).tolist() == [1, 3]
    assert Acting(0.7, act="always").named(found).tolist() == [1, 4, 3]


def test_half_of_each_domain_stays_and_at_most_a_share_of_all_rows_goes() -> None:
    domains = np.array([0] * 4 + [1] * 12)
    life = lived(Policy(16, domains=domains, domain_names=("code", "math")), n_orders=0)
    every = suspicion_of(np.arange(16)[::-1], suspects=range(16))
    found = Acting(0.25).choose(every, life.curriculum)
    assert (found.rows.tolist(), found.by_domain, found.by_share) == ([0, 1, 4, 5], {0: 2, 1: 6}, 4)


def test_as_many_rows_stay_as_fill_a_step() -> None:
    life = lived(Policy(6), n_orders=0, batch=4, steps=4)
    found = Acting(0.5, act="always").choose(suspicion_of(np.arange(6)), life.curriculum)
    assert (found.rows.tolist(), found.by_share) == ([5, 4], 1)


def test_the_control_draws_as_many_of_each_cell_and_none_that_is_gone() -> None:
    cells, gone = np.arange(40) % 4, np.arange(40) < 8
    life = lived(Policy(40, dropped=gone), n_orders=0)
    rows = np.array([8, 12, 16, 9])
    drawn = drawn_instead(rows, life.curriculum, cells, seed=3)
    assert np.bincount(cells[drawn], minlength=4).tolist() == [3, 1, 0, 0]
    assert not gone[drawn].any()
    assert drawn.tolist() != sorted(rows.tolist())


# -- the plan without them ---------------------------------------------------------------------------------------------


@given(seeds, st.floats(0, 1))
def test_a_row_that_was_left_out_never_comes_again_and_every_step_is_full(seed: int, part: float) -> None:
    life = anything(seed)
    to_a_boundary(life, round(part * life.curriculum.total_steps))
    rows, before = some_rows(life, seed), len(life.stages)
    life.apart.leave_out(mask_of(life, rows))
    life.run()
    assert not set(rows.tolist()) & set(trained(life, before))
    assert all(len(stage.rows) % life.curriculum.global_batch == 0 for stage in life.stages)
    assert np.array_equal(np.bincount(trained(life), minlength=life.curriculum.n_rows), life.curriculum.passes.seen)


@given(seeds, st.floats(0, 1))
def test_it_goes_on_from_a_state_as_if_it_had_not_stopped(seed: int, part: float) -> None:
    life, again = anything(seed), anything(seed)
    to_a_boundary(life, round(part * life.curriculum.total_steps))
    rows, step = some_rows(life, seed), life.curriculum.step
    life.apart.leave_out(mask_of(life, rows))
    for _ in range(min(3, life.curriculum.last_step - step)):
        life.step()
    state, opened = life.curriculum.state(), len(life.stages)
    for stage, shown in life.shown:
        again.fold(stage, shown)
    again.curriculum.apart.move(step)  # type: ignore[union-attr] # as a run that goes on does
    again.apart.leave_out(mask_of(again, rows))
    again.curriculum.load(state)
    assert again.curriculum.state() == state
    life.run()
    again.run()
    assert [s.rows.tolist() for s in again.stages] == [s.rows.tolist() for s in life.stages[opened:]]
    assert again.apart.passes.by_domain() == life.apart.passes.by_domain()


@given(seeds, st.floats(0, 1), st.sampled_from(["prefix", "slice"]), st.booleans())
def test_every_row_that_stays_is_offered_once_a_pass(seed: int, part: float, window: str, fixed: bool) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 80))
    domains = rng.permutation(np.arange(n) % 2)
    policy = Policy(n, domains=domains, domain_names=("code", "math"))
    if fixed:
        policy = replace(policy, strata=domains, strata_names=("code", "math"), shares=np.array([0.3, 0.7]))
    life = lived(policy, batch=4, steps=n, window=window, mix=0.25, seed=seed % 7)
    to_a_boundary(life, round(part * n))
    rows = some_rows(life, seed)
    life.apart.leave_out(mask_of(life, rows))
    stays = ~mask_of(life, rows)
    strata = domains if fixed else np.zeros(n, dtype=np.int64)
    while not life.curriculum.finished:
        life.step()
        if life.curriculum.needs_decision:
            for stratum in np.unique(strata):
                visits = life.curriculum.passes.seen[stays & (strata == stratum)]
                assert visits.max() - visits.min() <= 1


def test_a_pass_that_waited_for_nothing_but_them_is_over() -> None:
    life = lived(Policy(16), n_orders=0, steps=16, stages=4)
    for _ in range(3):
        life.step()
    waiting = life.curriculum.untrained.copy()
    assert waiting.sum() == 4
    life.apart.leave_out(waiting)
    assert life.curriculum.untrained.sum() == 12
    assert life.apart.passes.by_domain() == {"all rows": 0.75}
    for _ in range(3):
        life.step()
    assert np.flatnonzero(life.curriculum.passes.seen == 2).tolist() == np.flatnonzero(~waiting).tolist()
    assert life.apart.passes.by_domain() == {"all rows": 1.75}


def test_shares_that_a_recipe_writes_stay_and_natural_ones_are_those_of_the_rows_that_are_left() -> None:
    domains = np.array([0] * 20 + [1] * 20)
    base = Policy(40, domains=domains, domain_names=("a", "b"), strata=domains, strata_names=("a", "b"))
    gone = np.arange(40) < 10
    assert base.leaving_out(gone).natural.tolist() == pytest.approx([1 / 3, 2 / 3])
    written = replace(base, shares=np.array([0.5, 0.5])).leaving_out(gone)
    shares = written.shares_at(0.5)
    assert shares is not None
    assert shares.tolist() == [0.5, 0.5]
    assert written.leaving_out(np.arange(40) >= 38).dropped.sum() == 12  # type: ignore[union-attr] # it has some


def test_a_state_of_a_run_that_left_nothing_out_is_as_it_was() -> None:
    life = lived(Policy(16), n_orders=0)
    life.step()
    assert "before" not in life.apart.state()
