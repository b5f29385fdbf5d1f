"""What a proxy's folder holds: the losses of all rows under the small model, early and late, and before training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from campus_tune.metrics.learnability import EARLY, LATE
from campus_tune.scores.cache import read_columns
from campus_tune.words.types import RowLosses

LOSSES, ABOUT = "losses.parquet", "proxy.json"  # in its folder
BEFORE = "start"  # the losses before training; a proxy of an earlier version has none


def proxy_losses(proxy: str | Path, content: NDArray[np.uint64]) -> tuple[RowLosses, RowLosses] | None:
    """Early and late losses that a proxy's folder holds of these rows; None if it lacks some of them.

    Args:
        proxy: folder that `campus-tune proxy` has written.
        content: key of each row (`TokenRows.trained`), in any sequence, shape (N,).

    Raises:
        ResumeError: the file of losses is damaged.
    """
    if not Path(proxy, LOSSES).exists():
        return None
    columns, _ = read_columns(Path(proxy, LOSSES))
    known = columns["content"]
    order = np.argsort(known, kind="stable")
    place = order[np.minimum(np.searchsorted(known, content, sorter=order), len(known) - 1)]
    if not np.array_equal(known[place], content):
        return None
    early, late = (
        RowLosses(**{part: columns[f"{name}_{part}"][place] for part in vars(RowLosses.zeros(0))})
        for name in (EARLY, LATE)
    )
    return early, late


def losses_before(path: Path, content: NDArray[np.uint64]) -> RowLosses | None:
    """The losses before training that a table has; None without one, or where it is of other rows by now.

    Args:
        path: of the table.
        content: key of each row (`TokenRows.trained`), in its sequence, shape (N,).

    Raises:
        ResumeError: it is damaged.
    """
    if not path.exists():
        return None
    columns, _ = read_columns(path)
    return RowLosses(**columns) if np.array_equal(columns.pop("content"), content) else None
