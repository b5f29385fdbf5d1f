"""Metrics of a reward model: which of its logits is asked for, and what is made of it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from campus_tune.metrics.base import Kind, Metric
from campus_tune.words.errors import MetricError
from campus_tune.words.registry import nearest
from campus_tune.words.types import FloatArray


@dataclass(frozen=True)
class Reward:
    """One logit of a sequence-classification model, for every row's conversation.

    Args:
        model: its folder or hub id.
        logit: the label whose logit counts, by name or number; None where the model has but one.
    """

    model: str
    logit: int | str | None = None


class RewardMetric(Metric):
    """A metric made of a reward model's logits, which do not know the model in training."""

    kind: ClassVar[Kind] = "model"

    @property
    @abstractmethod
    def reward(self) -> Reward:
        """What must be measured."""

    def from_logits(self, logits: FloatArray) -> FloatArray:
        """Scores of measured rows, shape (n,), higher = harder: the logits themselves, unless it says otherwise."""
        return logits


def pick_label(config: Any, label: int | str | None) -> int:
    """The number of the logit that counts.

    Args:
        config: the model's, with `num_labels` and `id2label`.
        label: what the recipe says: a name, a number from 0, or nothing where there is but one.

    Raises:
        MetricError: several labels and no choice, or one that the model does not have; all labels are listed.
    """
    n = int(config.num_labels)
    names = [str((config.id2label or {}).get(i, f"LABEL_{i}")) for i in range(n)]
    if label is None and n == 1:
        return 0
    if isinstance(label, int) and 0 <= label < n:
        return label
    if isinstance(label, str) and names.count(label) == 1:
        return names.index(label)
    listed = ", ".join(f"{i} ({name})" for i, name in enumerate(names))
    hint = nearest(label, names) if isinstance(label, str) else ""
    raise MetricError(
        f"`quality: logit` must be one of the model's {n} labels, {listed}, got {label!r}.{hint} Name the one whose "
        "logit says how good a row is."
    )
