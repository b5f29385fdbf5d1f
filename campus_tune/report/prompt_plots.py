"""The pictures of what a model's answers to prompts have shown, for runs that are driven by reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.report.draw_plots import MOST_NAMES
from campus_tune.report.figures import (
    ACCENT,
    DARK,
    GREY,
    INK,
    Face,
    Picture,
    faces_of,
    fitted,
    legend_below,
    percent,
    picture,
)
from campus_tune.report.prompt_facts import BINS, PromptFacts, PromptMapFacts, StagePrompts
from campus_tune.run.prompt_map import ALWAYS, CONTRADICTS, MIDDLE, NEVER, NEVER_DRAWN, NOT_SCORED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROMPT_PICTURES = ("without_gradient", "pass_rates", "pass_rates_by_band", "rewards", "prompt_map")
BANDS = ("up to 20 %", "20 to 40 %", "40 to 60 %", "60 to 80 %", "above 80 %")  # that was expected to pass
BAND_FACES = dict(
    zip(
        BANDS,
        [
            Face("#D55E00", "-", "o", ""),
            Face("#E69F00", "--", "s", ""),
            Face("#009E73", "-.", "^", ""),
            Face("#56B4E9", ":", "D", ""),
            Face("#0072B2", (0, (5, 1)), "v", ""),
        ],
        strict=True,
    )
)
FACES = {  # of regions, the same on every page
    MIDDLE: Face("#009E73", "-", "o", ""),
    ALWAYS: Face("#0072B2", "-", "s", "///"),
    NEVER: Face("#E69F00", "-", "^", "|||"),
    CONTRADICTS: Face(ACCENT, "-", "X", "xxx"),
    NOT_SCORED: Face("#CC79A7", "-", "D", "\\\\\\"),
    NEVER_DRAWN: Face("#b4bac3", "-", "o", "---"),
}
UNKNOWN = Face(DARK, "-", "*", "")  # of a region that a later version knows


def prompt_words(region: str) -> str:
    """A region of the map of prompts as people say it.

    >>> prompt_words("middle"), prompt_words("contradicts_itself")
    ('passed sometimes', 'contradicts itself')
    """
    return "passed sometimes" if region == MIDDLE else region.replace("_", " ")


def prompt_pictures(facts: PromptFacts) -> list[Picture]:
    """All that there is to show of it."""
    drawn = [
        without_gradient(facts) if facts.stages else None,
        pass_rates(facts),
        by_band(facts),
        rewards(facts),
        prompt_map(facts.map) if facts.map is not None else None,
    ]
    return [each for each in drawn if each is not None]


def without_gradient(facts: PromptFacts) -> Picture:
    """Groups without a gradient in each stage, and what shuffling would have had."""
    edges = [*(stage.step for stage in facts.stages), facts.stages[-1].end]
    own = np.array([np.nan if stage.shown.flat is None else stage.shown.flat for stage in facts.stages])
    alike = np.array([np.nan if stage.shuffled is None else stage.shuffled for stage in facts.stages])
    known = bool(np.isfinite(alike).any())

    def paint(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        axis.stairs(own, edges, fill=True, color=ACCENT, alpha=0.22)
        axis.stairs(own, edges, baseline=None, color=ACCENT, linewidth=2.0, label="this run")
        if known:
            axis.stairs(
                alike,
                edges,
                baseline=None,
                color=INK,
                linestyle="--",
                linewidth=1.6,
                label="shuffled prompts, estimated",
            )
        axis.set(ylim=(0, 1.02), xlabel="optimizer step", ylabel="share of the groups", xlim=(edges[0], edges[-1]))
        percent(axis.yaxis)
        legend_below(figure, axis, narrow=narrow, columns=2)

    total, shuffled = facts.total.flat or 0.0, facts.shuffled
    beside = "" if shuffled is None else f"; with shuffled prompts it would have been about {shuffled:.0%}"
    return picture(
        "without_gradient",
        "Groups without a gradient",
        paint,
        alt=f"{total:.0%} of all groups gave no gradient{beside}. In stage {facts.stages[0].index} it was "
        f"{own[0]:.0%}, in stage {facts.stages[-1].index} {own[-1]:.0%}.",
        height=(2.9, 3.3),
        note="A group is the answers to one prompt. Where all of them earn the same, it moves nothing."
        + (" The dashed line is an estimate, from the same pass rates that prompts are drawn by." if known else ""),
    )


def _rates(stages: Sequence[StagePrompts], name: str) -> list[tuple[int, float]]:
    """(step, pass rate) of a domain where it had answers."""
    found = [(stage.end, stage.by_domain[name].pass_rate) for stage in stages if name in stage.by_domain]
    return [(step, rate) for step, rate in found if rate is not None]


def pass_rates(facts: PromptFacts) -> Picture | None:
    """Share of the answers that passed, all together and by domain."""
    overall = [(stage.end, stage.shown.pass_rate) for stage in facts.stages if stage.shown.pass_rate is not None]
    if not overall:
        return None
    many = facts.domains
    sizes = {name: facts.over(name).n for name in many}
    names = sorted(sorted(many, key=lambda name: -sizes[name])[:MOST_NAMES], key=many.index)

    def paint(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        for name, face in faces_of(names).items():
            points = _rates(facts.stages, name)
            if points:
                how = {**face.on_line(len(points)), "linewidth": 1.1}
                axis.plot(*zip(*points, strict=True), label=fitted(name), **how)
        axis.plot(*zip(*overall, strict=True), color=INK, linewidth=2.6, marker=_dot(overall), label="all prompts")
        axis.set(ylim=(-0.02, 1.02), xlabel="optimizer step at the stage's end", ylabel="answers that passed")
        percent(axis.yaxis)
        legend_below(figure, axis, narrow=narrow, columns=6)

    text = f"{overall[0][1]:.0%} of the answers passed in stage {facts.stages[0].index}, {overall[-1][1]:.0%} in stage "
    text += f"{facts.stages[-1].index}."
    ends = {name: _rates(facts.stages, name) for name in names}
    by = [f"{name} {points[0][1]:.0%} to {points[-1][1]:.0%}" for name, points in ends.items() if points]
    return picture(
        "pass_rates",
        "Pass rates over time",
        paint,
        alt=text + (f" By domain, first to last: {', '.join(by)}." if by else ""),
        height=(3.2, 3.6),
        note="Of the prompts that were drawn, which may be other ones in each stage: a run that draws harder prompts "
        "as it learns can have a flat line. Test prompts tell learning from drawing."
        + (f" Of {len(many)} domains those with most groups." if len(many) > len(names) else ""),
    )


def _dot(points: Sequence[object]) -> str | None:
    """What marks a line's points: one alone is no line, and would not be seen."""
    return "o" if len(points) == 1 else None


def by_band(facts: PromptFacts) -> Picture | None:
    """Pass rates of prompts by what had been expected of them."""
    found: dict[str, list[tuple[int, float]]] = {}
    for place, band in enumerate(BANDS):
        banded = [stage for stage in facts.stages if len(stage.by_band) == len(BANDS)]
        told = [(stage.end, stage.by_band[place].pass_rate) for stage in banded]
        points = [(step, rate) for step, rate in told if rate is not None]
        if points:
            found[band] = points
    if not found:
        return None

    def paint(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        for band, points in found.items():
            axis.plot(*zip(*points, strict=True), label=band, **BAND_FACES[band].on_line(len(points)))
        axis.set(ylim=(-0.02, 1.02), xlabel="optimizer step at the stage's end", ylabel="answers that passed")
        percent(axis.yaxis)
        legend_below(figure, axis, narrow=narrow)

    of_run = [
        f"{band}: {shown.pass_rate:.0%}"
        for band, shown in zip(BANDS, facts.bands(), strict=False)
        if shown.pass_rate is not None
    ]
    return picture(
        "pass_rates_by_band",
        "Pass rates by what was expected",
        paint,
        alt=f"Over the run, by the rate that was expected of a prompt, so many answers passed: {'; '.join(of_run)}.",
        height=(3.0, 3.5),
        note="Prompts by the pass rate that was expected when their stage was opened, from earlier answers or "
        "predicted. Where expectations are right, each line stays inside of its band.",
    )


def rewards(facts: PromptFacts) -> Picture | None:
    """Mean reward of each stage, and of each function where there are several; None where passing is all there is."""
    names = list(dict.fromkeys(name for stage in facts.stages for name in stage.rewards))
    known = [stage for stage in facts.stages if stage.reward is not None]
    plain = all(stage.reward == stage.shown.pass_rate for stage in known)
    if not known or (plain and len(names) < 2):
        return None

    def paint(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        for name, face in faces_of(names if len(names) > 1 else []).items():
            points = [(stage.end, stage.rewards[name]) for stage in facts.stages if name in stage.rewards]
            how = {**face.on_line(len(points)), "linewidth": 1.1}
            axis.plot(*zip(*points, strict=True), label=fitted(name), **how)
        total = [(stage.end, stage.reward) for stage in known]
        axis.plot(*zip(*total, strict=True), color=INK, linewidth=2.6, marker=_dot(total), label="weighted sum")
        axis.set(xlabel="optimizer step at the stage's end", ylabel="mean reward")
        legend_below(figure, axis, narrow=narrow, columns=4)

    return picture(
        "rewards",
        "Rewards",
        paint,
        alt=f"The mean weighted reward went from {known[0].reward:.3g} in stage {known[0].index} to "
        f"{known[-1].reward:.3g} in stage {known[-1].index}.",
        height=(3.0, 3.4),
    )


def prompt_map(facts: PromptMapFacts) -> Picture | None:
    """Prompts by the share of their answers that passed, and those never drawn by what is expected of them."""
    heights = {name: counts for name, counts in facts.drawn.items() if counts.any()}
    if facts.undrawn is not None and facts.undrawn.any():
        heights[NEVER_DRAWN] = facts.undrawn
    if not heights:
        return None
    places = np.arange(BINS + 2)

    def paint(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        below = np.zeros(BINS + 2)
        for name, counts in heights.items():
            face = FACES.get(name, UNKNOWN)
            said = "never drawn, by prediction" if name == NEVER_DRAWN else prompt_words(name)
            axis.bar(places, counts, 0.9, below, label=said, **face.on_face())
            below = below + counts
        ticks = {0.0: "none", (BINS + 1) / 2: "half", BINS + 1.0: "all"}
        axis.set_xticks(list(ticks), list(ticks.values()))
        axis.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
        axis.axvline(BINS + 0.5, color=GREY, linewidth=0.8, linestyle=":")
        axis.set(xlabel="share of a prompt's answers that passed", ylabel="prompts")
        axis.grid(visible=False, axis="x")
        legend_below(figure, axis, narrow=narrow, columns=4)

    return picture(
        "prompt_map",
        "The map of the prompts",
        paint,
        alt=f"{facts.sentence}.",
        height=(3.3, 3.9),
        note="Each bar between the dotted lines is a tenth. Where rewards have two values, prompts of the outer bars "
        "gave no gradient whenever they were drawn, and those in the middle gave most."
        + (" Those never drawn stand where they are predicted to be." if facts.undrawn is not None else ""),
    )
