"""The pictures of a comparison, each with a text that says in numbers what is seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.compare.verdict import LOSS, REWARD, rows_of
from campus_tune.method.curriculum import SHUFFLE
from campus_tune.report.compare_facts import RECIPE, CompareFacts
from campus_tune.report.figures import (
    BASE,
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
    strip,
)
from campus_tune.report.forest_plot import forest
from campus_tune.report.html_tables import signed
from campus_tune.report.score_plots import lr_deciles, of_mean
from campus_tune.words.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOKENS = {LOSS: "trained tokens", REWARD: "generated tokens"}
MOST_PANELS = 9  # domains whose curves are drawn
MOST_STRIPS = 16  # runs whose choices are drawn
CONFIDENCE_BINS = 15  # equal ones, as calibration is measured
LATE = 0.5  # of the tokens, from which the second panel shows the curves


def compare_pictures(facts: CompareFacts) -> list[Picture]:
    """All pictures that this comparison has something to show for, in the page's sequence."""
    faces = faces_of([arm.name for arm in facts.arms], plain=facts.baseline, plain_face=BASE)
    drawn = [
        curves(facts, faces),
        domain_curves(facts, faces),
        forest(facts, faces),
        choices(facts),
        costs(facts),
        lr_mass(facts, faces),
        calibration(facts, faces),
    ]
    return [each for each in drawn if each is not None]


def curves(facts: CompareFacts, faces: Mapping[str, Face]) -> Picture | None:
    """Loss on the test rows over trained tokens, or reward over generated ones: the mean of the seeds, and a band."""
    known = {arm.name: found for arm in facts.arms if (found := arm.curves()) is not None}
    if not known:
        return None

    label = f"test {facts.measure}" if facts.by_reward else "test loss, nats per token"
    counted = TOKENS[facts.measure]

    def lines(axis: Axes, since: float) -> None:
        for name, (tokens, losses) in known.items():
            late = max(0, int(np.searchsorted(tokens, since * tokens[-1], side="right")) - 1)  # a line takes two points
            x, seen = tokens[late:], losses[:, late:]
            mean, low, high = seen.mean(axis=0), seen.min(axis=0), seen.max(axis=0)
            axis.fill_between(x, low, high, color=faces[name].colour, alpha=0.16, linewidth=0)
            axis.plot(x, mean, label=fitted(name), **faces[name].on_line(len(x)))
        axis.set_xlabel(counted)
        axis.xaxis.set_major_formatter(_thousands)
        axis.locator_params(axis="x", nbins=5)

    def draw(figure: Figure, narrow: bool) -> None:
        whole, late = figure.subplots(2, 1) if narrow else figure.subplots(1, 2)
        lines(whole, 0.0)
        whole.set(title="from the start", ylabel=label)
        lines(late, LATE)
        late.set_title("the second half, closer")
        if narrow:
            late.set_ylabel(label)
        for arm, run in ((one, run) for one in facts.arms for run in one.diverged):  # up to a cross
            curve, face = run.get("curve") or {}, faces[arm.name]
            pairs = zip(curve.get("tokens", []), curve.get(facts.measure, []), strict=True)
            if points := [(x, y) for x, y in pairs if y is not None]:
                whole.plot(*zip(*points, strict=True), color=face.colour, linewidth=0.9, linestyle=face.line)
                whole.plot(*points[-1], color=face.colour, marker="X", markersize=9, markeredgecolor=INK, zorder=6)
        from_zero(whole)
        legend_below(figure, whole, narrow=narrow)

    last = {name: losses[:, -1] for name, (_, losses) in known.items()}
    ends = [f"{name} {loss.mean():.3f} ({loss.min():.3f} to {loss.max():.3f})" for name, loss in last.items()]
    return picture(
        "curves",
        f"Test {facts.measure} over {counted}",
        draw,
        alt=f"{facts.measure.capitalize()} on the {rows_of(facts.measure)} at the end, mean and range of the seeds: "
        f"{'; '.join(ends)}.",
        height=(3.5, 5.6),
        note="Lines are means over seeds, bands reach from the lowest to the highest seed. A cross marks a run that "
        "diverged.",
    )


def domain_curves(facts: CompareFacts, faces: Mapping[str, Face]) -> Picture | None:
    """The loss or reward of each domain over tokens, means of the seeds; the domains with the most rows."""
    sizes = (facts.settings.get("test") or {}).get("domains") or {}
    met = dict.fromkeys(
        name for arm in facts.arms for run in arm.finished for name in (run.get("curve") or {}).get("domains") or {}
    )
    names = sorted(met, key=lambda name: -sizes.get(name, 0))[:MOST_PANELS]
    found = {name: {arm.name: one for arm in facts.arms if (one := arm.curves(name)) is not None} for name in names}
    if len(found) < 2:
        return None

    def draw(figure: Figure, narrow: bool) -> None:
        columns = 1 if narrow else min(3, len(found))
        axes = figure.subplots(-(-len(found) // columns), columns, squeeze=False).ravel()
        for axis, (domain, known) in zip(axes, found.items(), strict=False):
            for name, (tokens, losses) in known.items():
                axis.plot(tokens, losses.mean(axis=0), label=fitted(name), **faces[name].on_line(len(tokens)))
            axis.set_title(fitted(domain))
            axis.xaxis.set_major_formatter(_thousands)
            axis.locator_params(axis="x", nbins=4)
        for axis in axes[len(found) :]:
            axis.set_visible(False)
        for axis in axes[::columns]:
            axis.set_ylabel(f"test {facts.measure}")
        figure.supxlabel(TOKENS[facts.measure], fontsize=8.5)
        legend_below(figure, axes[0], narrow=narrow)

    texts = [
        f"{domain}: {', '.join(f'{name} {losses[:, -1].mean():.3f}' for name, (_, losses) in known.items())}"
        for domain, known in found.items()
    ]
    left = f" The {len(found)} largest of {len(met)} domains." if len(met) > len(found) else ""
    return picture(
        "domain_curves",
        f"Test {facts.measure} by domain",
        draw,
        alt=f"Mean test {facts.measure} at the end, by domain. {'; '.join(texts)}.",
        height=(0.9 + 2.2 * -(-len(found) // 3), 1.1 + 2.0 * len(found)),
        note=f"Means over seeds; the table of speeds says where the difference is more than chance.{left}",
    )


def _thousands(value: float, _: object = None) -> str:
    for unit, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def choices(facts: CompareFacts) -> Picture | None:
    """What every run of the recipes chose over its steps."""
    runs = [
        (f"{fitted(arm.name)}, seed {run['seed']}", run) for arm in facts.arms if arm.kind == RECIPE for run in arm.runs
    ]
    shown = [(label, run["choices"]) for label, run in runs if run.get("choices")][:MOST_STRIPS]
    names = list(dict.fromkeys(each["chosen"] for _, chosen in shown for each in chosen))
    if set(names) <= {SHUFFLE}:
        return None
    faces = faces_of(sorted(names, key=lambda name: name == SHUFFLE), plain=SHUFFLE)

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        for i, (_, chosen) in enumerate(shown):
            edges = [*(each["step"] for each in chosen), chosen[-1]["step"] + chosen[-1]["steps"]]
            strip(axis, edges, [each["chosen"] for each in chosen], faces, y=float(i))
        axis.set_yticks(range(len(shown)), [label.replace(", ", "\n" if narrow else ", ") for label, _ in shown])
        axis.set(xlabel="optimizer step", ylim=(len(shown) - 0.4, -0.6))
        axis.grid(visible=False)
        legend_of_faces(figure, faces, narrow=narrow)

    def shares(name: str) -> str:
        rows = [sum(each.get("rows", 0) for each in chosen if each["chosen"] == name) for _, chosen in shown]
        total = sum(each.get("rows", 0) for _, chosen in shown for each in chosen)
        return f"{name} {sum(rows) / max(1, total):.0%}"

    return picture(
        "choices",
        "What the recipes chose",
        draw,
        alt=f"Share of the rows by sub-curriculum over {len(shown)} runs: {', '.join(map(shares, faces))}.",
        height=(0.9 + 0.3 * len(shown), 1.2 + 0.42 * len(shown)),
    )


def costs(facts: CompareFacts) -> Picture | None:
    """What measuring cost in every arm, by purpose."""
    shares: dict[str, dict[str, float]] = {}
    for arm in facts.arms:
        paid = dict.fromkeys(name for run in arm.finished for name in run.get("cost") or {} if name != "all")
        shares[arm.name] = {name: arm.mean("cost", name) or 0.0 for name in paid}
    # in the sequence in which they are met, without what cost nothing anywhere
    purposes = [
        name
        for name in dict.fromkeys(name for by_purpose in shares.values() for name in by_purpose)
        if any(by_purpose.get(name) for by_purpose in shares.values())
    ]
    if not purposes:
        return None

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        left = np.zeros(len(shares))
        for name, face in faces_of(purposes).items():
            widths = np.array([by_purpose.get(name, 0.0) for by_purpose in shares.values()])
            axis.barh(range(len(shares)), widths, left=left, height=0.62, label=fitted(name), **face.on_face())
            left += widths
        for i, total in enumerate(left):
            axis.text(total, i, f" {total:.1%}", va="center", fontsize=8.5)
        axis.set_yticks(
            range(len(shares)), [fitted(name).replace("_", "_\n") if narrow else fitted(name) for name in shares]
        )
        axis.set(xlabel="share of the training compute", xlim=(0, 1.2 * left.max()), ylim=(len(shares) - 0.4, -0.6))
        axis.grid(visible=False, axis="y")
        axis.locator_params(axis="x", nbins=5)
        percent(axis.xaxis)
        legend_below(figure, axis, narrow=narrow)

    totals = [f"{name} {sum(by_purpose.values()):.1%}" for name, by_purpose in shares.items()]
    return picture(
        "costs",
        "What the curricula cost",
        draw,
        alt=f"Extra cost as a share of the training compute: {'; '.join(totals)}.",
        height=(1.0 + 0.36 * len(shares), 1.3 + 0.45 * len(shares)),
    )


def lr_mass(facts: CompareFacts, faces: Mapping[str, Face]) -> Picture | None:
    """With which learning rate each arm trained each tenth of the rows, by metric."""
    found: dict[str, dict[str, FloatArray]] = {}
    for arm in facts.arms:
        met = [run.get("learning_rate") or {} for run in arm.finished]
        for label in dict.fromkeys(label for rates in met for label in rates):
            found.setdefault(label, {})[arm.name] = of_mean([rates[label] for rates in met if label in rates])
    return lr_deciles(found, faces)


def calibration(facts: CompareFacts, faces: Mapping[str, Face]) -> Picture | None:
    """How often the model was right where it was how sure, by arm."""
    found: dict[str, tuple[FloatArray, float]] = {}
    for arm in facts.arms:
        measured = [run["calibration"] for run in arm.finished if run.get("calibration")]
        if measured:
            found[arm.name] = _pooled([one["bins"] for one in measured]), float(np.mean([m["error"] for m in measured]))
    if not found:
        return None

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (2, 2)), label="as sure as right")
        for name, (bins, error) in found.items():
            axis.plot(
                bins[:, 0], bins[:, 1], label=f"{fitted(name)}, error {error:.3f}", **faces[name].on_line(len(bins))
            )
        axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence in the likeliest next token", ylabel="how often right")
        percent(axis.xaxis)
        percent(axis.yaxis)
        legend_below(figure, axis, narrow=narrow, columns=4)

    errors = [f"{name} {signed(f'{error:.3f}')}" for name, (_, error) in found.items()]
    return picture(
        "calibration",
        "Calibration on the probes",
        draw,
        alt=f"Expected calibration error of next-token predictions: {'; '.join(errors)}.",
        height=(3.3, 3.9),
        note="Below the dotted line the model is surer than it is right.",
    )


def _pooled(seeds: list[list[list[float]]]) -> FloatArray:
    """Bins of several seeds as one: means weighted by tokens, shape (bins, 3). Seeds leave out their empty bins."""
    every = np.array([one for bins in seeds for one in bins], dtype=np.float64).reshape(-1, 3)
    every = every[every[:, 2] > 0]
    place = np.minimum((every[:, 0] * CONFIDENCE_BINS).astype(np.int64), CONFIDENCE_BINS - 1)
    found = []
    for number in np.unique(place):
        confidence, right, tokens = every[place == number].T
        found.append([np.average(confidence, weights=tokens), np.average(right, weights=tokens), tokens.sum()])
    return np.array(found, dtype=np.float64).reshape(-1, 3)
