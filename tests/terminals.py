"""A terminal without a window: what a program writes to it, and what stands on its screen at last."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

COMMAND = re.compile(r"\x1b\[[0-9;]*m")  # of colours and weights


class Screen:
    """As much of a terminal as bars and lines ask for: carriage returns, line feeds, the cursor up, lines that wrap.

    Args:
        width: in columns.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows, self.row, self.column = [[]], 0, 0  # type: list[list[str]], int, int

    def write(self, text: str) -> None:
        text = COMMAND.sub("", text)
        while text:
            if text.startswith("\x1b[A"):
                self.row, text = max(0, self.row - 1), text[3:]
                continue
            self._put(text[0])
            text = text[1:]

    def _put(self, letter: str) -> None:
        if letter == "\r":
            self.column = 0
        elif letter == "\n":
            self._down()
        else:
            if self.column == self.width:
                self._down()
                self.column = 0
            row = self.rows[self.row]
            row += [" "] * (self.column + 1 - len(row))
            row[self.column] = letter
            self.column += 1

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append([])

    def lines(self) -> list[str]:
        return [line for row in self.rows if (line := "".join(row).rstrip())]


class InTerminal:
    """A program that has ended, and what it wrote.

    Args:
        words: the program and its arguments.
        folder: where what goes to no terminal is written.
        width: of the terminal, in columns.
        out: stdout is the terminal; else a file.
        err: stderr is.
        settings: of the environment, beside those of this process.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        *,
        width: int = 80,
        out: bool = True,
        err: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        files = [(folder / name).open("w") for name in ("out", "err")]
        plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        program = subprocess.Popen(
            words,
            stdout=theirs if out else files[0],
            stderr=theirs if err else files[1],
            env={**plain, "TERM": "xterm", "PYTHONIOENCODING": "utf-8", **(settings or {})},
        )
        os.close(theirs)
        written = b""
        try:
            while part := os.read(ours, 4096):
                written += part
        except OSError:  # the other end is closed: all was read
            pass
        os.close(ours)
        self.code = program.wait()
        for file in files:
            file.close()
        self.written = written.decode("utf-8")
        self.out, self.err = ((folder / name).read_text("utf-8") for name in ("out", "err"))
        screen = Screen(width)
        screen.write(self.written)
        self.lines = screen.lines()
