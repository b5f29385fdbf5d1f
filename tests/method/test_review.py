"""Review: intervals by hand, what is due by a slow reference, draws by counting."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from campus_tune.method.review import Review, ReviewBy, lane_quotas, next_interval, pick, pick_enlarged

NAN = math.nan


@dataclass
class Remembered:
    last: NDArray[Any]
    stage: NDArray[Any]
    interval: NDArray[Any]


def book(last: list[float], stage: list[int], interval: list[int]) -> Remembered:
    return Remembered(
        np.array(last, dtype=np.float32), np.array(stage, dtype=np.int32), np.array(interval, dtype=np.uint8)
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def step(interval: int, loss: float, best: float, spacing: int = 2) -> int:
    return int(next_interval(np.array([interval], dtype=np.uint8), np.array([loss]), np.array([best]), spacing)[0])


# -- intervals ---------------------------------------------------------------------------------------------------------


def test_worked_spacing() -> None:
    """Trained at stage 3, known at each visit: due at 5, 9, 17."""
    shown = book([1.0], [3], [step(0, 1.0, NAN)])
    due = []
    for stage in range(4, 40):
        if pick(Review(0.1), shown, stage, 1, rng()).tolist() == [0]:
            due.append(stage)
            shown = book([1.0], [stage], [step(int(shown.interval[0]), 1.0, 1.0)])
    assert due == [5, 9, 17, 33]


@pytest.mark.parametrize(
    ("interval", "loss", "best", "after"),
    [
        (0, 3.0, NAN, 2),  # the first visit
        (2, 1.0, 1.0, 4),
        (2, 1.0999, 1.0, 4),  # near its best
        (8, 1.2, 1.0, 2),  # forgotten
        (8, 0.5, 1.0, 16),
        (128, 1.0, 1.0, 255),  # a byte holds no more
        (255, 1.0, 1.0, 255),
        (4, NAN, 1.0, 2),
        (2, 0.0, 0.0, 4),
    ],
)
def test_worked_intervals(interval: int, loss: float, best: float, after: int) -> None:
    assert step(interval, loss, best) == after


def test_the_first_interval_is_the_setting() -> None:
    assert step(0, 1.0, NAN, spacing=5) == step(20, 9.0, 1.0, spacing=5) == 5
    assert next_interval(np.array([0, 4]), np.array([1.0, 1.0]), np.array([NAN, 1.0]), 3).tolist() == [3, 8]


# -- what comes back ---------------------------------------------------------------------------------------------------


def test_rows_that_are_most_overdue_come_first() -> None:
    shown = book([1.0] * 4, [0, 0, 6, 9], [8, 2, 2, 2])  # at stage 10: waited 10/8, 10/2, 4/2, not due
    review = Review(0.1, "spacing")
    assert pick(review, shown, 10, 1, rng()).tolist() == [1]
    assert pick(review, shown, 10, 2, rng()).tolist() == [1, 2]
    assert pick(review, shown, 10, 9, rng()).tolist() == [0, 1, 2]  # fewer than asked for


def test_worked_forgetting() -> None:
    """At stage 6: 1·(1 + 6/2) = 4, 3·(1 + 3/2) = 7.5, 5·(1 + 4/4) = 10, and one that is not due."""
    shown = book([1.0, 3.0, 5.0, 9.0], [0, 3, 2, 5], [2, 2, 4, 2])
    assert pick(Review(0.1, "forgetting"), shown, 6, 1, rng()).tolist() == [2]
    assert pick(Review(0.1, "forgetting"), shown, 6, 2, rng()).tolist() == [1, 2]
    assert pick(Review(0.1, "forgetting"), shown, 6, 5, rng()).tolist() == [0, 1, 2]


@pytest.mark.parametrize("by", ["spacing", "forgetting", "uniform"])
def test_only_rows_of_earlier_stages_come_back_and_only_free_ones(by: ReviewBy) -> None:
    shown = book([1.0, NAN, 1.0, 1.0], [0, -1, 4, 0], [2, 0, 2, 2])
    assert pick(Review(0.1, by), shown, 4, 9, rng()).tolist() == [0, 3]
    assert pick(Review(0.1, by), shown, 4, 9, rng(), np.array([True, True, True, False])).tolist() == [0]
    assert pick(Review(0.1, by), shown, 0, 9, rng()).tolist() == []  # the first stage: nothing was trained
    assert pick(Review(0.1, by), shown, 4, 0, rng()).tolist() == []
    assert pick(Review(0.1, by), shown, 4, 9, rng()).dtype == np.int32


def test_uniform_asks_for_no_interval() -> None:
    assert pick(Review(0.1, "uniform"), book([1.0, 9.0], [3, 3], [200, 200]), 4, 9, rng()).tolist() == [0, 1]


@pytest.mark.parametrize("by", ["spacing", "forgetting", "uniform"])
def test_between_equal_rows_chance_decides(by: ReviewBy) -> None:
    shown = book([1.0] * 10, [0] * 10, [2] * 10)
    counts = np.zeros(10)
    for seed in range(600):
        counts[pick(Review(0.1, by), shown, 5, 3, rng(seed))] += 1
    assert ((counts - 180) ** 2 / (180 * 0.7)).sum() < 27.9  # chi-square, 9 degrees of freedom, p = 0.001
    again = [pick(Review(0.1, by), shown, 5, 3, rng(7)).tolist() for _ in range(2)]
    assert again[0] == again[1]


shown_drawn = st.lists(
    st.tuples(st.one_of(st.just(NAN), st.integers(1, 4).map(float)), st.integers(0, 12), st.sampled_from([2, 4, 8])),
    min_size=1,
    max_size=25,
)


@given(shown_drawn, st.integers(0, 13), st.integers(0, 10), st.sampled_from(["spacing", "forgetting"]))
def test_what_comes_back_is_what_the_slow_one_ranks_highest(
    rows: list[tuple[float, int, int]], stage: int, n: int, by: ReviewBy
) -> None:
    shown = book([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])
    ranked: dict[int, float] = {}
    for row, (last, seen, interval) in enumerate(rows):
        age = stage - seen
        if not math.isnan(last) and age > 0 and age >= interval:
            ranked[row] = age / interval if by == "spacing" else last * (1 + age / interval)
    got = pick(Review(0.1, by), shown, stage, n, rng()).tolist()
    assert len(set(got)) == len(got) == min(n, len(ranked))
    assert set(got) <= set(ranked)
    best = sorted(ranked.values(), reverse=True)[: len(got)]
    assert sorted((ranked[row] for row in got), reverse=True) == pytest.approx(best)


# -- the setting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "n", "rows"), [(0.1, 64, 6), (0.1, 9, 0), (0.1, 30, 3), (0.29, 100, 29), (0, 99, 0)])
def test_a_stage_gives_whole_rows_of_its_share(share: float, n: int, rows: int) -> None:
    assert Review(share).rows_of(n) == rows


def test_rows_come_back_from_since_to_until() -> None:
    review = Review(0.1, since=0.2, until=0.8)
    assert [review.holds(u) for u in (0, 0.2, 0.5, 0.8, 1)] == [False, True, True, False, False]


@given(
    st.lists(st.tuples(st.integers(0, 500), st.sampled_from([1.0, 2.0, 4.0])), min_size=1, max_size=6),
    st.integers(0, 200),
    st.integers(0, 200),
)
def test_a_lane_that_a_regression_enlarges_never_shrinks(
    domains: list[tuple[int, float]], rows: int, most: int
) -> None:
    trained, factor = np.array([n for n, _ in domains]), np.array([times for _, times in domains])
    quotas = lane_quotas(trained, factor, rows, most=most)
    assert min(rows, int(trained.sum())) <= sum(quotas) <= max(rows, most)
    assert all(quota <= n for quota, n in zip(quotas, trained, strict=True))
    if trained.sum() and rows <= trained.sum() and (factor == 1).all():
        assert sum(quotas) == rows


@given(st.integers(0, 2**32 - 1), st.sampled_from(["spacing", "forgetting", "uniform"]), st.integers(0, 40))
def test_an_enlarged_lane_holds_at_least_what_the_usual_one_does(seed: int, by: ReviewBy, n: int) -> None:
    """Whatever is due of which domain: rows of the others make up for it; no row twice, none that is not free."""
    made = rng(seed)
    size = 120
    last = np.where(made.random(size) < 0.3, NAN, made.gamma(2.0, 1.0, size))
    shown = book(last.tolist(), made.integers(0, 9, size).tolist(), made.integers(1, 9, size).tolist())
    domains, free, factor = made.integers(0, 3, size), made.random(size) < 0.8, np.array([2.0, 1.0, 1.0])
    usual = pick(Review(0.1, by), shown, 10, n, rng(1), free)
    rows = pick_enlarged(Review(0.1, by), shown, 10, n, 60, rng(1), free, domains=domains, factor=factor)
    assert len(usual) <= len(rows) <= max(n, 60)
    assert len(set(rows.tolist())) == len(rows)
    assert (free & ~np.isnan(last))[rows].all()


def test_a_domain_that_regressed_gets_twice_its_rows_and_no_other_one_fewer() -> None:
    shown, domains = book([1.0] * 100, [0] * 100, [1] * 100), np.repeat([0, 1], [60, 40])
    free, factor = np.ones(100, dtype=np.bool_), np.array([2.0, 1.0])
    rows = pick_enlarged(Review(0.1), shown, 5, 10, 50, rng(), free, domains=domains, factor=factor)
    assert np.bincount(domains[rows]).tolist() == [12, 4]


def test_rows_of_others_come_where_nothing_of_a_domain_is_due() -> None:
    """A lane of ten, half of it of a domain whose rows were trained just now."""
    shown, domains = book([1.0] * 100, [4] * 50 + [0] * 50, [9] * 50 + [1] * 50), np.repeat([0, 1], 50)
    free = np.ones(100, dtype=np.bool_)
    rows = pick_enlarged(Review(0.1), shown, 5, 10, 50, rng(), free, domains=domains, factor=np.array([1.0, 1.5]))
    assert np.bincount(domains[rows], minlength=2).tolist() == [0, 10]
