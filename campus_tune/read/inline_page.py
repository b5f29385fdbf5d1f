"""A page that a notebook shows inside of a cell."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

HEIGHT = 760  # CSS pixels of the frame in which a notebook shows a page


@dataclass(frozen=True)
class InlinePage:
    """A page on disk: its path in a terminal, in a notebook the page itself, in a frame of its own.

    The frame holds the whole page and not its address, so it is also seen where the notebook's server does not give
    out files (VS Code, Colab, a notebook that was sent to somebody), and the notebook grows by it.

    Args:
        path: of the page.
        height: of the frame, CSS pixels.
    """

    path: Path
    height: int = HEIGHT

    def __repr__(self) -> str:
        return f"the page is {self.path}"

    def _repr_html_(self) -> str:
        page = escape(self.path.read_text("utf-8"))
        return f'<iframe srcdoc="{page}" title="report" width="100%" height="{self.height}" frameborder="0"></iframe>'
