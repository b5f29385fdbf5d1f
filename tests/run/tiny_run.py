"""A tiny run with a real trainer: random weights, the demo tasks, seconds on one CPU thread."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.demo.tasks import generate
from campus_tune.run.ledger import comparable, read_ledger
from campus_tune.words.types import Json
from tests.libraries import CHECKPOINTING

CELLS = 25  # domains × levels of the demo tasks
RECIPE: Json = {"metrics": ["length", "mtld"], "stages": 3, "mix": 0.0, "handover": 1.0, "budget": 0.5}


@functools.cache
def task_rows(n: int, seed: int = 1) -> tuple[Json, ...]:
    """`n` demo rows in random sequence; other seeds give other rows, hardly ever the same question."""
    rows = generate(-(-n // CELLS), seed=seed)
    return tuple(rows[i] for i in np.random.default_rng(seed).permutation(len(rows))[:n])


@functools.cache
def tokenizer() -> Any:
    """The tiny tokenizer, made once."""
    from campus_tune.demo.tiny import tiny_tokenizer

    return tiny_tokenizer()


def dataset(rows: Sequence[Json]) -> Any:
    """Rows as a `datasets.Dataset`."""
    from datasets import Dataset

    return Dataset.from_list(list(rows))


def sft_config(out: Path, **sft_args: Any) -> Any:
    """An `SFTConfig` for a CPU: 4 rows a step, one epoch, a log line every step, no checkpoints unless asked for."""
    from trl import SFTConfig

    defaults = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "learning_rate": 3e-3,
        "logging_steps": 1,
        "save_strategy": "steps" if "save_steps" in sft_args else "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        CHECKPOINTING: False,
        "disable_tqdm": True,
        "seed": 3,
    }
    return SFTConfig(str(out), **{**defaults, **sft_args})


def tiny_trainer(
    out: Path,
    *,
    config: Any = None,
    n: int = 48,
    train: Any = None,
    probes: Any = None,
    callbacks: Sequence[Any] = (),
    lora: bool = False,
    model: Any = None,
    trainer_class: Any = None,
    trainer_args: Mapping[str, Any] | None = None,
    **sft_args: Any,
) -> Any:
    """An SFTTrainer with a random tiny model that trains `config`'s curriculum.

    Args:
        out: output_dir.
        config: recipe of the CampusCallback; None takes `RECIPE`, False trains without a curriculum.
        n: training rows, if `train` is not given.
        train: rows (dicts) or a Dataset.
        probes: rows, a Dataset or a mapping domain → Dataset; an int asks for that many demo rows; None for none.
        callbacks: further callbacks, after the CampusCallback.
        lora: train a LoRA with dropout on all linear layers instead of all weights.
        model: instead of `tiny_model()`.
        trainer_class: instead of SFTTrainer.
        trainer_args: further arguments of the trainer (not of SFTConfig): eval_dataset, data_collator, …
        sft_args: further arguments of SFTConfig; `save_steps=…` switches checkpoints on.
    """
    import torch
    from peft import LoraConfig
    from trl import SFTTrainer

    from campus_tune.demo.tiny import tiny_model
    from campus_tune.run.callback import CampusCallback

    torch.manual_seed(0)  # the weights of the adapter
    if train is None:
        train = task_rows(n)
    if isinstance(train, Sequence):
        train = dataset(train)
    if isinstance(probes, int):
        probes = task_rows(probes, seed=77)
    if isinstance(probes, Sequence) and not isinstance(probes, str):
        probes = dataset(probes)
    ours = [] if config is False else [CampusCallback(RECIPE if config is None else config, probes=probes)]
    return (trainer_class or SFTTrainer)(
        model if model is not None else tiny_model(),
        args=sft_config(out, **sft_args),
        train_dataset=train,
        processing_class=tokenizer(),
        peft_config=LoraConfig(r=4, lora_dropout=0.2, target_modules="all-linear") if lora else None,
        callbacks=[*ours, *callbacks],
        **(trainer_args or {}),
    )


def ledger_of(out: Path) -> list[Json]:
    """The run's ledger without what may differ between two runs of the same thing, one after the other.

    The second finds in the score cache what the first has measured, and says how much at the end.
    """
    events = comparable(read_ledger(Path(out) / "curriculum" / "ledger.jsonl"))
    return [{key: value for key, value in event.items() if key != "found"} for event in events]


def history_of(trainer: Any) -> list[Json]:
    """The trainer's log lines without clocks, and without the last one."""
    return [_without_clocks(line) for line in trainer.state.log_history if "train_loss" not in line]


def last_line_of(trainer: Any) -> Json:
    """The trainer's last log line without clocks."""
    return _without_clocks(trainer.state.log_history[-1])


def _without_clocks(line: Json) -> Json:
    return {key: value for key, value in line.items() if not key.endswith(("runtime", "per_second", "step_time"))}


def weights_of(trainer: Any) -> dict[str, Any]:
    """All weights by name, detached copies."""
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def saved_state(checkpoint: Path) -> Json:
    """A checkpoint's trainer state."""
    state: Json = json.loads((Path(checkpoint) / "trainer_state.json").read_text("utf-8"))
    return state
