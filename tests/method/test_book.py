"""The book: worked by hand, against a slow second implementation, and what never changes however a run is cut."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.book import COLUMNS, REVIEWED, SCORES, Book, CellLevels, columns_of
from campus_tune.method.review import Review, pick
from campus_tune.words.types import FloatArray, IntArray, RowLosses


def shown(*losses: float, tokens: int = 1, sureness: float = 0.0) -> RowLosses:
    """Rows of so many answer tokens each, with these mean losses."""
    n = len(losses)
    counts = np.full(n, tokens, dtype=np.int64)
    return RowLosses(np.array(losses) * tokens, counts, np.zeros(n, dtype=np.int64), np.zeros(n), np.full(n, sureness))


def fold(book: Book, *stages: tuple[list[int], list[float]], first: int = 0) -> Book:
    """Stages one after the other, one row a step."""
    step = 0
    for stage, (rows, losses) in enumerate(stages, first):
        book.update(stage, np.array(rows, dtype=np.int64), shown(*losses), step + 1 + np.arange(len(rows)))
        step += len(rows)
    return book


def slow_excess(visits: list[tuple[int, int, float]]) -> dict[int, list[float]]:
    """Row → excess of each of its visits, out of (row, cell, loss) in the sequence of training."""
    level: dict[int, float] = {}
    spread: dict[int, float] = {}
    found: dict[int, list[float]] = {}
    for row, cell, loss in visits:
        mu, d = level.get(cell, loss), spread.get(cell, 0.3)
        found.setdefault(row, []).append((loss - mu) / max(d, 0.02))
        spread[cell] = d + 0.05 * (abs(loss - mu) - d)
        level[cell] = mu + 0.05 * (loss - mu)
    return found


def test_excess_by_hand() -> None:
    # μ, d = 1, .3: e 0; then 1, .285: e .3/.285; then 1.015, .28575: e −.615/.28575
    book = fold(Book(4), ([2, 0, 3], [1.0, 1.3, 0.4]))
    assert book.score("excess") == pytest.approx([1.0526316, math.nan, 0.0, -2.1522310], nan_ok=True)
    assert book.levels.mean == pytest.approx([0.98425])
    assert book.levels.spread == pytest.approx([0.3022125])
    # a second visit: (1.98425 − .98425)/.3022125 = 3.3089300, and the mean of both visits
    fold(book, ([0], [1.98425]), first=1)
    assert book.score("excess")[0] == pytest.approx((1.0526316 + 3.3089300) / 2)


def test_every_column_by_hand() -> None:
    book = Book(4)
    first, again = shown(2.0, 1.0, tokens=4, sureness=3.0), shown(0.5, 3.0, tokens=4, sureness=1.0)
    book.update(0, np.array([3, 1]), first, np.array([1, 1]))
    book.update(2, np.array([3, 0]), again, np.array([6, 7]))
    columns = {name: values.tolist() for name, values in book.columns.items() if name != "excess"}
    assert columns == {
        "visits": [1, 1, 0, 2],
        "step": [7, 1, 0, 6],
        "stage": [2, 0, 0, 2],
        "last": [3.0, 1.0, 0.0, 0.5],
        "best": [3.0, 1.0, 0.0, 0.5],
        "surprise": [3.0, 1.0, 0.0, 3.0],
        "interval": [2, 2, 0, 4],
    }
    assert book.score("seen_loss") == pytest.approx([3.0, 1.0, math.nan, 0.5], nan_ok=True)
    assert book.score("surprise") == pytest.approx([3.0, 1.0, math.nan, 3.0], nan_ok=True)
    assert book.score("age") == pytest.approx([1, 3, math.nan, 1], nan_ok=True)


def test_a_detrended_loss_is_less_the_mean_of_the_stage_in_which_it_was_seen() -> None:
    # the model halves every loss between the stages: rows 0 and 2 are as hard as each other for the model of their time
    book = fold(Book(4), ([0, 1], [4.0, 2.0]), ([2, 3], [2.0, 1.0]))
    assert book.score("seen_loss").tolist() == [4.0, 2.0, 2.0, 1.0]
    assert book.score("seen_loss", detrend=True).tolist() == [1.0, -1.0, 0.5, -0.5]
    assert book.score("surprise", detrend=True).tolist() == [0.0] * 4
    assert (book.score("excess", detrend=True) == book.score("excess")).all()


def test_a_row_is_due_after_2_4_8_stages_and_after_2_again_once_it_was_forgotten() -> None:
    book = Book(1, needs=["interval"])
    due = []
    for stage, loss in ((3, 1.0), (5, 1.1), (9, 1.05), (17, 0.5), (33, 0.56)):
        fold(book, ([0], [loss]), first=stage)
        due.append(stage + int(book.columns["interval"][0]))
    assert due == [5, 9, 17, 33, 35]  # .56 is more than 1.1 · .5
    assert set(book.columns) == {"visits", "best", "interval"}


def test_an_interval_ends_at_255_stages() -> None:
    book = Book(1, needs=["interval"])
    for stage in range(10):
        fold(book, ([0], [1.0]), first=stage)
    assert book.columns["interval"].tolist() == [255]


def test_rows_that_come_back_are_picked_by_the_books_columns() -> None:
    book = fold(Book(4, needs=REVIEWED), ([0, 1], [1.0, 2.0]), ([2], [1.0]), ([0], [3.0]))
    rng = np.random.default_rng(0)
    assert pick(Review(0.1), book, 2, 4, rng).tolist() == [1]  # 0 came again in stage 2, and 2 is due in stage 3
    assert pick(Review(0.1), book, 3, 4, rng).tolist() == [1, 2]
    assert pick(Review(0.1, by="uniform"), book, 3, 4, rng).tolist() == [0, 1, 2]


def test_a_300th_visit_is_counted_as_the_255th_and_still_counts() -> None:
    book = Book(2)
    for stage in range(300):
        fold(book, ([1], [1.0]), first=stage)
    assert book.columns["visits"].tolist() == [0, 255]
    assert book.columns["step"][1] == 1
    assert book.score("age")[1] == 1


@pytest.mark.parametrize(
    ("nll", "tokens", "sureness"),
    [(0.0, 0, 0.0), (math.nan, 3, 1.0), (math.inf, 3, 1.0), (1.0, 3, math.nan)],
    ids=["no answer", "NaN", "infinite", "NaN sureness"],
)
def test_a_row_without_a_finite_loss_leaves_no_trace(nll: float, tokens: int, sureness: float) -> None:
    zero = np.zeros(3, dtype=np.int64)
    losses = RowLosses(
        np.array([1.0, nll, 2.0]), np.array([1, tokens, 1]), zero, np.zeros(3), np.array([0.5, sureness, 0.5])
    )
    with_it, without = Book(3), Book(3)
    with_it.update(0, np.arange(3), losses, np.arange(1, 4))
    without.update(0, np.array([0, 2]), losses.take(np.array([0, 2])), np.array([1, 3]))
    assert all((with_it.columns[name] == without.columns[name]).all() for name in COLUMNS)
    assert with_it.score("seen_loss", detrend=True).tolist()[::2] == [-0.5, 0.5]
    assert not with_it.known[1]


def test_a_stage_without_losses_changes_nothing_but_the_age() -> None:
    book = fold(Book(2), ([0], [1.0]), ([], []), ([1], [3.0]))
    assert book.score("age").tolist() == [3.0, 1.0]
    assert book.score("seen_loss", detrend=True).tolist() == [0.0, 0.0]


def test_about_a_fifth_of_clean_gaussian_rows_exceed_1() -> None:
    rng = np.random.default_rng(0)
    losses = np.concatenate([rng.normal(2.0, 0.4, 6000), rng.normal(0.5, 0.05, 6000)])  # two cells, unlike scales
    cells = np.repeat(np.arange(2, dtype=np.int32), 6000)
    rows = rng.permutation(12000)
    book = Book(12000, cells=cells)
    book.update(0, rows, shown(*losses[rows]), np.ones(12000, dtype=np.int64))
    excess = book.score("excess")
    assert [0.18 < (excess[cells == cell] > 1).mean() < 0.24 for cell in range(2)] == [True, True]


def test_rows_above_their_cell_are_found_in_any_cell() -> None:
    rng = np.random.default_rng(1)
    cells = rng.integers(0, 4, 4000).astype(np.int32)
    wrong = rng.random(4000) < 0.05
    losses = cells + rng.normal(0, 0.1, 4000) + np.where(wrong, 0.6, 0.0)
    found = []
    for known in (cells, None):
        book = Book(4000, cells=known)
        book.update(0, np.arange(4000), shown(*losses), np.ones(4000, dtype=np.int64))
        worst = np.argsort(-book.score("excess"))[: wrong.sum()]
        found.append(wrong[worst].mean())
    assert found[0] > 0.9
    assert found[1] < 0.3  # all rows in one cell: those of the highest level look worst


visits = st.lists(
    st.tuples(st.permutations(range(6)), st.integers(1, 6)).map(lambda drawn: drawn[0][: drawn[1]]), max_size=6
)
levels = st.floats(0.0, 20.0, allow_nan=False)


def made_up(stages: list[list[int]], seed: int) -> list[tuple[list[int], list[float]]]:
    rng = np.random.default_rng(seed)
    return [(rows, rng.exponential(1.0, len(rows)).tolist()) for rows in stages]


@given(visits, st.lists(st.integers(0, 2), min_size=6, max_size=6), st.integers(0, 99))
def test_the_mean_excess_of_a_row_is_that_of_the_slow_second_implementation(
    stages: list[list[int]], cells: list[int], seed: int
) -> None:
    record = made_up(stages, seed)
    book = fold(Book(6, cells=np.array(cells, dtype=np.int32)), *record)
    seen = [pair for rows, losses in record for pair in zip(rows, losses, strict=True)]
    slow = slow_excess([(row, cells[row], loss) for row, loss in seen])
    expected = [np.mean(slow[row]) if row in slow else math.nan for row in range(6)]
    assert book.score("excess") == pytest.approx(expected, rel=1e-5, abs=1e-5, nan_ok=True)  # float32 columns
    assert book.columns["visits"].tolist() == [len(slow.get(row, [])) for row in range(6)]
    assert book.score("seen_loss") == pytest.approx([dict(seen).get(row, math.nan) for row in range(6)], nan_ok=True)


@given(st.lists(st.tuples(st.integers(0, 2), levels), min_size=1, max_size=40), st.data())
def test_a_cell_goes_on_where_it_was(drawn: list[tuple[int, float]], data: Any) -> None:
    cells: IntArray = np.array([cell for cell, _ in drawn])
    losses: FloatArray = np.array([loss for _, loss in drawn])
    cut = data.draw(st.integers(0, len(drawn)))
    whole, halves = CellLevels(3), CellLevels(3)
    once = whole.take(cells, losses)
    twice = np.concatenate([halves.take(cells[:cut], losses[:cut]), halves.take(cells[cut:], losses[cut:])])
    assert once.tolist() == twice.tolist()
    slow = slow_excess([(place, *visit) for place, visit in enumerate(drawn)])
    assert once.tolist() == [slow[place][0] for place in range(len(drawn))]  # to the last bit
    for name in ("mean", "spread", "slow"):
        assert getattr(whole, name).tolist() == pytest.approx(getattr(halves, name).tolist(), nan_ok=True)


def test_the_sequence_inside_a_stage_matters() -> None:
    one, other = fold(Book(2), ([0, 1], [1.0, 2.0])), fold(Book(2), ([1, 0], [2.0, 1.0]))
    assert one.score("excess").tolist() != other.score("excess").tolist()
    assert one.score("seen_loss").tolist() == other.score("seen_loss").tolist()
    assert one.chain != other.chain


@given(visits, st.integers(0, 99))
def test_folding_the_record_again_gives_the_same_book_and_chain(stages: list[list[int]], seed: int) -> None:
    record = made_up(stages, seed)
    one, again = fold(Book(6), *record), fold(Book(6), *record)
    assert one.chain == again.chain
    assert len({link for _, link in one.chain}) == len(stages)
    assert all(one.columns[name].tolist() == again.columns[name].tolist() for name in COLUMNS)


@pytest.mark.parametrize("column", vars(RowLosses.zeros(0)))
def test_a_changed_number_changes_the_chain_from_its_stage_on(column: str) -> None:
    books = []
    for more in (0, 1):
        book = Book(3)
        for stage in range(3):
            losses = shown(1.0, 2.0, tokens=2)
            getattr(losses, column)[1] += more if stage == 1 else 0
            book.update(stage, np.array([0, 2]), losses, np.array([1, 1]))
        books.append(book)
    same = [one == other for one, other in zip(books[0].chain, books[1].chain, strict=True)]
    assert same == [True, False, False]


def test_what_shares_follow_is_known_once_a_cell_was_seen() -> None:
    levels = CellLevels(3)
    levels.take(np.zeros(500, dtype=np.int64), np.linspace(3.0, 1.0, 500))  # falls
    levels.take(np.ones(500, dtype=np.int64), np.linspace(1.0, 3.0, 500))  # rises
    loss, progress = levels.signal("seen_loss"), levels.signal("progress")
    assert loss[0] == pytest.approx(1.08, abs=0.01)  # a rate of .05 lags by 19 rows, one of .01 by 99 of them
    assert progress[0] == pytest.approx(0.32, abs=0.01)
    assert (progress[1], math.isnan(loss[2]), math.isnan(progress[2])) == (0.0, True, True)


def test_the_columns_are_files_that_are_mapped_and_begun_anew(tmp_path: Path) -> None:
    book = fold(Book(4, folder=tmp_path / "book"), ([0, 3], [1.0, 2.0]))
    assert sorted(path.stem for path in (tmp_path / "book").iterdir()) == sorted(COLUMNS)
    assert all(isinstance(column, np.memmap) for column in book.columns.values())
    assert np.load(tmp_path / "book" / "last.npy").tolist() == [1.0, 0.0, 0.0, 2.0]
    in_memory = fold(Book(4), ([0, 3], [1.0, 2.0]))
    assert all(book.columns[name].tolist() == in_memory.columns[name].tolist() for name in COLUMNS)
    anew = Book(4, folder=tmp_path / "book")
    assert not anew.known.any()
    assert book.known.sum() == 2


def test_a_row_takes_26_bytes_at_most_and_only_what_is_needed() -> None:
    assert sum(column.itemsize for column in Book(1).columns.values()) == 26
    assert set(Book(1, needs=columns_of(["seen_loss"])).columns) == {"visits", "last"}
    assert set(Book(1, needs=columns_of(["surprise"], detrend=True)).columns) == {"visits", "surprise", "stage"}
    assert columns_of(SCORES) <= COLUMNS.keys()
