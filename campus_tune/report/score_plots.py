"""Pictures of the scores: their spread, their agreement, and the learning rate that easy and hard rows met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.preview.lr_mass import N_DECILES
from campus_tune.report.figures import GREY, Face, Picture, faces_of, fitted, legend_below, percent, picture
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


def lr_deciles(found: Mapping[str, Mapping[str, FloatArray]], faces: Mapping[str, Face]) -> Picture | None:
    """With which learning rate each tenth of the rows was trained, against the mean.

    Args:
        found: title of a panel → line → `of_mean` of its rates; those without a number are left out.
        faces: of the lines.
    """
    found = {title: lines for title, lines in found.items() if any(np.isfinite(x).any() for x in lines.values())}
    if not found:
        return None
    places = np.arange(1, N_DECILES + 1)

    def draw(figure: Figure, narrow: bool) -> None:
        columns = 1 if narrow else min(3, len(found))
        axes = figure.subplots(-(-len(found) // columns), columns, squeeze=False, sharey=True).ravel()
        for axis, (title, lines) in zip(axes, found.items(), strict=False):
            axis.axhline(1.0, color=GREY, linewidth=1, linestyle=(0, (2, 2)))
            for name, rates in lines.items():
                axis.plot(places, rates, label=fitted(name), **faces[name].on_line(N_DECILES))
            axis.set(title=fitted(title), xticks=places, xlabel="tenth, easy → hard")
            axis.set_ylim(0, max(1.5, axis.get_ylim()[1]))
            percent(axis.yaxis)
        for axis in axes[len(found) :]:
            axis.set_visible(False)
        most = max(axes[: len(found)], key=lambda axis: len(axis.get_legend_handles_labels()[0]))
        legend_below(figure, most, narrow=narrow)

    texts = [
        (f"by {title}: " if title else "") + ", ".join(f"{name} {x[0]:.0%} to {x[-1]:.0%}" for name, x in lines.items())
        for title, lines in found.items()
    ]
    return picture(
        "lr_mass",
        "Learning rate on easy and hard rows",
        draw,
        alt="Mean learning rate that the easiest and the hardest tenth of the rows were trained with, in percent of "
        f"the run's mean: {'; '.join(texts)}.",
        height=(0.7 + 2.3 * -(-len(found) // 3), 0.9 + 2.1 * len(found)),
        note="In percent of each run's mean over the tenths; plain shuffling trains all rows with the mean. Rows that "
        "arrive when the rate is gone hardly move the model.",
    )


def of_mean(runs: Sequence[FloatArray | Sequence[float | None]]) -> FloatArray:
    """Rates of each tenth over their mean, averaged over runs; a tenth that none of them trained is NaN."""
    rates = np.array(runs, dtype=np.float64)  # None becomes NaN
    known = np.isfinite(rates)
    means = np.where(known, rates, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    shares = np.where(known, rates, 0) / np.maximum(means, 1e-300)[:, None]
    total = shares.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known.any(axis=0), total, np.nan)
