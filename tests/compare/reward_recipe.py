"""A recipe that is trained by reward, in a folder with its model, its prompts and its test prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.compare.tiny_compare import write_rows
from tests.libraries import CHECKPOINTING, leave_libraries_alone
from tests.run.prompts.tiny_prompts import prompts

PROMPTS, TESTS, STEPS = 32, 32, 6
REWARD = "tests.run.prompts.tiny_prompts.passes"


def reward_recipe(folder: Path, *, compare: Any = None, campus: Any = None, **settings: Any) -> Path:
    """The YAML, an adapter of rank 2 on a model of 35 000 weights.

    Args:
        folder: of all of it; what is there already is kept.
        compare: settings of the `compare:` block besides `test`; None takes one out.
        campus: the block; None orders by length.
        settings: other settings of the YAML; None takes one out.
    """
    from campus_tune.demo.tiny import write_tiny

    leave_libraries_alone()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model").exists():
        write_tiny(folder / "model", hidden=16, layers=1)
    write_rows(folder / "train.jsonl", prompts(PROMPTS))
    tests = [{**row, "prompt": f"quiz {i} of it: {row['prompt']}"} for i, row in enumerate(prompts(TESTS))]
    write_rows(folder / "test.jsonl", tests)
    asked = {
        "test": {"path": str(folder / "test.jsonl")},
        "seeds": 2,
        "arms": ["recipe", "random"],
        "points": 3,
        **(compare or {}),
    }
    recipe = {
        "model_name_or_path": str(folder / "model"),
        "dataset_name": str(folder / "train.jsonl"),
        "output_dir": str(folder / "comparison"),
        "reward_funcs": [REWARD],
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 2,
        "max_steps": STEPS,
        "learning_rate": 5.0e-2,
        "lr_scheduler_type": "constant",
        "beta": 0.0,
        "bf16": False,
        "use_cpu": True,
        CHECKPOINTING: False,
        "report_to": "none",
        "logging_steps": 1,
        "save_strategy": "no",
        "use_peft": True,
        "lora_r": 2,
        "lora_target_modules": "all-linear",
        "campus": {"metrics": ["length"], "stages": 2} if campus is None else campus,
        "compare": {name: value for name, value in asked.items() if value is not None},
        **settings,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in recipe.items() if value is not None}))
    return path
