"""What planned weights come to in a simulated plan: how unequal they are, and whether few rows carry the gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from campus_tune.method.curriculum import Curriculum
from campus_tune.method.levels import ENOUGH
from campus_tune.method.stages import Stage
from campus_tune.method.weighed import rows_of_half
from campus_tune.method.weighting import Weighting
from campus_tune.method.weights import effective_share
from campus_tune.words.findings import Finding, Severity
from campus_tune.words.types import Json

LEAST_ESS = 0.3  # effective sample size below which few rows do most of the work
LEAST_COMPARED = 0.5  # part of a run's visits, below which a weight that waits for its cells hardly does anything
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


def weight_plan_findings(stages: Sequence[Json]) -> Iterator[Finding]:
    """Weights that are so unequal that few rows speak for all others.

    Args:
        stages: what `planned_weights` says of each.
    """
    told = [stage for stage in stages if stage]
    worst = min(told, key=lambda stage: float(stage["ess"]), default=None)
    if worst is None or worst["ess"] >= LEAST_ESS:
        return
    what = (
        f"Planned weights are so unequal that {worst['half']:.1%} of the rows carry half of the gradient in some "
        f"stage: it counts as {worst['ess']:.0%} of as many rows that weigh alike."
    )
    yield Finding("warning", what, "Write a `limit`, the lower the milder, or bring the weights nearer to one another.")


def waiting_findings(weighting: Weighting | None, visits: int) -> Iterator[Finding]:
    """A weight that lets a cell be until enough of its rows were visited, in cells so small that this takes most of it.

    Args:
        weighting: of the plan; None without weights.
        visits: rows that the run trains, repeats included.
    """
    groups = None if weighting is None else weighting.waiting
    if groups is None or groups.codes is None:
        return
    sizes = np.bincount(groups.codes, minlength=len(groups.names))
    each = visits * sizes / max(1, sizes.sum())
    compared = float(np.maximum(0, each - ENOUGH).sum() / max(1, visits))
    if compared >= LEAST_COMPARED:
        return
    what = (
        f"`weights: robust` lets each cell be until {ENOUGH} of its rows were trained, which are all but "
        f"{compared:.0%} of this run's rows: there are {int(np.count_nonzero(sizes))} cells for {visits} visits."
    )
    severity: Severity = "info" if weighting is not None and weighting.idle else "warning"
    yield Finding(severity, what, "Write cells: {bands: 1}, train for more epochs, or leave it out.")
