"""Shapley: what each group of rows is worth, by what trainings on some of the groups come to. numpy only.

With v(S) the value of a training on the groups S (minus the held-out loss, say), the one way to share out v(N) − v(∅)
that is efficient, symmetric, additive and gives nothing to a group that never adds anything is

    φᵢ = Σ over S without i of  |S|! (G − |S| − 1)! / G!  ·  (v(S ∪ i) − v(S))

the mean of what i adds over all sequences in which the groups can come. Up to `EXACT` groups all 2^G − 1 trainings are
made; v(∅) is the model as it comes and costs none. With more, sequences are drawn (truncated Monte Carlo): one is
walked from its first group on, a training for each beginning of it that has none yet, until the value is that of all
groups within two standard errors of what seeds do, in every column.

Nothing here trains. `CoalitionDesign.walk` is a function of the values that are known: it says which trainings come
next, or that there is nothing left to train, and is asked again. So a command that was killed goes on, however many
trainings are made at once, and comes to the same numbers: what is counted is the sequence of drawn permutations, and
never what happens to be known beside it.

A value is a vector: column 0 decides when to stop, and the others, the held-out domains say, come with it for free.
Sets of groups are bits: 0b101 is the groups 0 and 2.

>>> v = np.array([0, 0.2, 0.3, 0.4, -0.1, 0.1, 0.3, 0.45])  # of ∅, {0}, {1}, {0, 1}, {2}, {0, 2}, {1, 2}, all three
>>> [round(value, 4) for value in exact(v[:, None])[:, 0].tolist()]
[0.1667, 0.3167, -0.0333]
>>> design = CoalitionDesign(3, (0,))
>>> known = {(coalition, 0): v[[coalition]] for coalition in range(8)}
>>> design.walk({key: known[key] for key in ((7, 0), (0, 0), (1, 0))}).wanted[:2]
[(2, 0), (3, 0)]
>>> design.walk(known).shapley().values[:, 0].round(4).tolist()
[0.1667, 0.3167, -0.0333]

Reference:
    Shapley 1953; Castro et al. 2009 (sampling); Ghorbani and Zou 2019, "Data Shapley", arXiv 1904.02868 (truncation);
    Mitchell et al. 2022, arXiv 2104.12199 (antithetic sequences).
    *Differs*: groups instead of rows; every other sequence is the one before, turned around, so that a group that came
    early comes late; each is walked with one seed of several, so that errors of both can be told apart; what a
    truncated walk has left is shared out evenly among the groups that it did not come to, where the paper drops it:
    values add up to v(N) − v(∅) always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb
from typing import NamedTuple, TypeAlias

import numpy as np

from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray, IntArray

Coalition: TypeAlias = tuple[int, int]  # (bits of its groups, seed of the training)
Known: TypeAlias = Mapping[Coalition, FloatArray]  # the values of each, shape (V,)

EXACT = 6  # groups up to which every set of them is trained, unless fewer trainings are paid for
MOST_GROUPS = 16
USUAL_TRAININGS = 60  # with more groups
ENOUGH = 0.1  # standard error of a value, as a share of the spread of all, at which no sequence more is drawn
FEWEST = 5  # sequences, before which their standard error says nothing
MOST_SEQUENCES = 1000  # when all that they ask for is known, and still they do not agree
WITHIN = 2.0  # standard errors: nearer to the value of all groups, a walk ends
_SALT = 0x5A9


def exact(values: FloatArray) -> FloatArray:
    """The Shapley values of a game whose every value is known, shape (G, V).

    Args:
        values: of each set of groups, by its bits, shape (2^G, V).
    """
    n_sets = len(values)
    n = n_sets.bit_length() - 1
    sets = np.arange(n_sets)
    sizes = np.array([coalition.bit_count() for coalition in range(n_sets)])
    share = np.array([1 / (n * comb(n - 1, size)) if size < n else 0.0 for size in range(n + 1)])  # of a set without i
    result = np.zeros((n, values.shape[1]))
    for group in range(n):
        without = sets[(sets >> group) & 1 == 0]
        result[group] = share[sizes[without]] @ (values[without | (1 << group)] - values[without])
    return result


@dataclass(frozen=True, eq=False)
class Shapley:
    """What groups are worth, and how sure that is. NaN where an error is not known.

    Args:
        values: φ of each group, shape (G, V).
        by_sequence: standard error of drawing some sequences of many, shape (G, V); 0 of all sets.
        by_seed: standard error of training with some seeds of many, shape (G, V); NaN of one seed.
        n_sequences: drawn; 0 where every set was trained.
        n_truncated: of these were not walked to their end.
    """

    values: FloatArray
    by_sequence: FloatArray
    by_seed: FloatArray
    n_sequences: int = 0
    n_truncated: int = 0

    @property
    def stderr(self) -> FloatArray:
        """Of both, as far as they are known, shape (G, V)."""
        both = np.stack([self.by_sequence, self.by_seed])
        total = np.sqrt(np.nansum(both**2, axis=0))
        return np.where(np.isnan(both).all(axis=0), np.nan, total)

    @property
    def settled(self) -> bool:
        """The largest error of sequences in column 0 is small beside the spread of the values there."""
        return bool(self.by_sequence[:, 0].max() <= ENOUGH * np.ptp(self.values[:, 0]))


class Unit(NamedTuple):
    """What one observation says: a seed with which every set was trained, or else a drawn sequence.

    Args:
        gains: what each group has added, shape (G, V).
        seed: its place among the design's.
        truncated: the sequence was not walked to its end.
    """

    gains: FloatArray
    seed: int
    truncated: bool = False


@dataclass(frozen=True, eq=False)
class CoalitionWalk:
    """What is known so far, and what is wanted.

    Args:
        wanted: trainings that come next, none of which waits for another; [] when all is done.
        n_used: trainings that the numbers are made of.
        units: that are known.
        exact: they are seeds.
    """

    wanted: list[Coalition]
    n_used: int
    units: Sequence[Unit]
    exact: bool

    def shapley(self) -> Shapley:
        """The values; there must be a unit."""
        gains = np.stack([unit.gains for unit in self.units])  # (n, G, V)
        if self.exact:
            n = len(gains)
            error = gains.std(0, ddof=1) / np.sqrt(n) if n > 1 else np.full(gains.shape[1:], np.nan)
            return Shapley(gains.mean(0), np.zeros_like(error), error)
        by_sequence, by_seed = nested_errors(gains, np.array([unit.seed for unit in self.units]))
        return Shapley(gains.mean(0), by_sequence, by_seed, len(gains), sum(unit.truncated for unit in self.units))


def nested_errors(gains: FloatArray, seeds: IntArray) -> tuple[FloatArray, FloatArray]:
    """Standard errors of a mean over sequences, each walked with one of several seeds: (of sequences, of seeds).

    The analysis of variance of one random factor, as if each sequence had been drawn by itself: with every other one
    the reverse of the one before, the mean is surer than this. Where no seed has two sequences the two cannot be told
    apart, and the first is that of both; with one seed the second is not known. NaN is what is not known.

    >>> within, between = nested_errors(np.array([[[1.0]], [[1.0]], [[3.0]], [[3.0]]]), np.array([0, 0, 1, 1]))
    >>> float(within[0, 0]), float(between[0, 0])  # sequences agree; seeds are 2 apart
    (0.0, 1.0)

    Args:
        gains: shape (n, G, V).
        seeds: of each, from 0 on, shape (n,).
    """
    n, sizes = len(gains), np.bincount(seeds)
    met = np.flatnonzero(sizes)
    sizes, unknown = sizes[met], np.full(gains.shape[1:], np.nan)
    if n == 1:
        return unknown, unknown
    if len(met) == n:
        return gains.std(0, ddof=1) / np.sqrt(n), unknown
    means = np.stack([gains[seeds == seed].mean(0) for seed in met])  # (S, G, V)
    within = sum(((gains[seeds == seed] - mean) ** 2).sum(0) for seed, mean in zip(met, means, strict=True))
    within = np.asarray(within) / (n - len(met))
    if len(met) == 1:
        return np.sqrt(within / n), unknown
    between = (sizes[:, None, None] * (means - gains.mean(0)) ** 2).sum(0) / (len(met) - 1)
    usual = (n - (sizes**2).sum() / n) / (len(met) - 1)  # sequences of a seed; their number, where it is the same
    of_seeds = np.maximum(between - within, 0) / usual
    return np.sqrt(within / n), np.sqrt(of_seeds * (sizes**2).sum() / n**2)


@dataclass(frozen=True)
class CoalitionDesign:
    """Which trainings say what groups are worth.

    Args:
        groups: G, from 2 to 16.
        seeds: of the trainings; each set of groups is trained with each, or each sequence with one.
        trainings: how many may be made; None for all sets of up to 6 groups, and 60 of more.

    Raises:
        RecipeError: too few or too many groups, or trainings that pay for no sequence.
    """

    groups: int
    seeds: tuple[int, ...]
    trainings: int | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.groups <= MOST_GROUPS:
            raise RecipeError(
                f"`--groups` must make from 2 to {MOST_GROUPS} groups, got {self.groups}. Take another column of "
                "domains with --domain-column, or leave rows out."
            )
        if self.most < self.least:
            raise RecipeError(
                f"`--trainings` must be at least {self.least} for {self.groups} groups with {len(self.seeds)} seed(s), "
                f"which pays for all of them with each seed and for one sequence, got {self.trainings}. Write "
                f"--trainings {self.least}, or give fewer --seeds."
            )

    @property
    def least(self) -> int:
        """Trainings below which not one sequence is walked with certainty."""
        return self.groups + max(1, len(self.seeds) - 1)

    @property
    def n_all(self) -> int:
        """Trainings of every set of groups with every seed."""
        return len(self.seeds) * self.full

    @property
    def full(self) -> int:
        """All groups, as bits: also the number of sets that are not empty."""
        return (1 << self.groups) - 1

    @property
    def most(self) -> int:
        """Trainings that may be made."""
        if self.trainings is not None:
            return min(self.trainings, self.n_all)
        return self.n_all if self.groups <= EXACT else max(USUAL_TRAININGS, self.least)

    @property
    def is_exact(self) -> bool:
        """Every set is trained with every seed."""
        return self.most == self.n_all

    def sequence(self, k: int) -> tuple[IntArray, int]:
        """The groups as the k-th drawn sequence has them, shape (G,), and the place of the seed that walks it.

        Every other one is the reverse of the one before.
        """
        drawn = np.random.default_rng([_SALT, self.groups, k // 2]).permutation(self.groups)
        return drawn[::-1] if k % 2 else drawn, k % len(self.seeds)

    def walk(self, known: Known, most_wanted: int | None = None) -> CoalitionWalk:
        """How far the known values carry, and which trainings are wanted next.

        Args:
            known: values of trainings that are finished; with (0, seed), the untrained model's, from a seed's first on.
            most_wanted: trainings that can be made at once, at least 1; None for all that wait for no other.
        """
        missing = [key for seed in self.seeds if (key := (self.full, seed)) not in known]
        if missing and not self.is_exact:
            return CoalitionWalk(missing[:most_wanted], 0, [], False)
        if not self.is_exact:
            return self._draw(known, most_wanted)
        units = []
        for place, seed in enumerate(self.seeds):
            rest = [key for coalition in range(1, self.full) if (key := (coalition, seed)) not in known]
            missing += rest
            if not rest and (self.full, seed) in known:
                game = np.stack([known[coalition, seed] for coalition in range(self.full + 1)])
                units.append(Unit(exact(game), place))
        return CoalitionWalk(missing[:most_wanted], len(units) * self.full, units, True)

    def _draw(self, known: Known, most_wanted: int | None) -> CoalitionWalk:
        """The drawn sequences, one after the other, as far as they are known and paid for.

        A sequence is begun only when all trainings that it may ask for are paid for: one that breaks off says nothing.
        Behind one that waits for a training, others are walked for what can be trained meanwhile, but not counted.
        """
        whole = np.stack([known[self.full, seed] for seed in self.seeds])
        noise = whole.std(0, ddof=1) / np.sqrt(len(whole)) if len(whole) > 1 else np.zeros(whole.shape[1])
        near = WITHIN * noise  # to the value of all groups, and as good as there; 0 where one seed says nothing of it
        paid = {(self.full, seed) for seed in self.seeds}  # trainings that were met, and those that may still be
        n_used, units, wanted = len(paid), list[Unit](), dict[Coalition, None]()
        for k in range(MOST_SEQUENCES):
            found = CoalitionWalk([*wanted], n_used, units, False)
            if len(wanted) == most_wanted or (len(units) >= FEWEST and not wanted and found.shapley().settled):
                break
            order, place = self.sequence(k)
            keys = [(int(coalition), self.seeds[place]) for coalition in np.bitwise_or.accumulate(1 << order)]
            if len(paid.union(keys)) > self.most:
                break
            gains, met, missing = self._along(order, keys, known, near)
            if missing is not None:
                wanted[missing] = None
            paid.update(keys if wanted else keys[:met])
            if not wanted:
                units.append(Unit(gains, place, met < self.groups))
                n_used = len(paid)
        return CoalitionWalk([*wanted], n_used, units, False)

    def _along(
        self, order: IntArray, keys: Sequence[Coalition], known: Known, near: FloatArray
    ) -> tuple[FloatArray, int, Coalition | None]:
        """(What each group adds, shape (G, V); trainings met; the one at which it cannot go on)."""
        seed = keys[-1][1]
        whole, before = known[self.full, seed], known[0, seed]
        gains = np.zeros((self.groups, len(whole)))
        for i, (group, key) in enumerate(zip(order.tolist(), keys, strict=True)):
            if i < self.groups - 1 and (np.abs(whole - before) < near).all():
                gains[order[i:]] = (whole - before) / (self.groups - i)
                return gains, i, None
            if key not in known:
                return gains, i, key
            gains[group] = known[key] - before
            before = known[key]
        return gains, self.groups, None
