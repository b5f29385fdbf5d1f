"""Suspicion: worked by hand, against slow second implementations, and what it must not hang on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method import suspicion
from campus_tune.method.suspicion import Suspicion, local_excess, of_forward, of_training, residuals
from campus_tune.words.types import FloatArray, IntArray
from tests.strategies import examples

NO_CELLS = np.zeros(0, dtype=np.int64)


def slow_local_excess(losses: FloatArray, cells: IntArray) -> list[float]:
    """Visit by visit, in Python."""
    found = []
    for i, cell in enumerate(cells):
        places = [j for j, other in enumerate(cells) if other == cell]
        at = places.index(i)
        start = max(0, min(at - 30, len(places) - 61))
        window = sorted(float(losses[j]) for j in places[start : start + 61])
        n = len(window)
        median = (window[(n - 1) // 2] + window[n // 2]) / 2
        spread = math.fsum(abs(value - median) for value in window) / n
        found.append((float(losses[i]) - median) / max(spread, 0.001))
    return found


def slow_residuals(values: FloatArray, columns: list[FloatArray], groups: IntArray) -> list[float]:
    """By the normal equations, group by group."""
    found = [math.nan] * len(values)
    known = [i for i in range(len(values)) if all(np.isfinite([values[i], *(column[i] for column in columns)]))]
    of_group = {group: [i for i in known if groups[i] == group] for group in set(groups.tolist())}
    for members in of_group.values():
        fitted = members if len(members) > 8 else known
        used = columns if len(fitted) > 8 else []
        design = np.array([[1.0, *(column[i] for column in used)] for i in fitted])
        target = np.array([values[i] for i in fitted])
        beta = np.linalg.pinv(design.T @ design) @ design.T @ target if fitted else None
        left = dict(zip(fitted, target - design @ beta, strict=True)) if fitted else {}
        spread = max(float(np.mean(np.abs([*left.values()]))), 0.001) if left else 1.0
        for i in members:
            found[i] = left[i] / spread
    return found


def slow_training(visits: list[tuple[int, float]], cells: IntArray) -> dict[int, float]:
    """Row → score, from (row, loss) in the sequence of training."""
    seen: dict[int, int] = {}
    of_pass: dict[int, list[tuple[int, float]]] = {}
    for row, loss in visits:
        seen[row] = seen.get(row, 0) + 1
        of_pass.setdefault(seen[row], []).append((row, loss))
    parts: dict[int, list[tuple[int, float]]] = {}
    for number, some in of_pass.items():
        excess = slow_local_excess(np.array([loss for _, loss in some]), cells[[row for row, _ in some]])
        for (row, _), value in zip(some, excess, strict=True):
            parts.setdefault(row, []).append((number, value))
    return {row: sum(j * e for j, e in of) / sum(j for j, _ in of) for row, of in parts.items()}


def run_of(n_rows: int, passes: int, seed: int) -> tuple[IntArray, FloatArray]:
    """Rows in another sequence each pass, with losses that fall."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.permutation(n_rows) for _ in range(passes)])
    return rows, np.exp(rng.normal(size=len(rows)) * 0.5 - np.arange(len(rows)) / len(rows))


@given(st.integers(1, 150), st.integers(1, 4), st.integers(0, 9))
def test_local_excess_is_the_slow_one(n: int, n_cells: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    losses, cells = rng.integers(0, 50, n) / 10, rng.integers(0, n_cells, n)
    np.testing.assert_allclose(local_excess(losses, cells), slow_local_excess(losses, cells), atol=1e-9)


def test_windows_in_parts_are_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = np.random.default_rng(0).random(400)
    whole = local_excess(losses, np.zeros(400, dtype=np.int64))
    monkeypatch.setattr(suspicion, "AT_ONCE", 7)
    assert (local_excess(losses, np.zeros(400, dtype=np.int64)) == whole).all()


def test_the_widest_window_is_at_the_end_of_a_sequence() -> None:
    # the first of 70 visits is compared with the first 61 of them: their median is 31, mean |x − 31| = 30·31/61
    losses = np.arange(1.0, 71.0)
    assert local_excess(losses, np.zeros(70, dtype=np.int64))[0] == pytest.approx(-30 / (30 * 31 / 61))


@given(st.integers(2, 200), st.integers(0, 9), st.floats(0.5, 20), st.floats(-3, 3))
def test_local_excess_hangs_on_neither_names_nor_units_of_cells(n: int, seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    losses, cells = rng.normal(size=n) * 5, rng.integers(0, 3, n)
    names = rng.permutation(7)[:3]
    plain = local_excess(losses, cells)
    moved = np.where(cells == 1, scale * losses + shift, losses)
    alone = np.bincount(cells, minlength=3)[cells] == 1  # 0 / 0.001
    np.testing.assert_allclose(local_excess(moved, names[cells])[~alone], plain[~alone], atol=1e-6)
    assert (plain[alone] == 0).all()


def test_no_visits_have_no_excess() -> None:
    assert local_excess(np.zeros(0), NO_CELLS).shape == (0,)
    assert residuals(np.zeros(0), [np.zeros(0)], NO_CELLS).shape == (0,)


@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 20))
def test_residuals_are_the_slow_ones(n: int, n_groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, columns, groups = rng.normal(size=n), [rng.normal(size=n), rng.normal(size=n)], rng.integers(0, n_groups, n)
    values[rng.random(n) < 0.1] = np.nan
    columns[0][rng.random(n) < 0.1] = np.inf
    found = residuals(values, columns, groups)
    np.testing.assert_allclose(found, slow_residuals(values, columns, groups), atol=1e-6)


def test_residuals_do_not_see_what_the_columns_say() -> None:
    rng = np.random.default_rng(0)
    column, groups, noise = rng.normal(size=90), np.repeat([0, 1, 2], 30), rng.normal(size=90)
    steep = noise + np.array([1.0, -4.0, 9.0])[groups] * column + 5.0 * groups
    np.testing.assert_allclose(residuals(steep, [column], groups), residuals(noise, [column], groups), atol=1e-9)


def test_a_column_without_variation_explains_nothing() -> None:
    values = np.arange(12.0) ** 2
    flat = residuals(values, [np.ones(12)], np.zeros(12, dtype=np.int64))
    np.testing.assert_allclose(flat, residuals(values, [], np.zeros(12, dtype=np.int64)), atol=1e-9)


@given(st.integers(1, 80), st.integers(1, 3), st.integers(0, 9))
@examples(30)
def test_scores_in_training_are_the_slow_ones(n_rows: int, passes: int, seed: int) -> None:
    rows, losses = run_of(n_rows, passes, seed)
    rows, losses = rows[: -(n_rows // 3) or None], losses[: -(n_rows // 3) or None]  # the last pass is cut off
    cells = np.random.default_rng(seed).integers(0, 3, n_rows)
    found = of_training(rows, losses, cells, n_rows, tokens=np.ones(n_rows), groups=None)
    slow = slow_training([*zip(rows.tolist(), losses.tolist(), strict=True)], cells)
    expected = [slow.get(row, math.nan) for row in range(n_rows)]
    np.testing.assert_allclose(found.score, expected, atol=1e-9)
    assert (np.isnan(found.spread) == (np.bincount(rows, minlength=n_rows) < 2)).all()


def test_visits_without_a_finite_loss_leave_no_trace() -> None:
    rows, losses = run_of(30, 2, seed=0)
    odd = np.insert(losses, [0, 7, 7], [math.nan, math.inf, -math.inf])
    more = np.insert(rows, [0, 7, 7], [3, 29, 0])
    settings: dict[str, Any] = {"tokens": np.ones(30), "groups": None}
    cells = np.zeros(30, dtype=np.int32)
    plain, with_odd = (of_training(r, x, cells, 30, **settings) for r, x in ((rows, losses), (more, odd)))
    assert (plain.score == with_odd.score).all()


def test_ten_rows_and_none_and_rows_that_were_never_seen() -> None:
    rows, losses = run_of(10, 2, seed=1)
    found = of_training(rows, losses, np.zeros(12, dtype=np.int64), 12, tokens=np.ones(12), groups=None)
    assert np.isnan(found.score[10:]).all()
    assert len(found.worst_first) == 10
    assert not found.suspects.any()
    nothing = of_training(NO_CELLS, np.zeros(0), NO_CELLS, 0, tokens=np.zeros(0), groups=None)
    assert nothing.threshold is None
    assert nothing.worst_first.tolist() == []
    assert of_forward(np.zeros(0), np.zeros(0), groups=None, alone=None).threshold is None


def test_the_worst_come_first_and_ties_by_row() -> None:
    score = np.array([1.0, math.nan, 3.0, 1.0, 7.0])
    found = Suspicion(score, score, np.zeros(5, dtype=bool), None)
    assert found.worst_first.tolist() == [4, 2, 0, 3]
    assert found.worst_first.dtype == np.int32


def test_what_was_known_before_training_is_a_pass_more() -> None:
    rows, losses = run_of(20, 1, seed=2)
    cells, before = np.zeros(20, dtype=np.int64), np.where(np.arange(20) < 10, 4.0, math.nan)
    settings: dict[str, Any] = {"tokens": np.ones(20), "groups": None}
    plain, joined = (of_training(rows, losses, cells, 20, before=b, **settings) for b in (None, before))
    assert joined.score[:10] == pytest.approx((plain.score[:10] + 4.0) / 2)
    assert (joined.score[10:] == plain.score[10:]).all()


def test_a_row_that_costs_no_more_than_its_answer_alone_does_is_not_suspect() -> None:
    rng = np.random.default_rng(3)
    tokens, alone = rng.integers(3, 90, 400), np.exp(rng.normal(size=400))
    losses = (alone + 0.01) * 0.5 * np.exp(0.05 * rng.normal(size=400)) - 0.01
    losses[7] = alone[7]  # the prompt does not help this one
    one, two = (of_forward(losses, tokens, groups=None, alone=known) for known in (None, alone))
    assert two.worst_first[0] == 7
    assert one.worst_first[0] != 7
    some = np.where(np.arange(400) < 200, alone, math.nan)
    half = of_forward(losses, tokens, groups=None, alone=some)
    assert (half.score[200:] == one.score[200:]).all()
