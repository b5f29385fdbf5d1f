"""Difficulty is what another model finds hard: the perplexity of the reference answer under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from campus_tune.metrics.base import METRICS
from campus_tune.metrics.passage import Passage, PassageMetric
from campus_tune.metrics.settings import Reduce, reduced
from campus_tune.words.leaves import Given, Place
from campus_tune.words.types import FloatArray, RowLosses

_MODEL = Place("a model folder or a hub id", "{name: perplexity, model: ./small-model}")


@METRICS.register("perplexity")
@dataclass(frozen=True, kw_only=True)
class Perplexity(PassageMetric):
    """Log-perplexity of the answer under another, usually smaller model: `−1/T Σ_t log q(y_t | x, y_<t)`, in nats.

    The logarithm, because its order is that of the perplexity and it does not overflow.

    When it helps: as a fixed, cheap idea of difficulty, where the model in hand is too big to read all rows. It does
    not change as training goes on, so it is computed once and reused by every run. Cost: a forward of the small model
    over the rows.

    The other model reads the rows with its own tokenizer and chat template, truncated to its own context; per-token
    means are then over its tokens, which is right for one order and wrong for a comparison with another model's.

    Args:
        model: folder or hub id of a causal language model, or of an adapter on one.
        reduce: `mean` per answer token, which is the log-perplexity, or `sum` over the answer.

    Reference:
        Perplexity under a reference model as difficulty and as a filter: Marion et al. 2023, arXiv 2309.04564; small
        reference models: Ankner et al. 2024, arXiv 2405.20541. Both prune data by it and do not order it.
    """

    model: Annotated[str | None, Given(), _MODEL] = None
    reduce: Reduce = "mean"

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The rows under the other model."""
        return (Passage(self.model),)

    def from_losses(self, losses: Sequence[RowLosses]) -> FloatArray:
        """Scores of measured rows, shape (n,)."""
        (rows,) = losses
        return reduced(rows, self.reduce)
