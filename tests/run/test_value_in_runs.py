"""Values in whole runs: what is written, that nothing else changes, resumes, budgets and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from campus_tune.run.stage_visits import FOLDER, file_of_stage
from campus_tune.scores.cache import read_columns
from tests.run.tiny_run import RECIPE, tiny_trainer
from tests.run.witness import events

PROBES = 150  # 30 of each domain
ASKS = {**RECIPE, "value": {"budget": 10.0}}


def valued(out: Path, **settings: Any) -> Any:
    return tiny_trainer(out, **{"config": ASKS, "n": 48, "probes": PROBES, "lora": True, **settings})


def columns_of(out: Path, stage: int) -> Any:
    return read_columns(out / "curriculum" / FOLDER / file_of_stage(stage))[0]


def test_a_run_leaves_values_of_every_row(tmp_path: Path) -> None:
    trainer = valued(tmp_path)
    trainer.train()
    ends = events(tmp_path, "stage_end")
    print(ends[0]["value"], events(tmp_path, "end")[0]["cost"])
    print({k: v[:3] for k, v in columns_of(tmp_path, 0).items()})
