"""What is still to be learned of a row: its loss now, minus what no training would take away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from campus_tune.metrics.base import METRICS
from campus_tune.metrics.passage import Passage, PassageMetric
from campus_tune.metrics.settings import Reduce, reduced
from campus_tune.words.leaves import Given, Place
from campus_tune.words.types import FloatArray, RowLosses

_HOLDOUT = Place("a folder or a hub id of a model trained on held-out data", "{name: -rho, holdout: ./holdout-model}")


@METRICS.register("rho")
@dataclass(frozen=True, kw_only=True)
class Rho(PassageMetric):
    """Reducible holdout loss: `L(y | x; the model in hand) − L(y | x; a model trained on held-out data)`, in nats.

    **RHO-LOSS trains the highest first: write `-rho`** (orders go from low to high). A high value is a row that is
    worth learning, can be learned and is not learned yet; noise has a high loss under both models and cancels out.

    When it helps: where the data are large and noisy, so that "hard" alone means "broken". Cost: a forward of each
    model over the rows; the second model must be trained, on data that are not the training set's.

    Where the two models have tokenizers of their own, a mean per token is over other tokens under each, and their
    difference means nothing; a run says so. With `reduce: sum` both are nats per answer, which can be subtracted.

    Args:
        holdout: folder or hub id of the model trained on held-out data, or of an adapter on one.
        reduce: `mean` per answer token, or `sum` over the answer.

    Reference:
        Mindermann et al. 2022, Prioritized Training on Points that are Learnable, Worth Learning, and Not Yet Learnt,
        arXiv 2206.07137.

    Differs from the paper: it picks rows out of each batch by the loss of that moment; we order all rows by the loss
    when they were last scored.
    """

    highest_first: ClassVar[str] = "what is learnable and not yet learned"

    holdout: Annotated[str | None, Given(), _HOLDOUT] = None
    reduce: Reduce = "mean"

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The rows under the model in hand, and under the other one."""
        return (Passage(), Passage(self.holdout))

    def from_losses(self, losses: Sequence[RowLosses]) -> FloatArray:
        """Scores of measured rows, shape (n,)."""
        now, irreducible = (reduced(rows, self.reduce) for rows in losses)
        return np.asarray(now - irreducible, dtype=np.float64)

    def remarks(self, label: str, losses: Sequence[RowLosses], is_foreign: Callable[[Passage], bool]) -> list[str]:
        """Means per token of two tokenizers."""
        del label, losses
        if self.reduce == "sum" or not any(map(is_foreign, self.passages)):
            return []
        warning = (
            f"`rho: reduce` mean subtracts losses per token of two tokenizers ({self.holdout} has its own): their "
            "difference means nothing. Write reduce: sum, which is nats per answer under both."
        )
        return [warning]
