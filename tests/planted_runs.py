"""Results of situations that nobody trained: what each arm is worth is planted, in the shape that runs keep."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from campus_tune.words.types import Json

DOMAINS = ("lists", "text")
ITEMS = 60
POINTS = 9
EFFECTS: Mapping[str, float] = {"random": 0.0, "auto": -0.16, "both": -0.18, "both_control": 0.0, "oracle": -0.2}


def planted_result(
    arm: str, seed: int, effect: float, *, kind: str = "", noise: float = 0.01, cost: float = 0.0, lag: float = 0.0
) -> Json:
    """One run: two nats per token times 1 + `effect`, with noise of the seed and of each item that all arms share.

    Args:
        arm: its name.
        seed: of the run.
        effect: on the loss at the end, a share.
        kind: of the arm; "" guesses it from the name.
        noise: of the arm alone, a share of the loss, of a seed; of a cell three times as much.
        cost: what it measured, a share of its training.
        lag: the second domain's loss is higher by this share.
    """
    shared, own = np.random.default_rng([7, seed]), np.random.default_rng([seed, sum(map(ord, arm))])
    weights = np.arange(ITEMS) % 7 + 3.0
    domain = np.arange(ITEMS) % 2
    level = 2 + 0.3 * np.random.default_rng(1).normal(size=ITEMS) + 0.05 * shared.normal()
    level = level * (1 + lag * domain)
    per_token = level * (1 + effect + noise * own.normal() + 3 * noise * own.normal(size=ITEMS))
    losses = per_token * weights
    end = losses.sum() / weights.sum()
    tokens = np.linspace(0, 1000, POINTS)
    way = 4.0 * np.exp(-tokens / 250)  # from 4 + end down to the end
    curve = end + way - way[-1]
    kind = kind or ("baseline" if arm == "random" else "control" if arm.endswith("_control") else "recipe")
    return {
        "arm": arm,
        "kind": kind,
        "seed": seed,
        "status": "finished",
        "message": None,
        "campus": {"control": "shuffled_weights"} if kind == "control" else {"selector": "shuffle"},
        "shared": {"data": f"rows {seed}", "steps": 10},
        "tokens": 1000,
        "rows": 320,
        "seconds": {"training": 1.0, "curve": 0.1},
        "cost": {"all": cost},
        "test": {
            "domains": list(DOMAINS),
            "items": [f"item {i}" for i in range(ITEMS)],
            "domain": domain.tolist(),
            "tokens": weights.tolist(),
            "loss": losses.tolist(),
        },
        "curve": {
            "step": list(range(POINTS)),
            "tokens": tokens.tolist(),
            "seconds": tokens.tolist(),
            "loss": curve.tolist(),
            "domains": {},
        },
        "planted": 0.3,
    }


def planted_results(
    effects: Mapping[str, float] = EFFECTS, seeds: Sequence[int] = range(100, 108), **more: float
) -> dict[str, list[Json]]:
    """Of each arm one result a seed."""
    return {arm: [planted_result(arm, seed, effect, **more) for seed in seeds] for arm, effect in effects.items()}


def keep(folder: Path, situation: str, results: Mapping[str, Sequence[Json]]) -> None:
    """The same as files, where `eval.situations` looks for them."""
    for arm, of_arm in results.items():
        for result in of_arm:
            path = folder / situation / arm / f"seed-{result['seed']}"
            path.mkdir(parents=True)
            (path / "result.json").write_text(json.dumps({"situation": situation, **result}))
            np.savez(path / "rows.npz", wrong=np.arange(20) % 3 == 0, domain=np.arange(20) % 2)
