"""Settings that several metrics share: how a row's losses become one number."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from campus_tune.words.leaves import Wording
from campus_tune.words.types import FloatArray, RowLosses

Reduce: TypeAlias = Annotated[Literal["mean", "sum"], Wording("mean or sum")]


def reduced(losses: RowLosses, reduce: Reduce) -> FloatArray:
    """Each row's loss in nats, per answer token or over the answer, shape (n,)."""
    return losses.per_row() if reduce == "mean" else losses.nll_sum
