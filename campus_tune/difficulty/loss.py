"""Difficulty is what the model in hand finds hard: the loss of the reference answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from campus_tune.difficulty.base import METRICS, Metric
from campus_tune.types import FloatArray, RowLosses


@METRICS.register("loss")
@dataclass(frozen=True, kw_only=True)
class Loss(Metric):
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

    kind: ClassVar[Literal["cpu", "model"]] = "model"
    reduce: Literal["mean", "sum"] = "mean"

    def __post_init__(self) -> None:
        if self.reduce not in ("mean", "sum"):
            raise ValueError(f"`reduce` must be mean or sum, got {self.reduce!r}.")

    def from_losses(self, losses: RowLosses) -> FloatArray:
        """Scores of measured rows, shape (n,)."""
        return losses.per_row() if self.reduce == "mean" else losses.nll_sum
