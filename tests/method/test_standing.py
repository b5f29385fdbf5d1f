"""Where a row stands in its cell: the worked ones, a slow reference, and what must not matter."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method import standing
from campus_tune.method.standing import Scale, Sorted, detrend, relative
from campus_tune.words.types import FloatArray, IntArray

NAN = math.nan

values = st.one_of(st.just(NAN), st.integers(0, 4).map(float), st.floats(-3, 10).map(lambda x: round(x, 3)))
rows_drawn = st.lists(st.tuples(values, st.integers(0, 3)), min_size=1, max_size=40).map(
    lambda pairs: (np.array([a for a, _ in pairs]), np.array([b for _, b in pairs]))
)


def slowly(scale: Scale, scores: list[float], cells: list[int], row: int) -> float:
    """One row at a time, as one would say it."""
    known = [s for s, c in zip(scores, cells, strict=True) if c == cells[row] and not math.isnan(s)]
    score = scores[row]
    unknown = math.isnan(score)
    if scale == "percentile":
        return 0.5 if unknown else (sum(k < score for k in known) + sum(k == score for k in known) / 2) / len(known)
    if not known:
        return 1.0 if scale == "ratio" else 0.0
    if scale == "difference":
        away = 0.0 if unknown else score - statistics.fmean(known)
        return 0.0 if abs(away) < 1e-9 else away
    lowest = min([0.0, *known])
    shifted = [k - lowest for k in known]
    mean = statistics.fmean(shifted)
    return 1.0 if mean == 0 else (statistics.median(shifted) if unknown else score - lowest) / mean


@pytest.mark.parametrize("scale", ["percentile", "ratio", "difference"])
@given(rows_drawn)
def test_standings_are_those_of_the_slow_one(scale: Scale, case: tuple[FloatArray, IntArray]) -> None:
    scores, cells = case
    rows = np.arange(len(scores))[::-2]
    got = relative(scale, scores, cells, rows)
    assert got.tolist() == pytest.approx([slowly(scale, scores.tolist(), cells.tolist(), r) for r in rows], abs=1e-9)


@pytest.mark.parametrize(
    ("scale", "worked"),
    [
        ("percentile", [0.25, 0.75, 0.5, 0.25, 0.75, 0.5]),
        ("ratio", [0.5, 1.5, 1.0, 0.875, 1.125, 1.0]),
        ("difference", [-1, 1, 0, -10, 10, 0]),
    ],
)
def test_worked_standings_in_two_cells(scale: Scale, worked: list[float]) -> None:
    scores = np.array([1, 3, NAN, 70, 90, NAN])
    assert relative(scale, scores, np.array([0, 0, 0, 1, 1, 1]), np.arange(6)).tolist() == worked


@pytest.mark.parametrize(("scale", "worked"), [("percentile", 0.5), ("ratio", 1.0), ("difference", 0.0)])
def test_where_nothing_is_known_all_rows_are_alike(scale: Scale, worked: float) -> None:
    scores = np.array([NAN, NAN, 2.0])
    assert relative(scale, scores, np.array([0, 0, 1]), np.array([0, 1])).tolist() == [worked] * 2
    assert relative(scale, np.full(3, NAN), None, np.arange(3)).tolist() == [worked] * 3
    assert relative(scale, scores, None, np.arange(0)).tolist() == []


def test_scores_below_0_count_from_the_smallest_of_their_cell() -> None:
    scores, cells = np.array([-1.0, 1.0, 3.0, 5.0, 5.0]), np.array([0, 0, 0, 1, 1])
    assert relative("ratio", scores, cells, np.arange(5)).tolist() == [0, 1, 2, 1, 1]


def test_a_row_at_the_mean_is_not_below_it_by_rounding() -> None:
    scores = np.full(7, 0.1, dtype=np.float32).astype(np.float64)
    assert relative("difference", scores, None, np.arange(7)).tolist() == [0.0] * 7
    assert relative("difference", np.array([0.2, 0.4, 0.6, 1.0, 2.8]), None, np.arange(5))[3] == 0


def test_scores_of_the_book_may_be_float32() -> None:
    scores = np.array([1, 3, NAN], dtype=np.float32)
    for scale, worked in (("percentile", [0.25, 0.75, 0.5]), ("ratio", [0.5, 1.5, 1]), ("difference", [-1, 1, 0])):
        got = relative(scale, scores, None, np.arange(3))  # type: ignore[arg-type]
        assert (got.dtype, got.tolist()) == (np.float64, worked)


@given(rows_drawn)
def test_percentiles_know_no_unit_and_have_mean_one_half(case: tuple[FloatArray, IntArray]) -> None:
    known = ~np.isnan(case[0])
    scores, cells = np.round(case[0][known] * 8), case[1][known]

    def percentiles(scores: FloatArray, cells: IntArray) -> FloatArray:
        return Sorted.of(scores, cells, 4).percentiles(scores, cells)

    got = percentiles(scores, cells)
    assert ((got > 0) & (got < 1)).all()
    assert percentiles(scores * 0.25 + 7, cells).tolist() == got.tolist()
    for cell in set(cells.tolist()):
        assert got[cells == cell].mean() == pytest.approx(0.5)
    assert percentiles(-scores, cells).tolist() == pytest.approx((1 - got).tolist())


def test_medians_of_cells() -> None:
    got = Sorted.of(np.array([5.0, 1.0, 9.0, 2.0]), np.array([0, 0, 0, 2]), 4).medians()
    assert got[[0, 2]].tolist() == [5, 2]
    assert np.isnan(got[[1, 3]]).all()


# -- losses of different times -----------------------------------------------------------------------------------------


def test_worked_detrending() -> None:
    """Stage 0 saw 4 and 2, stage 1 saw 1 and 3: means 3 and 2, of all 2.5."""
    losses, stages = np.array([4.0, 2.0, NAN, 1.0, 3.0]), np.array([0, 0, -1, 1, 1])
    got = detrend(losses, stages)
    assert got[[0, 1, 3, 4]].tolist() == [3.5, 1.5, 1.5, 3.5]
    assert np.isnan(got[2])


@given(
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 4)), min_size=1, max_size=30),
    st.lists(st.floats(0, 3), min_size=5, max_size=5),
)
def test_how_well_the_model_was_when_it_saw_a_row_does_not_matter(
    seen: list[tuple[float, int]], worse: list[float]
) -> None:
    losses, stages = np.array([loss for loss, _ in seen]), np.array([stage for _, stage in seen])
    early = losses + np.array(worse)[stages]
    one, other = detrend(losses, stages), detrend(early, stages)
    assert (other - one).tolist() == pytest.approx([early.mean() - losses.mean()] * len(seen), abs=1e-9)
    assert one.mean() == pytest.approx(losses.mean(), abs=1e-9)


def test_nothing_known_is_nothing_detrended() -> None:
    assert np.isnan(detrend(np.full(3, NAN), np.full(3, -1))).all()


@pytest.mark.parametrize("few", [0, 10**9])
def test_percentiles_do_not_hang_on_the_sequence_in_which_they_are_looked_for(
    few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "FEW_ASKED", few)
    rng = np.random.default_rng(0)
    scores, cells, rows = rng.integers(0, 9, 400) / 7, rng.integers(0, 3, 400), rng.permutation(400)
    got = Sorted.of(scores, cells, 3).percentiles(scores[rows], cells[rows])
    assert got.tolist() == [slowly("percentile", scores.tolist(), cells.tolist(), row) for row in rows.tolist()]
