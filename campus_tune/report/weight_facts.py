"""What a run's record says of how much its rows counted: the weights of each stage, and the audit of them.

Read for runs whose recipe weighs rows; others have none of these lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from campus_tune.words.types import Json


@dataclass(frozen=True)
class StageWeights:
    """How much the rows of one stage counted.

    Args:
        index: of the stage, from 0.
        step: optimizer steps before it.
        end: the step after its last.
        mean: weight of the rows, by tokens.
        least: weight of a row.
        most: weight of a row.
        ess: effective sample size, as a share of the rows.
        half: least share of the rows that carried half of the gradient; None where it is not said.
        by_domain: domain → mean weight of its rows, by tokens.
        bars: rows in each bar of the histogram.
        loss: mean over answer tokens, nats; None where unknown.
        weighted_loss: the one that was minimised; None where no row counted.
        clipped: (steps whose gradient was clipped, all of them); None where it is not known.
    """

    index: int
    step: int
    end: int
    mean: float
    least: float
    most: float
    ess: float
    half: float | None
    by_domain: Mapping[str, float]
    bars: Sequence[int]
    loss: float | None
    weighted_loss: float | None
    clipped: tuple[int, int] | None

    @property
    def of_mean(self) -> dict[str, float]:
        """Domain → mean weight of its rows, as a multiple of the mean of the whole stage."""
        return {name: weight / self.mean if self.mean else 1.0 for name, weight in self.by_domain.items()}

    @staticmethod
    def of(decision: Json, end: Json) -> StageWeights:
        """Those of a stage whose end says something of them."""
        said, clipped = end["weights"], end.get("clipped_steps")
        return StageWeights(
            index=decision["stage"],
            step=decision["step"],
            end=end["step"],
            mean=said["mean"],
            least=said["min"],
            most=said["max"],
            ess=said["ess"],
            half=said.get("half"),
            by_domain=said["by_domain"],
            bars=said["histogram"],
            loss=end.get("train_loss"),
            weighted_loss=end.get("weighted_loss"),
            clipped=None if clipped is None else (clipped[0], clipped[1]),
        )


@dataclass(frozen=True)
class WeightFacts:
    """How much the rows of a run counted.

    Args:
        edges: first step of each stage that is over, and the step after the last.
        stages: those that were weighted, in their sequence.
        audit: (steps whose gradient was checked, that multiplied the planned weights).
    """

    edges: tuple[int, ...]
    stages: tuple[StageWeights, ...]
    audit: tuple[int, int]

    def bars(self) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """Share of the rows in each bar, of each stage that is over, shape (9, stages); 0 where it was not weighted."""
        shares = np.zeros((len(self.stages[0].bars), len(self.edges) - 1))
        for stage in self.stages:
            shares[:, self.edges.index(stage.step)] = np.array(stage.bars) / max(1, sum(stage.bars))
        return shares


def read_weights(decisions: Sequence[Json], ends: Mapping[int, Json], last: Json) -> WeightFacts | None:
    """What a run's ledger says of it; None for a run without weights.

    Args:
        decisions: its lines of decisions.
        ends: stage → the line of its end.
        last: its last line, or that of the last stage's end.
    """
    if "weights_audit" not in last:
        return None
    over = [decision for decision in decisions if decision["stage"] in ends]
    edges = [*(decision["step"] for decision in over), *(ends[one["stage"]]["step"] for one in over[-1:])]
    stages = tuple(StageWeights.of(decision, end) for decision in over if "weights" in (end := ends[decision["stage"]]))
    return WeightFacts(tuple(edges), stages, tuple(last["weights_audit"]))
