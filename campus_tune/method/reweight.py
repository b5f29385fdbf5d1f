"""Reweighting: shares that follow the record, recomputed from all of it at each decision, so that there is no state.

lagging      s ∝ prior · exp(rate · x), x how far a domain is behind
doremi       the same, x added up over time: excess over a reference
odm          a bandit over domains, by training losses
skill_graph  s ∝ exp(η · A · Σ last L / L(0))
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from campus_tune.words.annotated import check_options
from campus_tune.words.registry import Registry
from campus_tune.words.types import FloatArray

Signal: TypeAlias = Literal["probes", "training"]


@dataclass(frozen=True, eq=False)
class Losses:
    """What a reweighting goes by: the loss of each stratum over time.

    Args:
        names: of the S strata.
        loss: nats per token, shape (T, S), oldest first; NaN where it is not known.
        stderr: its standard errors, shape (T, S); NaN likewise.
        drawn: part of the rows that each stratum got between the time before and this one, shape (T, S).
    """

    names: Sequence[str]
    loss: FloatArray
    stderr: FloatArray
    drawn: FloatArray


class Reweight(ABC):
    """Shares of the strata from the losses so far. Subclasses are final; settings are frozen.

    `signal` says whose losses it goes by: probes', or those that training shows for free.
    """

    signal: ClassVar[Signal]

    def __post_init__(self) -> None:
        check_options(self)

    @abstractmethod
    def shares(self, prior: FloatArray, losses: Losses) -> FloatArray:
        """The shares from here on, before they are bounded; shape (S,), sum 1.

        Args:
            prior: what would be drawn without it, shape (S,), sum 1.
            losses: so far, at least one time.
        """


SHARES: Registry[Reweight] = Registry("reweighting")


def build_reweight(setting: str | Mapping[str, Any]) -> Reweight:
    """The reweighting that a recipe names: `lagging`, or `{name: lagging, rate: 0.5}`.

    Raises:
        RecipeError: unknown name or option, or a value out of its range.
    """
    return SHARES.from_setting(setting)


def bounded(shares: FloatArray, prior: FloatArray, most: float) -> FloatArray:
    """Shares within [prior / most, most · prior], sum 1: those that are not at a bound are scaled until they fit.

    Args:
        shares: at least 0, sum 1, shape (S,).
        prior: sum 1, shape (S,); who has none gets none.
        most: at least 1.
    """
    low, high = prior / most, prior * most
    fixed = np.zeros(len(shares), dtype=np.bool_)
    found: FloatArray = np.where(prior > 0, shares, 0.0)
    found = found / found.sum() if found.sum() > 0 else prior.copy()
    while True:
        over, under = found > high * (1 + 1e-12), found < low * (1 - 1e-12)
        # The side whose clipping moves more is fixed first: clipping both at once could fix what has room again.
        excess, lack = (found - high)[over].sum(), (low - found)[under].sum()
        if not over.any() and not under.any():
            return found
        side, edge = (over, high) if excess >= lack else (under, low)
        fixed |= side
        found = np.where(side, edge, found)
        free = ~fixed & (prior > 0)
        left = 1 - found[fixed].sum()
        if not free.any():
            return found / found.sum()
        total = found[free].sum()
        found[free] = found[free] * left / total if total > 0 else prior[free] * left / prior[free].sum()
