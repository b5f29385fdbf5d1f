"""The models that runs begin with, and how they are trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from campus_tune.demo.tiny import tiny_tokenizer
from campus_tune.words.types import Json
from eval.suspects import start_model

COLUMNS = ("domain", "prompt", "completion", "level", "right")


@dataclass(frozen=True)
class Base:
    """A model to begin with.

    Args:
        about: a sentence.
        batch: rows of a step.
        settings: of the trainer.
    """

    about: str
    batch: int = 32
    settings: Mapping[str, Any] = field(default_factory=dict)

    def model(self, keep: Path) -> Any:
        """The model; made once, and kept."""
        return start_model(keep / "bases" / "tasks")

    def tokenizer(self, keep: Path) -> Any:
        """What its rows are read with."""
        del keep
        return tiny_tokenizer()


TINY = {
    "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "linear",
    "warmup_steps": 10,
    "activation_checkpointing": False,
}
BASES: Mapping[str, Base] = {
    "tasks": Base("a tiny Llama (hidden 64, two layers) that has learned the easy levels of the tasks", settings=TINY),
}


def trainer_of(
    base: Base, keep: Path, rows: Sequence[Json], out: Path, *, steps: int, seed: int, callbacks: Sequence[Any],
    training: Mapping[str, Any],
) -> Any:  # fmt: skip
    """An SFTTrainer of a base on some rows."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    settings = {
        "per_device_train_batch_size": base.batch,
        "max_steps": steps,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1000,
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "seed": seed,
        **base.settings,
        **training,
    }
    return SFTTrainer(
        base.model(keep),
        args=SFTConfig(str(out), **settings),
        train_dataset=Dataset.from_list([{key: row[key] for key in COLUMNS if key in row} for row in rows]),
        processing_class=base.tokenizer(keep),
        callbacks=[*callbacks],
    )
