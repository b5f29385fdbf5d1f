"""What a run's record says of who was drawn and which rows: shares, lanes, passes, thinning, what never came.

Read for runs whose recipe says something of it; others have none of these lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from campus_tune.run.book_keeping import FILE as BOOK
from campus_tune.run.told import DROPPED
from campus_tune.scores.cache import read_columns
from campus_tune.words.errors import CampusError
from campus_tune.words.files import read_jsonl
from campus_tune.words.types import FloatArray, Json

MOST_ROWS = 200  # that a table of the page lists
LANES = ("offer", "mix", "review")


@dataclass(frozen=True)
class StageDraw:
    """How one stage was drawn.

    Args:
        index: of the stage, from 0.
        step: optimizer steps before it.
        end: the step after its last.
        lanes: rows of the offer, of the mix, and that came back.
        shares: of each stratum.
        offered: rows that had their turn.
        passed_over: of them, not taken.
        passes: over each domain until then.
        shortage: stratum → how it was helped, for those that had too few rows.
        ess: effective sample size of the thinning, as a share of the rows taken; None without.
    """

    index: int
    step: int
    end: int
    lanes: Mapping[str, int]
    shares: Mapping[str, float]
    offered: int
    passed_over: int
    passes: Mapping[str, float]
    shortage: Mapping[str, str]
    ess: float | None

    @staticmethod
    def of(decision: Json) -> StageDraw | None:
        """That of a decision; None where it was drawn as ever."""
        if "lanes" not in decision:
            return None
        return StageDraw(
            index=decision["stage"],
            step=decision["step"],
            end=decision["step"] + decision["steps"],
            lanes=decision["lanes"],
            shares=decision.get("shares", {}),
            offered=decision.get("offered", 0),
            passed_over=decision.get("passed_over", 0),
            passes=decision.get("passes", {}),
            shortage=decision.get("shortage", {}),
            ess=decision.get("thin", {}).get("ess"),
        )


@dataclass(frozen=True)
class DroppedRow:
    """A row that was left out of the run.

    Args:
        row: its number in the prepared training set.
        reason: in words.
        domain: "" where there are none.
        text: shortened; "" where unknown.
        instead: the row that was kept in its place; None for none.
    """

    row: int
    reason: str
    domain: str
    text: str
    instead: int | None


@dataclass(frozen=True)
class VisitedRow:
    """A row that was trained most often.

    Args:
        row: its number in the prepared training set.
        visits: how often.
        last: its loss when it was trained last, nats per token; None where the book does not keep it.
    """

    row: int
    visits: int
    last: float | None


@dataclass(frozen=True)
class DrawFacts:
    """Who was drawn, and which rows.

    Args:
        stages: in their sequence.
        cells: rows of each cell; {} without cells.
        dropped: rows left out for each reason.
        dropped_rows: the first of them.
        never: domain → rows that were never trained; {} while the run goes on.
        n_never: all of these.
        most_visited: the rows that were trained most often, of runs that keep a book.
    """

    stages: tuple[StageDraw, ...]
    cells: Mapping[str, int]
    dropped: Mapping[str, int]
    dropped_rows: tuple[DroppedRow, ...]
    never: Mapping[str, int]
    n_never: int
    most_visited: tuple[VisitedRow, ...]


def read_draw(home: Path, began: Json, decisions: list[Json], end: Json) -> DrawFacts | None:
    """What a run's folder and its ledger say of it; None for a run that drew as ever.

    Args:
        home: folder of the ledger.
        began: the line with which it began, or with which a changed recipe went on.
        decisions: its lines of decisions.
        end: its last line; {} while the run goes on.
    """
    stages = tuple(draw for decision in decisions if (draw := StageDraw.of(decision)) is not None)
    if not stages:
        return None
    never = end.get("never_trained", {})
    return DrawFacts(
        stages=stages,
        cells=began.get("cells", {}),
        dropped=began.get("dropped", {}),
        dropped_rows=_dropped(home / DROPPED) if began.get("dropped") else (),
        never=never.get("by_domain", {}),
        n_never=never.get("rows", 0),
        most_visited=_most_visited(home / BOOK) if end else (),
    )


def with_suspects(began: Json, events: Sequence[Json]) -> Json:
    """The line with which a run began, and among what is dropped the suspects that it has dropped since.

    Args:
        began: the line; of a run that went on under another recipe, the one that says so.
        events: all lines of its ledger.
    """
    later = events[events.index(began) :]
    n = sum(event["dropped"] for event in later if event["event"] == "suspects")
    return {**began, "dropped": {**began["dropped"], "suspects": n}} if n else began


def _dropped(path: Path) -> tuple[DroppedRow, ...]:
    """The first of the rows that a run lists; none where the list is not there, or damaged."""
    try:
        return tuple(
            DroppedRow(
                int(line["row"]), str(line["reason"]), line.get("domain", ""), line.get("text", ""), line.get("instead")
            )
            for line in read_jsonl(path)[:MOST_ROWS]
        )
    except (CampusError, KeyError, TypeError, ValueError):
        return ()


def _most_visited(path: Path, most: int = 20) -> tuple[VisitedRow, ...]:
    """The rows with the most visits, where some row has more of them than another."""
    try:
        columns = read_columns(path)[0]
        visits = columns["visits"].astype(np.int64)
    except (CampusError, OSError, KeyError, ValueError):
        return ()
    if not len(visits) or visits.max() == visits.min():
        return ()
    last: FloatArray | None = columns.get("last")
    order = np.argsort(-visits, kind="stable")[:most]
    return tuple(
        VisitedRow(row, int(visits[row]), None if last is None or np.isnan(last[row]) else float(last[row]))
        for row in order.tolist()
    )
