"""The picture of a run's data map: what each row's loss is beyond its kind's, against how much that moved.

Swayamdipta et al. 2020 (Dataset Cartography, arXiv 2009.10795) draw the mean probability of the right label against its
spread over the epochs. Here the height is the excess, the row's loss compared with rows of its own cell that came near
it in time: so long rows and hard domains do not fill the place of wrong ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from campus_tune.report.figures import ACCENT, GREY, INK, Face, Picture, legend_below, picture
from campus_tune.report.map_facts import REGIONS, SUSPECT, MapFacts
from campus_tune.report.map_shape import MapShape
from campus_tune.report.svg import ROWS
from campus_tune.words.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAP_PICTURE = "data_map"  # name of its file
FACES = dict(  # the same on every page, so that two runs can be laid side by side
    zip(
        REGIONS,
        [
            Face("#009E73", "-", "o", ""),
            Face("#0072B2", "-", "s", "///"),
            Face("#E69F00", "-", "^", "|||"),
            Face("#CC79A7", "-", "D", "\\\\\\"),
            Face("#9aa1ab", "-", "o", ""),
            Face("#6b7280", "-", "v", "---"),
            Face("#56B4E9", "-", "P", "xxx"),
            Face("#8C7A00", "-", "v", "+++"),
            Face("#b4bac3", "-", "o", ""),
            Face(ACCENT, "-", "X", ""),
        ],
        strict=True,
    )
)
UNIT = (
    "At an excess of 5 a row's loss lies five times as far above the middle of its kind as its rows lie from it "
    "on average."
)
UNKNOWN = Face("#3b4048", "-", "*", "")  # of a region that a later version knows


def region_words(name: str) -> str:
    """A region as people say it.

    >>> region_words("learned_early")
    'learned early'
    """
    return name.replace("_", " ")


def map_picture(facts: MapFacts) -> Picture | None:
    """The map of a run; None where no row has a score.

    Args:
        facts: of the run.
    """
    shape = facts.shape
    if shape is None:
        return None

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        if shape.spread is None:
            histogram(axis, shape, facts.regions)
            axis.set(xlabel=_excess_label(narrow), ylabel="rows")
        else:
            cartography(axis, shape, facts.regions)
            axis.set(xlabel="spread of the excess over the passes", ylabel=_excess_label(narrow))
        if facts.threshold is not None and shape.excess[0] <= facts.threshold <= shape.excess[-1]:
            line = axis.axvline if shape.spread is None else axis.axhline
            line(facts.threshold, color=INK, linestyle="--", linewidth=1.1, label=f"threshold {facts.threshold:.2f}")
        legend_below(figure, axis, narrow=narrow)

    return picture(
        MAP_PICTURE,
        "The map of the rows" if shape.spread is not None else "How far the rows stand out",
        draw,
        alt=map_in_words(facts, shape),
        height=(4.4, 4.9) if shape.spread is not None else (3.2, 3.8),
        note=note_on(shape),
    )


def _excess_label(narrow: bool) -> str:
    return "excess" if narrow else "excess: loss beyond that of like rows"


def cartography(axis: Axes, shape: MapShape, regions: Sequence[str]) -> None:
    """Points, the suspects upon the others; of many rows also where all of them lie."""
    from matplotlib.colors import ListedColormap, to_rgb

    points = shape.points
    if shape.density is not None and shape.spread is not None:
        counts = np.log10(np.where(shape.density > 0, shape.density, np.nan) + 1)
        seen_through = ListedColormap([(*to_rgb(GREY), alpha) for alpha in np.linspace(0.0, 0.6, 64)])  # on any page
        axis.pcolormesh(
            shape.spread, shape.excess, counts, cmap=seen_through, vmin=0, vmax=np.nanmax(counts), rasterized=True
        )
    for place, name in enumerate(regions):
        face, rows = FACES.get(name, UNKNOWN), (points.region == place) & ~points.suspect
        if name != SUSPECT and rows.any():
            how: dict[str, Any] = {"marker": face.marker, "color": face.colour}
            x, y = points.spread[rows], points.excess[rows]
            axis.scatter(x, y, s=13, alpha=0.65, linewidths=0, gid=f"{ROWS}{place}", **how)
            axis.plot([], [], linestyle="", label=region_words(name), **how)  # the legend's, larger
    if points.suspect.any():
        wrong = points.suspect
        how = {"marker": FACES[SUSPECT].marker, "color": FACES[SUSPECT].colour}
        x, y = points.spread[wrong], points.excess[wrong]
        axis.scatter(x, y, s=42, edgecolors="white", linewidths=0.6, zorder=4, gid=f"{ROWS}{SUSPECT}", **how)
        axis.plot([], [], linestyle="", label=region_words(SUSPECT), **how)
    axis.margins(0.03)


def histogram(axis: Axes, shape: MapShape, regions: Sequence[str]) -> None:
    """Rows of each region, one upon another; a few suspects would be lost in it, so each has a mark below."""
    below: FloatArray = np.zeros(len(shape.excess) - 1)
    for name, counts in zip(regions, shape.by_region, strict=False):
        if counts.any():
            face = FACES.get(name, UNKNOWN)
            how = {**face.on_face(), "linewidth": 0.0}
            label = region_words(name)
            axis.stairs(below + counts, shape.excess, baseline=below, fill=True, label=label, **how)
            below = below + counts
    wrong = shape.points.excess[shape.points.suspect]
    if len(wrong):
        face = FACES[SUSPECT]
        low = np.full(len(wrong), -0.035 * below.max())
        axis.plot(wrong, low, linestyle="", marker="|", color=face.colour, gid=f"{ROWS}{SUSPECT}")
    axis.axhline(0, color=GREY, linewidth=0.8)


def note_on(shape: MapShape) -> str:
    """How the picture is to be read."""
    if shape.spread is None:
        return (
            f"{UNIT} Most rows were seen once and have no spread over passes, so they are counted. The marks below "
            "the line are suspects."
        )
    text = (
        f"After Swayamdipta et al. 2020. {UNIT} Far to the right are rows whose excess moved from one pass to the "
        "next. Wrong answers are high up and stay there."
    )
    if shape.density is not None:
        n, all_of = int(shape.points.suspect.sum()), f" of {shape.n_suspects:,}"
        text += (
            f" Grey is where all {shape.n_rows:,} rows lie. The points are {len(shape.points.excess):,} of them, drawn "
            f"by the hash of their content; {n:,}{all_of if n < shape.n_suspects else ''} suspects are among them."
        )
    if shape.n_once:
        text += f" {shape.n_once:,} rows seen once stand at spread 0."
    return text


def map_in_words(facts: MapFacts, shape: MapShape) -> str:
    """The picture in numbers."""
    low, middle, high = (_quantile(shape, share) for share in (0.05, 0.5, 0.95))
    text = f"{shape.n_rows:,} rows with a score: median excess about {middle:.2f}, nine tenths between {low:.2f} and "
    text += f"{high:.2f}."
    if facts.threshold is not None:
        text += f" {facts.n_suspects:,} are suspects, from an excess of {facts.threshold:.2f} on."
    totals: Mapping[str, int] = dict(zip(facts.regions, shape.by_region.sum(axis=1).tolist(), strict=False))
    return f"{text} Regions: {', '.join(f'{region_words(name)} {n:,}' for name, n in totals.items() if n)}."


def _quantile(shape: MapShape, share: float) -> float:
    """A quantile of the excess, to the width of a bin."""
    below = np.concatenate([[0], np.cumsum(shape.by_region.sum(axis=0))])
    return float(np.interp(share * below[-1], below, shape.excess))
