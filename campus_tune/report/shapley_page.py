"""The page of what groups of rows are worth: the values with their intervals, and who helps whom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from campus_tune.compare.kinds import SHAPLEY
from campus_tune.compare.result_file import FILE as RESULT
from campus_tune.compare.result_file import RUNS
from campus_tune.compare.row_groups import ALL
from campus_tune.compare.shapley_file import read_shapley
from campus_tune.report import markdown as short
from campus_tune.report.figures import GREY, INK, LONGEST, Picture, fitted, picture
from campus_tune.report.heat_map import HARMS, HELPS, Heat, heat_map, heat_table
from campus_tune.report.html_tables import GAP, Fact, HtmlTable, number, signed, words
from campus_tune.report.page import PageParts
from campus_tune.words.types import FloatArray, Json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORM = ".4f"


def shapley_page(folder: Path) -> PageParts:
    """The page of values of groups.

    Args:
        folder: of the trainings.

    Raises:
        DataError: its file cannot be read.
    """
    about = read_shapley(folder / SHAPLEY)
    found, groups = about["found"], about["groups"]
    done = sum(1 for _ in folder.glob(f"{RUNS}/*/*/{RESULT}"))
    pictures = [] if found is None else [each for each in (worth(about), transfer(about)) if each is not None]
    by = "" if groups["by"] is None else f", each cut into thirds by `{groups['by']}`"
    facts = [] if found is None else _facts(about)
    tables = [] if found is None else [values_table(about), heat_table(CELLS, heat(about), form=FORM, corner="group")]
    sentences = [] if found is None else found["sentences"]
    content = {
        "title": "What are the data worth? Values of groups",
        "name": folder.resolve().name,
        "finished": found is not None,
        "progress": f"{done} {'training is' if done == 1 else 'trainings are'} done.",
        "markdown": short.summary(
            f"Values of groups `{folder.resolve().name}`",
            short.marked(" ".join(sentences)),
            short.of_facts(facts),
            *map(short.of_table, tables),
        ),
        "sentences": sentences,
        "facts": facts,
        "pictures": pictures,
        "tables": tables,
        "groups": f"The groups are the domains that the column `{groups['column']}` names{by}.",
        "model": about["model"],
        "settings": yaml.safe_dump(about["campus"], sort_keys=False, allow_unicode=True),
        "training": yaml.safe_dump(about["training"], sort_keys=False, allow_unicode=True) if about["training"] else "",
        "command": about["command"],
        "test": f"{about['test']['items']} test rows of {', '.join(about['test']['path'])} (fingerprint "
        f"{about['test']['digest']})",
        "footer": "Made by campus_tune from trainings on sets of groups. This page is one file and needs no network.",
    }
    return PageParts(content, pictures, found is not None)


CELLS = "Worth to each test domain, nats per token, with intervals that are right together in 95 of 100 cases"


def _facts(about: Json) -> list[Fact]:
    found = about["found"]
    how = "every set of groups" if found["exact"] else f"{found['sequences']} drawn sequences"
    cut = f", {found['truncated']} of them cut short" if found["truncated"] else ""
    loss = found["loss"]
    return [
        Fact("Groups", str(len(found["values"])), f"{sum(about['groups']['sizes']):,} rows"),
        Fact("Trainings", f"{found['trainings']:,}", f"{how}{cut}"),
        Fact("Seeds", str(len(about["seeds"])), ", ".join(map(str, about["seeds"]))),
        Fact("Test loss", f"{loss['after']:.4f}", f"{loss['before']:.4f} before training"),
    ]


def heat(about: Json) -> Heat:
    """What each group is worth to each test domain.

    Args:
        about: the file's content, values in it.
    """
    values, domains = about["found"]["values"], list(about["found"]["losses"])

    def cells(name: str) -> FloatArray:
        shown = [[one["domains"][domain][name] for domain in domains] for one in values.values()]
        return np.array(shown, dtype=np.float64)  # null becomes NaN

    low, high = cells("low"), cells("high")
    if np.isnan(low).all():
        return Heat(tuple(values), tuple(domains), cells("value"))
    return Heat(tuple(values), tuple(domains), cells("value"), low, high)


def transfer(about: Json) -> Picture | None:
    """The same as a picture."""
    return heat_map(
        "transfer",
        "Who helps whom",
        heat(about),
        form=FORM if len(about["found"]["losses"]) <= 5 else ".2g",
        down="rows of",
        across="test domain",
        note="How much of each test domain's gain is owed to each group: a column adds up to the gain.",
    )


def worth(about: Json) -> Picture:
    """What each group is worth, the most first.

    Args:
        about: the file's content, values in it.
    """
    ordered = _most_first(about)
    lines = len(ordered)
    ends = [one[name] for _, one in ordered for name in ("value", "low", "high") if one[name] is not None] + [0.0]
    # intervals of few seeds are so wide that no bar would be seen: the picture ends at twice the bars
    most = 2 * max(max(abs(one["value"]) for _, one in ordered), 1e-9)

    def draw(figure: Figure, narrow: bool) -> None:
        axis = figure.subplots()
        axis.axvline(0, color=INK, linewidth=1)
        for place, (_, one) in enumerate(ordered):
            axis.barh(place, one["value"], 0.62, color=HELPS if one["value"] > 0 else HARMS, linewidth=0)
            if one["stderr"] is not None:
                around = [one["value"] - one["stderr"], one["value"] + one["stderr"]]
                axis.plot(around, [place, place], color=INK, linewidth=3.2, solid_capstyle="butt")
            if one["low"] is not None:
                axis.plot([one["low"], one["high"]], [place, place], color=GREY, linewidth=1.2)
        axis.set_yticks(range(lines), [fitted(name, 16 if narrow else LONGEST) for name, _ in ordered])
        axis.set(ylim=(lines - 0.5, -0.5), xlabel="← harms   worth, nats per token   helps →")
        axis.set_xlim(max(min(ends), -most) - 0.05 * most, min(max(ends), most) + 0.05 * most)
        axis.locator_params(axis="x", nbins=4 if narrow else 8)
        axis.grid(visible=False, axis="y")

    said = "; ".join(f"{name} {_told(one)}" for name, one in ordered)
    return picture(
        "worth",
        "Worth of each group",
        draw,
        alt=f"Worth of each group in nats per token of the test loss: {said}.",
        height=(1.1 + 0.34 * lines, 1.2 + 0.34 * lines),
        note="Thick lines are standard errors, thin ones intervals, right together in 95 of 100 cases; what goes "
        "beyond the picture's edge is in the table. All values add up to what training on all rows gains.",
    )


def _most_first(about: Json) -> list[tuple[str, Json]]:
    return sorted(about["found"]["values"].items(), key=lambda pair: -pair[1]["value"])


def _told(one: Json) -> str:
    value = signed(f"{one['value']:+.4f}")
    if one["low"] is None:
        return value
    return f"{value} ({signed(format(one['low'], '+.4f'))} to {signed(format(one['high'], '+.4f'))})"


def values_table(about: Json) -> HtmlTable:
    """Values with their errors, the most first.

    Args:
        about: the file's content, values in it.
    """
    sizes = dict(zip(about["groups"]["names"], about["groups"]["sizes"], strict=True))
    loss = about["found"]["loss"]
    gain = loss["before"] - loss["after"]
    errors = {} if about["found"]["exact"] else {"by_sequence": "± of sequences"}
    errors |= {"by_seed": "± of seeds"}
    rows = []
    for name, one in _most_first(about):
        clear = one["low"] is not None and (one["low"] > 0 or one["high"] < 0)
        kind = ("good" if one["value"] > 0 else "bad") if clear else ""
        between = GAP if one["low"] is None else _told(one).partition(" (")[2].rstrip(")")
        rows.append(
            [
                words(name),
                number(sizes[name]),
                number(one["value"], FORM, kind=kind),
                number(one["value"] / gain if gain > 0 else None, ".0%"),
                *(number(one[error], FORM) for error in errors),
                words(between),
                number(1000 * one["value"] / sizes[name], FORM),
            ]
        )
    total = [words(ALL), number(sum(sizes.values())), number(gain, FORM), number(1.0 if gain > 0 else None, ".0%")]
    head = ["group", "rows", "worth", "share", *errors.values(), "interval", "of 1000 rows"]
    rows.append([*total, *(words("") for _ in head[len(total) :])])
    return HtmlTable("Worth of each group: nats per token by which it lowers the test loss", head, rows)
