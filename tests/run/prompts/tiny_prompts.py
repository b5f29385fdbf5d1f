"""A tiny run that is driven by reward: random weights, a checkable reward, seconds on one CPU thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from campus_tune.words.types import Json
from tests.libraries import CHECKPOINTING
from tests.run.tiny_run import dataset, tokenizer

VOCABULARY, GROUP = 512, 4
RATES = (0.0, 0.02, 0.1, 0.3, 0.6, 0.9, 0.97, 1.0)  # how likely a random first token is to pass, by kind


def prompts(n: int = 32) -> list[Json]:
    """`n` prompts of eight kinds, from hopeless to trivial; `level` says how hard a kind is."""
    rows = []
    for row in range(n):
        kind = row % len(RATES)
        cut = int(RATES[kind] * VOCABULARY)
        asked = f"task {row} of kind {kind}: {'please ' * (row % 5)}answer"
        rows.append({"prompt": asked, "cut": cut, "level": len(RATES) - kind, "domain": "ab"[row % 2]})
    return rows


def passes(completion_ids: Sequence[Sequence[int]], cut: Sequence[int], **columns: Any) -> list[float]:
    """1 where a fixed hash of the first token lies below the prompt's cut."""
    del columns
    return [
        float((ids[0] * 197 + below * 31) % VOCABULARY < below) if len(ids) else 0.0
        for ids, below in zip(completion_ids, cut, strict=True)
    ]


def reward_config(out: Path, kind: str = "grpo", **given: Any) -> Any:
    """A GRPOConfig or RLOOConfig for a CPU: 8 answers a micro batch, two micro batches a step, two tokens an answer."""
    import trl

    defaults: dict[str, Any] = {
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "num_generations": GROUP,
        "max_completion_length": 2,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "logging_steps": 1,
        "save_strategy": "steps" if "save_steps" in given else "no",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        CHECKPOINTING: False,
        "disable_tqdm": True,
        "beta": 0.0,
        "seed": 3,
    }
    return getattr(trl, f"{kind.upper()}Config")(str(out), **{**defaults, **given})


def reward_trainer(
    out: Path,
    kind: str = "grpo",
    *,
    config: Any = None,
    train: Any = 32,
    model: Any = None,
    rewards: Any = passes,
    callbacks: Sequence[Any] = (),
    before: Sequence[Any] = (),
    lora: bool = False,
    trainer_args: Mapping[str, Any] | None = None,
    trainer_class: Any = None,
    **given: Any,
) -> Any:
    """A trainer of trl that is driven by reward, with a random tiny model and `config`'s curriculum.

    Args:
        out: output_dir.
        kind: grpo or rloo.
        config: recipe of the CampusCallback; None takes the empty one, False trains without a curriculum.
        train: rows (dicts), a Dataset, or how many of `prompts`.
        model: instead of `tiny_model()`.
        rewards: of the trainer's `reward_funcs`.
        callbacks: further callbacks, after the CampusCallback.
        before: further callbacks, before it; `SavesInside` among them is told of the trainer.
        lora: train a LoRA with dropout on all linear layers instead of all weights.
        trainer_args: further arguments of the trainer.
        trainer_class: instead of trl's own.
        given: further arguments of its configuration.
    """
    import torch
    import trl
    from peft import LoraConfig

    from campus_tune.demo.tiny import tiny_model
    from campus_tune.run.callback import CampusCallback

    torch.manual_seed(0)
    if isinstance(train, int):
        train = prompts(train)
    if isinstance(train, Sequence):
        train = dataset(train)
    ours = [] if config is False else [CampusCallback({} if config is None else config)]
    made = (trainer_class or getattr(trl, f"{kind.upper()}Trainer"))(
        model if model is not None else tiny_model(),
        reward_funcs=rewards,
        args=reward_config(out, kind, **given),
        train_dataset=train,
        processing_class=tokenizer(),
        peft_config=LoraConfig(r=4, lora_dropout=0.2, target_modules="all-linear") if lora else None,
        callbacks=[*before, *ours, *callbacks],
        **(trainer_args or {}),
    )
    for one in before:
        if isinstance(one, SavesInside):
            one.trainer = made
    return made


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
