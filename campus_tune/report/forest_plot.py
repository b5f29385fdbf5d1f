"""The forest plot of a comparison: every arm's difference to plain shuffling, over all test rows and in each domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from campus_tune.compare.verdict import LOSS, REWARD, rows_of
from campus_tune.report.compare_facts import CompareFacts
from campus_tune.report.figures import BAND, GREY, INK, LONGEST, PALE, Face, Picture, fitted, legend_below, picture
from campus_tune.report.html_tables import signed
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ALL = "all test rows"
BETTER = {  # what the axis says, wide and narrow
    LOSS: ("← better   test loss against plain shuffling   worse →", "← better      loss      worse →"),
    REWARD: ("← worse   test reward against plain shuffling   better →", "← worse      reward      better →"),
}
MOST_DOMAINS = 20  # of a picture; the table has them all
Interval: TypeAlias = tuple[float, float | None, float | None]  # a value and the ends of its interval


def shares(difference: Json) -> Interval | None:
    """(value, low, high) of a difference as shares of the other arm's mean; None where they cannot be told."""
    mean = difference.get("mean_against")
    if not mean or mean < 0 or difference.get("value") is None:
        return None
    value, low, high = (difference.get(name) for name in ("value", "low", "high"))
    return value / mean, None if low is None else low / mean, None if high is None else high / mean


def forest(facts: CompareFacts, faces: Mapping[str, Face]) -> Picture | None:
    """The differences with their intervals."""
    rows = _rows(facts)
    if not rows:
        return None
    names = [name for name in faces if any(name in by_arm for by_arm in rows.values())]
    effect = float(facts.settings.get("effect", 0.0))
    overall = [_said(name, found) for name, found in rows[ALL].items()]
    recipe = next((name for name in names if name in rows[ALL]), names[0])
    domains = [_said(domain, by_arm[recipe]) for domain, by_arm in rows.items() if domain != ALL and recipe in by_arm]
    text = f"Test {facts.measure} against {facts.baseline}, with 95 % intervals: {'; '.join(overall)}."
    if domains:
        text += f" {recipe} by domain: {'; '.join(domains)}."
    return intervals(
        "forest",
        "Difference to plain shuffling",
        rows,
        {name: faces[name] for name in names},
        effect=effect,
        head=ALL,
        alt=text,
        measure=facts.measure,
        note=f"Lines are 95 % intervals over seeds and {rows_of(facts.measure)}, wider where several arms or domains "
        "are judged together: one that crosses the middle may be chance. The grey band is what is too small to matter "
        f"({effect:.1%}); a domain of few rows has no interval, and neither has an arm that cannot be judged.",
    )


def intervals(
    name: str,
    title: str,
    rows: Mapping[str, Mapping[str, Interval]],
    faces: Mapping[str, Face],
    *,
    effect: float,
    head: str = "",
    alt: str,
    note: str,
    measure: str = LOSS,
) -> Picture:
    """A forest plot: in each row the value of each arm, with its interval.

    Args:
        name: of the picture's file.
        title: above it on the page.
        rows: name of a row → arm → (value, low, high), shares of what plain shuffling ended with.
        faces: of the arms, in their sequence; each of them is in a row.
        effect: what is too small to matter, a share: a grey band.
        head: the row that is about all the others, the first one; "" where there is none.
        alt: what is seen, in numbers.
        note: how to read it.
        measure: loss or reward.
    """

    def draw(figure: Figure, narrow: bool) -> None:
        from matplotlib.ticker import FuncFormatter

        axis = figure.subplots()
        axis.axvspan(-100 * effect, 100 * effect, color=BAND, linewidth=0, zorder=0)
        axis.axvline(0, color=INK, linewidth=1)
        points: dict[str, Any] = {
            arm: {"color": face.colour, "marker": face.marker, "linestyle": "none"} for arm, face in faces.items()
        }
        for arm, point in points.items():  # the legend's, in their sequence, whichever rows an arm is in
            axis.plot([], [], markersize=8 if head else 5.5, label=fitted(arm), **point)
        for place, (row, by_arm) in enumerate(rows.items()):
            for i, (arm, face) in enumerate(faces.items()):
                if arm not in by_arm:
                    continue
                y = place + (i - (len(faces) - 1) / 2) * 0.8 / max(2, len(faces))
                (value, low, high), big = by_arm[arm], row == head
                if low is not None and high is not None:
                    axis.plot([100 * low, 100 * high], [y, y], color=face.colour, linewidth=2.4 if big else 1.5)
                axis.plot(100 * value, y, markersize=8 if big else 5.5, **points[arm])
        for place in (1,) if head else range(1, len(rows)):
            axis.axhline(place - 0.5, color=GREY if head else PALE, linewidth=0.8)
        axis.set_yticks(range(len(rows)), [fitted(row, 16 if narrow else LONGEST) for row in rows])
        if head:
            axis.get_yticklabels()[0].set_fontweight("bold")
        axis.set(ylim=(len(rows) - 0.5, -0.5), xlabel=BETTER[measure][narrow])
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{signed(f'{x:g}')} %"))
        axis.locator_params(axis="x", nbins=5 if narrow else 9)
        axis.grid(visible=False, axis="y")
        legend_below(figure, axis, narrow=narrow)

    lines = len(rows) * max(2, len(faces))
    return picture(name, title, draw, alt=alt, height=(1.1 + 0.15 * lines, 1.4 + 0.15 * lines), note=note)


def _rows(facts: CompareFacts) -> dict[str, dict[str, Interval]]:
    """Row of the picture → arm → (value, low, high); the largest differences where there are many domains."""
    rows: dict[str, dict[str, Interval]] = {}
    for arm, judgement in facts.judgements.items():
        differences = {ALL: judgement.get("difference"), **(judgement.get("domains") or {})}
        for name, difference in differences.items():
            found = shares(difference) if difference else None
            if found is not None:
                rows.setdefault(name, {})[arm] = found
    if ALL not in rows:
        return {}
    domains = sorted(
        (name for name in rows if name != ALL), key=lambda name: -max(abs(x[0]) for x in rows[name].values())
    )
    kept = set(domains[:MOST_DOMAINS])
    return {ALL: rows.pop(ALL), **{name: by_arm for name, by_arm in rows.items() if name in kept}}


def _said(name: str, found: Interval) -> str:
    value, low, high = (None if each is None else signed(f"{each:+.1%}") for each in found)
    return f"{name} {value}" if low is None or high is None else f"{name} {value} ({low} to {high})"
