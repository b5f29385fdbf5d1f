"""What a reward or quality model of the user's own says of each row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from campus_tune.metrics.base import METRICS
from campus_tune.metrics.reward import Reward, RewardMetric
from campus_tune.words.leaves import Given, Place

_MODEL = Place("a model folder or a hub id", "{name: quality, model: ./reward-model}")


@METRICS.register("quality")
@dataclass(frozen=True, kw_only=True)
class Quality(RewardMetric):
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

    model: Annotated[str | None, Given(), _MODEL] = None
    logit: int | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.logit, int | str | None) or isinstance(self.logit, bool):
            raise ValueError(f"`logit` must be the name or the number of a label, got {self.logit!r}.")

    @property
    def reward(self) -> Reward:
        """The logit of the user's own model."""
        return Reward(str(self.model), self.logit)
