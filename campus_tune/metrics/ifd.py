"""Difficulty is what the instruction does not help with: the answer's loss with it, over its loss without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from campus_tune.metrics.base import METRICS
from campus_tune.metrics.passage import Passage, PassageMetric
from campus_tune.words.leaves import Place
from campus_tune.words.types import FloatArray, RowLosses

FLOOR = 1e-6  # nats per token: what a model knows by heart has no loss to divide by


_MODEL = Place("a model folder or a hub id, or left out", "{name: ifd, model: ./small}")


@METRICS.register("ifd")
@dataclass(frozen=True, kw_only=True)
class Ifd(PassageMetric):
    """Instruction-following difficulty: `IFD = L(y | x) / L(y)`, both means over the same answer tokens.

    Near 0 the instruction gives the answer away; near 1 it does not help; above 1 it misleads, or the row's answer
    does not belong to its question.

    When it helps: a loss calls rare words hard, whatever was asked. The ratio divides that out, and what is left is
    how hard the instruction is to follow. Cost: two forwards, the second without the prompts.

    Beware of the far end: rows above 1 are often broken ones. The paper drops them and trains on the highest of the
    rest; a curriculum that ends with them ends with its worst rows, so look at the ten hardest in the report.

    Args:
        model: folder or hub id of the model that is asked; None asks the model in hand.

    Reference:
        Li et al. 2023, From Quantity to Quality (Cherry LLM), arXiv 2308.12032.

    Differs from the paper: it fine-tunes the model briefly before it asks, and selects; we ask the model as it is,
    and order. `L(y)` starts from the tokenizer's start token. The answers of a conversation of several turns are
    read one behind the other. Losses without the instruction count as 1e-6 nats per token at least.
    """

    model: Annotated[str | None, _MODEL] = None

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The rows, and their answers alone."""
        return (Passage(self.model), Passage(self.model, "answer"))

    def from_losses(self, losses: Sequence[RowLosses]) -> FloatArray:
        """Scores of measured rows, shape (n,), ≥ 0."""
        given, alone = losses
        return np.asarray(given.per_row() / np.maximum(alone.per_row(), FLOOR), dtype=np.float64)
