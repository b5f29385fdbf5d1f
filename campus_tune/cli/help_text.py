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


def filled(text: str, width: int) -> str:
    """Paragraphs of a text at most `width` letters wide, and its indented lines as lines of their own."""
    parts = []
    for prose, lines in groupby(text.strip("\n").splitlines(), key=_is_prose):
        if prose:
            parts.append(textwrap.fill(" ".join(lines), width))
        else:
            parts.extend(_example(line, width) for line in lines)
    return "\n".join(parts)


def _is_prose(line: str) -> bool:
    return bool(line) and not line.startswith(" ") and line != "example:"


def _example(line: str, width: int) -> str:
    """A command, cut before its flags."""
    cut = [""]
    for part in _PLACES.split(line):
        longer = f"{cut[-1]} {part}" if cut[-1] else part
        if len(longer) + 2 <= width or not cut[-1]:
            cut[-1] = longer
        else:
            cut.append(f"      {part}")
    return " \\\n".join(cut)
