"""Judging rows in a terminal: one after the other, a key for each, kept before the next one is shown.

    y right, it stays    n wrong, it goes    s skip    b back to the row before    q quit

Where the terminal can be asked for single keys (`termios`) no Enter is needed; else a line is read. A row's text is
shown whole. What a terminal would take for a command in it (control characters) is written out instead.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from campus_tune.data.judged import KEEP
from campus_tune.data.judging import Judging
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json
from campus_tune.words.wording import harmless

KEYS = {"y": "right: it stays", "n": "wrong: it goes", "s": "skipped", "b": "back", "q": "quit"}
ASK = "y right · n wrong · s skip · b back · q quit "
WIDEST = 100  # characters of a line of text
ESCAPE, END = "\x1b", "\x04"  # before an arrow and the like; Ctrl-D

ReadKey = Callable[[], str]


def judge(path: Path) -> None:
    """Let a person go through the rows of a file; what they say is in it at once.

    Args:
        path: as `data.judging.write_rows` has written it.

    Raises:
        RecipeError: nobody is there to answer: this is no terminal.
        DataError: the file holds no rows to judge.
        StorageError: it cannot be written; what was said before is in it.
    """
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()):
        raise RecipeError(
            "`--judge` must be asked for in a terminal, got input or output that is none. Run it in a terminal, or "
            f"write true or false as `{KEEP}` into {path} by hand."
        )
    with single_keys() as read_key:
        go_through(Judging(path), read_key, lambda text: print(text, flush=True))


@contextmanager
def single_keys() -> Iterator[ReadKey]:
    """What reads a key, "" at the end of the input; the terminal is as before afterwards, however it ends."""
    try:
        import termios
        import tty
    except ImportError:  # Windows: a line, of which the first letter counts
        yield lambda: (sys.stdin.readline() or END)[:1]
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def read_key() -> str:
        key = os.read(terminal, 1).decode("ascii", "replace")
        while key == ESCAPE and select.select([terminal], [], [], 0.02)[0]:
            os.read(terminal, 16)  # the rest of an arrow: no letter of it is an answer
        return key or END

    try:
        tty.setcbreak(terminal)
        yield read_key
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def go_through(judging: Judging, read_key: ReadKey, say: Callable[[str], None]) -> None:
    """Show the rows that nobody has judged, and take the answers.

    Args:
        judging: the rows.
        read_key: gives the next key.
        say: shows a text.
    """
    n_rows = len(judging.rows)
    say(f"{n_rows - judging.n_judged} of {n_rows} rows in {judging.path} are not judged yet")
    shown = -1
    while (row := judging.row) is not None:
        if shown != judging.place:
            shown = judging.place
            say(f"\n{as_text(row, judging.place + 1, n_rows)}\n\n{ASK}")
        key = read_key().lower()
        if key in ("q", END):
            say(KEYS["q"])
            break
        if key not in KEYS:
            continue
        say(f"{key}  {KEYS[key]}")
        if key == "s":
            judging.skip()
        elif key == "b":
            judging.back()
            shown = -1
        else:
            judging.answer(key == "y")
    say(summed_up(judging))


def summed_up(judging: Judging) -> str:
    """What was judged, and the line for a recipe that obeys it."""
    said = [row[KEEP] for row in judging.rows]
    wrong, right, left = said.count(False), said.count(True), said.count(None)
    lines = [f"\n{wrong} wrong, {right} right, {left} not judged: {judging.path}"]
    if left:
        lines.append("the same command goes on with those that are not judged")
    if wrong:
        lines += [
            "the next run leaves out what is wrong with this line in its recipe:",
            f"  drop: [{{by: judged, path: {judging.path}}}]",
        ]
    return "\n".join(lines)


def as_text(row: Json, number: int, n_rows: int) -> str:
    """One row to judge as it is shown.

    Args:
        row: of the file.
        number: of it, from 1.
        n_rows: in the file.
    """
    width = min(WIDEST, shutil.get_terminal_size().columns)
    told = [f"row {row['row']}" if "row" in row else "", str(row.get("domain", ""))]
    told += [f"{name} {row[name]:.2f}" for name in ("score", "loss") if isinstance(row.get(name), int | float)]
    if row[KEEP] is not None:
        told.append("judged right" if row[KEEP] else "judged wrong")
    lines = [f"{number}/{n_rows} · {' · '.join(filter(None, told))}", "─" * min(width, 60)]
    text, answer = row.get("text"), row.get("answer")
    if not isinstance(text, str):
        lines.append("(its text is not in the run's files: give the training file as --data FILE)")
    elif isinstance(answer, str) and text.endswith(answer):
        prompt = text.removesuffix(answer).strip("\n")
        lines += [*([*_wrapped(prompt, width), ""] if prompt else []), *_wrapped(answer, width, mark="→ ")]
    else:
        lines += _wrapped(text, width)
    if "rather" in row and "said" in row:
        before = f"behind {row['before']!r} " if row.get("before") else ""
        sure = f" ({row['rather_probability']:.2f})" if isinstance(row.get("rather_probability"), float) else ""
        lines += ["", *_wrapped(f"{before}it says {row['said']!r}; the model: {row['rather']!r}{sure}", width)]
    return "\n".join(lines)


def _wrapped(text: str, width: int, *, mark: str = "") -> list[str]:
    """The lines of a text, each at most as wide as the terminal."""
    inside = max(10, width - len(mark))
    lines = [
        part
        for line in harmless(text).split("\n")
        for part in textwrap.wrap(line, inside, replace_whitespace=False, drop_whitespace=False) or [""]
    ]
    return [f"{mark if not place else ' ' * len(mark)}{line}" for place, line in enumerate(lines)]
