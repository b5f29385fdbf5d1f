"""Suspicion: worked by hand, against slow second implementations, and what it must not hang on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method import excess
from campus_tune.method.excess import local_excess, residuals
from campus_tune.method.suspicion import Suspicion, of_forward, of_training, stands_out
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
    """Row by row in Python, with thirty made-up rows for the prior: each slope 0, in units of the column."""
    rows = [i for i in range(len(values)) if all(np.isfinite([values[i], *(column[i] for column in columns)]))]
    found = [math.nan] * len(values)
    own = {group: [i for i in rows if groups[i] == group] for group in groups.tolist()}
    own = {group: members for group, members in own.items() if len(members) > 8}

    def less_level(column: FloatArray) -> dict[int, float]:
        level = {i: float(np.mean([column[j] for j in own.get(groups[i], rows)])) for i in rows}
        return {i: float(column[i]) - level[i] for i in rows}

    left, within = less_level(values), [less_level(column) for column in columns]
    if len(rows) > 8:
        units = [math.sqrt(np.mean([value**2 for value in column.values()])) or 1.0 for column in within]
        design = np.array([[column[i] / unit for column, unit in zip(within, units, strict=True)] for i in rows])
        slopes = np.linalg.pinv(design) @ np.array([left[i] for i in rows])
        left = {i: left[i] - float(line @ slopes) for i, line in zip(rows, design, strict=True)}
        of_row = dict(zip(rows, design, strict=True))
        for members in own.values():
            made_up = math.sqrt(30) * np.eye(len(columns))
            lines = np.concatenate([np.array([of_row[i] for i in members]), made_up])
            wanted = np.array([*(left[i] for i in members), *np.zeros(len(columns))])
            slopes = np.linalg.pinv(lines) @ wanted
            left |= {i: left[i] - float(of_row[i] @ slopes) for i in members}
    overall = float(np.mean([abs(value) for value in left.values()])) if rows else 0.0
    for i in rows:
        members = own.get(groups[i], [])
        spread = (sum(abs(left[j]) for j in members) + 30 * overall) / (len(members) + 30)
        found[i] = left[i] / max(spread, 0.001)
    return found


def slow_training(visits: list[tuple[int, float]], kinds: list[IntArray]) -> dict[int, float]:
    """Row → score, from (row, loss) in the sequence of training."""
    seen: dict[int, int] = {}
    of_pass: dict[int, list[tuple[int, float]]] = {}
    for row, loss in visits:
        seen[row] = seen.get(row, 0) + 1
        of_pass.setdefault(seen[row], []).append((row, math.log(loss + 0.003)))
    parts: dict[int, list[tuple[int, float]]] = {}
    for number, some in of_pass.items():
        rows, logs = [row for row, _ in some], np.array([log for _, log in some])
        excess = [slow_local_excess(logs, kind[rows]) for kind in kinds]
        for row, *values in zip(rows, *excess, strict=True):
            parts.setdefault(row, []).append((number, math.fsum(values) / len(values)))
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
    monkeypatch.setattr(excess, "AT_ONCE", 7)
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


def test_residuals_do_not_see_what_the_columns_say_of_all_groups() -> None:
    rng = np.random.default_rng(0)
    column, groups, noise = rng.normal(size=90), np.repeat([0, 1, 2], 30), rng.normal(size=90)
    steep = noise + 4.0 * column + 5.0 * groups
    np.testing.assert_allclose(residuals(steep, [column], groups), residuals(noise, [column], groups), atol=1e-9)


def test_a_large_group_has_slopes_of_its_own_and_a_small_one_those_of_all() -> None:
    # slope 2 in 4 000 rows, −2 in 4 000 others, −9 in ten: the prior of thirty rows drags no large one along
    rng = np.random.default_rng(1)
    column, groups = rng.normal(size=8010), np.repeat([0, 1, 2], [4000, 4000, 10])
    left = residuals(np.array([2.0, -2.0, -9.0])[groups] * column + rng.normal(size=8010), [column], groups)
    slopes = [np.polyfit(column[groups == group], left[groups == group], 1)[0] for group in range(3)]
    assert abs(slopes[0]) < 0.1
    assert abs(slopes[1]) < 0.1
    assert slopes[2] < -0.5


def test_a_column_without_variation_explains_nothing() -> None:
    values = np.arange(12.0) ** 2
    flat = residuals(values, [np.ones(12)], np.zeros(12, dtype=np.int64))
    np.testing.assert_allclose(flat, residuals(values, [], np.zeros(12, dtype=np.int64)), atol=1e-9)


@given(st.integers(9, 60), st.integers(0, 9), st.floats(0.1, 10), st.floats(-5, 5))
def test_residuals_hang_on_no_unit(n: int, seed: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(seed)
    values, columns, groups = rng.normal(size=n) * 9, [rng.normal(size=n), rng.normal(size=n)], rng.integers(0, 3, n)
    plain = residuals(values, columns, groups)
    moved = residuals(scale * values + shift, [shift + scale * columns[0], columns[1]], groups)
    np.testing.assert_allclose(moved, plain, atol=1e-6)


@given(st.integers(1, 80), st.integers(1, 3), st.integers(0, 9))
@examples(30)
def test_scores_in_training_are_the_slow_ones(n_rows: int, passes: int, seed: int) -> None:
    rows, losses = run_of(n_rows, passes, seed)
    rows, losses = rows[: -(n_rows // 3) or None], losses[: -(n_rows // 3) or None]  # the last pass is cut off
    cells = np.random.default_rng(seed).integers(0, 3, n_rows)
    found = of_training(rows, losses, cells, n_rows, tokens=np.ones(n_rows), groups=None)
    slow = slow_training([*zip(rows.tolist(), losses.tolist(), strict=True)], [cells])
    expected = [slow.get(row, math.nan) for row in range(n_rows)]
    np.testing.assert_allclose(found.score, expected, atol=1e-9)
    assert (np.isnan(found.spread) == (np.bincount(rows, minlength=n_rows) < 2)).all()


def test_rows_are_compared_with_those_of_like_prompts_and_of_like_length_altogether_too() -> None:
    # 64 rows in two domains: two bands of 16 prompts each; the answers turn the sequence of whole lengths around
    rows, losses = run_of(64, 2, seed=5)
    cells, domains, places = np.arange(64) % 3, np.arange(64) % 2, np.arange(64) // 2
    found = of_training(rows, losses, cells, 64, tokens=99 - 2 * places, groups=domains, prompts=places + 5)
    prompts, wholes = 2 * domains + (places >= 16), 2 * domains + (places < 16)
    slow = slow_training([*zip(rows.tolist(), losses.tolist(), strict=True)], [cells, prompts, wholes])
    np.testing.assert_allclose(found.score, [slow[row] for row in range(64)], atol=1e-9)


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


def test_what_answers_cost_alone_explains_what_they_cost_in_training() -> None:
    rng = np.random.default_rng(6)
    rows, alone = np.tile(np.arange(300), 2), np.exp(rng.normal(size=300))
    losses = alone[rows] * 0.5 * np.exp(0.05 * rng.normal(size=600))
    losses[[7, 307]] = alone[7]
    settings: dict[str, Any] = {"tokens": np.ones(300), "groups": np.zeros(300, dtype=np.int64)}
    without, known = (
        of_training(rows, losses, np.zeros(300, dtype=np.int64), 300, alone=given, **settings)
        for given in (None, alone)
    )
    assert known.worst_first[0] == 7
    assert without.worst_first[0] != 7


def test_a_row_that_costs_no_more_than_its_answer_alone_does_is_not_suspect() -> None:
    rng = np.random.default_rng(3)
    tokens, alone = rng.integers(3, 90, 400), np.exp(rng.normal(size=400))
    losses = (alone + 0.003) * 0.5 * np.exp(0.05 * rng.normal(size=400)) - 0.003
    losses[7] = alone[7]  # the prompt does not help this one
    one, two = (of_forward(losses, tokens, groups=None, alone=known) for known in (None, alone))
    assert two.worst_first[0] == 7
    assert one.worst_first[0] != 7


def test_a_forward_is_read_as_the_slow_one_does() -> None:
    rng = np.random.default_rng(4)
    tokens, prompts, groups = rng.integers(3, 9, 150), rng.integers(5, 40, 150), rng.integers(0, 2, 150)
    losses, alone = np.exp(rng.normal(size=150)), np.exp(rng.normal(size=150))
    losses[3], alone[:40] = math.nan, math.nan
    logs, columns = np.log(losses + 0.003), [np.log(tokens), np.log(alone + 0.003)]
    one, two = slow_residuals(logs, columns[:1], groups), slow_residuals(logs, columns, groups)
    left = np.array([two[i] if np.isfinite(two[i]) else one[i] for i in range(150)])
    parts = [left]
    for lengths in (tokens, prompts):
        by_length = sorted((i for i in range(150) if i != 3), key=lambda i: int(lengths[i]))
        parts.append(np.full(150, math.nan))
        parts[-1][by_length] = slow_local_excess(left[by_length], groups[by_length])
    found = of_forward(losses, tokens, groups=groups, alone=alone, prompts=prompts)
    np.testing.assert_allclose(found.score, np.mean(parts, axis=0), atol=1e-6)
    assert np.isnan(found.spread).all()
    assert len(found.worst_first) == 149


def slow_stands_out(scores: list[float]) -> float | None:
    """Each row's score tried as the threshold."""
    middle = float(np.median(scores)) if scores else 0.0
    fine = []
    for t in (score - middle for score in scores if score > middle):
        above = sum(score - middle >= t for score in scores)
        below = sum(score - middle <= -t for score in scores)
        if below <= above / 3 and above - below >= 4 * math.sqrt(above + below):
            fine.append(t + middle)
    return min(fine, default=None)


@given(st.integers(0, 80), st.integers(0, 12), st.integers(0, 30))
def test_the_threshold_is_the_slow_one(n: int, n_wrong: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(size=n), rng.normal(4, 1, size=n_wrong)]).round(1)  # ties too
    slow, found = slow_stands_out(scores.tolist()), stands_out(scores)
    assert (found is None) == (slow is None)
    assert found is None or found == pytest.approx(slow)


def test_rows_above_what_the_lower_half_mirrored_has_are_suspects() -> None:
    clean = np.linspace(-3, 3, 601)
    assert stands_out(clean) is None
    found = Suspicion.of_scores(np.array([*clean, *np.linspace(4, 6, 30), math.nan]), np.full(632, math.nan))
    assert found.threshold is not None
    assert found.suspects[601:631].all()
    assert not found.suspects[-1]
    assert found.suspects[:601].mean() < 0.02
    assert (found.suspects == (np.nan_to_num(found.score, nan=-9) >= found.threshold)).all()


@pytest.mark.parametrize("lean", [0.0, 0.5, 1.0])
def test_scores_that_lean_to_the_left_raise_no_alarm(lean: float) -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=2000)
        assert stands_out(np.where(noise < 0, (1 + lean) * noise, noise)) is None
