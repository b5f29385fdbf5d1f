"""What the page of a run says of who was drawn and which rows, in tables."""

from __future__ import annotations

from collections.abc import Mapping

from campus_tune.report.draw_facts import DrawFacts
from campus_tune.report.html_tables import Cell, HtmlTable, number, words

FOLDED = 20  # rows above which a table waits to be opened


def draw_tables(draw: DrawFacts, rows_by_domain: Mapping[str, int]) -> list[HtmlTable]:
    """All that there is to say of it; a table without rows is left out.

    Args:
        draw: of the run.
        rows_by_domain: of the training set.
    """
    sizes = [[words(name), number(n)] for name, n in draw.cells.items()]
    cells = HtmlTable("Cells, inside which scores are compared", ["cell", "rows"], sizes, opened=False)
    found = [_shortage(draw), _never(draw, rows_by_domain), *_dropped(draw), _visited(draw), cells]
    return [table for table in found if table.rows]


def _shortage(draw: DrawFacts) -> HtmlTable:
    rows = [
        [number(stage.index), number(stage.step), words(name), words(how)]
        for stage in draw.stages
        for name, how in stage.shortage.items()
    ]
    head = ["stage", "step", "group", "helped by"]
    return HtmlTable("Groups with too few rows for their share", head, rows, len(rows) <= FOLDED)


def _never(draw: DrawFacts, rows_by_domain: Mapping[str, int]) -> HtmlTable:
    rows = []
    for name, n in draw.never.items():
        of = rows_by_domain.get(name)
        rows.append([words(name), number(n), number(of), number(n / of if of else None, ".1%")])
    caption = f"Rows that were never trained: {draw.n_never:,}"
    return HtmlTable(caption, ["domain", "never trained", "of", "share"], rows if draw.n_never else [])


def _dropped(draw: DrawFacts) -> list[HtmlTable]:
    reasons = [[words(why), number(n)] for why, n in draw.dropped.items()]
    total = sum(draw.dropped.values())
    instead = any(row.instead is not None for row in draw.dropped_rows)
    domains = any(row.domain for row in draw.dropped_rows)
    rows = [
        [
            Cell(str(row.row), row.row),
            words(row.reason),
            *([number(row.instead, ".0f")] if instead else []),
            *([words(row.domain)] if domains else []),
            words(row.text, kind="text"),
        ]
        for row in draw.dropped_rows
    ]
    shown = f", the first {len(rows)} of {total:,}" if len(rows) < total else ""
    head = ["row", "reason", *(["kept instead"] if instead else []), *(["domain"] if domains else []), "text"]
    return [
        HtmlTable(f"Rows left out from the start: {total:,}", ["reason", "rows"], reasons),
        HtmlTable(f"The rows that were left out{shown}", head, rows, len(rows) <= FOLDED),
    ]


def _visited(draw: DrawFacts) -> HtmlTable:
    losses = any(row.last is not None for row in draw.most_visited)
    rows = [
        [Cell(str(row.row), row.row), number(row.visits), *([number(row.last, ".3f")] if losses else [])]
        for row in draw.most_visited
    ]
    return HtmlTable("Most often trained", ["row", "visits", *(["last loss"] if losses else [])], rows)
