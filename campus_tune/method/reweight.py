"""Reweighting: shares that follow the record, recomputed from all of it at each decision, so that there is no state.

    lagging      s ∝ prior · exp(rate · x), x how far a stratum is behind
    doremi       s ∝ s · exp(η · x) at each time, x its excess over a reference
    odm          EXP3 over strata, by the losses that training shows
    skill_graph  s ∝ exp(η · A · Σ L/L(0) of the last times)

Whatever they say is then `bounded`: no share is above `most` times the prior, nor below the prior ÷ `most`. A stratum
of which nothing is known stays at its prior. L is a mean loss in nats per token, L(0) the first one.

>>> losses = Losses.unpaired("abc", np.array([[2.0, 2.0, 2.0], [0.8, 1.0, 1.8]]), np.full((2, 3), 0.01))
>>> build_reweight("lagging").shares(np.array([0.5, 0.3, 0.2]), losses).round(3).tolist()
[0.434, 0.286, 0.28]
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np

from campus_tune.method.loss_series import Losses
from campus_tune.words.annotated import check_options
from campus_tune.words.errors import RecipeError
from campus_tune.words.leaves import Given, Leaf, Number, Range, Wording
from campus_tune.words.registry import Registry, nearest
from campus_tune.words.types import BoolArray, FloatArray, Json
from campus_tune.words.wording import listed

__all__ = ["SHARES", "Doremi", "Lagging", "Losses", "Odm", "Reweight", "SkillGraph", "bounded", "build_reweight"]

Signal: TypeAlias = Literal["probes", "training"]

NAMED = 10  # strata that a refusal lists
_CLIPPED = 1e-12  # relative, of a bound


# -- options -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ByName(Leaf):
    """A mapping of names to numbers.

    Args:
        range: of the numbers.
        what: they are.
        write: what to do about another value.
    """

    range: Range
    what: str
    write: str

    @property
    def must(self) -> str:
        """Of what it is a mapping."""
        return f"a mapping of names to {self.what}"

    def problems(self, what: str, value: object) -> list[str]:
        """No mapping, an empty one, or a number out of range."""
        if not isinstance(value, Mapping) or not value or not all(isinstance(name, str) for name in value):
            return self.refusal(what, value, self.write)
        return [p for name, one in value.items() for p in Number(self.range).problems(f"{what}: {name}", one)]

    def schema(self) -> Json:
        """An object whose keys are free."""
        return {"type": "object", "additionalProperties": Number(self.range).schema(), "minProperties": 1}


@dataclass(frozen=True)
class Graph(Leaf):
    """A mapping of names to mappings of names to numbers: the rows of a matrix.

    Args:
        row: each of them.
    """

    row: ByName

    must = "a mapping of names to mappings of names to numbers"

    def problems(self, what: str, value: object) -> list[str]:
        """No such mapping, or a number out of range."""
        if not isinstance(value, Mapping) or not value or not all(isinstance(name, str) for name in value):
            return self.refusal(what, value, self.row.write)
        return [problem for name, row in value.items() for problem in self.row.problems(f"{what}: {name}", row)]

    def schema(self) -> Json:
        """An object of objects."""
        return {"type": "object", "additionalProperties": self.row.schema(), "minProperties": 1}


_WHERE_FROM = (
    "Write {math: 0.8, code: 0.6}: the last probe losses of a run with selector: shuffle, or those of the proxy."
)
_TARGETS = ByName(Range(0, 1000, "(]"), "losses", _WHERE_FROM)
_GRAPH = Graph(ByName(Range(-100, 100), "numbers", "Write {math: {math: 1, code: 0.5}, code: {code: 1}}."))

Most: TypeAlias = Annotated[float, Range(1, 1000), Wording(write="3 lets a share be a third to three times its prior.")]
Every: TypeAlias = Annotated[int, Range(1, 100_000)]
Part: TypeAlias = Annotated[float, Range(0, 1)]
Rate: TypeAlias = Annotated[float, Range(0, 100)]


# -- what all of them do -----------------------------------------------------------------------------------------------


class Reweight(ABC):
    """Shares of the strata from the losses so far. Subclasses are final; settings are frozen.

    `signal` says whose losses it goes by over domains: the probes', or those that training shows for nothing, which all
    of them go by over cells. `most` bounds the shares, and they change once every `every` times.
    """

    signal: ClassVar[Signal]
    most: float
    every: int

    def __post_init__(self) -> None:
        check_options(self)

    @abstractmethod
    def pull(self, prior: FloatArray, losses: Losses) -> FloatArray:
        """What pulls at each share now, in the method's own unit, shape (S,): the ledger says it.

        Args:
            prior: what would be drawn without it, shape (S,), sum 1, above 0.
            losses: so far, at least one time; of each stratum at least one is known.
        """

    @abstractmethod
    def moved(self, prior: FloatArray, losses: Losses) -> FloatArray:
        """The shares from here on, before they are bounded; shape (S,), sum 1.

        Args:
            prior: as in `pull`.
            losses: likewise.
        """

    def named(self) -> set[str]:
        """Strata that its options name."""
        return set()

    def speaks_of(self, names: Sequence[str]) -> BoolArray:
        """Of which strata it can say something once their losses are known, shape (S,)."""
        return np.ones(len(names), dtype=np.bool_)

    def moves(self, prior: FloatArray, losses: Losses) -> BoolArray:
        """Strata whose shares it moves now, shape (S,): a share, a known loss, and nothing missing in the options."""
        return (prior > 0) & losses.known & self.speaks_of(losses.names)

    def shares(self, prior: FloatArray, losses: Losses, *, least: float = 0.0) -> FloatArray:
        """The shares from here on, shape (S,), sum 1; those of strata that it does not move are the prior.

        Args:
            prior: what would be drawn without it, shape (S,), sum 1; who has none gets none.
            losses: so far.
            least: smallest share of any that has at least as much in the prior.
        """
        moves = self.moves(prior, losses)
        found = prior.copy()
        if np.count_nonzero(moves) > 1:
            part = prior[moves].sum()
            alone = prior[moves] / part
            moved = self.moved(alone, losses.of(moves))
            found[moves] = part * bounded(moved, alone, self.most, least=least / part)
        return found

    def ceiling(self, prior: FloatArray, losses: Losses, *, least: float = 0.0) -> FloatArray:
        """The most that each share could be moved to, shape (S,): by `most`, or by what the others keep at least.

        Args:
            prior: as in `shares`.
            losses: likewise.
            least: likewise.
        """
        low, high = _bounds(prior, self.most, least)
        moves = self.moves(prior, losses)
        return np.where(moves, np.minimum(high, prior[moves].sum() - low[moves].sum() + low), prior)

    def pulls(self, prior: FloatArray, losses: Losses) -> dict[str, float]:
        """`pull` of the strata whose shares it moves, by name."""
        moves = self.moves(prior, losses)
        if not moves.any():
            return {}
        of = losses.of(moves)
        return dict(zip(of.names, self.pull(prior[moves] / prior[moves].sum(), of).tolist(), strict=True))


SHARES: Registry[Reweight] = Registry("reweighting")


def build_reweight(setting: str | Mapping[str, Any]) -> Reweight:
    """The reweighting that a recipe names: `lagging`, or `{name: lagging, rate: 0.5}`.

    Raises:
        RecipeError: unknown name or option, or a value out of its range.
    """
    return SHARES.from_setting(setting)


def check_names(reweight: Reweight, names: Sequence[str]) -> None:
    """Each name in its options is a stratum.

    Args:
        reweight: the method.
        names: of the strata.

    Raises:
        RecipeError: for those that are none; the nearest is named.
    """
    problems = [
        f"`reweight` must name the domains or cells that are drawn ({listed(names, NAMED)}), got {name!r}."
        f"{nearest(name, names)} Correct or remove it."
        for name in sorted(reweight.named() - set(names))
    ]
    if problems:
        raise RecipeError(problems)


# -- the four ----------------------------------------------------------------------------------------------------------


@SHARES.register("lagging")
@dataclass(frozen=True)
class Lagging(Reweight):
    """More rows of what is behind: s ∝ prior · exp(rate · x), mixed with `c` of the prior.

    With `targets`, losses to be reached, x = (L − target) / L(0). Without, x = L/L(0) − its mean over the domains: what
    has fallen less than the others. Both are relative, since a nat of code is no nat of prose. An x within one standard
    error of 0 is taken for noise and counts as 0.

    It brings unequal domains nearer to each other. It cannot tell what is behind from what cannot be learnt: `most` is
    what bounds the rows that a domain of noise can get.

    Args:
        rate: how strongly shares follow; at 1 a domain that is behind by 0.2 gets 1.22 times its share.
        most: times its prior that a share can be; the prior ÷ `most` is the least.
        every: measurements of the probes between two changes; over cells, stages.
        targets: loss of each domain that is to be reached, in nats per token: the last probe losses of a shuffled run,
            or those of the proxy. A domain without one stays at its prior. None compares the domains with each other.
        c: part of the shares that is the prior.

    Reference:
        Ours; the update is that of DoReMi (2305.10429), made relative and without a memory.
    """

    signal: ClassVar[Signal] = "probes"
    rate: Rate = 1.0
    most: Most = 3.0
    every: Every = 1
    targets: Annotated[Mapping[str, float] | None, _TARGETS] = None
    c: Part = 0.05

    def pull(self, prior: FloatArray, losses: Losses) -> FloatArray:
        """x, 0 where it may be noise."""
        del prior
        left, loss = losses.filled(losses.left)[-1], losses.filled(losses.loss)[-1]
        if self.targets is None:
            n = len(losses.names)
            against = np.eye(n) - 1 / n  # how each stratum counts in each x
            x, error = against @ left, np.sqrt(against**2 @ losses.filled(losses.left_stderr)[-1] ** 2)
        else:
            target = np.array([self.targets[name] for name in losses.names])
            by_start = np.divide(left, loss, out=np.zeros_like(loss), where=loss > 0)  # 1 / L(0)
            x, error = left - target * by_start, losses.filled(losses.stderr)[-1] * by_start
        return np.where(np.abs(x) > error, x, 0.0)

    def moved(self, prior: FloatArray, losses: Losses) -> FloatArray:
        """By the newest losses alone."""
        return (1 - self.c) * _softmax(np.log(prior) + self.rate * self.pull(prior, losses)) + self.c * prior

    def named(self) -> set[str]:
        """Those with a target."""
        return set(self.targets or ())

    def speaks_of(self, names: Sequence[str]) -> BoolArray:
        """With targets, of those that have one."""
        return np.array([self.targets is None or name in self.targets for name in names], dtype=np.bool_)


@SHARES.register("doremi")
@dataclass(frozen=True)
class Doremi(Reweight):
    """Group DRO over domains: s ∝ s · exp(eta · x) at each time, x = max(L − target, 0), mixed with `c` of equal ones.

    Excess over a reference adds up, so what stays above it gets more and more, up to `most`. Its product is the average
    of the shares over the run, written to `curriculum/shares.yaml`: the shares of a second run.

    Args:
        targets: loss of each domain under the reference, in nats per token: the last probe losses of a run with
            selector: shuffle, or those of the proxy. A domain without one stays at its prior.
        eta: step size of the update.
        most: times its prior that a share can be; the prior ÷ `most` is the least.
        every: measurements of the probes between two changes; over cells, stages. All of them count.
        c: part of the shares that is equal for all, at each time.

    Reference:
        Xie et al. 2023, DoReMi (2305.10429); `eta` and `c` as in the authors' script. *Differs from the paper*: excess
        is cut at 0 by the domain's mean, where theirs is cut token by token; measured on probes, at the stages' ends,
        where theirs is of each step's batch; it begins with the prior; the shares are bounded; they draw rows unless
        `domains: by: weights` makes them weights, as theirs are.
    """

    signal: ClassVar[Signal] = "probes"
    targets: Annotated[Mapping[str, float] | None, _TARGETS, Given()] = None
    eta: Rate = 1.0
    most: Most = 3.0
    every: Every = 1
    c: Part = 1e-3

    def pull(self, prior: FloatArray, losses: Losses) -> FloatArray:
        """The newest excess, in nats."""
        del prior
        newest: FloatArray = self._excess(losses)[-1]
        return newest

    def moved(self, prior: FloatArray, losses: Losses) -> FloatArray:
        """Time by time from the prior on."""
        shares, equal = prior, 1 / len(prior)
        for excess in self._excess(losses):
            shares = (1 - self.c) * _softmax(np.log(shares) + self.eta * excess) + self.c * equal
        return shares

    def _excess(self, losses: Losses) -> FloatArray:
        """Over the targets, shape (T, S); a loss that is not known is the last that was, 0 before the first."""
        target = np.array([(self.targets or {})[name] for name in losses.names])
        over = np.nan_to_num(losses.filled(losses.loss) - target)
        return np.asarray(np.maximum(over, 0.0), dtype=np.float64)

    def named(self) -> set[str]:
        """Those with a target."""
        return set(self.targets or ())

    def speaks_of(self, names: Sequence[str]) -> BoolArray:
        """Of those that have a target."""
        return np.array([name in (self.targets or ()) for name in names], dtype=np.bool_)


@SHARES.register("odm")
@dataclass(frozen=True)
class Odm(Reweight):
    """Online data mixing: EXP3 over domains, whose reward is their training loss. It needs no probes and costs nothing.

        R_i ← alpha · R_i + (1 − alpha) · L_i / s_i          after each stage that trained some of i
        ε_t = min(1/K, √(ln K / (K · t)))
        s = (1 − K·ε_t) · softmax(ε_{t−1} · R) + ε_t

    A high loss is taken for much to learn, so it goes to domains of high entropy, learnable or not: dialogue and noise
    get more, mathematics and code less. `most` bounds it.

    Args:
        alpha: of the moving average of rewards.
        most: times its prior that a share can be; the prior ÷ `most` is the least.
        every: stages between two changes. All of them count.

    Reference:
        Albalak et al. 2023, Efficient Online Data Mixing (2312.02406). Three algorithms carry this name; this is the
        paper's. The authors' code exponentiates the loss, does not divide by the share and normalises linearly;
        DataFlex multiplies by 15 and has a floor of 0.03. *Differs from the paper*: a time is a stage and rewards all
        domains in it, by the rows that each got, where theirs is a batch of one domain; the prior bounds the shares.
    """

    signal: ClassVar[Signal] = "training"
    alpha: Annotated[float, Range(0, 1, "[)")] = 0.9
    most: Most = 3.0
    every: Every = 1

    def pull(self, prior: FloatArray, losses: Losses) -> FloatArray:
        """R, nats over shares."""
        reward = np.zeros(len(prior))
        for loss, part in zip(losses.loss, np.where(np.isnan(losses.drawn), prior, losses.drawn), strict=True):
            seen = np.isfinite(loss) & (part > 0)
            gain = loss[seen] * part[seen].sum() / part[seen]  # of these strata alone, shares sum to 1
            reward[seen] = self.alpha * reward[seen] + (1 - self.alpha) * gain
        return reward

    def moved(self, prior: FloatArray, losses: Losses) -> FloatArray:
        """After the rewards so far."""
        n, t = len(prior), len(losses) + 1
        explored, before = (min(1 / n, math.sqrt(math.log(n) / (n * max(1, at)))) for at in (t, t - 1))
        return (1 - n * explored) * _softmax(before * self.pull(prior, losses)) + explored


@SHARES.register("skill_graph")
@dataclass(frozen=True)
class SkillGraph(Reweight):
    """Skill-it: s ∝ exp(eta · A · Σ L/L(0) over the last times), mixed with `c` of the prior.

    A_ij says how much training on i lowers the loss of j, so rows go to what helps with what is not yet learnt, which
    may be another domain. A comes from runs that leave one domain out, or from the user; it is not guessed.

    Args:
        graph: A, row by row: domain → domain → how much training on the first helps the second. What is not written is
            0, a domain's own included. A domain that it does not name at all stays at its prior. In a recipe also the
            file of `campus-tune ablate` (ablation.json) or of a run's values (transfer.json).
        eta: step size.
        over: measurements of the probes that are added up; over cells, stages.
        most: times its prior that a share can be; the prior ÷ `most` is the least.
        every: measurements between two changes; over cells, stages.
        c: part of the shares that is the prior.

    Reference:
        Chen et al. 2023, Skill-it! (2307.14430). *Differs from the paper*: losses are relative to the first, since a
        nat of code is no nat of prose; `c` and `most` hold on to the prior.
    """

    signal: ClassVar[Signal] = "probes"
    graph: Annotated[Mapping[str, Mapping[str, float]] | None, _GRAPH, Given()] = None
    eta: Rate = 0.5
    over: Annotated[int, Range(1, 1000)] = 3
    most: Most = 3.0
    every: Every = 1
    c: Part = 0.05

    def pull(self, prior: FloatArray, losses: Losses) -> FloatArray:
        """A · Σ L/L(0)."""
        del prior
        rows = [(self.graph or {}).get(name, {}) for name in losses.names]
        matrix = np.array([[row.get(name, 0.0) for name in losses.names] for row in rows], dtype=np.float64)
        return np.asarray(matrix @ np.nansum(losses.filled(losses.left)[-self.over :], axis=0), dtype=np.float64)

    def moved(self, prior: FloatArray, losses: Losses) -> FloatArray:
        """By the last losses."""
        return (1 - self.c) * _softmax(self.eta * self.pull(prior, losses)) + self.c * prior

    def named(self) -> set[str]:
        """All in the graph."""
        return set(chain(self.graph or (), *(self.graph or {}).values()))

    def speaks_of(self, names: Sequence[str]) -> BoolArray:
        """Of those that the graph names."""
        named = self.named()
        return np.array([name in named for name in names], dtype=np.bool_)


# -- arithmetic --------------------------------------------------------------------------------------------------------


def bounded(shares: FloatArray, prior: FloatArray, most: float, *, least: float = 0.0) -> FloatArray:
    """Shares within [prior / most, most · prior], sum 1: those that are not at a bound are scaled until they fit.

    It is `clip(λ·share, low, high)` with the one λ whose sum is 1. Who has more for its prior does not end with less.

    Args:
        shares: at least 0, sum 1, shape (S,).
        prior: sum 1, shape (S,); who has none gets none.
        most: at least 1.
        least: that none falls below, but for who has less in the prior.
    """
    low, high = _bounds(prior, most, least)
    fixed = ~(prior > 0)
    found: FloatArray = np.where(fixed, 0.0, shares)
    found = found / found.sum() if found.sum() > 0 else prior.copy()
    while True:
        over, under = found > high * (1 + _CLIPPED), found < low * (1 - _CLIPPED)
        if not over.any() and not under.any():
            return found
        # The side whose clipping moves more is fixed first: clipping both at once could fix what has room again.
        side, edge = (over, high) if (found - high)[over].sum() >= (low - found)[under].sum() else (under, low)
        fixed |= side
        found = np.where(side, edge, found)
        free = ~fixed
        if not free.any():
            return np.asarray(found / found.sum(), dtype=np.float64)
        left, total = 1 - found[fixed].sum(), found[free].sum()
        found[free] = found[free] * left / total if total > 0 else prior[free] * left / prior[free].sum()


def _bounds(prior: FloatArray, most: float, least: float) -> tuple[FloatArray, FloatArray]:
    """(The least, the most) that each share may be, each of shape (S,)."""
    return np.maximum(prior / most, np.minimum(prior, least)), prior * most


def _softmax(logits: FloatArray) -> FloatArray:
    """`exp(logits)`, scaled to sum 1."""
    parts = np.exp(logits - logits.max())
    return np.asarray(parts / parts.sum(), dtype=np.float64)
