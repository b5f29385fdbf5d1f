"""The pictures of who was drawn and which rows, for runs whose recipe says something of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.report.draw_facts import LANES, DrawFacts, StageDraw
from campus_tune.report.figures import (
    ACCENT,
    INK,
    Face,
    Picture,
    faces_of,
    fitted,
    legend_below,
    percent,
    picture,
)
from campus_tune.words.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMES = 12  # that a picture tells apart; the smallest of more are drawn together
OTHERS = "all others"
FLAT = 1e-3  # a share that moves less is the same all the time


def draw_pictures(draw: DrawFacts) -> list[Picture]:
    """All that there is to show of it."""
    drawn = [shares(draw), passes(draw), lanes(draw), effective(draw)]
    return [each for each in drawn if each is not None]


def shares(draw: DrawFacts) -> Picture | None:
    """The share of each domain or cell in every stage, stacked."""
    names = dict.fromkeys(name for stage in draw.stages for name in stage.shares)
    values = _few({name: np.array([stage.shares.get(name, 0.0) for stage in draw.stages]) for name in names})
    if len(values) < 2:
        return None

    def paint(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        stacked(axis, _edges(draw.stages), values, faces_of(values))
        axis.set(ylim=(0, 1), xlabel="optimizer step", ylabel="share of the rows")
        axis.set_xlim(draw.stages[0].step, draw.stages[-1].end)
        percent(axis.yaxis)
        legend_below(figure, axis, narrow=narrow)

    moved = [f"{name} {share[0]:.0%} to {share[-1]:.0%}" for name, share in values.items() if np.ptp(share) > FLAT]
    same = [f"{name} {share[0]:.0%}" for name, share in values.items() if np.ptp(share) <= FLAT]
    parts = {"From first to last": moved, "The same all the time": same}
    text = " ".join(f"{what}: {', '.join(names)}." for what, names in parts.items() if names)
    return picture(
        "shares",
        "Who was drawn",
        paint,
        alt=f"Shares of {len(values)} groups over {len(draw.stages)} stages. {text}",
        height=(3.2, 3.8),
        note="The share of each group in the rows of a stage, but for those that came back.",
    )


def passes(draw: DrawFacts) -> Picture | None:
    """How often each domain was gone through."""
    names = list(dict.fromkeys(name for stage in draw.stages for name in stage.passes))
    if len(names) < 2:
        return None
    last = draw.stages[-1].passes
    few = sorted(names, key=lambda name: -last.get(name, 0.0))[:MOST_NAMES]

    def paint(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        for name, face in faces_of(few).items():
            seen = [(stage.step, stage.passes[name]) for stage in draw.stages if name in stage.passes]
            axis.plot(*zip(*seen, strict=True), label=fitted(name), **face.on_line(len(seen)))
        axis.set(ylim=(0, None), xlabel="optimizer step", ylabel="passes")
        legend_below(figure, axis, narrow=narrow)

    return picture(
        "passes",
        "Passes over each domain",
        paint,
        alt=f"Passes when the last stage began: {', '.join(f'{name} {last.get(name, 0.0):.2f}' for name in few)}.",
        height=(2.9, 3.4),
        note="A domain has been gone through once when each of its rows had its turn; a pass goes on over phases.",
    )


def lanes(draw: DrawFacts) -> Picture | None:
    """Where the rows of each stage came from, and how many had their turn and were not taken."""
    values = {lane: np.array([stage.lanes.get(lane, 0) for stage in draw.stages], dtype=float) for lane in LANES}
    passed_over = np.array([stage.passed_over for stage in draw.stages], dtype=float)
    values = {lane: rows for lane, rows in values.items() if rows.any()}
    if len(values) < 2 and not passed_over.any():
        return None

    def paint(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        stacked(axis, _edges(draw.stages), values, faces_of(values))
        if passed_over.any():
            edges = _edges(draw.stages)
            label = "had their turn, not taken"
            axis.stairs(passed_over, edges, baseline=None, color=INK, linestyle="--", linewidth=1.7, label=label)
        axis.set(ylim=(0, None), xlabel="optimizer step", ylabel="rows of a stage")
        axis.set_xlim(draw.stages[0].step, draw.stages[-1].end)
        legend_below(figure, axis, narrow=narrow)

    total = sum(rows.sum() for rows in values.values())
    parts = ", ".join(f"{lane} {rows.sum() / max(total, 1.0):.0%}" for lane, rows in values.items())
    over = f" {passed_over.sum():,.0f} rows had their turn and were not taken." if passed_over.any() else ""
    return picture(
        "lanes",
        "Where the rows came from",
        paint,
        alt=f"Of {total:,.0f} rows: {parts}.{over}",
        height=(2.9, 3.4),
        note="offer: by the order that was chosen; mix: at random; review: rows that came back.",
    )


def effective(draw: DrawFacts) -> Picture | None:
    """How many equally likely rows the draw of each stage was worth, as a share of those it took."""
    seen = [(stage.step, stage.ess) for stage in draw.stages if stage.ess is not None]
    if not seen:
        return None
    steps, values = np.array(seen, dtype=float).T

    def paint(figure: Figure, narrow: bool) -> None:
        del narrow  # one line fits everywhere
        axis = figure.subplots()
        axis.plot(steps, values, **Face(ACCENT, "-", "o", "").on_line(len(steps)))
        axis.set(ylim=(0, 1.04), xlabel="optimizer step", ylabel="of the rows taken")
        percent(axis.yaxis)

    return picture(
        "ess",
        "Effective sample size of the thinning",
        paint,
        alt=f"The effective sample size was {values[0]:.0%} of the rows taken at step {steps[0]:.0f}, "
        f"{values[-1]:.0%} at step {steps[-1]:.0f}; the least was {values.min():.0%}.",
        height=(2.5, 2.8),
        note="How even the chances of the rows taken were: 100 % where all were equal. Where it is small, what the "
        "stage says of all rows hangs on a few of them.",
    )


def _few(values: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """The largest, and the sum of the others where there are many."""
    if len(values) <= MOST_NAMES:
        return values
    by_size = sorted(values, key=lambda name: -values[name].mean())
    rest = np.sum([values[name] for name in by_size[MOST_NAMES - 1 :]], axis=0)
    return {name: values[name] for name in values if name in by_size[: MOST_NAMES - 1]} | {OTHERS: rest}


def _edges(stages: Sequence[StageDraw]) -> list[int]:
    return [*(stage.step for stage in stages), stages[-1].end]


def stacked(axis: Axes, edges: Sequence[int], values: Mapping[str, FloatArray], faces: Mapping[str, Face]) -> None:
    """One upon another, each as wide as its stage.

    Args:
        axis: drawn on.
        edges: of the stages, in steps, one more than there are stages.
        values: name → of each stage.
        faces: face of each name.
    """
    sums = np.cumsum([np.zeros(len(edges) - 1), *values.values()], axis=0)
    for (name, face), (low, high) in zip(faces.items(), pairwise(sums), strict=True):
        how = {**face.on_face(), "linewidth": 0.0}
        axis.stairs(high, edges, baseline=low, fill=True, label=fitted(name), **how)
