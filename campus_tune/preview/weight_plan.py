"""What planned weights come to in a simulated plan: how unequal they are, and whether few rows carry the gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from campus_tune.method.curriculum import Curriculum
from campus_tune.method.levels import ENOUGH, Groups
from campus_tune.method.stages import Stage
from campus_tune.method.weighed import rows_of_half
from campus_tune.method.weights import effective_share
from campus_tune.words.findings import Finding
from campus_tune.words.types import Json, RowArray

FEW_COMPARED = 0.5  # of the visits
LEAST_ESS = 0.3  # effective sample size below which few rows do most of the work
_DIGITS = 6


def planned_weights(curriculum: Curriculum, stage: Stage) -> Json:
    """What a stage's planned weights come to, as the ledger says it of the trained ones; {} without any.

    Args:
        curriculum: that has opened it.
        stage: that was opened.
    """
    if stage.weights is None or curriculum.weighting is None:
        return {}
    weights, tokens = stage.weights.astype(np.float64), curriculum.weighting.tokens[stage.rows]
    said = {
        "mean": (weights * tokens).sum() / max(1, tokens.sum()),
        "min": weights.min(),
        "max": weights.max(),
        "ess": effective_share(weights, tokens),
        "half": rows_of_half(weights, tokens),
    }
    return {name: round(float(value), _DIGITS) for name, value in said.items()}


class Compared:
    """How many visits of a plan find their cell visited often enough to compare with, as a stage is opened.

    Args:
        cells: of the rows.
    """

    def __init__(self, cells: Groups) -> None:
        self._cells, self._before = cells, np.zeros(len(cells.names), dtype=np.int64)
        self._known = self._all = 0

    def take(self, rows: RowArray) -> None:
        """The rows of one more stage, shape (n,)."""
        codes = self._cells.of(rows)
        self._known += int(np.count_nonzero(self._before[codes] >= ENOUGH))
        self._all += len(rows)
        self._before += np.bincount(codes, minlength=len(self._before))

    @property
    def share(self) -> float:
        """Of all visits so far."""
        return self._known / max(1, self._all)


def weight_plan_findings(stages: Sequence[Json], compared: float | None = None) -> Iterator[Finding]:
    """Weights that are so unequal that few rows speak for all others; cells that are too small to compare in.

    Args:
        stages: what `planned_weights` says of each.
        compared: `Compared.share` of all of them; None where no weight compares in cells.
    """
    if compared is not None and compared < FEW_COMPARED:
        what = (
            f"Weights that compare inside cells, as robust does, act on {compared:.0%} of the visits in this plan: a "
            f"cell is let be until {ENOUGH} visits of it are known, and these cells are small."
        )
        yield Finding("warning", what, "Write cells: {bands: 1}, or train for more epochs.")
    told = [stage for stage in stages if stage]
    worst = min(told, key=lambda stage: float(stage["ess"]), default=None)
    if worst is None or worst["ess"] >= LEAST_ESS:
        return
    what = (
        f"Planned weights are so unequal that {worst['half']:.1%} of the rows carry half of the gradient in some "
        f"stage: it counts as {worst['ess']:.0%} of as many rows that weigh alike."
    )
    yield Finding("warning", what, "Write a `limit`, the lower the milder, or bring the weights nearer to one another.")
