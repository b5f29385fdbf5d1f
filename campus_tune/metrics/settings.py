"""Settings that several metrics share: how a row's losses become one number, and which other model is asked."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from campus_tune.words.types import FloatArray, RowLosses

Reduce: TypeAlias = Literal["mean", "sum"]


def check_reduce(reduce: object) -> None:
    """Raises ValueError for anything but `mean` and `sum`."""
    if reduce not in ("mean", "sum"):
        raise ValueError(f"`reduce` must be mean or sum, got {reduce!r}.")


def reduced(losses: RowLosses, reduce: Reduce) -> FloatArray:
    """Each row's loss in nats, per answer token or over the answer, shape (n,)."""
    return losses.per_row() if reduce == "mean" else losses.nll_sum


def check_place(setting: str, value: Any, what: str, example: str) -> None:
    """A setting that names a model must be a text; whether there is one shows when it is loaded.

    Args:
        setting: its name.
        value: what the recipe says.
        what: what it must name.
        example: what to write.

    Raises:
        ValueError: nothing, or no text.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"`{setting}` must be {what}, got {value!r}. Write for example {example}.")
