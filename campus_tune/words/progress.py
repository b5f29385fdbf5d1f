"""Bars and tables for a person who waits: by tqdm in a terminal, drawn in place in a notebook.

A terminal has one bar of the trainer's and at most one of ours below it, both tqdm's, so a line that is written by
`say` goes above both. A notebook has no cursor to move: there a bar and a table are pieces of HTML of their own, which
are replaced as they grow, and lines are plain output between them. Whatever stands in that HTML is escaped. In a file a
bar is a line twice a minute; and of many processes only the first one draws any.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager, suppress
from html import escape
from importlib import import_module
from types import ModuleType, TracebackType
from typing import Any, Self, TextIO

OFTEN, SELDOM = 0.1, 30.0  # seconds between two drawings: in a terminal, in a file
REDRAW = 0.3  # the same in a notebook
MOST_ROWS = 40  # of a table that is drawn anew with each of them


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


def notebook() -> ModuleType | None:
    """`IPython.display`, where this process shows its output in a notebook; else None."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return import_module("IPython.display") if "IPKernelApp" in (getattr(shell, "config", None) or {}) else None


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
    from tqdm.auto import tqdm

    disable = disable or int(os.environ.get("RANK") or 0) > 0
    display = notebook()
    if display is not None and not disable:
        return NotebookBar(display, iterable, desc=desc, unit=unit, total=total, delay=delay)
    seen = bool(getattr(sys.stderr, "isatty", bool)())
    how = {"mininterval": OFTEN, "delay": delay} if seen else {"mininterval": SELDOM, "delay": max(delay, SELDOM)}
    return tqdm(iterable, desc=desc, unit=unit, total=total, leave=False, disable=disable, **how, **shown)


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
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"


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
