"""Bars and tables for a person who waits: by tqdm in a terminal, drawn in place in a notebook.

A terminal has one bar of the trainer's and at most one of ours below it, both tqdm's, so a line that is written by
`say` goes above both. Nothing else moves the cursor: rich formats lines (`words/console.py`), and its own live display
would not know of the trainer's bar, nor the trainer's of it. A notebook has no cursor to move: there a bar and a table
are pieces of HTML of their own, which are replaced as they grow, and lines are plain output between them. Whatever
stands in that HTML is escaped. In a file a bar is a line twice a minute; and of many processes only the first one
draws any.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager, suppress
from functools import cache
from html import escape
from importlib import import_module
from types import ModuleType, TracebackType
from typing import Any, Self, TextIO

OFTEN, SELDOM = 0.1, 30.0  # seconds between two drawings: in a terminal, in a file
REDRAW = 0.3  # the same in a notebook
MOST_ROWS = 40  # of a table that is drawn anew with each of them
LEAVE = 3  # place of `leave` among the arguments of tqdm's
SOON = 1.0  # seconds after which a library's bar is worth a look
NEITHER = ("dumb", "unknown")  # what TERM says of terminals that only print


class Volume:
    """How much this process tells: one for all of its threads.

    Args:
        quiet: no bars, and of lines only warnings.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet, self.filed = quiet, False

    @contextmanager
    def quieted(self, *, wanted: bool = True) -> Iterator[None]:
        """Tell only warnings meanwhile.

        Args:
            wanted: else as much as before.
        """
        before, self.quiet = self.quiet, self.quiet or wanted
        try:
            yield
        finally:
            self.quiet = before

    @contextmanager
    def into_a_file(self) -> Iterator[None]:
        """What is told meanwhile goes to a file, so a notebook shows none of it as bars and tables."""
        before, self.filed = self.filed, True
        try:
            yield
        finally:
            self.filed = before


VOLUME = Volume()


def in_terminal(stream: TextIO | None) -> bool:
    """Whether a stream ends in a terminal whose cursor can be moved, and not in a file, a pipe or a notebook."""
    seen = bool(getattr(stream, "isatty", bool)()) and os.environ.get("TERM") not in NEITHER
    return seen and notebook() is None


def look(stream: TextIO | None) -> dict[str, object]:
    """How a bar whose end is known looks in a terminal, as arguments of tqdm's; {} where it is none.

    Args:
        stream: on which it is drawn.
    """
    if not in_terminal(stream):
        return {}
    wide = str(getattr(stream, "encoding", "")).lower().startswith("utf")
    shape = "{desc}  {bar} {percentage:3.0f}%  {n_fmt} of {total_fmt}{postfix}  {remaining} left"
    colour = {} if os.environ.get("NO_COLOR") else {"colour": "cyan"}
    return {"bar_format": shape, "ascii": " ╸━" if wide else " -=", "dynamic_ncols": True, **colour}


@contextmanager
def tidied() -> Iterator[None]:
    """Meanwhile the libraries' bars are gone when they are full, and those of a moment do not show at all.

    For a command of ours in a terminal: preparing rows, loading and saving leave a dozen full bars between the lines of
    a run. What is logged to the terminal stands above the bars too. In a file nothing changes; where only warnings are
    told, no library draws any.
    """
    if not (VOLUME.quiet or in_terminal(sys.stderr)):
        yield
        return
    from tqdm.std import tqdm

    begin, emit, as_it_was = tqdm.__init__, logging.StreamHandler.emit, vars(tqdm)["__init__"]
    refresh = tqdm.refresh

    def begin_tidy(self: tqdm, *given: Any, **named: Any) -> None:
        if len(given) <= LEAVE:
            named = {"leave": False, "delay": SOON} | named
        begin(self, *given, **(named | ({"disable": True} if VOLUME.quiet else {})))

    def emit_above(self: logging.StreamHandler[TextIO], record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(file=self.stream):
            emit(self, record)

    tqdm.__init__, tqdm.refresh = begin_tidy, when_due(refresh)
    logging.StreamHandler.emit = emit_above  # type: ignore[method-assign,assignment]  # on purpose, and put back
    try:
        yield
    finally:
        tqdm.__init__, tqdm.refresh = as_it_was, refresh
        logging.StreamHandler.emit = emit  # type: ignore[method-assign]  # as above


def when_due(refresh: Callable[..., bool | None]) -> Callable[..., bool | None]:
    """How a bar is drawn anew, but not before its delay is over.

    A line that is written above a bar draws it in any case, and tqdm leaves standing what it takes for never drawn.

    Args:
        refresh: of a class of bars.
    """

    def refresh_due(self: Any, *given: Any, **named: Any) -> bool | None:
        begun = getattr(self, "start_t", None)  # it is not there before the bar is
        if begun is not None and self.delay:
            if time.time() < begun + self.delay:
                return None
            self.delay = 0.0  # so closing takes away what is drawn now
        return refresh(self, *given, **named)

    return refresh_due


@cache
def _due_bar() -> Any:
    from tqdm.auto import tqdm  # 30 ms that `--help` does without

    return type("DueBar", (tqdm,), {"refresh": when_due(tqdm.refresh)})


class Unbroken:
    """Standard output whose reader may leave (`| head`): what is written from then on, by whomever, goes nowhere.

    Args:
        stream: what is written to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text."""
        with self._left_alone():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write out what was held back."""
        with self._left_alone():
            self._stream.flush()

    @contextmanager
    def _left_alone(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def say(line: str) -> None:
    """A line on stdout that does not tear a bar, and that stands where it was said among what goes to stderr."""
    from tqdm.auto import tqdm  # 30 ms that `--help` does without

    try:  # whether lines and bars go to the same terminal, file or pipe: else none tears another
        together = os.path.samestat(*(os.fstat(stream.fileno()) for stream in (sys.stdout, sys.stderr)))
    except (AttributeError, OSError, ValueError):  # not a file, closed, or none at all
        together = True
    with suppress(BrokenPipeError):  # whoever read along has gone; the ledger has it
        if together:
            tqdm.write(line)
        else:
            print(line)
        if sys.stdout is not None:
            sys.stdout.flush()


def on_the_way(line: str) -> None:
    """A line for whoever waits, of a command that has others at its end; none where only warnings are told."""
    if not VOLUME.quiet or line.startswith("warning: "):
        say(line)


def notebook() -> ModuleType | None:
    """`IPython.display`, where this process shows its output in a notebook; else None."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    shows = "IPKernelApp" in (getattr(shell, "config", None) or {}) and not VOLUME.filed
    return import_module("IPython.display") if shows else None


def bar(
    iterable: Iterable[Any] | None = None,
    *,
    desc: str,
    unit: str,
    total: int | None = None,
    delay: float = 0.0,
    disable: bool = False,
    **shown: object,
) -> Any:
    """A bar that is gone when it is full.

    Args:
        iterable: what it goes along with; None where `update` moves it.
        desc: what is done.
        unit: what is counted.
        total: units; None asks `iterable`.
        delay: seconds of work before it shows.
        disable: show none, in this process.
        shown: further arguments of tqdm's.
    """
    disable = disable or VOLUME.quiet or int(os.environ.get("RANK") or 0) > 0
    display = notebook()
    if display is not None and not disable:
        return NotebookBar(display, iterable, desc=desc, unit=unit, total=total, delay=delay)
    seen = bool(getattr(sys.stderr, "isatty", bool)())
    how: dict[str, object] = {"mininterval": OFTEN, "delay": delay}
    if not seen:
        how = {"mininterval": SELDOM, "delay": max(delay, SELDOM)}
    if total is not None or isinstance(iterable, Sized):
        how |= look(sys.stderr)
    return _due_bar()(iterable, desc=desc, unit=unit, total=total, leave=False, disable=disable, **how, **shown)


class NotebookBar:
    """As much of a tqdm bar as is used here, as HTML.

    Args:
        display: `IPython.display`.
        iterable: what it goes along with.
        desc: what is done.
        unit: what is counted.
        total: units; None asks `iterable`.
        delay: seconds of work before it shows.
    """

    def __init__(
        self,
        display: ModuleType,
        iterable: Iterable[Any] | None = None,
        *,
        desc: str,
        unit: str,
        total: int | None = None,
        delay: float = 0.0,
    ) -> None:
        self.iterable, self.desc, self.unit, self.n = iterable, desc, unit, 0.0
        self.total = len(iterable) if total is None and isinstance(iterable, Sized) else total
        self._drawn = Drawn(display)
        self._next = time.perf_counter() + delay

    def __iter__(self) -> Iterator[Any]:
        with self:
            for each in self.iterable or ():
                yield each
                self.update()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def update(self, n: float = 1) -> None:
        """So many more units are done."""
        self.n += n
        if time.perf_counter() >= self._next:
            self._next = time.perf_counter() + REDRAW
            of = f" of {self.total:,.0f}" if self.total else ""
            most = f' max="{self.total:.0f}"' if self.total else ""
            self._drawn.draw(
                f'<div><progress value="{self.n:.0f}"{most}></progress> '
                f"{escape(self.desc)}: {self.n:,.0f}{of} {escape(self.unit)}</div>"
            )

    def close(self) -> None:
        """Take it away."""
        self._drawn.clear()


class NotebookTable:
    """A table that grows, its last rows shown.

    Args:
        display: `IPython.display`.
        columns: their heads.
    """

    def __init__(self, display: ModuleType, columns: Sequence[str]) -> None:
        self.columns, self.rows = tuple(columns), list[Sequence[str]]()
        self._drawn = Drawn(display)

    def add(self, row: Sequence[str]) -> None:
        """One more row, a text for each column."""
        self.rows.append(row)
        shown = self.rows[-MOST_ROWS:]
        before = len(self.rows) - len(shown)
        note = f"<caption>{before} rows before these are in the ledger</caption>" if before else ""
        body = "".join(_row(row, "td") for row in shown)
        self._drawn.draw(f"<table>{note}<thead>{_row(self.columns, 'th')}</thead><tbody>{body}</tbody></table>")


def _row(cells: Iterable[str], tag: str) -> str:
    """A notebook breaks cells anywhere and sets them to the right: only lists are broken, and begin on the left."""
    made = []
    for cell in cells:
        style = "text-align: left" if ", " in cell else "white-space: nowrap"
        made.append(f'<{tag} style="{style}">{escape(cell)}</{tag}>')
    return f"<tr>{''.join(made)}</tr>"


class Drawn:
    """One place in a notebook's output, drawn anew when it changes.

    Args:
        display: `IPython.display`.
    """

    def __init__(self, display: ModuleType) -> None:
        self._display, self._handle = display, None

    def draw(self, html: str) -> None:
        """Show this HTML there."""
        page = self._display.HTML(html)
        if self._handle is None:
            self._handle = self._display.display(page, display_id=True)
        else:
            self._handle.update(page)

    def clear(self) -> None:
        """Show nothing there."""
        if self._handle is not None:
            self._handle.update(self._display.HTML(""))
