r"""Help that fits the terminal: prose is wrapped to its width, examples keep their lines or cut as a shell reads it.

>>> print(filled("Some words about it,\nover two lines.\n\nexample:\n  tool --first one --second two", 26))
Some words about it, over
two lines.
<BLANKLINE>
example:
  tool --first one \
      --second two
"""

from __future__ import annotations

import argparse
import re
import textwrap
from itertools import groupby

_PLACES = re.compile(r" (?=--)")  # where an example may be cut: before a flag


class HelpText(argparse.HelpFormatter):
    """Descriptions as written above; the rest as argparse does it."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return textwrap.indent(filled(text, width - len(indent)), indent)

    def add_argument(self, action: argparse.Action) -> None:
        """As argparse does it, which forgets that names of commands are indented, and breaks behind the longest."""
        super().add_argument(action)
        for inner in self._iter_indented_subactions(action):
            length = len(self._format_action_invocation(inner)) + self._current_indent
            self._action_max_length = max(self._action_max_length, length)

    def _format_action(self, action: argparse.Action) -> str:
        """Names of commands stand under their title without a line that says what they are."""
        said = super()._format_action(action)
        return said.partition("\n")[2] if isinstance(action, argparse._SubParsersAction) else said

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        """`FILE …` for several: argparse's `FILE [FILE ...]` costs a line of each help."""
        said = super()._format_args(action, default_metavar)
        return f"{action.metavar or default_metavar} …" if action.nargs == argparse.ONE_OR_MORE else said


def filled(text: str, width: int) -> str:
    """Paragraphs of a text at most `width` letters wide, and its indented lines as lines of their own."""
    filled_lines: list[str] = []
    written = text.strip("\n").splitlines()
    for prose, lines in groupby(written, key=lambda line: line[:1] not in ("", " ") and line != "example:"):
        if prose:
            filled_lines.append(textwrap.fill(" ".join(lines), width))
            continue
        for line in lines:  # a command: cut before its flags, the rest of it below
            cut = [""]
            for part in _PLACES.split(line):
                longer = f"{cut[-1]} {part}" if cut[-1] else part
                if len(longer) + 2 <= width or not cut[-1]:  # two more for the backslash
                    cut[-1] = longer
                else:
                    cut.append(f"      {part}")
            filled_lines.append(" \\\n".join(cut))
    return "\n".join(filled_lines)
