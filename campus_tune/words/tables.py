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


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be; those of numbers to the right, those of words to the left."""
    padded = []
    for cells in zip(head, *rows, strict=True):
        width = max(map(len, cells))
        number = all(cell.lstrip("+-−<")[:1].isdigit() or cell in ("", "-") for cell in cells[1:])
        padded.append([cell.rjust(width) if number else cell.ljust(width) for cell in cells])
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*padded, strict=True))
