"""Rewards: what each stage was worth to a bandit, from the record alone.

    probes   r̂ = (P_before − P_after) / Σ lr·tokens     fall of the probes' loss
    own      r̂ = (l_before − l_after) / Σ lr·tokens     fall of the loss of a sample of the stage's own rows
    norm     r̂ = Δ ½‖θ‖² / Σ lr·tokens                  rise of half the squared norm of the trained weights

A reward is per learning rate and token: a rate that decays, or a stage that is short, would make each late choice look
bad. P is the *plain mean over the probes' domains*, not weighed by how many training rows each has as the loss in the
ledger is: what a bandit should raise is every domain, and a record needs no other numbers for it. Where the probes are
measured more seldom than at each stage, all stages between two measurements share the fall over the rates and tokens
of all of them, shuffled stages included. The first two stages are ignored: there a model learns the format, whatever
it is shown.

`scaled` is the reward on a scale that the bandits share: by the 20 % and 80 % quantiles of the rewards up to it, and
once, so that what comes later changes nothing of it.

    r = clip(2 (r̂ − q20) / (q80 − q20) − 1, −1, 1)      0 before five rewards, or where the quantiles are one

Reference:
    Graves et al. 2017, Automated Curriculum Learning for Neural Networks, arXiv 1704.03003: prediction gain (`own`),
    L2 gain (`norm`), the scale.

Differs from the paper:
    his gains are per time of a batch, ours per learning rate and token; target prediction gain is our `probes`, on all
    held-out rows; quantiles are of all rewards so far, not of a reservoir, which a run of 1000 stages does not need.

>>> scale([0.1 * k for k in range(1, 11)], 0.7).__round__(4)
0.5556
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

from campus_tune.method.probe_history import Measurement
from campus_tune.method.stages import SHUFFLE
from campus_tune.method.view import History, PastStage

RewardKind: TypeAlias = Literal["probes", "own", "norm"]

FORMAT_STAGES = 2  # at the start, whose rewards say how fast the format is learned
FEWEST_REWARDS = 5  # below which quantiles say nothing
LOW, HIGH = 0.2, 0.8  # quantiles that become −1 and 1

_Gain: TypeAlias = tuple[float, int]  # reward, stages decided when it was known


@dataclass(frozen=True)
class Earned:
    """What one stage was worth.

    Args:
        stage: its index.
        chosen: the sub-curriculum.
        offered: those that there were to choose from, in the recipe's sequence.
        value: r̂, per learning rate and token; None where it is not known, yet or for good.
        known_at: stages decided when it became known: the decision of that index is the first that knows it. None
            where it is not known.
        scaled: r, in [−1, 1]; None where it is not known.
    """

    stage: int
    chosen: str
    offered: tuple[str, ...]
    value: float | None = None
    known_at: int | None = None
    scaled: float | None = None


def rewards_of(history: History, kind: RewardKind) -> list[Earned]:
    """The reward of each stage that a sub-curriculum was chosen for, in sequence.

    Shuffled stages have none, and stages that had no choice: one offer, or all of the same rows. One that is no number
    is not known.

    Args:
        history: of the run so far.
        kind: `probes`, `own` or `norm`.
    """
    gains = _fall_of_probes(history) if kind == "probes" else _gains(history.stages, kind)
    found: list[Earned] = []
    so_far: list[float] = []  # ascending
    for stage in history.stages:
        offered = tuple(stage.offered)
        if stage.chosen == SHUFFLE or not offered:
            continue
        gain = gains.get(stage.index) if stage.index >= FORMAT_STAGES else None
        if gain is None or not math.isfinite(gain[0]):
            found.append(Earned(stage.index, stage.chosen, offered))
            continue
        insort(so_far, gain[0])
        found.append(Earned(stage.index, stage.chosen, offered, *gain, scale(so_far, gain[0])))
    return found


def scale(so_far: Sequence[float], value: float) -> float:
    """A reward among those so far: −1 at their 20 % quantile and below, 1 at their 80 % quantile and above.

    Args:
        so_far: rewards up to this one, ascending; below five of them, or where the quantiles are one, it is 0.
        value: this one.
    """
    if len(so_far) < FEWEST_REWARDS:
        return 0.0
    low, high = _quantile(so_far, LOW), _quantile(so_far, HIGH)
    return min(1.0, max(-1.0, 2 * (value - low) / (high - low) - 1)) if high > low else 0.0


def _quantile(ascending: Sequence[float], q: float) -> float:
    """Between two neighbours in proportion, as numpy's; of a list that is sorted already, which is asked very often."""
    place = q * (len(ascending) - 1)
    below = math.floor(place)
    low, high = ascending[below], ascending[min(below + 1, len(ascending) - 1)]
    return low + (high - low) * (place - below)


def _gains(stages: Sequence[PastStage], kind: RewardKind) -> dict[int, _Gain]:
    """Stage → what it gained of its own, and when that was known: when it was over."""
    gains = [(stage, stage.own_gain if kind == "own" else stage.norm_gain) for stage in stages]
    return {
        stage.index: (gain / stage.lr_tokens, stage.index + 1)
        for stage, gain in gains
        if gain is not None and stage.lr_tokens > 0
    }


def _fall_of_probes(history: History) -> dict[int, _Gain]:
    """Stage → its part of the fall between the measurements around it, and when that was known.

    Weights that a rollback has put back lose or win what no stage has taught: the stages up to the next measurement
    have no reward.
    """
    measured = history.measured.measurements
    index = [stage.index for stage in history.stages]
    put_back = {firing.measurement for firing in history.firings if "rollback" in firing.actions}
    found: dict[int, _Gain] = {}
    for i, (before, after) in enumerate(pairwise(measured)):
        between = history.stages[bisect_left(index, before.stage) : bisect_left(index, after.stage)]
        work = sum(stage.lr_tokens for stage in between)
        fall = _fall(before, after)
        if fall is not None and work > 0 and i not in put_back:
            found |= {stage.index: (fall / work, after.stage) for stage in between}
    return found


def _fall(before: Measurement, after: Measurement) -> float | None:
    """By how much the mean over the domains fell that both measured, on as many rows; None without any."""
    same = [name for name in before.loss if name in after.loss and before.loss[name].n == after.loss[name].n]
    return math.fsum(before.loss[name].value - after.loss[name].value for name in same) / len(same) if same else None
