"""The picture and the table of what helps what, which the transfer of a run and an ablation share."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from campus_tune.report.figures import NARROW, WIDE, Picture
from campus_tune.report.heat_map import HARMS, HELPS, MOST, Heat, heat_map, heat_table, in_words
from campus_tune.words.types import FloatArray
from tests.report.conftest import coarse_pictures

NAN = float("nan")


def heat(values: object, width: float | None = None) -> Heat:
    found = np.array(values, dtype=np.float64)
    n_rows, n_columns = found.shape
    low, high = (None, None) if width is None else (found - width, found + width)
    return Heat(tuple(f"d{i}" for i in range(n_rows)), tuple(f"p{i}" for i in range(n_columns)), found, low, high)


def drawn(of: Heat) -> Picture:
    with coarse_pictures():
        found = heat_map("transfer", "Transfer", of, note="How to read it.")
    assert found is not None
    return found


def pixels(picture: Picture) -> FloatArray:
    return np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB"), dtype=np.float64)


def amount(picture: Picture, colour: str) -> int:
    """Pixels near a colour: palettes round it."""
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(pixels(picture) - wanted).max(axis=2) < 12).sum())


def test_a_cell_is_clear_where_its_interval_leaves_zero_out() -> None:
    of = heat([[2.0, -2.0, 0.5, NAN]], width=1.0)
    assert of.clear.tolist() == [[True, True, False, False]]
    assert heat([[2.0, 0.5, NAN]]).clear.tolist() == [[True, True, False]]  # nobody has asked for more


def test_what_helps_is_blue_and_what_harms_is_orange_on_one_scale() -> None:
    both, helps = drawn(heat([[1.0, -1.0]], width=0.1)), drawn(heat([[1.0, 0.0]], width=0.1))
    assert amount(both, HELPS) > 1000 < amount(both, HARMS)
    assert amount(helps, HARMS) < 0.2 * amount(both, HARMS)  # the scale below the cells has both sides


def test_cells_that_may_be_chance_are_hatched() -> None:
    clear, chance = (drawn(heat([[1.0, -1.0]], width=width)) for width in (0.1, 5.0))
    assert amount(chance, HELPS) < 0.95 * amount(clear, HELPS)
    assert "may be chance" in chance.note
    assert "chance" not in drawn(heat([[1.0, -1.0]])).note


def test_the_picture_is_said_in_words_too_the_largest_first() -> None:
    text = in_words(heat([[0.5, -2.0, 0.1], [NAN, 1.0, 0.3]], width=0.4), form=".1f")
    assert text == (
        "Of 5 cells 2 are clearly above 0 (helps) and 1 below (harms): d0 harms p1 (−2.0), d1 helps p1 (1.0), "
        "d0 helps p0 (0.5)."
    )
    assert in_words(heat([[0.1]], width=1.0)) == "Of 1 cells 0 are clearly above 0 (helps) and 0 below (harms)."


def test_a_map_without_any_value_is_not_drawn() -> None:
    assert heat_map("transfer", "Transfer", heat([[NAN, NAN]])) is None
    assert drawn(heat([[0.0, 0.0]])).png


def test_names_from_a_training_set_are_shown_whatever_they_are() -> None:
    names = ("$a$ \\frac{", "_hidden", "الحساب", "x" * 500, "")
    values = np.arange(25.0).reshape(5, 5) - 12
    assert drawn(Heat(names, names, values)).png


@pytest.mark.parametrize("n", [1, 13, 60])
def test_a_picture_keeps_its_size_however_many_domains_there_are(n: int) -> None:
    picture = drawn(heat(np.linspace(-1, 1, n * n).reshape(n, n), width=0.1))
    wide, narrow = picture.heights
    assert wide / WIDE < 1.2
    assert narrow / NARROW < 3.2
    assert ("table has all" in picture.note) == (n > MOST)


def test_the_table_has_every_cell_with_its_interval() -> None:
    table = heat_table("Transfer", heat([[0.5, -2.0], [NAN, 0.1]], width=0.4), form=".1f", corner="rows of")
    assert table.head == ["rows of", "p0", "p1"]
    texts = [[(cell.text, cell.kind) for cell in row] for row in table.rows]
    assert texts == [
        [("d0", ""), ("0.5 (0.1 to 0.9)", "good"), ("−2.0 (−2.4 to −1.6)", "bad")],
        [("d1", ""), ("–", ""), ("0.1 (−0.3 to 0.5)", "")],
    ]
    assert [row[2].sort for row in table.rows] == [-2.0, 0.1]


def test_a_value_without_an_interval_stands_alone() -> None:
    values = np.array([[0.5, 0.2]])
    with_one = Heat(("d0",), ("p0", "p1"), values, np.array([[0.1, NAN]]), np.array([[0.9, NAN]]))
    [row] = heat_table("Transfer", with_one, form=".1f").rows
    assert [cell.text for cell in row[1:]] == ["0.5 (0.1 to 0.9)", "0.2"]
