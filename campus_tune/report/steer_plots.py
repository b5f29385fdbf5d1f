"""The pictures of what steered a run: events on its competence, a bandit's chances, what shares follow, the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from campus_tune.report.draw_plots import MOST_NAMES, stacked
from campus_tune.report.figures import (
    ACCENT,
    GREY,
    INK,
    Face,
    Picture,
    faces_of,
    fitted,
    legend_below,
    legend_of_faces,
    picture,
)
from campus_tune.report.steer_facts import FiringFacts, SteerFacts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STEER_PICTURES = ("bandit", "share_signal", "clock")
NUMBERED = 30  # events, above which marks are small and without a number
APART = 15.0  # points between two numbered marks
MOST_TOLD = 6  # events that a picture's text names


@dataclass(frozen=True)
class Mark:
    """How an event is marked on a line.

    Args:
        label: in the legend.
        colour: of it.
        shape: matplotlib's.
        size: that holds two digits, in points.
    """

    label: str
    colour: str
    shape: str
    size: float


MARKS = {
    "milestone": Mark("milestone met", "#00664b", "p", 16.0),
    "saturated": Mark("rows learned", "#5b3f8c", "h", 15.0),
    "stagnation": Mark("stands still", "#5d6470", "D", 11.5),
    "regression": Mark("regressed", "#b84f00", "s", 12.5),
    "recovered": Mark("recovered", "#005f96", "o", 14.0),
}
OTHER = Mark("other event", INK, "8", 14.0)


def steer_pictures(facts: SteerFacts) -> list[Picture]:
    """All that there is to show of it beside what the other pictures show."""
    drawn = [bandit(facts), signals(facts), clock(facts)]
    return [each for each in drawn if each is not None]


def mark_events(
    figure: Figure, axis: Axes, firings: Sequence[FiringFacts], curves: Mapping[str, Mapping[int, float]]
) -> None:
    """Mark events above the lines of their probes, numbered as in the table of the page.

    Those of no single probe stand at the top, over a dotted line.

    Args:
        figure: drawn on.
        axis: of the competence.
        firings: in their sequence.
        curves: domain → step → competence.
    """
    from matplotlib.transforms import ScaledTranslation

    many = len(firings) > NUMBERED
    inside: dict[str, Any] = {"ha": "center", "va": "center_baseline", "color": "white", "fontweight": "bold"}
    low, high = axis.get_ylim()
    top = high + 0.05 * (high - low)
    heights = [curves.get(one.probe or "", {}).get(one.step, top) for one in firings]
    lifts = lifted([one.step for one in firings], heights, axis, gap=7.0 if many else APART)
    for number, (firing, y, lift) in enumerate(zip(firings, heights, lifts, strict=True), 1):
        face = MARKS.get(firing.kind, OTHER)
        if y == top:
            axis.axvline(firing.step, color=GREY, linewidth=1, linestyle=":", zorder=1)
        where = axis.transData + ScaledTranslation(0, lift / 72, figure.dpi_scale_trans)
        how: dict[str, Any] = {"linestyle": "none", "color": face.colour, "markeredgecolor": "white"}
        how["markersize"] = 5.0 if many else face.size
        axis.plot([firing.step], [y], face.shape, transform=where, clip_on=False, zorder=6, **how)
        if not many:
            axis.text(firing.step, y, str(number), transform=where, fontsize=7.5, zorder=7, **inside)
    for face in dict.fromkeys(MARKS.get(one.kind, OTHER) for one in firings):
        axis.plot([], [], face.shape, color=face.colour, label=face.label, linestyle="none", markersize=7.0)
    axis.set_ylim(low, top + (max(lifts) + APART) / _points(axis)[1] * (top - low))


def lifted(steps: Sequence[int], heights: Sequence[float], axis: Axes, *, gap: float) -> list[float]:
    """How far above its point each mark stands, in points, so that none covers another one.

    Args:
        steps: of the marks.
        heights: of their points, in data.
        axis: with its limits.
        gap: between two marks, in points.
    """
    (left, right), (low, high), (width, height) = axis.get_xlim(), axis.get_ylim(), _points(axis)
    taken: list[tuple[float, float]] = []
    lifts = []
    for step, y in zip(steps, heights, strict=True):
        x, base = (step - left) / (right - left) * width, (y - low) / (high - low) * height
        lift = 0.85 * gap
        while any(abs(x - a) < 0.9 * gap and abs(base + lift - b) < 0.95 * gap for a, b in taken):
            lift += gap / 2
        taken.append((x, base + lift))
        lifts.append(lift)
    return lifts


def _points(axis: Axes) -> tuple[float, float]:
    """About how large the axis will be, in points."""
    figure = axis.get_figure(root=True)
    assert figure is not None
    width, height = figure.get_size_inches()
    return 0.88 * 72 * width, 0.68 * 72 * height


def events_text(firings: Sequence[FiringFacts]) -> str:
    """The marks in words; "" without any."""
    said = [f"{number} at step {firing.step}: {firing.what}" for number, firing in enumerate(firings[:MOST_TOLD], 1)]
    more = f"; and {len(firings) - MOST_TOLD} more" if len(firings) > MOST_TOLD else ""
    return f" Events: {'; '.join(said)}{more}." if said else ""


def calibration(measured: Sequence[tuple[int, Mapping[str, float]]]) -> Picture | None:
    """The calibration error of each probe domain over the steps.

    Args:
        measured: (step, domain → error) of each measurement.
    """
    names = list(dict.fromkeys(name for _, errors in measured for name in errors))
    curves = {name: [(step, errors[name]) for step, errors in measured if name in errors] for name in names}
    if not names:
        return None
    few = sorted(names, key=lambda name: -curves[name][-1][1])[:MOST_NAMES]
    faces = {name: face for name, face in faces_of(names).items() if name in few}

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        for name, face in faces.items():
            axis.plot(*zip(*curves[name], strict=True), label=fitted(name), **face.on_line(len(curves[name])))
        axis.set(ylim=(0, None), xlabel="optimizer step", ylabel="calibration error")
        legend_below(figure, axis, narrow=narrow)

    changes = [f"{name} {curves[name][0][1]:.3f} to {curves[name][-1][1]:.3f}" for name in faces]
    return picture(
        "calibration",
        "Calibration on held-out probes",
        draw,
        alt=f"Expected calibration error from first to last: {', '.join(changes)}.",
        height=(2.9, 3.3),
        note="How far the probability that the model gives to its most likely token is from how often it is right, on "
        "average: 0 is perfect." + (f" Of {len(names)} domains the worst." if len(names) > len(few) else ""),
    )


def bandit(facts: SteerFacts) -> Picture | None:
    """A bandit's chances over the stages, and what each stage was worth to it."""
    if not facts.pi:
        return None
    faces = faces_of(facts.pi)
    worth = {name: [(float(one.step), one.value) for one in facts.rewards if one.chosen == name] for name in facts.pi}

    def draw(figure: Figure, narrow: bool) -> None:
        parts = 2 if facts.rewards else 1
        top, *below = figure.subplots(parts, 1, sharex=True, squeeze=False, height_ratios=[2.2, 1.3][:parts]).flat
        stacked(top, facts.edges, facts.pi, faces)
        top.set(xlim=(facts.edges[0], facts.edges[-1]), ylim=(0, 1), ylabel="chance")
        for bottom in below:
            for name, face in faces.items():
                seen = worth[name] or [(np.nan, np.nan)]
                points = {**face.on_line(1), "linestyle": "none", "clip_on": False}
                bottom.plot(*zip(*seen, strict=True), **points)
            bottom.axhline(0, color=INK, linewidth=1, linestyle=":")
            bottom.set(ylim=(-1.1, 1.1), ylabel="reward")
        [top, *below][-1].set_xlabel("optimizer step")
        legend_of_faces(figure, faces, narrow=narrow)

    last = max((i for i in range(len(facts.edges) - 1) if any(pi[i] for pi in facts.pi.values())), default=0)
    chances = ", ".join(f"{name} {pi[last]:.0%}" for name, pi in facts.pi.items())
    means = ", ".join(f"{name} {np.mean([value for _, value in seen]):.2f}" for name, seen in worth.items() if seen)
    return picture(
        "bandit",
        "What the bandit learned",
        draw,
        alt=f"Chances at the last choice: {chances}." + (f" Mean rewards: {means}." if means else ""),
        height=(3.6, 4.2) if facts.rewards else (2.6, 3.0),
        note="Each sub-curriculum's chance of being chosen; where there is none, nothing was chosen. A point below is "
        "what a stage was worth, at its first step, in [−1, 1] beside the others.",
    )


def signals(facts: SteerFacts) -> Picture | None:
    """What the shares follow, each time that they moved."""
    names = list(dict.fromkeys(name for moved in facts.moved for name in moved.signal))
    curves = {name: [(one.step, one.signal[name]) for one in facts.moved if name in one.signal] for name in names}
    if not names:
        return None
    few = sorted(names, key=lambda name: -abs(curves[name][-1][1]))[:MOST_NAMES]
    faces = {name: face for name, face in faces_of(names).items() if name in few}

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        for name, face in faces.items():
            axis.plot(*zip(*curves[name], strict=True), label=fitted(name), **face.on_line(len(curves[name])))
        axis.axhline(0, color=INK, linewidth=1, linestyle=":")
        axis.set(xlabel="optimizer step", ylabel="signal")
        axis.set_xlim(0, facts.edges[-1])
        legend_below(figure, axis, narrow=narrow)

    return picture(
        "share_signal",
        "What the shares follow",
        draw,
        alt="Signal when shares moved last: "
        + ", ".join(f"{name} {curves[name][-1][1]:.3g}" for name in faces)
        + f". Times that they moved: {len(facts.moved)}.",
        height=(2.7, 3.1),
        note="Where it is high a group gets more of the rows; the settings say what it is (domains: reweight)."
        + (f" Of {len(names)} groups those with the largest." if len(names) > len(few) else ""),
    )


def clock(facts: SteerFacts) -> Picture | None:
    """The clock's progress to the handover beside that of the steps."""
    if not facts.progress:
        return None
    steps, progress = np.array(facts.progress, dtype=float).T
    end = facts.handover * facts.total_steps
    by_steps = np.minimum(steps / end, 1.0) if end else np.ones_like(steps)

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        axis.plot(steps, progress, label="the clock", **Face(ACCENT, "-", "o", "").on_line(len(steps)))
        axis.plot([0, end], [0, 1], color=GREY, linestyle="--", label="by steps")
        axis.set(xlim=(0, facts.edges[-1]), ylim=(0, 1.04), xlabel="optimizer step", ylabel="progress to the handover")
        legend_below(figure, axis, narrow=narrow)

    far = int(np.abs(progress - by_steps).argmax())
    side = "ahead of" if progress[far] > by_steps[far] else "behind"
    return picture(
        "clock",
        "The clock",
        draw,
        alt=f"The clock went from {progress[0]:.0%} at step {steps[0]:.0f} to {progress[-1]:.0%} at step "
        f"{steps[-1]:.0f}; it was furthest from the steps at step {steps[far]:.0f}, by "
        f"{abs(progress[far] - by_steps[far]):.0%} {side} them.",
        height=(2.7, 3.1),
        note="How far the orders are open hangs on it: above the dashed line they open sooner than by the steps alone.",
    )
