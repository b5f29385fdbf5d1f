"""The parts. Importing this module registers them, which is all that the entry point in pyproject.toml asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from campus_tune.method.levels import Levels
from campus_tune.method.pacing import PACINGS, Pacing
from campus_tune.method.selectors import LOSS, SELECTORS, GreedySelector
from campus_tune.method.thin import THINNERS, Thinner
from campus_tune.method.weights import WEIGHTS, Favours, LiveWeight
from campus_tune.metrics import METRICS, CpuMetric
from campus_tune.words.types import FloatArray, RowTexts


@METRICS.register("commas")
@dataclass(frozen=True, kw_only=True)
class Commas(CpuMetric):
    """Commas per 100 letters of the answer.

    When it helps: where long, nested sentences are what is hard. Cost: a pass over the letters. In the place of a
    reference: an example, of no use by itself.

    Args:
        per: letters, above 0.

    Raises:
        ValueError: `per` is out of range.
    """

    per: float = 100.0

    def __post_init__(self) -> None:
        if not self.per > 0:
            raise ValueError(f"`per` must be above 0, got {self.per!r}. Write for example 100.")

    def scores(self, texts: RowTexts, *, num_proc: int = 1, progress: bool = True) -> FloatArray:
        """Commas for every `per` letters of each answer, shape (N,)."""
        del num_proc, progress
        return np.array([self.per * text.count(",") / max(1, len(text)) for text in texts.response_text])


@PACINGS.register("smooth")
def smooth(start: float = 0.1) -> Pacing:
    """Slow, fast, slow: `s(u) = s₁ + (1 − s₁)·(3u² − 2u³)`.

    Args:
        start: s₁ in (0, 1], the scope at u = 0.
    """
    if not 0 < start <= 1:
        raise ValueError(f"`start` must be in (0, 1], got {start!r}. It is the share of rows open at the start.")
    return lambda u: start + (1 - start) * (3 * u**2 - 2 * u**3)


@SELECTORS.register("highest_perplexity")
@dataclass(frozen=True)
class HighestPerplexity(GreedySelector):
    """Takes the offer on which the model is worst now: what it has most to learn from, or what is beyond it."""

    needs = frozenset({LOSS})

    def distance(self, loss: FloatArray, *, start_loss: FloatArray | None, probe_loss: float | None) -> FloatArray:
        """`−loss`: the higher the loss, the nearer."""
        del start_loss, probe_loss
        return -loss


@THINNERS.register("hard_half")
@dataclass(frozen=True)
class HardHalf(Thinner):
    """The rows whose score is at the median of their cell or above it, all of them alike; half of the others.

    Args:
        drop: the share of the others that is passed over.
    """

    scale = "percentile"
    own = True
    drop: float = 0.5

    def chances(self, scores: FloatArray, n: int, keys: FloatArray) -> FloatArray:
        """1 from the median on."""
        del n, keys
        return np.where(scores < 0.5, 1 - self.drop, 1.0)


@WEIGHTS.register("hard_double")
@dataclass(frozen=True)
class HardDouble(LiveWeight):
    """Rows whose loss is above the median of their domain count twice, or as often as one says.

    Args:
        times: how often.
    """

    kind: ClassVar[Any] = "row"
    favours: ClassVar[Favours | None] = "hard"
    groups = "domains"
    times: float = 2.0

    def level(self, levels: Levels, scope: float) -> tuple[FloatArray, ...]:
        """The medians."""
        del scope
        return (levels.quantile(0.5),)

    def factor(self, loss: Any, level: Any, xp: Any) -> Any:
        """`times` above it, else 1."""
        return xp.where(loss > level[0], self.times * xp.ones_like(loss), xp.ones_like(loss))
