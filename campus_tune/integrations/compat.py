"""Every private name of transformers and trl that we lean on, one function each, so that one test finds a break.

Tested with transformers 4.57 … 5.23 and trl 1.0 … 1.16 in mind; what differs between them is decided here.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from campus_tune.errors import TrainerError
from campus_tune.integrations.subject import Subject
from campus_tune.orders import hash_rows

if TYPE_CHECKING:
    import torch

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


def running_loss(trainer: Any) -> torch.Tensor | None:
    """The loss added up since the last log line, on this rank; before transformers 5 a variable of the loop."""
    if hasattr(trainer, "_tr_loss"):
        loss: torch.Tensor = trainer._tr_loss
        return loss
    of_loops = (
        variables["tr_loss"]
        for _, variables in _callers()
        if variables.get("self") is trainer
        if "tr_loss" in variables
    )
    return next(of_loops, None)


def running_counts(trainer: Any) -> dict[str, float]:
    """What else a trainer counts from one log line to the next, and saves nowhere: losses logged, last line, tokens."""
    names = ("_total_loss_scalar", "_globalstep_last_logged", "_total_train_tokens")
    return {name: getattr(trainer, name) for name in names if hasattr(trainer, name)}


def set_running_counts(trainer: Any, counts: Mapping[str, float]) -> None:
    """Go on from `running_counts`."""
    for name in running_counts(trainer).keys() & counts.keys():
        setattr(trainer, name, counts[name])


def running_metrics(trainer: Any) -> dict[str, list[float]]:
    """What trl has measured of the micro batches since the last log line; another trainer has none."""
    metrics: dict[str, list[float]] = getattr(trainer, "_metrics", {}).get("train", {})
    return metrics


def whole_train_loss(trainer: Any) -> float:
    """Mean loss per step of the whole run, once the last step is added up; the trainer's own begins at a resume."""
    return float(trainer._total_loss_scalar / max(trainer.state.global_step, 1))


def event(trainer: Any) -> str | None:
    """The event whose callbacks are being called, if that is where this was called from."""
    for name, variables in _callers():
        if name == "call_event" and variables.get("self") is trainer.callback_handler:
            return str(variables["event"])
    return None


def of_last_step(trainer: Any) -> dict[str, float | None]:
    """Gradient norm and learning rate of the last step, as the trainer's loop holds them for its log line."""
    for _, variables in _callers():
        if variables.get("self") is trainer and {"grad_norm", "learning_rate"} <= variables.keys():
            found = {name: variables[name] for name in ("grad_norm", "learning_rate")}
            return {name: None if value is None else float(value) for name, value in found.items()}
    return {"grad_norm": None, "learning_rate": None}


def _callers() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(Name, variables) of the functions that this was called from, the innermost first."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        yield frame.f_code.co_name, frame.f_locals
        frame = frame.f_back


def log_and_evaluate(trainer: Any, grad_norm: float | None, learning_rate: float | None) -> None:
    """What the trainer does behind an optimizer step, as its control says."""
    loss, epoch = running_loss(trainer), int(trainer.state.epoch)
    trainer._maybe_log_save_evaluate(
        loss, grad_norm, trainer.model, None, epoch, None, time.time(), learning_rate=learning_rate
    )


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
    """Another dataset through the same preparation as the training set (templates, truncation, masks).

    A plain Trainer prepares nothing: its rows must have `input_ids` already.
    """
    if not hasattr(trainer, "_prepare_dataset"):
        return dataset
    return trainer._prepare_dataset(dataset, trainer.processing_class, trainer.args, False, None, name)


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
