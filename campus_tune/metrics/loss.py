"""Difficulty is what the model in hand finds hard: the loss of the reference answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from campus_tune.metrics.base import METRICS
from campus_tune.metrics.passage import Passage, PassageMetric
from campus_tune.metrics.settings import Reduce
from campus_tune.words.types import FloatArray, RowLosses


@METRICS.register("loss")
@dataclass(frozen=True, kw_only=True)
class Loss(PassageMetric):
    """Answer loss under the model in hand: `−Σ_t log p(y_t | x, y_<t)`, in nats; taken anew as the model grows.

    When it helps: it is the metric that knows what this model knows. Cost: a forward over the rows, so it is measured
    on as many rows as its part of the budget pays for, a stratified sample; where that is not all of them the others
    are predicted from the metrics that cost nothing, and the ledger says how well (see `scores.surrogate`).

    What the two reductions measure (SmolLM2-135M, rank correlation with a known level inside a task, mean over tasks,
    before and after 50 steps of LoRA): on generated tasks sum 0.68 and 0.85, mean −0.20 and 0.16; on reasoning-gym sum
    0.65 and 0.63, mean 0.18 and 0.47. The sum is a difficulty order and, to a good part, a length order (the answer's
    length alone: 0.84 and 0.61); the mean per token is a perspective of its own. The mean is the paper's, and the
    default; write `reduce: sum` where you want difficulty and have no `length` beside it. `eval/metric_validity.py`
    measures yours.

    Args:
        reduce: `mean` per answer token, or `sum` over the answer.

    Reference:
        CAMPUS, arXiv 2509.13790 (its competence-aware metric).
    """

    own_loss: ClassVar[bool] = True

    reduce: Reduce = "mean"

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The rows under the model in hand."""
        return (Passage(),)

    def from_losses(self, losses: Sequence[RowLosses]) -> FloatArray:
        """Scores of measured rows, shape (n,)."""
        (rows,) = losses
        return rows.per_row() if self.reduce == "mean" else rows.nll_sum
