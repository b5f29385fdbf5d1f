"""Every private name of transformers and trl that we lean on, one function each, so that one test finds a break.

Tested with transformers 4.57 … 5.23 and trl 1.0 … 1.16 in mind; what differs between them is decided here.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from campus_tune.errors import TrainerError
from campus_tune.integrations.subject import Subject
from campus_tune.orders import hash_rows

_PADDING_COLLATORS = {  # of the libraries: they pad what the columns say, and make no labels
    ("trl", "DataCollatorForLanguageModeling"),
    ("transformers", "DataCollatorForSeq2Seq"),
    ("transformers", "DataCollatorWithFlattening"),
    ("transformers", "DataCollatorWithPadding"),
    ("transformers", "DefaultDataCollator"),
    ("transformers", "default_data_collator"),
}
_EFFICIENT = "FSDP_CPU_RAM_EFFICIENT_LOADING"  # what accelerate's setting of that name becomes


def trainer_of_this_callback(callback: Any) -> Any:
    """The Trainer in whose `__init__` the running `on_init_end` was called.

    No event hands a callback its trainer, so the stack is walked to the frame whose `self` is one.

    Raises:
        TrainerError: no such frame; `attach(trainer, …)` works without it.
    """
    from transformers import Trainer

    frame = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, Trainer) and callback in owner.callback_handler.callbacks:
            return owner
        frame = frame.f_back  # type: ignore[assignment]  # typeshed: the last frame's f_back is None
    raise no_trainer()


def no_trainer() -> TrainerError:
    """The error of a callback that knows no trainer."""
    return TrainerError(
        "`CampusCallback` must be given to a trainer when it is made, in callbacks=[…], got none. For a trainer that "
        "is made already, call campus_tune.attach(trainer, config) instead of trainer.add_callback."
    )


def load_model(name: str, settings: Mapping[str, Any]) -> tuple[Any, Any]:
    """A model and its tokenizer as `SFTTrainer` loads those whose name it is given.

    Args:
        name: folder or hub id.
        settings: `model_init_kwargs`.
    """
    from transformers import AutoProcessor
    from trl.trainer.utils import create_model_from_path

    model = create_model_from_path(name, **settings)
    named = {key: settings.get(key) for key in ("revision", "trust_remote_code")}
    return model, AutoProcessor.from_pretrained(name, **named)  # type: ignore[no-untyped-call]


def let_go(trainer: Any) -> None:
    """Free what a trainer that is done holds, for the next one in this process."""
    import torch

    trainer.callback_handler.callbacks.clear()
    trainer.model = trainer.model_wrapped = trainer.optimizer = trainer.lr_scheduler = None
    trainer.accelerator.free_memory()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def learning_rate(trainer: Any) -> float:
    """The rate of the step that comes next, whatever drives the scheduler."""
    return float(trainer._get_learning_rate())


def micro_batch_size(trainer: Any) -> int:
    """Rows per micro batch and process, after `auto_find_batch_size` and `split_batches`."""
    args = trainer.args  # transformers 4 puts the checkpoint's size into `_train_batch_size`, whatever they say
    size: int = trainer._train_batch_size if args.auto_find_batch_size else args.train_batch_size
    if trainer.accelerator.split_batches:
        size //= trainer.accelerator.num_processes
    return size


def loader_view(trainer: Any, dataset: Any) -> tuple[Any, Any]:
    """(dataset, collator) as `get_train_dataloader` would use them, unused columns removed."""
    import datasets

    if isinstance(dataset, datasets.Dataset):
        return trainer._remove_unused_columns(dataset, description="training"), trainer.data_collator
    return dataset, trainer._get_collator_with_removed_columns(trainer.data_collator, description="training")


def prepare_like_training(trainer: Any, dataset: Any, name: str) -> Any:
    """Another dataset through the same preparation as the training set (formatting, templates, truncation, masks).

    A plain Trainer prepares nothing, nor does one that was told to skip it: rows must have `input_ids` already.
    """
    skipped = (getattr(trainer.args, "dataset_kwargs", None) or {}).get("skip_prepare_dataset", False)
    if skipped or not hasattr(trainer, "_prepare_dataset"):
        return dataset
    formatting = getattr(trainer, "_formatting_func", None)  # trl 1.0 forgets it
    return trainer._prepare_dataset(dataset, trainer.processing_class, trainer.args, False, formatting, name)


def counts_tokens_of_the_step(trainer: Any) -> bool:
    """Whether losses are normalised by the answer tokens of the whole optimizer step, not per micro batch or process.

    Processes add their tokens up only under `average_tokens_across_devices`, which is on unless it is switched off.
    """
    counted = bool(trainer.model_accepts_loss_kwargs or trainer.compute_loss_func)
    return counted and (trainer.args.world_size == 1 or trainer.args.average_tokens_across_devices)


def subject(trainer: Any) -> Subject:
    """The trainer's model as measurements see it."""
    wrapped = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    return Subject(
        model=trainer.model,
        forward=trainer.model_wrapped if wrapped else trainer.model,
        device=trainer.args.device,
        place=trainer._prepare_inputs,
        sharded=trainer.is_fsdp_enabled or any(hasattr(p, "ds_id") for p in trainer.model.parameters()),  # ZeRO 3
    )


@contextmanager
def loaded_whole() -> Iterator[None]:
    """Models that are loaded inside are whole in each process, however the trainer's own is sharded.

    `from_pretrained` asks global settings of the training: under ZeRO 3 it gives each process a part of the weights,
    under FSDP with `cpu_ram_efficient_loading` all processes but one get none, for the trainer to fill in.
    """
    from transformers.integrations import deepspeed as zero

    settings = zero._hf_deepspeed_config_weak_ref
    efficient = os.environ.pop(_EFFICIENT, None)
    zero.unset_hf_deepspeed_config()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    try:
        yield
    finally:
        zero._hf_deepspeed_config_weak_ref = settings
        if efficient is not None:
            os.environ[_EFFICIENT] = efficient


def unwrapped(trainer: Any) -> Any:
    """The model that generates and is asked for logits, its adapter on, without the wrapping of DDP."""
    return trainer.accelerator.unwrap_model(trainer.model)


def parameter_counts(model: Any) -> tuple[int, int]:
    """(All parameters of a model, those that are trained), wherever they are sharded to."""
    sizes = [(int(getattr(p, "ds_numel", p.numel())), p.requires_grad) for p in model.parameters()]  # ZeRO 3: 0 here
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def refuse_old_sharding(trainer: Any) -> None:
    """FSDP1 keeps flat pieces of weights, of which neither heads nor fingerprints can be read.

    Raises:
        TrainerError: the trainer shards by it.
    """
    if trainer.is_fsdp_enabled and not trainer.accelerator.is_fsdp2:
        raise TrainerError(
            "FSDP must be version 2 with a curriculum, got version 1: its flat shards cannot be measured. "
            "Write fsdp_version: 2 in the accelerate config (under fsdp_config)."
        )


def precision(trainer: Any) -> str:
    """What the forward computes in besides the weights' own type: no, bf16, fp16, fp8."""
    return str(trainer.accelerator.mixed_precision)


def checkpoints_activations(trainer: Any) -> bool:
    """Whether the backward pass runs the forward again."""
    args = trainer.args
    return bool(getattr(args, "activation_checkpointing", False) or getattr(args, "gradient_checkpointing", False))


def worker_settings(args: Any) -> dict[str, Any]:
    """What the trainer's arguments say of data loading, for torch's DataLoader."""
    settings = {
        "num_workers": args.dataloader_num_workers,
        "pin_memory": args.dataloader_pin_memory and args.device.type == "cuda",
    }
    if args.dataloader_num_workers > 0:
        settings["prefetch_factor"] = args.dataloader_prefetch_factor
        settings["multiprocessing_context"] = getattr(args, "dataloader_multiprocessing_context", None)
    return settings


def training_collator(collator: Any, *, flat: bool) -> Any:
    """The collator of training batches; `flat` is trl's own padding-free form of it.

    Raises:
        TrainerError: this collator has no such form.
    """
    if not flat:
        return collator
    if not (dataclasses.is_dataclass(collator) and hasattr(collator, "padding_free")):
        raise TrainerError(
            f"`batching: flat` must have trl's collator, which can flatten rows, got {type(collator).__name__}. "
            "Use SFTTrainer with its own collator, or batching: step."
        )
    return dataclasses.replace(collator, padding_free=True)  # type: ignore[type-var]  # a dataclass instance, see above


def inner_collator(collator: Any) -> Any:
    """The user's own collator, without the wrapping in which a Trainer removes unused columns."""
    return getattr(collator, "data_collator", collator)


def reads_labels_from_columns(collator: Any) -> bool:
    """Whether a collator is one of the libraries' own that takes labels as they stand in the columns."""
    inner = inner_collator(collator)
    kind = inner if hasattr(inner, "__qualname__") else type(inner)
    return (kind.__module__.split(".")[0], kind.__qualname__) in _PADDING_COLLATORS


def refuse_masked_batches(trainer: Any, *, short_rows: int, micro_batches: int) -> None:
    """A step with fewer rows than micro batches is filled with masked rows; that needs losses counted per step.

    Args:
        trainer: whose loss it is.
        short_rows: rows of an epoch's last, short step; 0 if it is full.
        micro_batches: of one optimizer step, over all ranks.

    Raises:
        TrainerError: the loss is a mean per micro batch or process, and a masked one would be 0 / 0.
    """
    if 0 < short_rows < micro_batches and not counts_tokens_of_the_step(trainer):
        raise TrainerError(
            f"an epoch's last step must have at least one row for each of its {micro_batches} micro batches, got "
            f"{short_rows}: {what_the_loss_is(trainer)}. Set dataloader_drop_last=True, or choose a batch size that "
            "divides the training set."
        )


def what_the_loss_is(trainer: Any) -> str:
    """What the loss is a mean over, where it is not one over the tokens of the step."""
    if trainer.model_accepts_loss_kwargs or trainer.compute_loss_func:
        return "the loss is a mean per process (average_tokens_across_devices is off)"
    return "this model's loss is a mean per micro batch"


def seed_anew(seed: int, step: int, rank: int) -> None:
    """Random states for a resume on other ranks than those whose states were saved: by (seed, step, rank)."""
    from transformers import set_seed

    set_seed(int(hash_rows(np.zeros(1), seed, step, rank)[0] >> np.uint64(33)))
