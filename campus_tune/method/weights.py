"""Weights: how much a row, or a token of it, counts in its step. The formulas; `weighting` puts them together.

A step's loss is Σ T·ℓ / Σ T over its rows, T answer tokens each. With weights w it is Σ w·T·ℓ / Σ w·T: a ratio, so
that a step never grows or shrinks with the weights in it, on any number of ranks. AdamW would not see a common factor
anyway.

    planned   known before the forward: a column, unbiased (n/m)/π, shares of domains
    row       a function of the row's own mean loss in this very forward, and of a level fixed at the stage's opening
    token     a function of the token's own loss in it

Any loss that is a function h of a token's loss is the factor h′ on its gradient, so focal, SuperLoss and self-paced
learning need no loss of their own. A live weight is written once, in operators that numpy and torch both have (`xp`):
the device multiplies with it, the audit computes it anew on the host.

>>> normalised(np.array([1.0, 3.0]), np.array([10, 10]), np.zeros(2, dtype=np.int64)).tolist()
[0.5, 1.5]
>>> focal = build_weight({"name": "focal", "gamma": 1})
>>> focal.factor(-np.log([0.1, 0.5, 0.9]), (), np).round(4).tolist()
[1.1303, 0.8466, 0.1948]
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np

from campus_tune.words.annotated import check_options
from campus_tune.words.leaves import Range
from campus_tune.words.registry import Registry
from campus_tune.words.types import FloatArray, IntArray, RowArray

if TYPE_CHECKING:
    from campus_tune.method.levels import Levels

Kind: TypeAlias = Literal["planned", "row", "token"]
Favours: TypeAlias = Literal["hard", "easy"]  # rows that a weight raises beside the others
Act: TypeAlias = Literal["auto", "always", "never"]  # once a run shows wrong rows (`earned`), in any case, not at all

LEAST_LEVEL = 1e-6  # nats: what a level is divided by at least
_LIKELY = 1e-7  # 1 − p of a token that is as good as certain: a power of 0 below 0 is no number
_NEAR = 1e-4  # e·x + 1 below which Lambert's W is its series: Newton's slope is 0 at the branch


def normalised(weights: FloatArray, tokens: IntArray, unit: IntArray) -> FloatArray:
    """Weights divided by their token-weighted mean over each unit: then Σ w·T = Σ T in each of them. Shape (n,).

    Args:
        weights: at least 0, their sum over a unit's answer tokens above 0, if it has any; shape (n,).
        tokens: answer tokens of the rows, shape (n,).
        unit: number of each row's optimizer step, from 0, shape (n,).
    """
    total = np.bincount(unit, tokens)
    mean = np.divide(np.bincount(unit, weights * tokens), total, out=np.ones(len(total)), where=total > 0)
    return np.asarray(weights / mean[unit], dtype=np.float64)


def effective_share(weights: FloatArray, tokens: IntArray | FloatArray) -> float:
    """Effective sample size as a part of the rows: `(Σ w·T)² / (Σ T · Σ w²·T)`, in (0, 1]; 1 where all are alike.

    Args:
        weights: shape (n,).
        tokens: answer tokens of the rows, shape (n,).
    """
    squares = float((tokens * weights**2).sum())
    return float((tokens * weights).sum()) ** 2 / (float(tokens.sum()) * squares) if squares > 0 else 1.0


# -- the parts ---------------------------------------------------------------------------------------------------------


class Weight(ABC):
    """One weight. Subclasses are final; settings are frozen.

    `favours` says which rows it raises beside the others, so that two that pull against each other are found. `since`
    is the progress from which it holds where a recipe does not say; one that is `paced` then holds until the handover.
    """

    kind: Kind
    favours: ClassVar[Favours | None] = None
    since: ClassVar[float] = 0.0
    paced: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def when(self) -> Act:
        """Whether it waits for a sign of wrong rows: most weights are for something else, and act always."""
        return "always"


@dataclass(frozen=True, eq=False)
class Planning:
    """What a planned weight is shown of a stage that is being opened.

    Args:
        rows: in training order, shape (n,).
        unbiased: (n/m)/π of each, by the chances with which it was taken; 1 where nothing was thinned, shape (n,).
        u: progress of the run.
        columns: the numbers that a recipe reads with the rows, by the weight that asks for them, each shape (N,).
    """

    rows: RowArray
    unbiased: FloatArray
    u: float
    columns: Mapping[Weight, FloatArray]


class PlannedWeight(Weight):
    """A weight that is known before the forward."""

    kind: ClassVar[Kind] = "planned"  # type: ignore[misc]  # mypy: an instance's kind may be its own

    @abstractmethod
    def planned(self, shown: Planning) -> FloatArray:
        """The weight of each row of the stage, at least 0, on average about 1; shape (n,)."""


class LiveWeight(Weight):
    """A weight that the forward decides: a function of a loss and of its level.

    `groups` are those whose losses a row's own is compared with; None where it is compared with nothing.
    """

    groups: ClassVar[Literal["domains", "cells"] | None] = None

    def level(self, levels: Levels, scope: float) -> tuple[FloatArray, ...]:
        """What a loss is compared with, number by number, each of shape (G,); NaN where a group's is not known yet.

        Args:
            levels: what the last stages' losses say of each group.
            scope: how far the recipe's pacing has opened, in (0, 1], over the span in which the weight holds.
        """
        del levels, scope
        return ()

    @abstractmethod
    def factor(self, loss: Any, level: Sequence[Any], xp: Any) -> Any:
        """The weight, at least 0, of each loss; of the same shape.

        Args:
            loss: nats: of a row per answer token, shape (n,), or of a token; an array or a tensor, as `xp` has them.
            level: the numbers of `level`, each as it is for this row, shape (n,).
            xp: numpy or torch.
        """


WEIGHTS: Registry[Weight] = Registry("weight")


def build_weight(setting: str | Mapping[str, Any]) -> Weight:
    """The weight that a recipe names: `unbiased`, or `{name: focal, gamma: 2}`.

    Raises:
        RecipeError: unknown name or option, or a value out of its range.
    """
    return WEIGHTS.from_setting(setting)


# -- planned -----------------------------------------------------------------------------------------------------------


@WEIGHTS.register("column")
@dataclass(frozen=True)
class OwnWeight(PlannedWeight):
    """A user's own weights, a column of the training set; or one for each message of a chat.

    On any scale: only how rows stand to each other counts. A row, or message, of weight 0 is shown to the model and
    teaches it nothing. What you know of your rows (their source, a vote, a price) and no metric can.

    Args:
        column: name of the column; with messages, of the key in each of them.
        of: row, or message: then every message has a weight, spread over the tokens of it that are trained.
    """

    column: str = "weight"
    of: Literal["row", "message"] = "row"

    def planned(self, shown: Planning) -> FloatArray:
        """The rows' own."""
        return shown.columns[self][shown.rows]


@WEIGHTS.register("unbiased")
@dataclass(frozen=True)
class Unbiased(PlannedWeight):
    """Thinned rows count for those that were passed over: w = (n/m)/π, so that Σ π·w·ℓ is that of all offered rows.

    With `thin: proportional` it is importance sampling, with `prune` InfoBatch. Before normalisation the expected
    gradient is exactly that of all rows; divided by the step's own mean it is consistent, as a ratio is.

    Reference:
        Katharopoulos & Fleuret 2018 (1803.00942); Qin et al. 2023, InfoBatch (2303.04947). *Differs from the papers*:
        theirs divide by a constant, and then a step that draws long rows shrinks by what they add to its denominator.
    """

    def planned(self, shown: Planning) -> FloatArray:
        """By the chances of the draw."""
        return shown.unbiased


# -- live --------------------------------------------------------------------------------------------------------------


@WEIGHTS.register("self_paced")
@dataclass(frozen=True)
class SelfPaced(LiveWeight):
    """Soft self-paced learning: rows whose loss is above λ count little, and λ rises by the recipe's pacing.

    With x = ℓ/λ: hard v = 1 where x < 1, linear max(0, 1 − x), log ln(1 − a + a·x)/ln(1 − a) below 1 with a = 0.9, the
    paper's curve for losses on a scale where λ is a. The weight is floor + (1 − floor)·v. λ is the quantile s(u) of the
    last losses in the row's domain, s the recipe's pacing over the span in which the weight holds: until the handover,
    if nothing is said, for a linear curve never becomes flat.

    Args:
        form: linear, log or hard.
        floor: least weight. With 0, rows that are hard now teach nothing, and so stay hard.

    Reference:
        Kumar et al. 2010; Jiang et al. 2014, 2015. *Differs from the papers*: λ is a quantile, where theirs grows by a
        factor and must be on the losses' scale (the logarithm is of a negative number from 1 nat on); weights of this
        very forward, where theirs need all losses before each update.
    """

    kind: ClassVar[Kind] = "row"  # type: ignore[misc]  # as above
    favours: ClassVar[Favours | None] = "easy"
    groups: ClassVar[Literal["domains", "cells"] | None] = "domains"
    paced: ClassVar[bool] = True

    form: Literal["linear", "log", "hard"] = "linear"
    floor: Annotated[float, Range(0, 1, "[)")] = 0.1

    def level(self, levels: Levels, scope: float) -> tuple[FloatArray, ...]:
        """λ."""
        return (levels.quantile(scope),)

    def factor(self, loss: Any, level: Sequence[Any], xp: Any) -> Any:
        """By the form."""
        x = loss / xp.clip(level[0], LEAST_LEVEL, None)
        if self.form == "linear":
            v = xp.clip(1 - x, 0.0, None)
        elif self.form == "hard":
            v = xp.where(x < 1, xp.ones_like(x), xp.zeros_like(x))
        else:
            v = xp.clip(xp.log(0.1 + 0.9 * xp.clip(x, None, 1.0)) / math.log(0.1), 0.0, None)
        return self.floor + (1 - self.floor) * v


@WEIGHTS.register("focal")
@dataclass(frozen=True)
class Focal(LiveWeight):
    """Focal loss, −(1 − p)^γ·ln p: what the model already says counts less. p is of a token, or e^−ℓ of a row.

    The factor is that of its exact gradient, (1 − p)^γ − γ·p·(1 − p)^(γ−1)·ln p, and not (1 − p)^γ, which is the
    loss with a detached weight (at p = ½, γ = 2: 0.5966 against 0.25). Evidence for instruction tuning points the
    other way on reasoning data (`loss_type: dft` multiplies by p), so try it against its control.

    Args:
        gamma: γ; 0 changes nothing.
        of: token or row.

    Reference:
        Lin et al. 2017, Focal Loss for Dense Object Detection (1708.02002).
    """

    favours: ClassVar[Favours | None] = "hard"

    gamma: Annotated[float, Range(0, 10)] = 1.0
    of: Literal["token", "row"] = "token"

    @property
    def kind(self) -> Kind:  # type: ignore[override]  # its option
        """Token or row."""
        return self.of

    def factor(self, loss: Any, level: Sequence[Any], xp: Any) -> Any:
        """The gradient's."""
        del level
        p = xp.exp(-loss)
        rest = xp.clip(1 - p, _LIKELY, None)
        return rest**self.gamma + self.gamma * p * rest ** (self.gamma - 1) * loss


@WEIGHTS.register("superloss")
@dataclass(frozen=True)
class SuperLoss(LiveWeight):
    """SuperLoss: σ = exp(−W(½·max(−2/e, (ℓ − τ)/λ))), W Lambert's: from e for the easiest rows down towards 0.

    τ is the mean of the last losses in the row's domain, λ `temper` times their interquartile range. The loss that the
    paper minimises has this weight as its gradient's factor, by the envelope theorem.

    Args:
        temper: higher is milder; for clean data.

    Reference:
        Castells, Weinzaepfel, Revaud 2020, SuperLoss: A Generic Loss for Robust Curriculum Learning. *Differs from the
        paper*: λ in units of the losses' own spread, where theirs is a number for each data set; τ of the last stage,
        where theirs is ln C or a running mean.
    """

    kind: ClassVar[Kind] = "row"  # type: ignore[misc]  # as above
    favours: ClassVar[Favours | None] = "easy"
    groups: ClassVar[Literal["domains", "cells"] | None] = "domains"

    temper: Annotated[float, Range(0, 1000, "(]")] = 1.0

    def level(self, levels: Levels, scope: float) -> tuple[FloatArray, ...]:
        """τ and λ."""
        del scope
        return levels.mean(), self.temper * (levels.quantile(0.75) - levels.quantile(0.25))

    def factor(self, loss: Any, level: Sequence[Any], xp: Any) -> Any:
        """σ."""
        tau, temper = level
        beta = xp.clip((loss - tau) / xp.clip(temper, LEAST_LEVEL, None), -2 / math.e, 1e6)
        return xp.exp(-lambert_w(beta / 2, xp))


def lambert_w(x: Any, xp: Any) -> Any:
    """The principal branch of Lambert's W, w·e^w = x, for x ≥ −1/e; by Halley's iteration, near −1/e by its series."""
    z = xp.clip(math.e * x + 1, 0.0, None)
    p = xp.sqrt(2 * z)
    near = -1 + p - p**2 / 3 + 11 / 72 * p**3 - 43 / 540 * p**4
    w = xp.where(x > 0, xp.log1p(xp.clip(x, 0.0, None)), near)  # above 0 the series soon leaves the branch
    for _ in range(6):
        e, above = xp.exp(w), xp.clip(w + 1, 1e-3, None)  # the series is better where this clips
        f = w * e - x
        w = w - f / (e * above - (w + 2) * f / (2 * above))
    return xp.where(z < _NEAR, near, w)


@WEIGHTS.register("linupper")
@dataclass(frozen=True)
class LinUpper(LiveWeight):
    """LinUpper: easy rows count less, hard ones all alike: w = exp(min(ℓ̃, 0)/r), ℓ̃ the loss on a scale from −δ to δ.

    The scale runs from the 5 % to the 95 % quantile of the last losses in the row's domain. Mild: with δ = r = 1 the
    hardest count at most e times what the easiest do. Of the weights by loss the one with pre-training evidence.

    Args:
        delta: δ.
        r: r.

    Reference:
        Sow et al. 2025, Dynamic Loss-Based Sample Reweighting (2502.06733). *Differs from the paper*: quantiles of the
        last stage, where theirs are the least and the greatest loss of the batch.
    """

    kind: ClassVar[Kind] = "row"  # type: ignore[misc]  # as above
    favours: ClassVar[Favours | None] = "hard"
    groups: ClassVar[Literal["domains", "cells"] | None] = "domains"

    delta: Annotated[float, Range(0, 100, "(]")] = 1.0
    r: Annotated[float, Range(0, 100, "(]")] = 1.0

    def level(self, levels: Levels, scope: float) -> tuple[FloatArray, ...]:
        """The ends of the scale."""
        del scope
        return levels.quantile(0.05), levels.quantile(0.95)

    def factor(self, loss: Any, level: Sequence[Any], xp: Any) -> Any:
        """Of the place on the scale."""
        low, high = level
        scaled = self.delta * (2 * (loss - low) / xp.clip(high - low, LEAST_LEVEL, None) - 1)
        return xp.exp(xp.clip(scaled, -self.delta, 0.0) / self.r)


@WEIGHTS.register("robust")
@dataclass(frozen=True)
class Robust(LiveWeight):
    """Rows that stand out from their kind count less: w = min(1, exp(1 − e)), e the excess of this very forward.

    e is the loss less the running mean of the row's cell, in the cell's mean absolute deviations, both as they were at
    the stage's opening. The answer to wrong answers that needs no second epoch: they are what stands out. A cell is let
    be until it was visited twenty times, and so are all rows in the first tenth of a run. About that mean no more than
    half of a cell's visits can have an excess above 1, so never more than about half of it counts less. On clean data
    it costs: `act: auto` changes nothing until the run's own record shows wrong rows.

    Args:
        act: auto (from the stage on at whose opening the record shows that rows are wrong; a tenth of the rows always
            counts 1), always, or never (it is said when auto would act).

    Reference:
        Ours. In a sketch held-out loss with 30 % wrong answers fell to .94 to .97 of shuffling's, on clean rows it rose
        to 1.00 to 1.18; through the product, on rows that repeat twice, it was .988 and .998 (eval/LOG.md). A level
        that moves with every step and is shared over ranks was no better than one that stands still for a stage.
    """

    kind: ClassVar[Kind] = "row"  # type: ignore[misc]  # as above
    groups: ClassVar[Literal["domains", "cells"] | None] = "cells"
    since: ClassVar[float] = 0.1

    act: Act = "always"

    @property
    def when(self) -> Act:
        """Its option."""
        return self.act

    def level(self, levels: Levels, scope: float) -> tuple[FloatArray, ...]:
        """Mean and spread of each cell."""
        del scope
        return levels.running()

    def factor(self, loss: Any, level: Sequence[Any], xp: Any) -> Any:
        """By the excess."""
        mean, spread = level
        return xp.exp(1 - xp.clip((loss - mean) / spread, 1.0, 50.0))
