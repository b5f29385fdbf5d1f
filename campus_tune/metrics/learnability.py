"""What a small model learns of a row while it is trained: its loss early minus its loss late."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from campus_tune.metrics.base import METRICS
from campus_tune.metrics.passage import Passage, PassageMetric
from campus_tune.metrics.settings import Reduce, reduced
from campus_tune.words.leaves import Given, Place
from campus_tune.words.types import FloatArray, RowLosses

EARLY, LATE = "early", "late"  # folders of a proxy


_PROXY = Place("a folder that campus-tune proxy has written", "{name: -learnability, proxy: ./proxy}")


@METRICS.register("learnability")
@dataclass(frozen=True, kw_only=True)
class Learnability(PassageMetric):
    """Proxy loss early minus late: `L(y | x; θ_early) − L(y | x; θ_late)`, in nats. High = much was learned.

    **The paper trains the most learnable rows first: write `-learnability`** (orders go from low to high). Plain
    `learnability` trains the least learnable first and is the control.

    When it helps: it puts off two kinds of rows that a loss cannot tell apart from the rest: what was known from the
    start, and what is not learned at all (noise). Cost: one training of the proxy, once for all runs
    (`campus-tune proxy --config recipe.yaml --out proxy --model small-model`), and two forwards of it over the rows,
    which that command does and keeps.

    Args:
        proxy: folder that `campus-tune proxy` has written.
        reduce: `mean` per answer token, or `sum` over the answer.

    Reference:
        Fan & Jaggi 2023, Irreducible Curriculum for Language Model Pretraining, arXiv 2310.15389.

    Differs from the paper: it pretrains, and takes the proxy's losses during its training; we fine-tune, and take
    both on all rows from two checkpoints.
    """

    highest_first: ClassVar[str] = "the most learnable"

    proxy: Annotated[str | None, Given(), _PROXY] = None
    reduce: Reduce = "mean"

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The rows under the proxy early and late in its training."""
        proxy = str(self.proxy).rstrip("/")
        return (Passage(f"{proxy}/{EARLY}"), Passage(f"{proxy}/{LATE}"))

    def from_losses(self, losses: Sequence[RowLosses]) -> FloatArray:
        """Scores of measured rows, shape (n,)."""
        early, late = (reduced(rows, self.reduce) for rows in losses)
        return np.asarray(early - late, dtype=np.float64)

    def remarks(self, label: str, losses: Sequence[RowLosses], is_foreign: Callable[[Passage], bool]) -> list[str]:
        """A proxy that has unlearned."""
        del is_foreign
        early, late = (rows.mean() for rows in losses)
        if not early < late:
            return []
        warning = (
            f"`{label}`: the proxy is worse late than early (mean loss {early:.3f}, then {late:.3f}): what it seems to "
            "have learned is noise. Train another one, with a lower learning rate or more steps."
        )
        return [warning]
