"""The pictures of one run, each with a text that says in numbers what is seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from campus_tune.method.curriculum import SHUFFLE
from campus_tune.report.draw_plots import draw_pictures
from campus_tune.report.figures import (
    ACCENT,
    BINNED,
    GREY,
    INK,
    Face,
    Picture,
    faces_of,
    fitted,
    from_zero,
    legend_below,
    legend_of_faces,
    percent,
    picture,
    plain_log,
    strip,
    thinned,
)
from campus_tune.report.map_plots import map_picture
from campus_tune.report.prompt_plots import prompt_pictures
from campus_tune.report.run_facts import RunOnDisk
from campus_tune.report.score_plots import correlations, histograms, lr_deciles, of_mean
from campus_tune.report.steer_plots import calibration, events_text, mark_events, steer_pictures
from campus_tune.report.value_page import transfer_picture
from campus_tune.report.weight_plots import weight_pictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RINGS = 60  # stages, above which the chosen one is no longer ringed: the band below says it


def run_pictures(facts: RunOnDisk) -> list[Picture]:
    """All pictures that this run has something to show for, in the page's sequence."""
    faces = faces_of(facts.choices, plain=SHUFFLE)
    drawn = [
        map_picture(facts.map) if facts.map is not None else None,
        *(prompt_pictures(facts.prompts) if facts.prompts is not None else ()),
        transfer_picture(facts.value) if facts.value is not None else None,
        choices(facts, faces),
        competence(facts),
        calibration([(probe.step, probe.calibration) for probe in facts.probes]),
        pacing(facts),
        *(draw_pictures(facts.draw) if facts.draw is not None else ()),
        *(steer_pictures(facts.steer) if facts.steer is not None else ()),
        *(weight_pictures(facts.weights) if facts.weights is not None else ()),
        training_loss(facts),
        evaluations(facts),
        cost_bar(facts.cost, facts.budget) if facts.cost and (facts.prompts is None or facts.cost["all"]) else None,
        lr_deciles({"": {label: of_mean([rates]) for label, rates in facts.rates.items()}}, faces_of(facts.rates)),
        histograms(facts.scores),
        correlations(facts.correlation_names, facts.correlation),
        rank_load(facts.ranks) if facts.ranks else None,
    ]
    return [each for each in drawn if each is not None]


def choices(facts: RunOnDisk, faces: Mapping[str, Face]) -> Picture | None:
    """What each sub-curriculum offered at every decision, and what was chosen."""
    if not facts.stages:
        return None
    offered = [name for name in facts.choices if any(name in stage.offers for stage in facts.stages)]
    edges = [*(stage.step for stage in facts.stages), facts.stages[-1].end]

    def draw(figure: Figure, narrow: bool) -> None:
        if offered:
            top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4.5, 0.55])
            for i, name in enumerate(offered):
                _offers_of(top, facts, name, faces[name], aside=i * 0.006 * edges[-1])
            top.set_yscale("log")
            plain_log(top.yaxis)
            ringed = "" if len(facts.stages) > RINGS else " (ringed: chosen)"
            top.set_title(f"perplexity offered{ringed}")
        else:
            bottom = figure.subplots()
        strip(bottom, edges, [stage.chosen for stage in facts.stages], faces)
        bottom.set(yticks=[], ylim=(-0.5, 0.5), xlabel="optimizer step", xlim=(-0.012 * edges[-1], edges[-1]))
        bottom.set_title("chosen" if len(facts.stages) <= BINNED else "chosen, share of the stages")
        bottom.grid(visible=False)
        legend_of_faces(figure, faces, narrow=narrow)

    return picture(
        "choices",
        "What was offered, what was chosen",
        draw,
        alt=choices_text(facts, offered),
        height=(4.3, 4.6) if offered else (1.5, 1.9),
        note="Bars and bands are two standard errors of the sampled rows' loss. The lower a perplexity, the easier the "
        "model finds those rows at that moment."
        if offered
        else "",
    )


def _offers_of(axis: Axes, facts: RunOnDisk, name: str, face: Face, *, aside: float) -> None:
    """Side by side, or one's error bars hide the other's."""
    seen = [(stage.step, stage.offers[name], stage.chosen == name) for stage in facts.stages if name in stage.offers]
    steps = np.array([step for step, _, _ in seen], dtype=float)
    loss, stderr = np.array([[offer.loss, offer.stderr] for _, offer, _ in seen]).T
    low, high = np.maximum(loss - 2 * stderr, 0.0), loss + 2 * stderr  # no perplexity is below 1
    if len(seen) > RINGS:
        axis.fill_between(steps, np.exp(low), np.exp(high), color=face.colour, alpha=0.15, linewidth=0)
        axis.plot(steps, np.exp(loss), label=fitted(name), **face.on_line(len(seen)))
        return
    spread = [np.exp(loss) - np.exp(low), np.exp(high) - np.exp(loss)]
    axis.errorbar(
        steps + aside, np.exp(loss), yerr=spread, capsize=2.5, elinewidth=1, label=fitted(name), **face.on_line(1)
    )
    ringed = np.array([chosen for _, _, chosen in seen])
    axis.scatter(
        (steps + aside)[ringed],
        np.exp(loss)[ringed],
        s=130,
        facecolors="none",
        edgecolors=INK,
        linewidths=1.4,
        zorder=5,
    )


def choices_text(facts: RunOnDisk, offered: list[str]) -> str:
    """The picture of the choices in words."""
    counts = {name: sum(stage.chosen == name for stage in facts.stages) for name in facts.choices}
    chosen = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    text = f"{len(facts.stages)} stages over {facts.stages[-1].end} steps. Times chosen: {chosen}."
    for name in offered:
        seen = [(stage.step, stage.offers[name].loss) for stage in facts.stages if name in stage.offers]
        (first, before), (last, after) = seen[0], seen[-1]
        text += (
            f" {name} offered perplexity {_perplexity(before)} at step {first}, {_perplexity(after)} at step {last}."
        )
    return text


def _perplexity(loss: float) -> str:
    return f"{np.exp(min(loss, 700.0)):.3g}"


def competence(facts: RunOnDisk) -> Picture | None:
    """Competence of each domain at every measurement of the probes."""
    names = list(dict.fromkeys(name for probe in facts.probes for name in probe.competence))
    if not names:
        return None
    curves = {name: {p.step: p.competence[name] for p in facts.probes if name in p.competence} for name in names}
    firings = facts.steer.firings if facts.steer is not None else ()

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        for name, face in faces_of(names).items():
            axis.plot(*zip(*curves[name].items(), strict=True), label=fitted(name), **face.on_line(len(curves[name])))
        axis.set(ylim=(0, None), xlabel="optimizer step", ylabel="competence")
        if firings:
            mark_events(figure, axis, firings, curves)
        legend_below(figure, axis, narrow=narrow)

    def change(name: str) -> str:
        values = [probe.competence[name] for probe in facts.probes if name in probe.competence]
        if len(values) == 1:
            return f"competence of {name} is {values[0]:.2f}"
        moved = "rose" if values[-1] > values[0] else "fell" if values[-1] < values[0] else "stayed"
        return f"competence of {name} {moved} from {values[0]:.2f} to {values[-1]:.2f}"

    text = "; ".join(change(name) for name in names)
    return picture(
        "competence",
        "Competence on held-out probes",
        draw,
        alt=f"{text[0].upper()}{text[1:]}.{events_text(firings)}",
        height=(3.6, 4.0) if firings else (3.2, 3.4),
        note="exp(−mean loss of an answer token): the probability that the model gives to the right token, in [0, 1]."
        + (" The numbers are those of the table of events." if firings else ""),
    )


def pacing(facts: RunOnDisk) -> Picture | None:
    """How far the chosen order was open in each stage, and the share of its rows that was random."""
    if not facts.stages:
        return None
    edges = [*(stage.step for stage in facts.stages), facts.stages[-1].end]
    low, high = np.array([stage.scope for stage in facts.stages]).T
    random = np.array([stage.random_rows / max(1, stage.rows) for stage in facts.stages])

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        axis.stairs(high, edges, baseline=low, fill=True, color="#0072B2", alpha=0.25)
        axis.stairs(high, edges, color="#0072B2", linewidth=1.7, label="order opened up to", baseline=None)
        axis.stairs(random, edges, color=ACCENT, linestyle="--", linewidth=1.7, label="drawn at random", baseline=None)
        axis.set(ylim=(-0.02, 1.04), xlabel="optimizer step", ylabel="share of rows")
        percent(axis.yaxis)
        legend_below(figure, axis, narrow=narrow)

    return picture(
        "pacing",
        "Pacing",
        draw,
        alt=f"The scope opened from {high[0]:.0%} of the rows in stage {facts.stages[0].index} to {high[-1]:.0%} in "
        f"stage {facts.stages[-1].index}; {random.mean():.0%} of a stage's rows were drawn at random on average.",
        height=(2.7, 3.0),
        note="The filled part of the order, from easy (0 %) to hard (100 %), is what a stage may draw from.",
    )


def training_loss(facts: RunOnDisk) -> Picture | None:
    """Mean loss of what each stage trained, together and by domain."""
    seen = [stage for stage in facts.stages if stage.train_loss is not None]
    overall = [(stage.end, stage.train_loss) for stage in seen if stage.train_loss is not None]
    if not seen:
        return None
    names = list(dict.fromkeys(name for stage in seen for name in stage.train_loss_by_domain))

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        for name, face in faces_of(names).items():
            points = [(s.end, s.train_loss_by_domain[name]) for s in seen if name in s.train_loss_by_domain]
            axis.plot(*zip(*points, strict=True), label=fitted(name), **{**face.on_line(len(points)), "linewidth": 1.1})
        axis.plot(*zip(*overall, strict=True), color=INK, linewidth=2.6, label="all rows")
        axis.set(xlabel="optimizer step at the stage's end", ylabel="loss, nats per token")
        from_zero(axis)
        legend_below(figure, axis, narrow=narrow, columns=6)

    return picture(
        "training_loss",
        "Training loss of each stage",
        draw,
        alt=f"Training loss went from {overall[0][1]:.2f} nats per token in stage {seen[0].index} to "
        f"{overall[-1][1]:.2f} in stage {seen[-1].index}; each stage trained other rows.",
        height=(3.2, 3.5),
        note="Stages train rows of different difficulty, so this line may rise while the model learns; the probes tell "
        "learning from difficulty.",
    )


def evaluations(facts: RunOnDisk) -> Picture | None:
    """Scores of official tasks over the steps."""
    keys = list(dict.fromkeys(key for each in facts.evaluations for key in each.scores))
    if not keys:
        return None

    def points(key: tuple[str, str]) -> list[tuple[int, float, float]]:
        found = [(each.step, each.scores[key]) for each in facts.evaluations if key in each.scores]
        return [(step, value, stderr or 0.0) for step, (value, stderr) in found]

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        for key, face in faces_of([" ".join(key) for key in keys]).items():
            steps, values, stderr = np.array(points(keys[[" ".join(k) for k in keys].index(key)])).T
            axis.errorbar(
                steps, values, yerr=stderr, capsize=2.5, elinewidth=1, label=fitted(key), **face.on_line(len(steps))
            )
        axis.set(xlabel="optimizer step", ylabel="score")
        legend_below(figure, axis, narrow=narrow, columns=3)

    texts = []
    for key in keys:
        found = points(key)
        texts.append(f"{' '.join(key)} {found[0][1]:.3f} at step {found[0][0]}, {found[-1][1]:.3f} at {found[-1][0]}")
    return picture(
        "evaluations",
        "Official tasks",
        draw,
        alt="; ".join(texts) + ".",
        height=(3.0, 3.4),
        note="Bars are one standard error.",
    )


def cost_bar(cost: Mapping[str, float], budget: float) -> Picture:
    """What measuring cost, against the budget."""
    paid = {name: share for name, share in cost.items() if name != "all" and share > 0}
    total = cost.get("all", sum(paid.values()))

    def draw(figure: Figure, narrow: bool) -> None:
        axis, left = figure.subplots(), 0.0
        for name, face in faces_of(paid).items():
            axis.barh(0, paid[name], left=left, height=0.6, label=f"{fitted(name)} {paid[name]:.1%}", **face.on_face())
            left += paid[name]
        axis.axvline(budget, color=INK, linewidth=2, linestyle="--", label=f"budget {budget:.1%}")
        axis.set(yticks=[], xlim=(0, 1.08 * max(budget, total, 1e-6)), xlabel="share of the training compute")
        axis.grid(visible=False, axis="y")
        percent(axis.xaxis)
        legend_below(figure, axis, narrow=narrow)

    parts = ", ".join(f"{name} {share:.1%}" for name, share in paid.items())
    return picture(
        "cost",
        "What the curriculum cost",
        draw,
        alt=f"The curriculum cost {total:.1%} of the training compute against a budget of {budget:.1%}"
        + (f": {parts}." if parts else "."),
        height=(1.5, 1.9),
    )


def rank_load(ranks: Mapping[str, Any]) -> Picture:
    """Tokens and padding of every rank."""
    tokens, padding = np.array(ranks["tokens"], dtype=float), np.array(ranks["padding"], dtype=float)
    padded = tokens / np.maximum(1.0 - padding, 1e-9) - tokens
    shown = thinned(len(tokens), 64)

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        axis.bar(shown, tokens[shown], color="#0072B2", label="tokens of its rows")
        axis.bar(
            shown, padded[shown], bottom=tokens[shown], facecolor="white", edgecolor=GREY, hatch="///", label="padding"
        )
        axis.set(xlabel="rank", ylabel="tokens")
        if len(shown) <= 16:
            axis.set_xticks(shown)
        legend_below(figure, axis, narrow=narrow)

    return picture(
        "ranks",
        "Load of the ranks",
        draw,
        alt=f"{len(tokens)} ranks trained {tokens.min():,.0f} to {tokens.max():,.0f} tokens each; padding was "
        f"{padding.min():.0%} to {padding.max():.0%} of what they read.",
        height=(2.6, 2.9),
    )
