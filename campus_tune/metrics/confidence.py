"""Difficulty is where the model in hand is unsure of the reference answer: its least sure token, or all on average."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from campus_tune.metrics.base import METRICS
from campus_tune.metrics.passage import Passage, PassageMetric
from campus_tune.words.leaves import Wording
from campus_tune.words.types import FloatArray, RowLosses


@METRICS.register("confidence")
@dataclass(frozen=True, kw_only=True)
class Confidence(PassageMetric):
    """How unsure the model in hand is of the answer: `max_t −log p(y_t)`, or `1 − mean_t p(y_t)`.

    When it helps: `least` finds the one step of an answer that the model cannot make, which a mean over a long and
    otherwise predictable answer hides; `mean` is the loss with a bound, so a few absurd tokens cannot rule it. Cost:
    none beside `loss`, for both come out of the same forward.

    Args:
        of: `least`: the loss of the answer's least sure token, nats, ≥ 0; `mean`: one minus the mean probability of
            the answer's tokens, in [0, 1]. Either way the unsure rows are the hard ones.

    Reference:
        least: Max(−log p) of SelfCheckGPT, Manakul et al. 2023, arXiv 2303.08896, where it finds hallucinations.
        mean: confidence of Dataset Cartography, Swayamdipta et al. 2020, arXiv 2009.10795.

    Differs from the papers: SelfCheckGPT looks at what the model wrote, we at the reference answer; Cartography
    averages the probability of a class over the epochs, we that of the answer's tokens, at one moment. Neither paper
    orders training by it.
    """

    of: Annotated[Literal["least", "mean"], Wording("least or mean")] = "least"

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The rows under the model in hand."""
        return (Passage(),)

    def from_losses(self, losses: Sequence[RowLosses]) -> FloatArray:
        """Scores of measured rows, shape (n,)."""
        (rows,) = losses
        return rows.worst if self.of == "least" else 1.0 - rows.sureness / rows.tokens
