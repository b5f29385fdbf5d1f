"""In which region its visits put a row: a slow reference, and what must hold whatever a run showed."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.learning import REGIONS, Learning, flagged
from campus_tune.words.types import IntArray, RowLosses

N, CELLS = 9, 3

visits_drawn = st.lists(
    st.tuples(st.integers(0, N - 1), st.integers(0, 12).map(lambda x: x / 4), st.integers(1, 5)), max_size=40
)
cells_drawn = st.lists(st.integers(0, CELLS - 1), min_size=N, max_size=N).map(np.array)


def folded(visits: list[tuple[int, float, int]]) -> tuple[Learning, IntArray]:
    """Visits as (row, mean loss, answer tokens), four a step."""
    rows = np.array([row for row, _, _ in visits], dtype=np.int64)
    tokens = np.array([n for _, _, n in visits], dtype=np.int64)
    losses = RowLosses.zeros(len(rows))
    losses.nll_sum[:] = [loss * n for _, loss, n in visits]
    losses.tokens[:] = tokens
    losses.worst[:] = [loss + 1 for _, loss, _ in visits]
    losses.sureness[:] = [n / (1 + loss) for _, loss, n in visits]
    steps = 1 + np.arange(len(rows)) // 4
    return Learning.of(rows, steps, losses, N), steps


def region_slowly(visits: list[tuple[int, float, int]], cells: list[int], row: int) -> str:
    """One row at a time, as one would say it."""
    of = {r: [loss * n / n for other, loss, n in visits if other == r] for r in range(N)}
    mine, kind = of[row], [r for r in range(N) if cells[r] == cells[row] and of[r]]
    if not mine:
        return "not_seen"
    level = statistics.median(of[r][-1] for r in kind)
    if mine[0] <= level:
        return "learned_early"
    if mine[-1] <= level:
        return "learned"
    if len(mine) == 1:
        return "seen_once"
    usual = statistics.median(of[r][0] - of[r][-1] for r in kind if len(of[r]) > 1)
    fell = mine[0] - mine[-1]
    return "still_learning" if fell > 0 and fell > usual / 2 else "never_learned"


@given(visits_drawn, cells_drawn)
def test_a_region_is_what_the_slow_reference_says(visits: list[tuple[int, float, int]], cells: IntArray) -> None:
    learning, _ = folded(visits)
    found = [REGIONS[code] for code in learning.regions(cells)]
    assert found == [region_slowly(visits, cells.tolist(), row) for row in range(N)]


@given(visits_drawn)
def test_facts_are_those_of_each_rows_own_visits(visits: list[tuple[int, float, int]]) -> None:
    learning, steps = folded(visits)
    for row in range(N):
        mine = [(loss, step) for (other, loss, _), step in zip(visits, steps.tolist(), strict=True) if other == row]
        assert learning.visits[row] == len(mine)
        if not mine:
            assert learning.first_step[row] == learning.last_step[row] == -1
            assert np.isnan([learning.first_loss[row], learning.mean_loss[row], learning.mean_probability[row]]).all()
            continue
        losses = np.array([loss for loss, _ in mine])
        assert (learning.first_step[row], learning.last_step[row]) == (mine[0][1], mine[-1][1])
        assert (learning.first_loss[row], learning.last_loss[row]) == pytest.approx((losses[0], losses[-1]))
        assert learning.mean_loss[row] == pytest.approx(losses.mean())
        assert learning.mean_probability[row] == pytest.approx((1 / (1 + losses)).mean())
        assert learning.lowest_probability[row] == pytest.approx(np.exp(-losses - 1).mean())


@given(visits_drawn, cells_drawn, st.permutations(range(CELLS)))
def test_what_cells_are_called_does_not_matter(
    visits: list[tuple[int, float, int]], cells: IntArray, names: list[int]
) -> None:
    learning, _ = folded(visits)
    assert learning.regions(cells).tolist() == learning.regions(np.array(names)[cells]).tolist()


@given(visits_drawn, cells_drawn)
def test_half_of_a_cell_is_learned(visits: list[tuple[int, float, int]], cells: IntArray) -> None:
    learning, _ = folded(visits)
    low = np.isin(learning.regions(cells), [REGIONS.index("learned_early"), REGIONS.index("learned")])
    for cell in range(CELLS):
        seen = learning.seen & (cells == cell)
        assert 2 * (low & seen).sum() >= seen.sum()


def test_the_last_thing_said_of_a_row_is_that_it_is_suspect() -> None:
    codes = np.array([0, 1, 3, 5], dtype=np.int8)
    duplicate, contradicting, suspect = (
        np.array(rows, dtype=bool) for rows in ([1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 0])
    )
    found = flagged(codes, duplicate=duplicate, contradicting=contradicting, suspect=suspect)
    assert [REGIONS[code] for code in found] == ["duplicate", "contradicting", "suspect", "not_seen"]
    assert codes.tolist() == [0, 1, 3, 5]


def test_a_row_that_comes_very_often_is_counted_up_to_255() -> None:
    learning, _ = folded([(0, 1.0, 1)] * 300)
    assert learning.visits.tolist() == [255] + [0] * (N - 1)
    assert learning.mean_loss[0] == 1.0
