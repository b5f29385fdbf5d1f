"""Values that nobody has measured, written over those of a run: files of stages, over the rows that it has trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from campus_tune.run.stage_visits import FOLDER
from campus_tune.run.stream.training_losses import file_of_stage
from campus_tune.scores.cache import read_columns, write_columns
from campus_tune.words.types import FloatArray

PROBES = ("arithmetic", "code", "text")
HARMFUL = (5, 11, 23)  # rows that harm every probe domain
UNWEIGHTED = 7  # a row whose visits have a weight of 0
RATE, STEP_TOKENS = 1e-3, 64


def signal(row: int) -> FloatArray:
    """What a row is worth to each probe domain, without the noise of the halves."""
    size = np.random.default_rng([row, 1]).gamma(2.0, 1.0, len(PROBES))
    return -3.0 - size if row in HARMFUL else size


def halves_of(row: int, visit: int, noise: float) -> FloatArray:
    """Values of one visit by both halves, shape (2, probes)."""
    if row == UNWEIGHTED:
        return np.full((2, len(PROBES)), np.nan)
    return signal(row) + noise * np.random.default_rng([row, visit, 2]).normal(size=(2, len(PROBES)))


def leave_values(home: Path, *, noise: float = 0.3, probes: tuple[str, ...] = PROBES) -> None:
    """Write a file of values for each stage whose losses lie in a run's `curriculum/`."""
    visits: dict[int, int] = {}
    for path in sorted((home / "training_losses").glob("stage-*.parquet")):
        losses, _ = read_columns(path)
        rows = losses["row"].tolist()
        for row in rows:
            visits[row] = visits.get(row, 0) + 1
        halves = np.array([halves_of(row, visits[row], noise) for row in rows]).astype(np.float32)
        columns: dict[str, Any] = {
            "row": losses["row"].astype(np.int32),
            "tokens": losses["tokens"].astype(np.int32),
            "rate": np.full(len(rows), RATE),
            "step_tokens": np.full(len(rows), STEP_TOKENS, dtype=np.int32),
        }
        for place, probe in enumerate(probes):
            columns |= {f"{half} {probe}": halves[:, k, place] for k, half in enumerate("ab")}
        write_columns(home / FOLDER / file_of_stage(int(path.stem.removeprefix("stage-"))), columns, {})


class LeaveValues(TrainerCallback):
    """Leaves them in a run at its last step."""

    def __init__(self, out: Path, **how: Any) -> None:
        self.home, self.how = out / "curriculum", how

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control, kwargs
        if state.global_step == state.max_steps:
            leave_values(self.home, **self.how)
