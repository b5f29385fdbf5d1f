"""A heat map of what helps what: groups of rows above one another, what they did to each probe domain side by side.

Blue helps and orange harms, the deeper the more, both on one scale around 0. No cell hangs on its colour: its number
stands in it, the table beside the picture has all of them with their intervals, and those whose interval holds 0 are
hatched.

>>> low, high = np.array([[0.1], [-0.9]]), np.array([[0.9], [0.4]])
>>> heat = Heat(("math", "code"), ("math",), np.array([[0.5], [-0.25]]), low, high)
>>> heat.clear.tolist(), heat.largest
([[True], [False]], 0.5)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from campus_tune.report.figures import GREY_ON_FACE, ON_FACE, PALE, Picture, fitted, picture
from campus_tune.report.html_tables import GAP, Cell, HtmlTable, number, signed, words
from campus_tune.words.types import BoolArray, FloatArray
from campus_tune.words.wording import listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

HARMS, NEITHER, HELPS = "#D55E00", "#f7f8f9", "#0072B2"  # of Okabe and Ito's palette, and white between them
MOST = 24  # rows or columns of a picture; the table has them all
NUMBERED, NUMBERED_NARROW = 12, 5  # columns, above which a cell is too small for its number
ROW = 0.36  # inches that a row of cells is high
DEEP = 0.6  # of the largest value, from which on a cell's letters are white
CHANCE = "Hatched, with a grey number: the interval holds 0, it may be chance."
MOST_SAID = 6  # cells that the picture's text names


@dataclass(frozen=True, eq=False)
class Heat:
    """What each group did to each probe domain; above 0 it helps. NaN where nothing is known.

    Args:
        rows: names, from top to bottom.
        columns: names, from left to right.
        values: shape (rows, columns).
        low: lower ends of the intervals, shape (rows, columns), NaN where there is none; None where none has one.
        high: upper ends.
        sure: cells that are no chance, shape (rows, columns); None takes those whose interval leaves 0 out.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: FloatArray
    low: FloatArray | None = None
    high: FloatArray | None = None
    sure: BoolArray | None = None

    @property
    def clear(self) -> BoolArray:
        """Cells that are no chance, shape (rows, columns); all that are known, where nothing is said of it."""
        if self.sure is not None:
            return self.sure
        if self.low is None or self.high is None:
            return np.isfinite(self.values)
        return (self.low > 0) | (self.high < 0)

    @property
    def largest(self) -> float:
        """The largest of the known values, without its sign; 0 where none is known."""
        known = np.abs(self.values[np.isfinite(self.values)])
        return float(known.max(initial=0.0))

    def head(self) -> Heat:
        """The part that a picture has room for: the first rows and columns."""
        low, high = (None if each is None else each[:MOST, :MOST] for each in (self.low, self.high))
        sure = None if self.sure is None else self.sure[:MOST, :MOST]
        return Heat(self.rows[:MOST], self.columns[:MOST], self.values[:MOST, :MOST], low, high, sure)


def heat_map(
    name: str,
    title: str,
    heat: Heat,
    *,
    form: str = ".2g",
    down: str = "trained rows of",
    across: str = "probe domain",
    sides: tuple[str, str] = ("harms", "helps"),
    note: str = "",
    chance: str = CHANCE,
) -> Picture | None:
    """Draw a heat map; None where no value is known.

    Args:
        name: of its file.
        title: above it on the page.
        heat: what is drawn.
        form: of its numbers.
        down: what the rows are.
        across: what the columns are.
        sides: what values below and above 0 do.
        note: how to read it besides.
        chance: what is said of the hatched cells.
    """
    shown = heat.head()
    if not np.isfinite(shown.values).any():
        return None

    def draw(figure: Figure, narrow: bool) -> None:
        from matplotlib.colors import LinearSegmentedColormap

        axis = figure.subplots()
        colours = LinearSegmentedColormap.from_list("helps", [HARMS, NEITHER, HELPS]).with_extremes(bad=PALE)
        limit = shown.largest or 1.0
        _cells(axis, shown, colours, limit)
        numbered = len(shown.columns) <= (NUMBERED_NARROW if narrow else NUMBERED)
        if numbered:
            _numbers(axis, shown, form, limit)
        longest = 10 if narrow else 16
        axis.set_yticks(range(len(shown.rows)), [fitted(each, longest) for each in shown.rows])
        axis.set_xticks(range(len(shown.columns)), [fitted(each, longest) for each in shown.columns])
        crowded = sum(min(len(each), longest) + 2 for each in shown.columns) > (34 if narrow else 110)
        if crowded:
            axis.tick_params(axis="x", labelrotation=90)
        axis.set(xlabel=across, ylabel=down)
        axis.grid(visible=False)
        for side in axis.spines.values():
            side.set_visible(False)
        _scale(figure, axis, colours, limit, sides, form)

    lines, longest = len(shown.rows), max(map(len, shown.columns))
    below = 1.3 + 0.07 * min(longest, 16)
    cut = any(len(names) > MOST for names in (heat.rows, heat.columns))
    notes = [
        note,
        "" if (shown.clear | np.isnan(shown.values)).all() else chance,
        f"The first {MOST} of each; the table has all of them." if cut else "",
    ]
    return picture(
        name,
        title,
        draw,
        alt=in_words(heat, form=form, sides=sides),
        height=(below + ROW * max(2, lines), below + ROW * max(2, lines)),
        note=" ".join(filter(None, notes)),
    )


def _cells(axis: Axes, shown: Heat, colours: Colormap, limit: float) -> None:
    """The faces; those that may be chance are hatched."""
    from matplotlib.patches import Rectangle

    axis.imshow(
        np.ma.masked_invalid(shown.values), cmap=colours, vmin=-limit, vmax=limit, aspect="auto", interpolation="none"
    )
    for place in range(1, len(shown.rows)):
        axis.axhline(place - 0.5, color="white", linewidth=1.5)
    for place in range(1, len(shown.columns)):
        axis.axvline(place - 0.5, color="white", linewidth=1.5)
    for i, j in np.argwhere(np.isfinite(shown.values) & ~shown.clear).tolist():
        axis.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, hatch="////", edgecolor="#ffffff", linewidth=0))


def _numbers(axis: Axes, shown: Heat, form: str, limit: float) -> None:
    """A number in each cell: bold where it is clear, a dash where nothing is known."""
    for i, j in np.ndindex(shown.values.shape):
        value, clear = shown.values[i, j], shown.clear[i, j]
        text = signed(f"{value:{form}}") if np.isfinite(value) else GAP
        how: dict[str, Any] = {"color": "white" if abs(value) > DEEP * limit else ON_FACE, "fontweight": "bold"}
        if not clear:  # a paper of its own, for it stands on a hatch
            how = {"color": GREY_ON_FACE, "bbox": {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1.2}}
        axis.text(j, i, text, ha="center", va="center", fontsize=8.5, **how)


def _scale(figure: Figure, axis: Axes, colours: Colormap, limit: float, sides: tuple[str, str], form: str) -> None:
    """What the colours mean."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colour = ScalarMappable(Normalize(-limit, limit), colours)
    bar = figure.colorbar(colour, ax=axis, orientation="horizontal", shrink=0.6, aspect=30, pad=0.02)
    (low, high), end = sides, f"{limit:{form}}"
    bar.set_ticks([-limit, 0, limit], labels=[f"{low} {signed('-' + end)}", "0", f"{high} {end}"])
    bar.outline.set_visible(False)


def in_words(heat: Heat, *, form: str = ".2g", sides: tuple[str, str] = ("harms", "helps")) -> str:
    """What is seen: how many cells are clear to either side, and the largest of them.

    Args:
        heat: the matrix.
        form: of its numbers.
        sides: what values below and above 0 do.
    """
    clear, known = heat.clear & np.isfinite(heat.values), int(np.isfinite(heat.values).sum())
    harms, helps = int((clear & (heat.values < 0)).sum()), int((clear & (heat.values > 0)).sum())
    order = np.argsort(-np.abs(np.where(clear, heat.values, 0.0)), axis=None, kind="stable")[: int(clear.sum())]
    said = []
    for place in order[:MOST_SAID].tolist():
        i, j = divmod(place, len(heat.columns))
        does = sides[int(heat.values[i, j] > 0)]
        said.append(f"{heat.rows[i]} {does} {heat.columns[j]} ({signed(f'{heat.values[i, j]:{form}}')})")
    counted = f"Of {known} cells {helps} are clearly above 0 ({sides[1]}) and {harms} below ({sides[0]})"
    return f"{counted}: {listed(said, MOST_SAID)}." if said else f"{counted}."


def heat_table(caption: str, heat: Heat, *, form: str = ".2g", corner: str = "") -> HtmlTable:
    """The same as a table: each value with its interval, those that are clear marked.

    Args:
        caption: of it.
        heat: the matrix.
        form: of its numbers.
        corner: what the rows are.
    """
    rows = [
        [words(name), *(_cell(heat, i, j, form) for j in range(len(heat.columns)))] for i, name in enumerate(heat.rows)
    ]
    return HtmlTable(caption, [corner, *heat.columns], rows)


def _cell(heat: Heat, i: int, j: int, form: str) -> Cell:
    value = float(heat.values[i, j])
    if not np.isfinite(value):
        return number(None)
    kind = ("good" if value > 0 else "bad") if heat.clear[i, j] else ""
    if heat.low is None or heat.high is None or not np.isfinite(heat.low[i, j] + heat.high[i, j]):
        return number(value, form, kind=kind)
    low, high = (signed(f"{float(each[i, j]):{form}}") for each in (heat.low, heat.high))
    return Cell(f"{signed(f'{value:{form}}')} ({low} to {high})", value, kind)
