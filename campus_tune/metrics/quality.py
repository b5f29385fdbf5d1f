"""What a reward or quality model of the user's own says of each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from campus_tune.metrics.base import METRICS, Kind, Metric
from campus_tune.words.errors import MetricError
from campus_tune.words.leaves import Given, Place
from campus_tune.words.registry import nearest

_MODEL = Place("a model folder or a hub id", "{name: quality, model: ./reward-model}")


@METRICS.register("quality")
@dataclass(frozen=True, kw_only=True)
class Quality(Metric):
    """The logit that a sequence-classification model gives a row's conversation: a reward, or a grade of quality.

    **Higher = better here, and "higher = harder" is only a convention**: `quality` trains from poor rows to good ones,
    so that the good data come last; `-quality` the reverse.

    When it helps: where some sources are much better than others, and the last thing seen should be the best.
    Cost: a forward of that model over the rows. It does not know the model in training, so it is computed once.

    Args:
        model: folder or hub id of a model with a sequence-classification head.
        logit: the label whose logit counts, by name or number, where the model has several (every metric's `label` is
            already what reports call it).

    Reference:
        High-quality data in the last phase: Hu et al. 2024, MiniCPM, arXiv 2404.06395 (its decay stage).
    """

    kind: ClassVar[Kind] = "model"

    model: Annotated[str | None, Given(), _MODEL] = None
    logit: int | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.logit, int | str | None) or isinstance(self.logit, bool):
            raise ValueError(f"`logit` must be the name or the number of a label, got {self.logit!r}.")


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
