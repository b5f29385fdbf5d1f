"""What a page says in short, as Markdown: for a pull request, a model card, a note to oneself."""

from __future__ import annotations

import re
from collections.abc import Sequence

from campus_tune.report.html_tables import Fact, HtmlTable

MOST = 12  # rows of a table
SPECIAL = re.compile(r"([\\|<*\[\]~]|(?<![^\W_])_|_(?![^\W_]))")  # an underscore inside of a word is none


def marked(text: str) -> str:
    r"""A text in which nothing but code between backticks is Markdown, on one line.

    >>> print(marked("`a|b` <b>[x]\nand"))
    `a\|b` \<b>\[x\] and
    """
    parts = " ".join(text.split()).split("`")
    if len(parts) % 2 == 0:  # one of them stands alone
        return "\\`".join(SPECIAL.sub(r"\\\1", part) for part in parts)
    return "`".join(part.replace("|", "\\|") if i % 2 else SPECIAL.sub(r"\\\1", part) for i, part in enumerate(parts))


def of_table(table: HtmlTable, most: int = MOST) -> str:
    """A table with its caption above it; of many rows the first, and how many more there are.

    Args:
        table: of the page.
        most: rows of it.
    """
    if not table.rows:
        return ""
    left_out = len(table.rows) - most
    more = f" (the first {most} of {len(table.rows):,})" if left_out > 0 else ""
    cells = [[cell.text for cell in row] for row in table.rows[:most]]
    return f"**{marked(table.caption)}{more}**\n\n{_grid(table.head, cells, table.numeric)}"


def of_facts(facts: Sequence[Fact]) -> str:
    """The numbers at the top of a page, side by side.

    Args:
        facts: of the page.
    """
    if not facts:
        return ""
    values = [f"{fact.value} {fact.more}".strip() for fact in facts]
    return _grid([fact.name for fact in facts], [values], [False] * len(facts))


def summary(title: str, *parts: str) -> str:
    """What is copied: a head and parts, those that are empty left out.

    Args:
        title: of it.
        parts: paragraphs and tables that are Markdown already.
    """
    return "\n\n".join([f"### {marked(title)}", *filter(None, parts)]) + "\n"


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    lines = [map(marked, head), ("---:" if each else "---" for each in right), *(map(marked, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
