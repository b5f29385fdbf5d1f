"""What a person reads of a run or a command, a line at a time.

In a file, a pipe and a notebook a line is plain: `campus: ` and what is said, as long as it is. In a terminal it is
broken at words and goes on under its beginning, and what matters stands out: by a word or a sign first, by colour only
beside it. NO_COLOR and TERM=dumb are heeded. Rich makes the lines, and never draws: what moves the cursor is in
`words/progress.py`.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Sequence
from io import StringIO
from typing import TYPE_CHECKING

from campus_tune.words import progress
from campus_tune.words.tables import table
from campus_tune.words.wording import harmless

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

NAME = "campus: "
COMMAND = "campus-tune: "
WARNING = "warning: "
NARROW = 40  # columns, below which nothing is fitted to a terminal any more


def say(line: str) -> None:
    """A line on stdout that does not tear a progress bar; where only warnings are told, one of them.

    Args:
        line: what is said. One that begins with "warning: " is told in any case.
    """
    show(line, lambda width: hung("", styled(line), width))


def show(line: str, draw: Callable[[int], RenderableType]) -> None:
    """The same, for what a terminal shows in a way of its own.

    Args:
        line: what is said where there is no terminal.
        draw: gives what rich shows, of the room behind the name in columns.
    """
    if progress.VOLUME.quiet and not line.startswith(WARNING):
        return
    if not progress.in_terminal(sys.stdout):
        progress.say(f"{NAME}{line}")
        return
    from rich.text import Text

    room = columns() - len(NAME)
    name, below = rendered(Text(NAME, style="cyan"), len(NAME)), " " * len(NAME)
    progress.say(f"{name}{rendered(draw(room), room)}".replace("\n", f"\n{below}"))


def show_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table, a line for each row; where a terminal has no room for it, its heads are broken.

    Args:
        head: of the columns.
        rows: their cells.
    """
    lines = table(head, rows).splitlines()
    columns_of = list(zip(head, *rows, strict=True))
    least = [max(map(len, [*name.split(), *cells])) for name, *cells in columns_of]  # no number is ever broken
    room = columns() - len(NAME)
    if not progress.in_terminal(sys.stdout) or sum(least) + len(least) - 1 > room:
        for line in lines:
            say(line)
        return
    from rich.table import Table

    apart = 2 if max(map(len, lines)) <= room else 1
    made = Table(box=None, padding=(0, apart, 0, 0), pad_edge=False, header_style="bold")
    for (name, *cells), width in zip(columns_of, least, strict=True):
        number = all(cell.lstrip("+-−<")[:1].isdigit() or cell in ("", "-") for cell in cells)
        made.add_column(harmless(name), justify="right" if number else "left", vertical="bottom", min_width=width)
    for row in rows:
        made.add_row(*map(harmless, row))
    show(lines[0], lambda _: made)


def show_block(block: RenderableType) -> None:
    """What has a shape of its own and the whole width: for a terminal.

    Args:
        block: a panel.
    """
    if not progress.VOLUME.quiet:
        progress.say(rendered(block, columns()))


def complain(error: BaseException) -> None:
    """What a user got wrong, on stderr; in a terminal broken at words, each problem under its number.

    Args:
        error: whose text is told.
    """
    if not progress.in_terminal(sys.stderr):
        print(f"{COMMAND}{error}", file=sys.stderr)
        return
    from rich.text import Text

    first, *others = str(error).split("\n")
    told = [hung(COMMAND, styled(first), columns())]
    told[0].stylize("bold red", 0, len(COMMAND) - 1)
    for line in others:
        lead = re.match(r" *(\d+\. )?", line)
        number = lead[0] if lead else ""
        told.append(hung(number, styled(line[len(number) :]), columns()))
    print(rendered(Text("\n").join(told), columns()), file=sys.stderr)


def columns() -> int:
    """Of the terminal."""
    return max(NARROW, shutil.get_terminal_size().columns)


def rendered(what: RenderableType, width: int) -> str:
    """What rich makes of something, as text with the terminal's own commands for colour.

    Args:
        what: a text, a table, a panel.
        width: in columns.
    """
    from rich.console import Console

    made = StringIO()
    console = Console(file=made, force_terminal=True, width=width, highlight=False, markup=False, emoji=False)
    console.print(what, end="")
    return made.getvalue().rstrip("\n")


def styled(line: str) -> Text:
    """A line for a terminal: a warning says so in bold, and names in backticks stand out."""
    from rich.text import Text

    text = Text(harmless(line))
    if line.startswith(WARNING):
        text.stylize("bold yellow", 0, len(WARNING) - 1)
    text.highlight_regex(r"`[^`\n]+`", "bold")
    return text


def hung(lead: str, text: Text, width: int) -> Text:
    """A text that is broken at words, and goes on behind what leads it; a word that is too long, where the line ends.

    Args:
        lead: what stands before its first line.
        text: a line.
        width: in columns.
    """
    from rich.console import Console
    from rich.text import Text

    room = max(NARROW // 2, width - len(lead))
    lines = text.wrap(Console(width=room), room)
    return Text(lead) + Text("\n" + " " * len(lead)).join(lines)
