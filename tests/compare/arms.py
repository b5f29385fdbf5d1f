"""Hand-made arms for the tests of the comparison."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from campus_tune.compare.verdict import ArmResults, Curve, ItemValues

DOMAINS = ("sums", "words")
GRID = np.linspace(0.0, 1000.0, 11)


def an_arm(
    name: str = "recipe",
    kind: str = "recipe",
    *,
    shift: float = 0.0,
    seeds: int = 4,
    items: int = 40,
    noise: float = 0.1,
    draw: int = 0,
    **more: Any,
) -> ArmResults:
    """Losses of 2 nats per token plus `shift`, with noise of seeds (a fifth of `noise`) and cells."""
    rng = np.random.default_rng([draw, sum(map(ord, name))])
    weights = np.arange(items) % 7 + 3.0
    per_token = 2 + shift + noise * rng.normal(size=(seeds, items)) + noise / 5 * rng.normal(size=(seeds, 1))
    end = ItemValues(
        per_token * weights, weights, np.arange(items) % 2, DOMAINS, tuple(f"item {i}" for i in range(items))
    )
    facts: dict[str, Any] = {
        "trained": np.full(seeds, 1000.0),
        "shared": tuple({"data": "d", "steps": 10, "weights_before": f"w{seed}"} for seed in range(seeds)),
    }
    return ArmResults(name, kind, tuple(range(seeds)), end, **{**facts, **more})


def base(**more: Any) -> ArmResults:
    return an_arm("random", "baseline", **more)


def without(arm: ArmResults, seed: int, why: str) -> ArmResults:
    """The arm with a seed diverged."""
    kept = [i for i, one in enumerate(arm.seeds) if one != seed]
    return replace(
        arm,
        seeds=tuple(arm.seeds[i] for i in kept),
        end=arm.end.take(kept),
        trained=arm.trained[kept],
        shared=tuple(arm.shared[i] for i in kept),
        curves=tuple(arm.curves[i] for i in kept) if arm.curves else (),
        diverged={seed: why},
    )


def a_curve(loss: Any, *, cost: float = 0.0) -> Curve:
    """A curve at 0, 100, 200, … tokens, ten tokens a second."""
    tokens = 100.0 * np.arange(len(loss))
    return Curve(tokens, tokens / 10, np.array(loss, dtype=float), cost)
