"""Pictures of the scores: their spread, their agreement, and how the learning rate fell on easy and hard rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.preview.lr_mass import N_DECILES
from campus_tune.report.figures import GREY, Picture, faces_of, fitted, legend_below, percent, picture
from campus_tune.words.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 30
TAILS = (0.5, 99.5)  # percentiles: what is further out goes into the outermost bins, or one row flattens the picture


def histograms(scores: Mapping[str, FloatArray]) -> Picture | None:
    """How each metric's scores are spread over the rows."""
    usable = {label: values[np.isfinite(values)] for label, values in scores.items()}
    usable = {label: values for label, values in usable.items() if len(values)}
    if not usable:
        return None

    def draw(figure: Figure, narrow: bool) -> None:
        columns = min(2 if narrow else 4, len(usable))
        rows = -(-len(usable) // columns)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis, (label, face) in zip(axes, faces_of(usable).items(), strict=False):
            low, high = np.percentile(usable[label], TAILS)
            bins = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
            axis.hist(np.clip(usable[label], bins[0], bins[-1]), bins=bins, color=face.colour, linewidth=0)
            axis.set_title(fitted(label))
            axis.locator_params(axis="x", nbins=4)
            axis.locator_params(axis="y", nbins=4)
        for axis in axes[len(usable) :]:
            axis.set_visible(False)
        for axis in axes[::columns]:
            axis.set_ylabel("rows")
        figure.supxlabel("score before training, higher is harder", fontsize=8.5)

    def spread(label: str) -> str:
        low, middle, high = np.percentile(usable[label], [5, 50, 95])
        return f"{label}: median {middle:.3g}, nine tenths of the rows between {low:.3g} and {high:.3g}"

    lines = -(-len(usable) // 4), -(-len(usable) // 2)
    return picture(
        "scores",
        "Scores",
        draw,
        alt="; ".join(spread(label) for label in usable) + ".",
        height=(0.6 + 1.9 * lines[0], 0.6 + 1.6 * lines[1]),
    )


def correlations(names: Sequence[str], matrix: Sequence[Sequence[float | None]]) -> Picture | None:
    """How much alike the metrics order the rows."""
    if len(names) < 2 or not matrix:
        return None
    values = np.array([[np.nan if value is None else value for value in row] for row in matrix], dtype=float)
    n = len(names)

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        shown = axis.imshow(values, vmin=-1, vmax=1, cmap="RdBu_r", aspect="auto")
        for i in range(n):
            for j in range(n):
                text = "–" if np.isnan(values[i, j]) else f"{values[i, j]:.2f}"
                strong = abs(values[i, j]) > 0.65
                axis.text(
                    j,
                    i,
                    text,
                    ha="center",
                    va="center",
                    color="white" if strong else "black",
                    fontsize=8 if n < 7 else 7,
                )
        axis.set_xticks(
            range(n),
            list(map(fitted, names)),
            rotation=40 if narrow or n > 8 else 0,
            ha="right" if narrow or n > 8 else "center",
        )
        axis.set_yticks(range(n), list(map(fitted, names)))
        axis.grid(visible=False)
        axis.tick_params(length=0)
        for side in axis.spines.values():
            side.set_visible(False)
        if not narrow:
            figure.colorbar(shown, ax=axis, fraction=0.03, label="rank correlation")

    pairs = [(values[i, j], names[i], names[j]) for i in range(n) for j in range(i) if not np.isnan(values[i, j])]
    text = "; ".join(f"{a} and {b} {rho:.2f}" for rho, a, b in sorted(pairs, key=lambda pair: -abs(pair[0]))[:6])
    return picture(
        "correlations",
        "Do the metrics agree?",
        draw,
        alt=f"Rank correlations of the metrics, strongest first: {text or 'none can be computed'}.",
        height=(0.9 + 0.42 * n, 1.1 + 0.42 * n),
        note="1: two metrics order the rows alike, so one of them is enough. 0: they know nothing of each other.",
    )


def lr_deciles(shares: Mapping[str, FloatArray]) -> Picture:
    """The share of the learning-rate mass that fell on each tenth of the rows."""
    places = np.arange(1, N_DECILES + 1)

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        for label, face in faces_of(shares).items():
            axis.plot(places, shares[label], label=fitted(label), **face.on_line(N_DECILES))
        axis.axhline(1 / N_DECILES, color=GREY, linewidth=1.2, linestyle=(0, (2, 2)), label="plain shuffling")
        axis.set(xlabel="tenth of the rows, easy → hard", ylabel="share of the mass", xticks=places)
        axis.set_ylim(0, max(0.2, axis.get_ylim()[1]))
        percent(axis.yaxis)
        legend_below(figure, axis, narrow=narrow, columns=6)

    ends = [f"{label} {values[0]:.1%} to {values[-1]:.1%}" for label, values in shares.items()]
    return picture(
        "lr_mass",
        "Learning rate on easy and hard rows",
        draw,
        alt="Share of the learning-rate mass on the easiest and on the hardest tenth of the rows: "
        + "; ".join(ends)
        + ". Plain shuffling gives 10.0% to each.",
        height=(2.9, 3.3),
        note="Every visit of a row counts with the learning rate it met. Under 10 % on the right: hard rows came when "
        "the rate was gone, or did not come.",
    )
