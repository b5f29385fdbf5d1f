"""Length in tokens: the oldest difficulty there is, and the one every other metric has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from campus_tune.metrics.base import METRICS, CpuMetric
from campus_tune.words.errors import RecipeError
from campus_tune.words.registry import nearest
from campus_tune.words.types import FloatArray, RowTexts

Part = Literal["response", "prompt", "both"]


@METRICS.register("length")
@dataclass(frozen=True, kw_only=True)
class Length(CpuMetric):
    """How many tokens a row has, as the model will see it: longer = harder.

    Long answers give more places to go wrong, long prompts more to keep in mind. It costs nothing, so it is the
    yardstick: a metric that correlates with length at 0.95 is length under another name. `-length` starts with the
    long rows.

    Args:
        of: which tokens count: `response` (those that carry loss), `prompt` (those that do not) or `both`.

    Raises:
        RecipeError: `of` is something else.

    Reference:
        Platanios et al. 2019, "Competence-based Curriculum Learning for Neural Machine Translation", arXiv 1903.09848.

    >>> rows = RowTexts(["a b", "a"], np.array([2, 1]), np.array([5, 9]), {})
    >>> Length().scores(rows), Length(of="both").scores(rows)
    (array([2., 1.]), array([ 7., 10.]))
    """

    of: Part = "response"

    def __post_init__(self) -> None:
        if self.of not in get_args(Part):
            raise RecipeError(
                f"`length: of` must be one of {', '.join(get_args(Part))}, got {self.of!r}."
                f"{nearest(str(self.of), get_args(Part))}"
            )

    def scores(self, texts: RowTexts, *, num_proc: int = 1, progress: bool = True) -> FloatArray:
        """Tokens per row, shape (N,)."""
        del num_proc, progress  # the counts are there already
        if self.of == "response":
            counts = texts.response_tokens
        elif self.of == "prompt":
            counts = texts.prompt_tokens
        else:
            counts = texts.response_tokens + texts.prompt_tokens
        return np.array(counts, dtype=np.float64)
