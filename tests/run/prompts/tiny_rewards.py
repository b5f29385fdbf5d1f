"""A tiny run that is driven by reward: prompts whose first answer token passes or not, on one CPU thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import TrainerCallback

from campus_tune.demo.tiny import VOCAB_SIZE, tiny_model
from tests.libraries import CHECKPOINTING
from tests.run.tiny_run import tokenizer

GENERATIONS = 4  # of each prompt
RATES = (0.0, 0.1, 0.3, 0.6, 0.9, 1.0)  # chance of a random first token to pass, by kind of prompt


def prompts(n: int = 24) -> Dataset:
    """`n` prompts of six kinds, whose chance to pass differs."""
    return Dataset.from_dict(
        {
            "prompt": [f"task number {row} of kind {row % len(RATES)}: answer" for row in range(n)],
            "cut": [int(RATES[row % len(RATES)] * VOCAB_SIZE) for row in range(n)],
            "kind": [f"kind {row % len(RATES)}" for row in range(n)],
        }
    )


def first_token(completion_ids: list[list[int]], cut: list[int], **_: Any) -> list[float]:
    """1 where a fixed hash of an answer's first token is below the prompt's cut, else 0."""
    tokens = [ids[0] if len(ids) else 0 for ids in completion_ids]
    return [float((token * 197) % VOCAB_SIZE < below) for token, below in zip(tokens, cut, strict=True)]


def reward_trainer(
    out: Path,
    kind: str = "grpo",
    *,
    train: Any = None,
    callbacks: Sequence[Any] = (),
    reward_funcs: Any = first_token,
    lora: bool = False,
    model: Any = None,
    trainer_args: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Any:
    """A GRPOTrainer or RLOOTrainer with a random tiny model: 8 rows a micro step on each rank, 4 answers of 2 tokens.

    Args:
        out: output_dir.
        kind: "grpo" or "rloo".
        train: prompts; None takes 24.
        callbacks: of the trainer.
        reward_funcs: of the trainer.
        lora: train a LoRA with dropout instead of all weights.
        model: instead of `tiny_model()`.
        trainer_args: further arguments of the trainer.
        settings: further arguments of its configuration; `save_steps=…` switches checkpoints on.
    """
    from peft import LoraConfig
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    torch.manual_seed(0)  # the weights of the adapter
    defaults = {
        "per_device_train_batch_size": 8,
        "num_generations": GENERATIONS,
        "max_completion_length": 2,
        "max_steps": 6,
        "learning_rate": 1e-2,
        "beta": 0.0,
        "logging_steps": 1,
        "save_strategy": "steps" if "save_steps" in settings else "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        CHECKPOINTING: False,
        "disable_tqdm": True,
        "seed": 3,
    }
    makes: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "grpo": (GRPOConfig, GRPOTrainer),
        "rloo": (RLOOConfig, RLOOTrainer),
    }
    make_config, make_trainer = makes[kind]
    return make_trainer(
        model if model is not None else tiny_model(),
        reward_funcs=reward_funcs,
        args=make_config(str(out), **{**defaults, **settings}),
        train_dataset=prompts() if train is None else train,
        processing_class=tokenizer(),
        peft_config=LoraConfig(r=4, lora_dropout=0.2, target_modules="all-linear") if lora else None,
        callbacks=list(callbacks),
        **(trainer_args or {}),
    )


class SavesInside(TrainerCallback):
    """A callback before ours that saves by itself every second step, each time in another event of it."""

    EVENTS = ("on_substep_end", "on_step_end", "on_step_begin", "on_pre_optimizer_step")

    def __init__(self) -> None:
        self.trainer: Any = None
        for turn, name in enumerate(self.EVENTS):
            setattr(self, name, self._saver(turn))

    def _saver(self, turn: int) -> Callable[..., None]:
        def save(args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            del args, control, kwargs
            if state.global_step > 0 and state.global_step % (2 * len(self.EVENTS)) == 2 * turn:
                self.trainer._save_checkpoint(self.trainer.model, trial=None)

        return save
