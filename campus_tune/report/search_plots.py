"""The picture of a search: every trial's loss where it was measured, beside the recipe as it stands with its seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from campus_tune.compare.search import shown_changes
from campus_tune.report.figures import BASE, COLOURS, GREY, Picture, fitted, legend_below, percent, picture
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def search_pictures(search: Json) -> list[Picture]:
    """The picture, once a trial has a loss.

    Args:
        search: `search.json`.
    """
    steps = (search.get("ladder") or {"steps": []})["steps"]
    lines = {
        one["trial"]: [(step, loss) for step, loss in zip(steps, one["losses"], strict=False) if loss is not None]
        for one in search.get("trials", [])
    }
    lines = {trial: points for trial, points in lines.items() if points}
    if not lines:
        return []
    standing = search.get("standing") or {}
    best = standing.get("best")
    changes = {one["trial"]: shown_changes(one["changes"]) for one in search["trials"]}
    recipe = [
        [(step, loss) for step, loss in zip(one["step"], one["loss"], strict=True) if step in steps]
        for one in search.get("recipe", [])
    ]

    own = means(recipe)

    def beside(points: Sequence[tuple[int, float]]) -> tuple[list[int], list[float]]:
        """Steps, and losses as shares above the recipe's mean there: falling curves would hide what differs."""
        known = [(step, loss / own[step] - 1) for step, loss in points if step in own]
        return [step for step, _ in known], [share for _, share in known]

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        for trial, points in lines.items():
            if trial != best:
                axis.plot(*beside(points), color=GREY, linewidth=0.9, marker="o", markersize=3)
        for i, points in enumerate(recipe):
            label = "the recipe as it stands, each seed" if i == 0 else None
            axis.plot(
                *beside(points),
                color=BASE.colour,
                linestyle=BASE.line,
                marker="d",
                markersize=4,
                label=label,
            )
        if best in lines:
            label = fitted(f"trial {best}: {changes[best]}", 40)
            axis.plot(*beside(lines[best]), color=COLOURS[0], linewidth=2, marker="o", label=label)
        if len(steps) > 1:
            axis.set_xscale("log")
            axis.set_xticks(steps, [str(step) for step in steps])
            axis.minorticks_off()
        else:
            axis.set_xticks(steps)
        axis.set(xlabel="step", ylabel="loss beside the recipe" if narrow else "search rows' loss beside the recipe")
        percent(axis.yaxis)
        legend_below(figure, axis, narrow=narrow)

    ended = {trial: points[-1] for trial, points in lines.items() if points[-1][0] == steps[-1]}
    said = "; ".join(f"trial {trial} {loss:.4f}" for trial, (_, loss) in sorted(ended.items())) or "none yet"
    seeds = ", ".join(f"{points[-1][1]:.4f}" for points in recipe if points)
    return [
        picture(
            "trials",
            "Trials and the recipe",
            draw,
            alt=f"Losses of {len(lines)} trials at steps {', '.join(map(str, steps))}. At the end: {said}. The recipe "
            f"as it stands, seed by seed: {seeds}.",
            height=(3.4, 3.6),
            note="A line that ends early was stopped there: better trials went on. The dashed lines differ by nothing "
            "but the seed, so trials between them are ranked by luck.",
        )
    ]


def means(curves: Sequence[Sequence[tuple[int, float]]]) -> dict[int, float]:
    """The mean loss of several curves at each of their steps.

    >>> means([[(1, 2.0), (3, 1.0)], [(1, 4.0)]])
    {1: 3.0, 3: 1.0}
    """
    at_step: dict[int, list[float]] = {}
    for points in curves:
        for step, loss in points:
            at_step.setdefault(step, []).append(loss)
    return {step: sum(losses) / len(losses) for step, losses in at_step.items()}
