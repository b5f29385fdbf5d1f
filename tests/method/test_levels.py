"""Levels: what is kept of past visits, beside a slow reference that keeps all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.book import Book, CellLevels
from campus_tune.method.levels import ENOUGH, Groups, Levels, Running, Visits
from campus_tune.words.types import FloatArray, IntArray, RowLosses

N_ROWS = 60
seeds = st.integers(0, 10**6)


def groups_of(rng: np.random.Generator, n: int = 3) -> Groups:
    """Of very different sizes."""
    codes = rng.choice(n, N_ROWS, p=rng.dirichlet(np.ones(n)))
    return Groups(codes, tuple("abc"[:n]))


def visits_of(rng: np.random.Generator, n: int) -> Visits:
    return Visits(rng.permutation(N_ROWS)[:n], rng.gamma(2, 1, n), rng.integers(1, 50, n), rng.random(n))


def stages_of(seed: int) -> tuple[Groups, list[Visits]]:
    rng = np.random.default_rng(seed)
    groups = groups_of(rng, int(rng.integers(1, 4)))
    return groups, [visits_of(rng, int(rng.integers(0, N_ROWS))) for _ in range(int(rng.integers(1, 6)))]


def as_tuples(visits: Visits) -> list[tuple[Any, ...]]:
    return list(zip(*(values.tolist() for values in vars(visits).values()), strict=True))


def through_json(state: Any) -> Any:
    return json.loads(json.dumps(state))


# -- last visits -------------------------------------------------------------------------------------------------------


def then_slowly(past: Sequence[Visits], groups: Groups) -> list[tuple[Any, ...]]:
    """The last stage's visits, and before them, of a group with fewer than twenty, those that came last before."""
    *before, last = [as_tuples(visits) for visits in past]
    kept = {code: sum(groups.of(np.array([v[0]]))[0] == code for v in last) for code in range(len(groups.names))}
    older: list[tuple[Any, ...]] = []
    for visit in reversed([visit for stage in before for visit in stage]):
        code = int(groups.of(np.array([visit[0]]))[0])
        if kept[code] < ENOUGH:
            kept[code] += 1
            older.insert(0, visit)
    return older + last


@given(seeds)
def test_the_last_visits_are_those_of_the_stage_and_enough_of_each_group(seed: int) -> None:
    groups, stages = stages_of(seed)
    kept = Visits.none()
    for n, stage in enumerate(stages, 1):
        kept = kept.then(stage, groups)
        assert as_tuples(kept) == then_slowly(stages[:n], groups)
        there = np.bincount(groups.of(kept.rows), minlength=len(groups.names))
        ever = np.bincount(groups.of(np.concatenate([one.rows for one in stages[:n]])), minlength=len(groups.names))
        assert (there >= np.minimum(ever, ENOUGH)).all()


def test_visits_do_not_pile_up() -> None:
    rng = np.random.default_rng(0)
    groups, kept = Groups(np.arange(N_ROWS) % 3, tuple("abc")), Visits.none()
    for _ in range(50):
        kept = kept.then(visits_of(rng, 30), groups)
        assert len(kept) <= 30 + 3 * ENOUGH


@given(seeds)
def test_visits_come_back_from_json_as_they_were(seed: int) -> None:
    _, stages = stages_of(seed)
    for visits in (*stages, Visits.none()):
        again = Visits.of(through_json(visits.state()))
        assert all(vars(again)[name].dtype == values.dtype for name, values in vars(visits).items())
        assert as_tuples(again) == as_tuples(visits)


@pytest.mark.parametrize("name", ["losses", "rows", "tokens", "parts"])
def test_a_state_that_was_changed_by_hand_is_refused(name: str) -> None:
    state = visits_of(np.random.default_rng(0), 9).state()
    with pytest.raises(ValueError, match="a packed array must be of kind"):
        Visits.of({**state, name: Visits.none().state()["tokens" if name in ("losses", "parts") else "losses"]})


# -- the running level -------------------------------------------------------------------------------------------------


@given(seeds)
def test_the_running_level_is_the_books(seed: int) -> None:
    groups, stages = stages_of(seed)
    book = Book(N_ROWS, cells=groups.of(np.arange(N_ROWS)).astype(np.int32))
    running, cells = Running(groups), CellLevels(len(groups.names))
    for index, visits in enumerate(stages):
        zeros = np.zeros(len(visits))
        shown = RowLosses(visits.losses * visits.tokens, visits.tokens, zeros.astype(np.int64), zeros, zeros)
        book.update(index, visits.rows, shown, 1 + np.arange(len(visits)))
        running.take(visits)
        cells.take(groups.of(visits.rows), visits.losses)
        for name in ("mean", "spread", "slow"):
            np.testing.assert_array_equal(getattr(running.cells, name), getattr(cells, name))
            n = len(getattr(book.levels, name))  # the book has no cells beyond the last that has rows
            np.testing.assert_allclose(getattr(running.cells, name)[:n], getattr(book.levels, name))
    every = np.concatenate([visits.rows for visits in stages])
    assert running.visits.tolist() == np.bincount(groups.of(every), minlength=len(groups.names)).tolist()


@given(seeds)
def test_a_running_level_goes_on_from_json_to_the_last_bit(seed: int) -> None:
    groups, stages = stages_of(seed)
    one, other = Running(groups), Running(groups)
    for visits in stages:
        one.take(visits)
        other.load(through_json(other.state()))
        other.take(visits)
    assert one.state() == other.state()


def test_a_running_level_of_other_groups_is_not_taken_over() -> None:
    running = Running(Groups(np.arange(N_ROWS) % 2, ("a", "b")))
    running.take(visits_of(np.random.default_rng(0), 50))
    other = Running(Groups(np.arange(N_ROWS) % 3, ("a", "b", "c")))
    other.load(through_json(running.state()))
    assert other.state() == Running(other.groups).state()


def test_a_running_level_that_was_changed_by_hand_is_refused() -> None:
    running = Running(Groups())
    state = {**running.state(), "mean": Running(Groups(np.zeros(3, dtype=np.int64), tuple("abc"))).state()["mean"]}
    with pytest.raises(ValueError, match="must be of kind f and length 1, got float64 and 3"):
        running.load(state)


# -- what is read of them ----------------------------------------------------------------------------------------------


def levels_slowly(visits: Visits, groups: Groups, number: Any) -> list[float]:
    overall = number(visits.losses) if len(visits) >= ENOUGH else math.nan
    found = []
    for code in range(len(groups.names)):
        own = visits.losses[groups.of(visits.rows) == code]
        found.append(number(own) if len(own) >= ENOUGH else overall)
    return found


@given(seeds, st.floats(0, 1))
def test_each_group_has_its_own_level_or_that_of_all(seed: int, share: float) -> None:
    groups, stages = stages_of(seed)
    levels = Levels(stages[-1], groups)
    assert levels.mean().tolist() == pytest.approx(levels_slowly(stages[-1], groups, np.mean), nan_ok=True)
    slow = levels_slowly(stages[-1], groups, lambda losses: np.quantile(losses, share))
    assert levels.quantile(share).tolist() == pytest.approx(slow, nan_ok=True)


def visited(n: int, loss: float, group: int, codes: IntArray) -> Visits:
    """A group's first row, n times."""
    ones = np.ones(n)
    row = int(np.flatnonzero(codes == group)[0])
    return Visits(np.full(n, row), loss * ones, ones.astype(np.int64), ones)


@pytest.mark.parametrize(("n", "known"), [(19, False), (20, True)])
def test_a_level_is_known_from_twenty_visits_on(n: int, known: bool) -> None:
    codes = np.arange(N_ROWS) % 2
    groups = Groups(codes, ("a", "b"))
    running = Running(groups)
    visits = visited(n, 2.0, 1, codes)
    running.take(visits)
    levels = Levels(visits, groups, running)
    expected: FloatArray = np.array([np.nan, 2.0 if known else np.nan])
    mean, spread = levels.running()
    np.testing.assert_array_equal(mean, expected)
    assert np.isnan(spread).tolist() == [True, not known]
    overall = 2.0 if known else np.nan
    np.testing.assert_array_equal(levels.mean(), [overall, overall])
    np.testing.assert_array_equal(levels.quantile(0.5), [overall, overall])


def test_a_spread_is_never_so_small_that_all_stands_out() -> None:
    groups, codes = Groups(), np.zeros(N_ROWS, dtype=np.int64)
    running = Running(groups)
    running.take(visited(400, 1.0, 0, codes))
    assert running.cells.spread[0] < 0.02
    assert Levels(Visits.none(), groups, running).running()[1].tolist() == [0.02]


def test_groups_without_codes_are_one() -> None:
    assert Groups().of(np.array([3, 0, 5])).tolist() == [0, 0, 0]
    assert Groups(np.array([2, 0, 1], dtype=np.int32), tuple("abc")).of(np.array([2, 0])).tolist() == [1, 2]
