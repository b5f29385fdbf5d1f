"""What is known of a name, laid out for a person: one text, which a terminal gets in colours and in its own width.

>>> print(explained(KnownName("metric", "length", "How many tokens a row has.", page="parts"), 60))
length · metric
How many tokens a row has.
<BLANKLINE>
more        campus-tune guide parts
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence

from campus_tune.cli.known.entry import OURS, KnownName, NameRow
from campus_tune.words.tables import table

PLAIN_WIDTH = 100  # letters of a line where nobody says how wide it may be
LABEL = 12  # letters of what stands before a short answer
_NARROW = 40
LEAST = 24  # letters that a list leaves to its last column; where they are not there, names are broken


def width_of_output() -> int:
    """Letters of a line: those of the terminal, up to what reads well."""
    if not sys.stdout.isatty():
        return PLAIN_WIDTH
    return max(_NARROW, min(PLAIN_WIDTH + 20, shutil.get_terminal_size().columns - 1))


def explained(one: KnownName, width: int) -> str:
    """All that is known of a name.

    Args:
        one: the name.
        width: letters of a line.
    """
    blocks = [[f"{one.name} · {one.kind}", *([_filled(one.line, width)] if one.line != one.name else [])]]
    blocks += [[_paragraph(part, width)] for part in one.text.split("\n\n") if part]
    facts = [_fact(label, said, width) for label, said in one.facts.items() if said]
    blocks += [facts] if facts else []
    if one.options:
        blocks.append([line for row in one.options for line in _option(row, width)])
    if one.example:
        blocks.append([f"    {line}" for line in one.example.splitlines()])
    ends = {"from" if one.comes_from == OURS else "paper": " ".join(one.source.split())}
    ends["comes from"] = "" if one.comes_from == OURS else one.comes_from
    ends["more"] = f"campus-tune guide {one.page}" if one.page else ""
    blocks.append([_fact(label, said, width) for label, said in ends.items() if said])
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _filled(text: str, width: int, first: str = "", rest: str = "") -> str:
    return textwrap.fill(
        text, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=False
    )


def _paragraph(text: str, width: int) -> str:
    """A paragraph of a docstring filled anew; formulas, lists and other lines that are indented stay lines."""
    lines = text.splitlines()
    return text if any(line.startswith((" ", "- ")) for line in lines) else _filled(" ".join(lines), width)


def _fact(label: str, said: str, width: int) -> str:
    return _filled(said, width, label.ljust(LABEL) if len(label) < LABEL else f"{label}  ", " " * LABEL)


def _option(row: NameRow, width: int) -> Iterator[str]:
    must = "; ".join(filter(None, [row.must, f"default {row.default}" if row.default else ""]))
    yield f"  {row.name}{f'  ({must})' if must else ''}"
    yield _filled(row.says, width, " " * 6, " " * 6)


def listing(rows: Sequence[Sequence[str]], head: Sequence[str]) -> str:
    """Names with a line each, for a pipe or a file: nothing is cut.

    Args:
        rows: cells of each line.
        head: of the columns.
    """
    return table(head, rows)


def show(text: str, *, titles: Sequence[str] = ()) -> None:
    """Print a text; in a terminal with what matters in colours, which NO_COLOR and TERM=dumb take away.

    Args:
        text: laid out.
        titles: lines of it that are headings.
    """
    if not sys.stdout.isatty():
        print(text)
        return
    from rich.console import Console
    from rich.text import Text

    shown = Text(text)
    for title in titles:
        shown.highlight_words([title], "bold")
    shown.highlight_regex(r"`[^`\n]+`", "cyan")
    shown.highlight_regex(rf"(?m)^\S[^\n]{{0,{LABEL - 3}}}(?= {{2,}})", "bold")
    shown.highlight_regex(r"(?m)^  (?! )\S+", "green")
    shown.highlight_regex(r"(?m)^    (?! )\S.*$", "magenta")
    Console(file=sys.stdout, soft_wrap=True, highlight=False).print(shown)


def show_list(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: in a terminal its last column is broken to fit, else every line is whole.

    Args:
        head: of the columns.
        rows: cells of each line.
    """
    if not sys.stdout.isatty():
        print(listing(rows, head))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    room = shutil.get_terminal_size()  # of a dumb terminal rich does not ask
    *names, _ = (max(map(len, column)) for column in zip(head, *rows, strict=True))
    fits = sum(names) + LEAST <= room.columns
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for place, name in enumerate(head):
        whole = fits and place < len(head) - 1
        made.add_column(name, no_wrap=whole, style="green" if not place else "", overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))
    Console(file=sys.stdout, highlight=False, width=room.columns, height=room.lines).print(made)
