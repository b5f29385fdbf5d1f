"""What every test that trains can do once: take the libraries out of the garbage collector's sight."""

from __future__ import annotations

import gc
from functools import cache
from importlib import import_module


@cache
def leave_libraries_alone() -> None:
    """A run collects garbage three times, each time among the million objects that torch and its like are made of."""
    for name in ("campus_tune.compare.recorder", "trl.trainer.sft_trainer", "peft"):
        import_module(name)
    gc.collect()
    gc.freeze()
