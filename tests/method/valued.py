"""A learner whose values are known: three domains that pull its weights to three places, by plain gradient descent.

The loss of a token of a row of domain d is ½‖θ − c − ε‖², c the domain's place and ε the row's own noise. So the
gradient of a row is T·(θ − c − ε), that of a probe domain θ − p, p the mean place of its rows, and all that the product
measures of it can be worked out by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from campus_tune.method.value import ValuedVisits
from campus_tune.words.types import FloatArray, IntArray

DOMAINS = ("math", "code", "chat")
PLACES = np.array([[1.0, 0.0, 0.0, 0.0], [0.8, 0.6, 0.0, 0.0], [-0.9, 0.0, 0.3, 0.0]])  # code is near math, chat far


@dataclass(frozen=True, eq=False)
class Learned:
    """What training the learner left behind, and what is true of it.

    Args:
        stages: visits and their values, by G of the stage's begin.
        domains: of the rows, shape (N,).
        truth: A, the mean over visits with the noise of the rows taken out, shape (3, 3).
        fell: how far the loss of each probe domain fell, shape (3,).
    """

    stages: list[ValuedVisits]
    domains: IntArray
    truth: FloatArray
    fell: FloatArray


def planted(
    seed: int, *, n: int = 120, rate: float = 2e-4, stages: int = 4, per_step: int = 8, noise: float = 1.0
) -> Learned:
    """Train it for two passes over `n` rows, 20 probe rows a domain; a fifth of the visits have a weight of 0."""
    rng = np.random.default_rng(seed)
    domains, tokens = rng.permutation(np.arange(n) % 3), rng.integers(1, 9, n)
    rows = PLACES[domains] + noise * rng.normal(size=(n, 4))
    probes = PLACES[:, None] + 0.3 * rng.normal(size=(3, 20, 4))
    halves = np.stack([probes[:, :10].mean(axis=1), probes[:, 10:].mean(axis=1)])  # (2, 3, 4)
    theta = np.array([0.1, -0.2, 0.1, 0.3])

    def losses(at: FloatArray) -> FloatArray:
        found: FloatArray = 0.5 * ((at - probes) ** 2).sum(axis=2).mean(axis=1)
        return found

    before, sums, visits = losses(theta), np.zeros((3, 3)), np.zeros(3)
    found: list[ValuedVisits] = []
    for of_stage in np.array_split(np.concatenate([rng.permutation(n), rng.permutation(n)]), stages):
        gradient, parts = theta - halves, []  # as old as the stage
        for start in range(0, len(of_stage), per_step):
            step = of_stage[start : start + per_step]
            weight = (rng.random(len(step)) > 0.2).astype(float)
            own = tokens[step, None] * (theta - rows[step])
            values = np.einsum("rk,hek->hre", own, gradient)
            values[:, weight == 0] = np.nan
            answer = np.full(len(step), tokens[step].sum())
            parts.append(ValuedVisits(step, tokens[step], np.full(len(step), rate), answer, values[0], values[1]))
            usual = tokens.mean() * (theta - PLACES) @ gradient.mean(axis=0).T  # (domain, probe)
            for row in step[weight > 0]:
                sums[domains[row]] += usual[domains[row]]
                visits[domains[row]] += 1
            theta = theta - rate * (weight[:, None] * own).sum(axis=0) / tokens[step].sum()
        names = vars(parts[0])
        found.append(ValuedVisits(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}))
    return Learned(found, domains, sums / visits[:, None], before - losses(theta))
