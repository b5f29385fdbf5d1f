"""The pictures of how much rows counted, for runs whose recipe weighs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from campus_tune.method.weighed import BARS
from campus_tune.report.draw_plots import MOST_NAMES, stacked
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
from campus_tune.report.weight_facts import WeightFacts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WEIGHT_PICTURES = ("weights", "weight_ess", "weights_by_domain")
# from blue (counts less) over pale to orange (counts more); every second one is hatched
COLOURS = ("#1b1f24", "#00406a", "#0072B2", "#56a5d8", "#b9d9ee", "#fbe0b5", "#f0a93a", "#d0780a", "#8a4400")
FACES = {
    name: Face(colour, "-", "o", "///" if place % 2 else "")
    for place, (name, colour) in enumerate(zip(BARS, COLOURS, strict=True))
}


def weight_pictures(facts: WeightFacts) -> list[Picture]:
    """All that there is to show of it."""
    if not facts.stages:
        return []
    drawn = [weights(facts), effective_rows(facts), by_domain(facts)]
    return [each for each in drawn if each is not None]


def weights(facts: WeightFacts) -> Picture:
    """The histogram of each stage's weights, as a column."""
    shares = {name: share for name, share in zip(BARS, facts.bars(), strict=True) if share.any()}

    def paint(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        stacked(axis, facts.edges, shares, {name: FACES[name] for name in shares})
        axis.set(ylim=(0, 1), xlabel="optimizer step", ylabel="share of the rows, by weight")
        axis.set_xlim(facts.edges[0], facts.edges[-1])
        percent(axis.yaxis)
        legend_below(figure, axis, narrow=narrow, columns=len(BARS))

    first, last = facts.stages[0], facts.stages[-1]
    named = ", ".join(f"{name} {n / sum(last.bars):.0%}" for name, n in zip(BARS, last.bars, strict=True) if n)
    return picture(
        "weights",
        "Weights of the rows",
        paint,
        alt=f"Weights were {first.least:.2g} to {first.most:.2g} in stage {first.index}, {last.least:.2g} to "
        f"{last.most:.2g} in stage {last.index}. Rows by weight there: {named}.",
        height=(3.2, 3.8),
        note="A row's weight is what its gradient was multiplied by: 1 on average where it was planned; where the "
        "forward decides it, as near to 1 as the stage before foresaw. A gap is a stage without weights.",
    )


def effective_rows(facts: WeightFacts) -> Picture:
    """How many of its rows each stage was left to learn from."""
    steps = np.array([stage.step for stage in facts.stages])
    ess = np.array([stage.ess for stage in facts.stages])
    half = np.array([np.nan if stage.half is None else stage.half for stage in facts.stages])

    def paint(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        axis.plot(steps, ess, label="effective sample size", **Face(ACCENT, "-", "o", "").on_line(len(steps)))
        if not np.isnan(half).all():
            label = "rows with half of the gradient"
            axis.plot(steps, half, label=label, **Face(INK, "--", "s", "").on_line(len(steps)))
        axis.set(ylim=(0, 1.04), xlabel="optimizer step", ylabel="of the stage's rows")
        axis.set_xlim(facts.edges[0], facts.edges[-1])
        percent(axis.yaxis)
        legend_below(figure, axis, narrow=narrow, columns=2)

    return picture(
        "weight_ess",
        "How many rows the weights left to learn from",
        paint,
        alt=f"The effective sample size was {ess[0]:.0%} of the rows at step {steps[0]}, {ess[-1]:.0%} at step "
        f"{steps[-1]}; the least was {ess.min():.0%}.",
        height=(2.7, 3.2),
        note="The effective sample size is 100 % where all weights are alike; where it is small, a few rows decide "
        "what is learned.",
    )


def by_domain(facts: WeightFacts) -> Picture | None:
    """The mean weight of each domain's rows over the stages."""
    names = list(dict.fromkeys(name for stage in facts.stages for name in stage.by_domain))
    if len(names) < 2:
        return None
    spread = {name: np.ptp([stage.of_mean.get(name, 1.0) for stage in facts.stages] + [1.0]) for name in names}
    few = sorted(names, key=lambda name: -spread[name])[:MOST_NAMES]

    def paint(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        for name, face in faces_of(few).items():
            seen = [(stage.step, stage.of_mean[name]) for stage in facts.stages if name in stage.by_domain]
            axis.plot(*zip(*seen, strict=True), label=fitted(name), **face.on_line(len(seen)))
        axis.axhline(1.0, color=INK, linewidth=1, linestyle=":")
        axis.set(ylim=(0, None), xlabel="optimizer step", ylabel="of the stage's mean weight")
        axis.set_xlim(facts.edges[0], facts.edges[-1])
        legend_below(figure, axis, narrow=narrow)

    last = [stage.of_mean for stage in facts.stages if stage.by_domain][-1]
    return picture(
        "weights_by_domain",
        "Weights of each domain",
        paint,
        alt="Weights in the last stage, as multiples of its mean: "
        + ", ".join(f"{name} {last[name]:.2f}" for name in few if name in last)
        + ".",
        height=(2.9, 3.4),
        note="Means over answer tokens. Above the dotted line a domain counted for more than its part of the tokens."
        + (f" Of {len(names)} domains those that were moved most." if len(names) > len(few) else ""),
    )
