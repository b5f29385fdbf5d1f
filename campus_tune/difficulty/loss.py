"""Difficulty is what the model in hand finds hard: the loss of the reference answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from campus_tune.difficulty.base import METRICS
from campus_tune.difficulty.passage import Passage, PassageMetric
from campus_tune.types import FloatArray, RowLosses


@METRICS.register("loss")
@dataclass(frozen=True, kw_only=True)
class Loss(PassageMetric):
    """Answer loss under the model in hand before training: `−Σ_t log p(y_t | x, y_<t)`, in nats.

    When it helps: it is the only metric here that knows the model. Cost: a forward over the rows, so it is measured
    on as many rows as half the budget pays for, a stratified sample; where that is not all of them the others are
    predicted from the metrics that cost nothing, and the ledger says how well (see `difficulty.surrogate`).

    On graded tasks the summed loss follows the true level of difficulty (Spearman 0.69 with SmolLM2 before tuning)
    and the mean per token does not (0.01); the paper's loss is the mean, which is the default.

    Args:
        reduce: `mean` per answer token, or `sum` over the answer.

    Reference:
        CAMPUS, arXiv 2509.13790 (its competence-aware metric).
    """

    reduce: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        if self.reduce not in ("mean", "sum"):
            raise ValueError(f"`reduce` must be mean or sum, got {self.reduce!r}.")

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The rows under the model in hand."""
        return (Passage(),)

    def from_losses(self, losses: Sequence[RowLosses]) -> FloatArray:
        """Scores of measured rows, shape (n,)."""
        (rows,) = losses
        return rows.per_row() if self.reduce == "mean" else rows.nll_sum
