"""Plain text tables for the terminal.

>>> print(table(["stage", "chosen"], [["0", "length"], ["1", "mtld"]]))
stage  chosen
    0  length
    1  mtld
>>> print(table(["arm", "against random"], [["a", "+1.5 %"], ["b", "−10 %"]]))
arm  against random
a            +1.5 %
b             −10 %
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from campus_tune.words.wording import cut

ROOM = 40  # characters beside a table, below which texts stand under its lines


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be; those of numbers to the right, those of words to the left."""
    padded = []
    for cells in zip(head, *rows, strict=True):
        width = max(map(len, cells))
        number = all(cell.lstrip("+-−<")[:1].isdigit() or cell in ("", "-") for cell in cells[1:])
        padded.append([cell.rjust(width) if number else cell.ljust(width) for cell in cells])
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*padded, strict=True))


def table_with_texts(head: Sequence[str], rows: Sequence[Sequence[str]], texts: Sequence[str], *, width: int) -> str:
    """A table with a text behind each of its lines, cut to what is left of the terminal; under it where that is little.

    Args:
        head: of the columns.
        rows: their cells.
        texts: one for each row; spaces and line ends in them become one space.
        width: of the terminal, in characters.

    >>> print(table_with_texts(["row", "score"], [["7", "4.1"], ["12", "3.9"]], ["one  text", "another"], width=30))
    row  score
      7    4.1
        one text
     12    3.9
        another
    """
    first, *lines = table(head, rows).splitlines()
    inside = max(map(len, [first, *lines])) + 2
    below = width - inside < ROOM
    room = max(8, width - (8 if below else inside))
    said = [cut(" ".join(text[: 4 * width].split()), room) for text in texts]
    if below:
        return "\n".join([first, *(f"{line}\n        {text}" for line, text in zip(lines, said, strict=True))])
    return "\n".join([first, *(f"{line.ljust(inside)}{text}" for line, text in zip(lines, said, strict=True))])


def html_table(rows: Sequence[Sequence[str]], head: Sequence[str] = ()) -> str:
    """A small table for a notebook, words to the left; what stands in its cells is escaped.

    Args:
        rows: their cells; with no `head`, the first of each is its name.
        head: of the columns.

    >>> html_table([["rows", "<40>"]]).replace(' style="text-align:left"', "")
    '<table><tbody><tr><th>rows</th><td>&lt;40&gt;</td></tr></tbody></table>'
    """

    def line(cells: Sequence[str], names: int) -> str:
        tags = ["th" if place < names else "td" for place in range(len(cells))]
        each = (f'<{tag} style="text-align:left">{escape(cell)}</{tag}>' for tag, cell in zip(tags, cells, strict=True))
        return f"<tr>{''.join(each)}</tr>"

    top = f"<thead>{line(head, len(head))}</thead>" if head else ""
    return f"<table>{top}<tbody>{''.join(line(row, 0 if head else 1) for row in rows)}</tbody></table>"
