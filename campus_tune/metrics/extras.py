"""Metrics that need a library which campus_tune does not bring: said before anything is loaded, not hours later.

Only looked for, never imported here (spaCy alone takes seconds), so `check` and the start of a run can ask at no cost.

>>> missing_parts([])
[]
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from campus_tune.metrics.base import Metric


def missing_parts(metrics: Iterable[Metric]) -> list[str]:
    """One problem per metric that cannot score on this machine, each with the command that mends it."""
    return [problem for metric in metrics if (problem := metric.missing()) is not None]


def missing_extra(metric: str, library: str, extra: str) -> str | None:
    """The problem that `library` is not installed, or None.

    Args:
        metric: its registered name.
        library: what would be imported.
        extra: of campus-tune, brings the library.
    """
    if find_spec(library) is not None:
        return None
    return f'`{metric}` must have the library {library}, got none. Type: pip install "campus-tune[{extra}]"'
