"""How our pictures look, and what one becomes: SVG for the page, PNG for a tracker, a figure for a notebook.

Nothing hangs on colour alone. The palette is Okabe and Ito's, which the colour-blind tell apart, and every series has a
line style, a marker and a hatch of its own besides. Figures are made without pyplot, so that no state is shared with a
user's own plots and drawing works in any thread.

Why matplotlib, and not a library of charts for browsers: Vega would put some 0.8 MB of script into every page and
builds functions from text, which the page forbids; plotly's is above 4 MB. An SVG takes the page's colours, dark ones
too, its letters can be searched, and what moves in the data map is a few lines of script beside it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from campus_tune.report.characters import visible
from campus_tune.report.svg import inline_svg
from campus_tune.words.types import FloatArray
from campus_tune.words.wording import cut

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

WIDE, NARROW = 9.6, 3.7  # inches; at 100 CSS pixels an inch, a page of a desk and one of a phone
DPI = 150  # of a PNG
INK, GREY, PALE, ACCENT = "#1b1f24", "#6b7280", "#d7dbe0", "#D55E00"
GRID, BAND, DARK, BLACK = "#e8eaed", "#eef0f3", "#3b4048", "#333333"
ON_FACE, GREY_ON_FACE = "#1b1f25", "#6b7281"  # letters on a face of their own: these never turn with the page
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C7A00", BLACK)
THEMED = {  # colours that the page sets anew where it is dark, by the names of its style sheet
    "#0072b2": "--first", "#8c7a00": "--seventh", BLACK: "--last", DARK: "--base", INK: "--ink", GREY: "--grey",
    PALE: "--line", GRID: "--grid", BAND: "--band",
}  # fmt: skip
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 2, 1, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HATCHES = ("", "///", "|||", "\\\\\\", "xxx", "---", "+++", "ooo")
BINNED = 120  # stages, above which a band shows shares
LONGEST = 28  # characters of a name in a picture
MANY = 60  # points on a line, above which markers are thinned out

STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 2.6,
    "lines.linewidth": 1.7,
    "lines.markersize": 5,
    "text.color": INK,
    "text.parse_math": False,  # a domain may be called "$a$"
    "svg.fonttype": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
}


Draw: TypeAlias = "Callable[[Figure, bool], None]"
Height: TypeAlias = float | tuple[float, float]


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture of the page; nothing is drawn before somebody looks at it.

    Args:
        name: of its file, without `.png`.
        title: above it on the page.
        alt: what is seen, in numbers.
        note: how to read it; "" where that is plain.
        draw: given an empty figure, and whether it is the narrow one.
        heights: inches of the wide and of the narrow one.
    """

    name: str
    title: str
    alt: str
    note: str
    draw: Draw
    heights: tuple[float, float]

    def figure(self, *, narrow: bool = False) -> Figure:
        """A figure of matplotlib's, for a notebook or a file of one's own.

        Args:
            narrow: as wide as a phone.
        """
        with _styled():
            size = (NARROW if narrow else WIDE, self.heights[narrow])
            figure: Figure = _kind()(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
            self.draw(figure, narrow)
        return figure

    @cached_property
    def png(self) -> bytes:
        """The wide one as a file."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from PIL import Image

        canvas = FigureCanvasAgg(self.figure())
        canvas.draw()  # type: ignore[no-untyped-call]  # matplotlib's
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
        # a palette takes a third of the bytes, and nobody sees the difference
        image = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
        written = io.BytesIO()
        few = image.quantize(128, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(written, format="PNG", optimize=True)
        return written.getvalue()

    def svg(self, *, narrow: bool = False) -> Markup:
        """One of both as a part of a page, in the page's colours.

        Args:
            narrow: as wide as a phone.
        """
        written, figure = io.StringIO(), self.figure(narrow=narrow)
        with _styled():  # how letters are written is the writer's to know
            figure.savefig(written, format="svg", facecolor="none", metadata={"Date": None})
        name = f"{self.name}-{'narrow' if narrow else 'wide'}"
        return inline_svg(written.getvalue(), name, alt=self.alt, colours=THEMED)


@cache
def _kind() -> type[Figure]:
    """Figures that are drawn in our style whenever they are drawn, and that a notebook shows without pyplot."""
    from matplotlib.figure import Figure

    class ReportFigure(Figure):
        """A figure of a report."""

        def draw(self, renderer: Any) -> None:
            """As every figure does, in our style."""
            with _styled():
                super().draw(renderer)

        def _repr_png_(self) -> bytes:
            written = io.BytesIO()
            self.savefig(written, format="png", dpi=100)
            return written.getvalue()

    return ReportFigure


@contextmanager
def _styled() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]  # the keys are matplotlib's own
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box in the picture; alt text and tables have the name
        yield


def picture(name: str, title: str, draw: Draw, *, alt: str, height: Height, note: str = "") -> Picture:
    """A picture in two widths, the same size of letters in both.

    Args:
        name: of its file.
        title: above it on the page.
        draw: given an empty figure, and whether it is the narrow one.
        alt: what is seen, in numbers.
        height: inches, or those of the wide and of the narrow one.
        note: how to read it.
    """
    return Picture(name, title, alt, note, draw, height if isinstance(height, tuple) else (height, height))


@dataclass(frozen=True)
class Face:
    """How one series is drawn everywhere on a page.

    Args:
        colour: of line and face.
        line: its style.
        marker: of its points.
        hatch: of its faces.
    """

    colour: str
    line: Any
    marker: str
    hatch: str

    def on_line(self, n_points: int) -> dict[str, Any]:
        """Arguments of `plot`."""
        return {
            "color": self.colour,
            "linestyle": self.line,
            "marker": self.marker,
            "markevery": max(1, n_points // 20) if n_points > MANY else 1,
        }

    def on_face(self) -> dict[str, Any]:
        """Arguments of bars and areas."""
        return {"facecolor": self.colour, "edgecolor": "white", "hatch": self.hatch, "linewidth": 0.6}


SHUFFLED = Face("#9aa1ab", (0, (1, 2)), "|", "")  # no choice among sub-curricula
BASE = Face(DARK, (0, (4, 1.5)), "d", "")  # what all arms are compared with


def faces_of(names: Iterable[str], *, plain: str = "", plain_face: Face = SHUFFLED) -> dict[str, Face]:
    """A face for every name; `plain` is the one without a colour."""
    found: dict[str, Face] = {}
    for name in names:
        i = len(found) - (plain in found)
        found[name] = (
            plain_face
            if name == plain
            else Face(COLOURS[i % len(COLOURS)], LINES[i % len(LINES)], MARKERS[i % 8], HATCHES[i % 8])
        )
    return found


def fitted(name: str, longest: int = LONGEST) -> str:
    """A user's name as a picture can show it: cut in its middle, and never hidden for its first character.

    >>> fitted("data/of/the/first/half/of/the/year"), fitted("_x"), fitted("")
    ('data/of/the/f…lf/of/the/year', ' _x', ' ')
    """
    name = visible(cut(name, longest, tail=longest // 2))
    return f" {name}" if not name or name.startswith("_") else name  # matplotlib leaves these out of legends


def legend_below(figure: Figure, axis: Axes, *, narrow: bool, columns: int = 5) -> None:
    """One legend under the figure, where it hides nothing."""
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower left", ncols=_columns(labels, columns, narrow))


def legend_of_faces(figure: Figure, faces: Mapping[str, Face], *, narrow: bool, columns: int = 5) -> None:
    """The same, each name with its line and its face."""
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: Any = [(Line2D([], [], **face.on_line(1)), Patch(**face.on_face())) for face in faces.values()]
    figure.legend(
        handles,
        list(map(fitted, faces)),
        loc="outside lower left",
        ncols=_columns(list(map(fitted, faces)), columns, narrow),
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.6)},
        handlelength=4.2,
    )


def _columns(labels: Sequence[str], columns: int, narrow: bool) -> int:
    longest = max(map(len, labels))
    fit = (1 if longest > 22 else 2) if narrow else columns if longest < 28 else 3
    return min(fit, len(labels))


def from_zero(axis: Axes) -> None:
    """Let the y axis begin at 0, unless that would press the lines flat."""
    low, high = axis.get_ylim()
    if low < 0.6 * high:
        axis.set_ylim(0, None)


def percent(axis: Axis) -> None:
    """Ticks of one axis (`axes.xaxis`, `axes.yaxis`) as percentages with no more digits than they need."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))


def plain_log(axis: Axis) -> None:
    """A log axis whose ticks are numbers that people say: 1, 2, 5, 10."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    subs = (1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0) if high < 8 * low else (1.0, 2.0, 5.0) if high < 200 * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
    axis.set_minor_formatter(NullFormatter())


def strip(
    axis: Axes, edges: Sequence[float], names: Sequence[str], faces: Mapping[str, Face], *, y: float = 0.0
) -> None:
    """A band of what was chosen over the steps; with many stages, of how often it was chosen in a hundredth of them.

    Args:
        axis: drawn on.
        edges: of the stages, one more than there are names.
        names: what was chosen in each.
        faces: face of each name.
        y: the band's middle; it is 0.8 high.
    """
    if len(names) > BINNED:
        bins, shares = chosen_shares(edges, names, list(faces))
        bottom = np.full(len(bins) - 1, y - 0.4)
        for face, share in zip(faces.values(), shares, strict=True):
            axis.bar(bins[:-1], 0.8 * share, np.diff(bins), bottom, align="edge", facecolor=face.colour, linewidth=0)
            bottom += 0.8 * share
        return
    for name, face in faces.items():
        spans = merged([(edges[i], edges[i + 1]) for i, each in enumerate(names) if each == name])
        if spans:
            axis.broken_barh(spans, (y - 0.4, 0.8), label=name, **face.on_face())


def chosen_shares(edges: Sequence[float], names: Sequence[str], among: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """(edges of a hundred bins, share of each bin's stages that chose each name, shape (names, 100)).

    >>> bins, shares = chosen_shares(range(201), ["a", "b", "b", "b"] * 50, ["a", "b"])
    >>> shares[:, :2].tolist()
    [[0.5, 0.0], [0.5, 1.0]]
    """
    bins = np.linspace(edges[0], edges[-1], 101)
    place = np.minimum(np.searchsorted(bins, np.asarray(edges[:-1]), side="right") - 1, 99)
    counts = np.array([np.bincount(place[[n == name for n in names]], minlength=100) for name in among], dtype=float)
    return bins, counts / np.maximum(counts.sum(axis=0), 1)


def merged(spans: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """(start, width) of spans, those that touch joined.

    >>> merged([(0, 2), (2, 3), (5, 6)])
    [(0, 3), (5, 1)]
    """
    joined: list[list[float]] = []
    for low, high in spans:
        if joined and joined[-1][1] == low:
            joined[-1][1] = high
        else:
            joined.append([low, high])
    return [(low, high - low) for low, high in joined]


def thinned(n: int, most: int = 400) -> np.ndarray[Any, np.dtype[np.int64]]:
    """At most `most` of `n` positions, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))
