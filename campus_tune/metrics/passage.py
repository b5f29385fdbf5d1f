"""Metrics of a forward: which model reads which part of a row, and what is made of the losses.

Several metrics can share one pass (`loss` and `confidence` do), and a pass over the same rows under the same model is
the same in every run, so a passage is also what the score cache keeps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

from campus_tune.metrics.base import Kind, Metric
from campus_tune.words.types import FloatArray, RowLosses

Part: TypeAlias = Literal["row", "answer"]
EVERY_PROBE = "all"  # domains of the probes, each counted alike


@dataclass(frozen=True)
class Passage:
    """One pass over the rows.

    Args:
        model: None for the model in hand; else another one's folder or hub id.
        part: `row` reads the prompt and then the answer; `answer` reads the answer alone.
        towards: a domain of the probes, or `EVERY_PROBE`: not the losses are asked for but their slopes, how much each
            rises as the model in hand is moved the way that the probes' loss rises. None asks for losses.
    """

    model: str | None = None
    part: Part = "row"
    towards: str | None = None

    def __str__(self) -> str:
        if self.towards is not None:
            return f"slopes towards {self.towards} probes"
        return f"{'answers alone' if self.part == 'answer' else 'rows'} under {self.model or 'the model in hand'}"


HERE = Passage()  # the rows under the model in hand
ALONE = Passage(part="answer")  # what their answers cost it without their prompts


class PassageMetric(Metric):
    """A metric made of the losses of one or more passages."""

    kind: ClassVar[Kind] = "model"

    @property
    @abstractmethod
    def passages(self) -> tuple[Passage, ...]:
        """What must be measured."""

    @abstractmethod
    def from_losses(self, losses: Sequence[RowLosses]) -> FloatArray:
        """Scores of measured rows, shape (n,), higher = harder.

        Args:
            losses: of the same rows, one per passage, in the sequence of `passages`.
        """

    def remarks(self, label: str, losses: Sequence[RowLosses], is_foreign: Callable[[Passage], bool]) -> list[str]:
        """What a person should know of these losses, before the first step.

        Args:
            label: what the recipe calls the metric.
            losses: as `from_losses` is given them.
            is_foreign: whether a passage's model has other tokens than the model in hand; looks at its tokenizer.
        """
        del label, losses, is_foreign
        return []

    @property
    def competence_aware(self) -> bool:
        """One of the passages is under the model in hand."""
        return any(passage.model is None for passage in self.passages)
