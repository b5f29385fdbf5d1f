"""What the page of a run says of the values of its rows: how far to trust them, the transfer, the furthest rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from campus_tune.method.value import ALL
from campus_tune.report.figures import Picture
from campus_tune.report.heat_map import Heat, heat_map, heat_table
from campus_tune.report.html_tables import HtmlTable, number, signed, words
from campus_tune.report.map_page import SHORT, ShownRow, readable
from campus_tune.report.value_facts import FarRow, ValueFacts
from campus_tune.run.value_table import HARMFUL, HELPFUL, agreement

TRANSFER_PICTURE = "transfer"  # name of its file
CHANCE = "Hatched cells may be chance: the interval over rows holds 0, or halves of the probes disagree."
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
OPENED = 3  # rows of each side that are shown without being asked for
MOST_BY_PROBE = 4  # probe domains that a row's line names
READ_AS = (
    "A cell says what training a row of the domain on its left did to the loss of the probe domain below: above 0 it "
    "helped. First order, during this run: a proposal, not a proof. `campus-tune ablate` trains without a domain to "
    "see."
)


@dataclass(frozen=True)
class FarRows:
    """The rows of one side.

    Args:
        caption: what they are.
        first: rows that are shown.
        rest: those that wait to be opened.
    """

    caption: str
    first: tuple[ShownRow, ...]
    rest: tuple[ShownRow, ...]


@dataclass(frozen=True)
class ValueSection:
    """The section of the page.

    Args:
        sentence: what is to be said first.
        notes: how far it can be trusted, code between backticks.
        picture: of the transfer; None without values.
        tables: of it, and of the reliabilities.
        far: the furthest rows of each side.
    """

    sentence: str
    notes: tuple[str, ...]
    picture: Picture | None
    tables: tuple[HtmlTable, ...]
    far: tuple[FarRows, ...]


def transfer_picture(facts: ValueFacts) -> Picture | None:
    """The heat map of the transfer; None where there is nothing to draw."""
    if facts.transfer is None:
        return None
    heat, unit = scaled(facts.transfer)
    title, note = "What the domains did to each other", f"What training a row of the domain on the left did{unit}."
    return heat_map(TRANSFER_PICTURE, title, heat, form=".2f", note=note, chance=CHANCE)


def scaled(heat: Heat) -> tuple[Heat, str]:
    """The same in a unit that people can read, and that unit in words; "" where the numbers can be read as they are.

    >>> import numpy as np
    >>> scaled(Heat(("a",), ("p",), np.array([[0.0034]])))[1]
    ', in units of 10⁻³'
    """
    power = math.floor(math.log10(heat.largest)) if heat.largest > 0 else 0
    power = 0 if -1 <= power <= 1 else power
    values, low, high = (None if each is None else each / 10.0**power for each in (heat.values, heat.low, heat.high))
    assert values is not None, "a heat map has values"
    unit = f", in units of 10{str(power).translate(SUPERSCRIPT)}" if power else ""
    return replace(heat, values=values, low=low, high=high), unit


def value_section(facts: ValueFacts, pictures: Sequence[Picture]) -> ValueSection:
    """What the page says of the values of a run's rows.

    Args:
        facts: of the run.
        pictures: of the run, that of its transfer among them.
    """
    sides = {HELPFUL: "rows that helped the probes most", HARMFUL: "rows that harmed the probes most"}
    shown = {side: tuple(far_row(row) for row in facts.of_side(side)) for side in sides}
    return ValueSection(
        sentence=f"{facts.sentence[:1].upper()}{facts.sentence[1:].rstrip('.')}.",
        notes=_notes(facts),
        picture=next((picture for picture in pictures if picture.name == TRANSFER_PICTURE), None),
        tables=() if facts.transfer is None else (transfer_table(facts, facts.transfer), reliabilities(facts)),
        far=tuple(
            FarRows(f"The {len(rows)} {sides[side]}", rows[:OPENED], rows[OPENED:])
            for side, rows in shown.items()
            if rows
        ),
    )


def _notes(facts: ValueFacts) -> tuple[str, ...]:
    if not facts.rows:
        return ()
    whole, notes = facts.split_half.get(ALL), [READ_AS]
    if whole is not None:
        notes.append(
            "The value of a row was measured with one half of each domain's probes and with the other. On this run the "
            f"halves {agreement(whole.value)}{_interval(whole.value, whole.low, whole.high)}. Inside of the domains, "
            f"and per token, they {agreement(whole.inside)}{_interval(whole.inside)}."
        )
    if facts.not_valued:
        rows = "1 row has" if facts.not_valued == 1 else f"{facts.not_valued:,} rows have"
        notes.append(f"{rows} no value: not trained, or only while it counted nothing or nothing was measured.")
    if facts.negative:
        notes.append(
            "`drop: [{by: value, path: RUN/curriculum/value/values.parquet}]` in a recipe, with this run's output_dir "
            "for RUN, leaves out of its run the rows that harm, a tenth of all at most."
        )
    return tuple(notes)


def _interval(value: float | None, low: float | None = None, high: float | None = None) -> str:
    if value is None:
        return ""
    between = "" if low is None or high is None else f", {signed(f'{low:.2f}')} to {signed(f'{high:.2f}')}"
    return f" (split-half {signed(f'{value:.2f}')}{between})"


def transfer_table(facts: ValueFacts, transfer: Heat) -> HtmlTable:
    """One row for each trained domain, with the visits that were measured.

    Args:
        facts: of the run.
        transfer: what its domains did to each other.
    """
    heat, unit = scaled(transfer)
    table = heat_table(
        f"What a trained row of each domain did to each probe domain, with 95 % intervals over rows{unit}",
        heat,
        form=".2f",
        corner="rows of",
    )
    rows = [[*row, number(facts.visits[name])] for name, row in zip(heat.rows, table.rows, strict=True)]
    return replace(table, head=[*table.head, "measured visits"], rows=rows)


def reliabilities(facts: ValueFacts) -> HtmlTable:
    """One row for all probe domains, and one for each."""
    names = {ALL: "all probe domains", **{name: name for name in facts.split_half if name != ALL}}
    rows = [
        [
            words(names[name]),
            *(number(one, ".2f") for one in (of.value, of.low, of.high, of.inside)),
            words(agreement(of.value).partition(":")[0]),
        ]
        for name, of in facts.split_half.items()
    ]
    head = ["probes", "split-half", "from", "to", "inside of domains, per token", "the halves"]
    return HtmlTable("How far halves of the probes agree on the rows", head, rows)


def far_row(row: FarRow) -> ShownRow:
    """A row as it is shown.

    Args:
        row: one of the furthest.
    """
    parts = (("row", row.text),) if row.text and not row.answer else (("prompt", row.prompt), ("answer", row.answer))
    a, b = row.halves
    most = sorted(row.by_probe.items(), key=lambda pair: -abs(pair[1]))[:MOST_BY_PROBE]
    why = [
        f"value {_small(row.value)}, by halves of the probes {_small(a)} and {_small(b)}",
        ", ".join(f"{readable(name, SHORT)} {_small(value)}" for name, value in most),
        "trained once" if row.visits == 1 else f"trained {row.visits} times",
    ]
    return ShownRow(
        title=" · ".join(filter(None, [f"Row {row.row}", readable(row.domain, SHORT)])),
        why=" · ".join(why),
        parts=tuple((what, readable(text)) for what, text in parts if text),
        before="",
        said="",
        rather="",
        chance="",
    )


def _small(value: float) -> str:
    return signed(f"{value:.2g}")
