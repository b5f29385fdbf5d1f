"""What the page of a run says of what steered it: sentences, pictures, and tables of events and of moved shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from campus_tune.method.firing_lines import percent
from campus_tune.report.figures import Picture
from campus_tune.report.html_tables import GAP, Cell, HtmlTable, number, signed, words
from campus_tune.report.steer_facts import FiringFacts, SteerFacts
from campus_tune.report.steer_plots import STEER_PICTURES

FOLDED = 20  # rows above which a table waits to be opened
IN_NATS = "milestone"  # a loss, a competence or an accuracy; the numbers of all others are shares


@dataclass(frozen=True)
class SteerSection:
    """The section of the page.

    Args:
        sentences: what is to be said first.
        pictures: of it.
        tables: of it.
    """

    sentences: tuple[str, ...]
    pictures: tuple[Picture, ...]
    tables: tuple[HtmlTable, ...]


def steer_section(facts: SteerFacts, pictures: Sequence[Picture]) -> SteerSection:
    """What the page says of what steered a run.

    Args:
        facts: of the run.
        pictures: of the run, those of its steering among them.
    """
    tables = (events(facts), moved_shares(facts))
    return SteerSection(
        sentences=tuple(f"{sentence[0].upper()}{sentence[1:].rstrip('.')}." for sentence in facts.sentences),
        pictures=tuple(picture for picture in pictures if picture.name in STEER_PICTURES),
        tables=tuple(table for table in tables if table.rows),
    )


def events(facts: SteerFacts) -> HtmlTable:
    """One row for each firing, numbered as on the picture of the competence."""
    firings = facts.firings
    columns = {
        "no.": [number(i) for i, _ in enumerate(firings, 1)],
        "step": [number(one.step) for one in firings],
        "event": [words(_kind(one), kind="bad" if one.is_open else "") for one in firings],
        "time": [number(one.times) for one in firings],
        "probe": [words(one.probe) if one.probe is not None else Cell(GAP) for one in firings],
        "value": [_number(one, one.value) for one in firings],
        "bound": [_number(one, one.bound) for one in firings],
        "limit": [_number(one, one.against) for one in firings],
        "done": [words(one.answer or "noted") for one in firings],
    }
    if all(one.times == 1 for one in firings):
        del columns["time"]
    caption = "Events: what rules saw, the confidence bound of it, and what that is compared with"
    return HtmlTable(caption, list(columns), list(zip(*columns.values(), strict=True)), len(firings) <= FOLDED)


def moved_shares(facts: SteerFacts) -> HtmlTable:
    """One row for each time that shares moved, with the share of each group from then on."""
    names = list(dict.fromkeys(name for one in facts.moved for name in one.after))
    rows = [
        [number(one.step), *(_moved(one.before.get(name), one.after.get(name)) for name in names)]
        for one in facts.moved
    ]
    caption = "Shares that the record has moved, in percent: from the step on, and by how much"
    return HtmlTable(caption, ["step", *names], rows, len(rows) <= FOLDED)


def _kind(firing: FiringFacts) -> str:
    named = f" {firing.name}" if firing.name != firing.kind else ""
    return f"{firing.kind}{named}{', still open' if firing.is_open else ''}"


def _number(firing: FiringFacts, value: float | None) -> Cell:
    if value is None or firing.kind == IN_NATS:
        return number(value, ".3f")
    return Cell(signed(percent(value)), value)


def _moved(before: float | None, after: float | None) -> Cell:
    if after is None:
        return Cell(GAP)
    by = after - (0.0 if before is None else before)
    return Cell(f"{100 * after:.1f} ({'+' if round(100 * by, 1) > 0 else ''}{signed(f'{100 * by:.1f}')})", after)
