"""How a run's learning rate fell on easy and hard rows, as far as its files tell.

Which rows each stage trained is in `training_losses/`, in their sequence. The rate is in the ledger where a stage's end
has it, else in the trainer's own log beside its checkpoints, between whose lines it is interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from campus_tune.preview.lr_mass import N_DECILES
from campus_tune.scores.cache import read_columns
from campus_tune.words.errors import CampusError
from campus_tune.words.json_shapes import misshapen, read_json
from campus_tune.words.types import FloatArray, IntArray, Json

REACHES = 0.75  # of the trained steps, that the trainer's log must cover
RATE = "learning_rate"


@dataclass(frozen=True)
class LrMass:
    """Shares of a run's learning-rate mass per difficulty decile.

    The mass of a decile is the sum of the learning rate over every visit to one of its rows; an epoch of plain
    shuffling gives each tenth of the rows a tenth of it.

    Args:
        shares: metric → share per decile, easy to hard, shape (10,), sums to 1.
        why_not: where it cannot be known, the reason in a sentence.
    """

    shares: Mapping[str, FloatArray] = field(default_factory=dict)
    why_not: str = ""


def lr_mass(home: Path, scores: Mapping[str, FloatArray], stage_ends: Sequence[Json]) -> LrMass:
    """The run's shares, or why they cannot be known.

    Args:
        home: folder of the ledger.
        scores: metric → score of every row, shape (N,).
        stage_ends: the ledger's lines of that kind.
    """
    if not scores or not stage_ends:
        return LrMass(why_not="No scores are there yet, or no stage is finished.")
    rate = _rate_of_stages(home, stage_ends)
    if rate is None:
        return LrMass(
            why_not="The learning rate over the steps is not known: the trainer's log (trainer_state.json) is not "
            "beside the run's checkpoints, or ends early."
        )
    visits = _visits(home, stage_ends, rate)
    if visits is None:
        return LrMass(why_not="Which rows each stage trained is not known: training_losses/ is not complete.")
    rows, rates = visits
    return LrMass({label: mass_by_decile(values, rows, rates) for label, values in scores.items()})


def mass_by_decile(scores: FloatArray, rows: IntArray, rates: FloatArray) -> FloatArray:
    """Share of the learning-rate mass that fell on each tenth of the rows, easy to hard; shape (10,).

    Args:
        scores: of every row, shape (N,).
        rows: visited, shape (V,).
        rates: learning rate at each visit, shape (V,).

    >>> mass_by_decile(np.arange(10.0), np.arange(10), np.linspace(1.0, 0.1, 10)).round(3).tolist()
    [0.182, 0.164, 0.145, 0.127, 0.109, 0.091, 0.073, 0.055, 0.036, 0.018]
    """
    rank = np.empty(len(scores), dtype=np.int64)
    rank[np.argsort(scores, kind="stable")] = np.arange(len(scores))
    mass = np.bincount(rank[rows] * N_DECILES // len(scores), weights=rates, minlength=N_DECILES)
    return np.asarray(mass / max(mass.sum(), 1e-300), dtype=np.float64)


def _rate_of_stages(home: Path, stage_ends: Sequence[Json]) -> FloatArray | None:
    """Mean rate of each finished stage, shape (stages,)."""
    if all(event.get(RATE) is not None for event in stage_ends):
        return np.array([event[RATE] for event in stage_ends], dtype=np.float64)
    logged = _logged(home)
    ends = np.array([event["step"] for event in stage_ends])
    if len(logged) < 2 or logged[-1][0] < REACHES * ends[-1]:
        return None
    steps, rates = np.array(logged).T
    middle = (np.concatenate([[0], ends[:-1]]) + ends) / 2
    return np.asarray(np.interp(middle, steps, rates), dtype=np.float64)


def _logged(home: Path) -> list[tuple[float, float]]:
    """(step, learning rate) of the longest log beside the checkpoints."""
    out = home.parent
    found: list[tuple[float, float]] = []
    for path in (out / "trainer_state.json", *out.glob("checkpoint-*/trainer_state.json")):
        try:
            history = read_json(path, {"log_history": [{}]})["log_history"]
        except (OSError, ValueError):
            continue
        shape = {"step": float, RATE: float}
        points = [(line["step"], line[RATE]) for line in history if misshapen(line, shape) is None]
        found = max(found, points, key=len)
    return found


def _visits(home: Path, stage_ends: Sequence[Json], rate: FloatArray) -> tuple[IntArray, FloatArray] | None:
    """(rows, learning rates) of every visit, or None where a stage's file is missing."""
    rows = []
    for event in stage_ends:
        try:
            rows.append(read_columns(home / "training_losses" / f"stage-{event['stage']:05d}.parquet")[0]["row"])
        except (CampusError, KeyError):
            return None
    return np.concatenate(rows), np.repeat(rate, [len(part) for part in rows])
