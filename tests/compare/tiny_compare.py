"""A comparison of tiny runs: random weights, 48 rows, 6 steps; about a second per run on one CPU thread."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from campus_tune.cli.compare import read_plan
from campus_tune.cli.main import make_parser
from campus_tune.compare.plan import Plan
from campus_tune.compare.training import Bench
from campus_tune.words.types import Json
from tests.libraries import CHECKPOINTING, leave_libraries_alone
from tests.run.tiny_run import task_rows

ROWS, TESTS, PROBES, STEPS = 48, 40, 10, 6


def write_rows(path: Path, rows: Sequence[Json]) -> str:
    """Rows as JSON lines; gives back the file's name."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def tiny_recipe(folder: Path, *, compare: Any = None, lora: bool = True, **settings: Any) -> Path:
    """A recipe in a folder with its model, its rows, its probes and its test rows.

    Args:
        folder: of all of it; what is there already is kept.
        compare: settings of the `compare:` block besides `test`.
        lora: train an adapter instead of all weights.
        settings: other settings of the YAML; `campus` replaces the block.
    """
    from campus_tune.demo.tiny import write_tiny

    leave_libraries_alone()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model").exists():
        write_tiny(folder / "model", hidden=16, layers=1)
    for name, n, seed in (("train", ROWS, 1), ("test", TESTS, 5), ("probes", PROBES, 77)):
        if not (folder / f"{name}.jsonl").exists():
            write_rows(folder / f"{name}.jsonl", task_rows(n, seed=seed))
    recipe = {
        "model_name_or_path": str(folder / "model"),
        "dataset_name": str(folder / "train.jsonl"),
        "output_dir": str(folder / "comparison"),
        "per_device_train_batch_size": 8,
        "num_train_epochs": 1,
        "learning_rate": 1.0e-2,
        "lr_scheduler_type": "linear",
        "bf16": False,
        "use_cpu": True,
        CHECKPOINTING: False,
        "logging_steps": 1,
        "use_peft": lora,
        "lora_r": 2,
        "lora_dropout": 0.1,
        "lora_target_modules": "all-linear",
        "campus": {
            "metrics": ["length", "loss"],
            "stages": 3,
            "handover": 0.7,
            "budget": 2.0,
            "probes": {"path": str(folder / "probes.jsonl")},
        },
        "compare": {
            "test": {"path": str(folder / "test.jsonl")},
            "seeds": 2,
            "arms": ["recipe", "random"],
            "points": 3,
            **(compare or {}),
        },
        **settings,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def options(recipe: Path, *words: str) -> argparse.Namespace:
    """What the command line makes of these words."""
    found, rest = make_parser().parse_known_args(["compare", "--config", str(recipe), *words])
    found.rest = rest
    return found


def plan_of(recipe: Path, *words: str) -> Plan:
    """The plan that a recipe and some flags make."""
    return read_plan(options(recipe, *words))


def bench_of(recipe: Path, out: Path, *words: str) -> Bench:
    """What makes its runs."""
    return Bench(plan_of(recipe, "--out", str(out), *words))


def result_of(out: Path, arm: str, seed: int) -> Json:
    """The result file of one run."""
    found: Json = json.loads((out / "runs" / arm / f"seed-{seed}" / "result.json").read_text("utf-8"))
    return found


def timeless(result: Json) -> Json:
    """A result without what a stopwatch said."""
    curve = {key: value for key, value in result["curve"].items() if key != "seconds"}
    return {**{key: value for key, value in result.items() if key != "seconds"}, "curve": curve}
