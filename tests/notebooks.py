"""A notebook without a browser: what is displayed and drawn anew is kept, a list of pages for each display."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest


class Notebook:
    """What a notebook's cell shows.

    Args:
        pages: of each display, the HTML it showed, one after the other.
    """

    def __init__(self) -> None:
        self.pages: list[list[str]] = []

    def display(self, page: Any, *, display_id: bool) -> Any:
        assert display_id
        shown = [page.data]
        self.pages.append(shown)
        return SimpleNamespace(update=lambda page: shown.append(page.data))


def open_notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    """Let this process believe that its output is shown in a notebook."""
    notebook, ipython, display = Notebook(), ModuleType("IPython"), ModuleType("IPython.display")
    faked: Any = ipython
    faked.get_ipython = lambda: SimpleNamespace(config={"IPKernelApp": {}})
    faked.display = display
    shown: Any = display
    shown.HTML, shown.display = (lambda data: SimpleNamespace(data=data)), notebook.display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return notebook
