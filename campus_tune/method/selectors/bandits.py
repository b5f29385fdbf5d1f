"""Bandits over sub-curricula: which of them taught most lately is trained more, and the others now and then.

Only the chosen sub-curriculum's reward is seen, so a bandit must try what looks worse, and that costs decisions: with
noise of 0.7 and a gap of 0.5 on the scale of rewards, telling two apart takes about 8 ln(T)·σ²/Δ² = 58 trials of the
worse one in a run of 40 decisions: more than the whole run. `campus-tune check` says so. Where there are few
decisions, `round_robin` does the same for less.

A bandit has no state. Its weights are computed anew from the record at each decision, in the sequence in which rewards
became known, so a resumed run and `simulate` cannot disagree with it. Sub-curricula that are not offered (used up, or
barred) keep what was learned of them; chances are over the offered ones.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from campus_tune.method.rewards import Earned, RewardKind, rewards_of
from campus_tune.method.selectors.base import NORM, OWN, PROBES, SELECTORS, Selector
from campus_tune.method.view import View
from campus_tune.words.annotated import check_options
from campus_tune.words.leaves import Range
from campus_tune.words.types import FloatArray, Json

NEEDS: Mapping[RewardKind, str] = {"probes": PROBES, "own": OWN, "norm": NORM}
_CHANCE = 2  # purpose of a draw: `random` has 1


class Bandit(Selector):
    """A selector that learns from rewards. Subclasses are final; settings are frozen."""

    reward: RewardKind

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]  # it hangs on a setting
        """What its reward is made of."""
        return frozenset({NEEDS[self.reward]})

    @abstractmethod
    def chances(self, view: View) -> FloatArray:
        """π: how likely each offer is to be chosen, shape (K,), sum 1."""

    def choose(self, view: View) -> str:
        """A seeded draw from `chances`."""
        u = np.random.default_rng([view.seed, view.stage, _CHANCE]).random()
        below = np.cumsum(self.chances(view))[:-1] <= u
        return view.names[int(np.count_nonzero(below))]

    def told(self, view: View) -> Json:
        """What the ledger says of a decision of its own: π, and the newest reward that it knew, where there is one.

        Of the reward `stage` earned it by what was `chosen`; `value` is r̂, per learning rate and token, `scaled` is r.
        """
        pi = dict(zip(view.names, self.chances(view).tolist(), strict=True))
        known = [one for one in rewards_of(view.history, self.reward) if one.value is not None]
        if not known:
            return {"pi": pi, "reward": None}
        newest = known[-1]
        return {"pi": pi, "reward": {name: getattr(newest, name) for name in ("stage", "chosen", "value", "scaled")}}


@SELECTORS.register("exp3s")
@dataclass(frozen=True)
class Exp3s(Bandit):
    """EXP3.S: a bandit for rewards that change as the model learns, and that anybody may have made up.

        π = (1 − ε)·softmax(w) + ε/K                    r̃ = (r·1[chosen] + β) / π
        w ← ln[(1 − α)·exp(w + η r̃) + α/(K − 1)·Σ others' exp(w + η r̃)],   α = 1/(t + 1) at the t-th reward

    What α gives to the others lets one that was worse come back. Choose it when there are hundreds of decisions; below
    ten for each sub-curriculum it does what `random` does. Costs nothing with the reward `norm`, nor with `probes` that
    are measured anyway.

    Args:
        reward: `probes`, `own` or `norm`.
        eta: η, how much one reward moves the weights; None is √(2 ln K / (K·T)), T the decisions up to the handover.
        epsilon: ε, part of the decisions that is plain chance.
        beta: β, optimism about what was not chosen.

    Reference:
        Auer et al. 2002, The Nonstochastic Multiarmed Bandit Problem; Graves et al. 2017, arXiv 1704.03003.

    Differs from the paper:
        α is 1/t there: at t = 1 the weight of the first winner is then given away whole, and it ends as the *least*
        likely. η is 1e-3 and ε 0.05 there, for a hundred thousand decisions. A reward moves the weights when it is
        known, by the chances that its decision had.
    """

    reward: RewardKind = "probes"
    eta: Annotated[float | None, Range(0, 10, "(]")] = None
    epsilon: Annotated[float, Range(0, 1, "(]")] = 0.1
    beta: Annotated[float, Range(0, 1)] = 0.0

    def chances(self, view: View) -> FloatArray:
        """π of the offered ones, from their weights after all rewards so far."""
        rewards = rewards_of(view.history, self.reward)
        names = dict.fromkeys([*(name for one in rewards for name in one.offered), *view.names])
        eta, n_decisions = self.eta, view.n_decisions or view.stage + 1
        if eta is None:
            eta = math.sqrt(2 * math.log(len(names)) / (len(names) * n_decisions))
        log_weights, t = dict.fromkeys(names, 0.0), 0
        asked: dict[int, list[float]] = {}  # stage → chances that its decision had
        for one, is_known in in_time(rewards):
            w = [log_weights[name] for name in one.offered]
            if not is_known:
                asked[one.stage] = mixed(w, self.epsilon)
            elif len(w) > 1 and one.scaled is not None:
                t += 1
                for k, (name, chance) in enumerate(zip(one.offered, asked[one.stage], strict=True)):
                    w[k] += eta * (one.scaled * (name == one.chosen) + self.beta) / chance
                log_weights |= zip(one.offered, shared(w, 1 / (t + 1)), strict=True)
        return np.array(mixed([log_weights[name] for name in view.names], self.epsilon))


@SELECTORS.register("ucb")
@dataclass(frozen=True)
class Ucb(Bandit):
    """Discounted UCB: the sub-curriculum whose reward may be the highest, given how seldom it was tried lately.

        mean_γ + c·√(ln n_γ / n_γ,i),   the k-th newest reward counts γ^(k − 1)

    Each is tried once first. It draws nothing at random, so with few decisions it is a round robin that then stays
    with the best it has seen.

    Args:
        reward: `probes`, `own` or `norm`.
        gamma: γ, how much a reward counts beside the next newer one.
        c: how much it is worth not to know; with rewards in [−1, 1].

    Reference:
        Garivier and Moulines 2008, On Upper-Confidence Bound Policies for Non-Stationary Bandit Problems, arXiv
        0805.3415.

    Differs from the paper:
        the bonus is 2B√(ξ ln n_γ / n_γ,i) there, with B = 2 for our rewards and ξ of 1/2 or more: 2.8 of ours and more,
        which would go on exploring to the end of a run of 40 decisions. Age is counted in rewards, not in decisions.
    """

    reward: RewardKind = "probes"
    gamma: Annotated[float, Range(0, 1, "(]")] = 0.95
    c: Annotated[float, Range(0, 10)] = 0.5

    def chances(self, view: View) -> FloatArray:
        """1 for the one that is chosen."""
        rewards = rewards_of(view.history, self.reward)
        name = untried(rewards, view)
        if name is None:
            total, n = dict.fromkeys(view.names, 0.0), dict.fromkeys(view.names, 0.0)
            weight, n_all = 1.0, 0.0
            for one in reversed(rewards):
                if one.scaled is None:
                    continue
                n_all += weight
                if one.chosen in n:
                    total[one.chosen] += weight * one.scaled
                    n[one.chosen] += weight
                weight *= self.gamma
            # A weight so old that it has become 0 says as little as none.
            bound = {
                name: total[name] / n[name] + self.c * math.sqrt(math.log(n_all) / n[name]) if n[name] else math.inf
                for name in view.names
            }
            name = max(view.names, key=bound.__getitem__)
        return np.array([float(one == name) for one in view.names])


@SELECTORS.register("teacher")
@dataclass(frozen=True)
class Teacher(Bandit):
    """Teacher-student curriculum learning: the sub-curriculum with the fastest progress lately, and sometimes any.

        Q ← lr·r̂ + (1 − lr)·Q  of the one that was trained;  argmax |Q|, with ε a plain draw

    |Q| also trains what is being forgotten: a probe's loss that rises is progress backwards. So Q is of r̂ itself: on
    the scale of the other bandits −1 is slow progress, and not the reverse of the fastest. Each is tried once first.

    Args:
        reward: `probes`, `own` or `norm`.
        lr: how fast Q follows.
        epsilon: ε, part of the decisions that is plain chance.
        abs: compare |Q|; false compares Q.

    Reference:
        Matiisen et al. 2017, Teacher-Student Curriculum Learning, arXiv 1707.00183: Online algorithm.

    Differs from the paper:
        each is tried once before any is compared: there Q begins at 0 and only ε finds the others.
    """

    reward: RewardKind = "probes"
    lr: Annotated[float, Range(0, 1, "(]")] = 0.1
    epsilon: Annotated[float, Range(0, 1)] = 0.1
    abs: bool = True

    def chances(self, view: View) -> FloatArray:
        """ε/K for each, and what is left for the one with the largest |Q|, the first on a tie."""
        rewards = rewards_of(view.history, self.reward)
        name = untried(rewards, view)
        if name is None:
            q = dict.fromkeys(view.names, 0.0)
            for one in rewards:
                if one.value is not None and one.chosen in q:
                    q[one.chosen] = self.lr * one.value + (1 - self.lr) * q[one.chosen]
            name = max(view.names, key=lambda each: math.fabs(q[each]) if self.abs else q[each])
        greedy = np.array([float(one == name) for one in view.names])
        return (1 - self.epsilon) * greedy + self.epsilon / len(greedy)


# -- what they are made of ---------------------------------------------------------------------------------------------


# Lists and not arrays: a run has few arms and up to a thousand rewards, each of which is gone through at each decision.


def mixed(log_weights: Sequence[float], epsilon: float) -> list[float]:
    """(1 − ε)·softmax + ε/K of each of the K."""
    top = max(log_weights)
    likely = [math.exp(w - top) for w in log_weights]
    total, plain = sum(likely), epsilon / len(likely)
    return [(1 - epsilon) * one / total + plain for one in likely]


def shared(log_weights: Sequence[float], alpha: float) -> list[float]:
    """Log weights once each of the K ≥ 2 has given α of its weight to the others.

    >>> [round(w, 4) for w in shared([math.log(1.0), math.log(2.0), math.log(3.0)], 0.5)]
    [0.5596, 0.6931, 0.8109]
    """
    top = max(log_weights)
    weights = [math.exp(w - top) for w in log_weights]
    total, to_each = sum(weights), alpha / (len(weights) - 1)
    return [math.log((1 - alpha) * one + to_each * (total - one)) + top for one in weights]


def in_time(rewards: Sequence[Earned]) -> Iterator[tuple[Earned, bool]]:
    """Decisions (False) and their rewards' becoming known (True), in the sequence in which they happened."""
    moments = [(one.stage, True, one) for one in rewards]
    moments += [(one.known_at, False, one) for one in rewards if one.known_at is not None]
    for _, asks, one in sorted(moments, key=lambda moment: (moment[0], moment[1], moment[2].stage)):
        yield one, not asks


def untried(rewards: Sequence[Earned], view: View) -> str | None:
    """An offer of which no reward is known, the one that was chosen least often; None once each has one."""
    known = {one.chosen for one in rewards if one.value is not None}
    unknown = [name for name in view.names if name not in known]
    return min(unknown, key=lambda name: view.times_chosen.get(name, 0), default=None)
