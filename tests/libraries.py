"""What tests that train share of the libraries: they are out of the garbage collector's sight, one name differs."""

from __future__ import annotations

import gc
from functools import cache
from importlib import import_module
from importlib.metadata import files

ARGUMENTS = next(file for file in files("transformers") or [] if file.name == "training_args.py").read_text()
CHECKPOINTING = "activation_checkpointing" if "activation_checkpointing:" in ARGUMENTS else "gradient_checkpointing"


@cache
def leave_libraries_alone() -> None:
    """A run collects garbage three times, each time among the million objects that torch and its like are made of."""
    for name in ("campus_tune.compare.recorder", "trl.trainer.sft_trainer", "peft"):
        import_module(name)
    gc.collect()
    gc.freeze()
