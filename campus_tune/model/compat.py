"""Every private name of transformers and trl that we lean on, one function each, so that one test finds a break.

Tested with transformers 4.57 … 5.23 and trl 1.0 … 1.16 in mind; what differs between them is decided here.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import gc
import inspect
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from campus_tune.model.subject import Subject
from campus_tune.words.errors import TrainerError
from campus_tune.words.hashing import hash_rows
from campus_tune.words.types import RowSource

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import Trainer, TrainerCallback, TrainingArguments

Collator: TypeAlias = Callable[[list[Any]], Any]

_PADDING_COLLATORS = {  # of the libraries: they pad what the columns say, and make no labels
    ("trl", "DataCollatorForLanguageModeling"),
    ("transformers", "DataCollatorForSeq2Seq"),
    ("transformers", "DataCollatorWithFlattening"),
    ("transformers", "DataCollatorWithPadding"),
    ("transformers", "DefaultDataCollator"),
    ("transformers", "default_data_collator"),
}
_EFFICIENT = "FSDP_CPU_RAM_EFFICIENT_LOADING"  # what accelerate's setting of that name becomes


def trainer_of_this_callback(callback: TrainerCallback) -> Any:
    """The Trainer in whose `__init__` the running `on_init_end` was called.

    No event hands a callback its trainer, so the stack is walked to the frame whose `self` is one.

    Raises:
        TrainerError: no such frame; `attach(trainer, …)` works without it.
    """
    from transformers import Trainer

    for _, variables in _callers():
        owner = variables.get("self")
        if isinstance(owner, Trainer) and callback in owner.callback_handler.callbacks:
            return owner
    raise no_trainer()


def no_trainer() -> TrainerError:
    """The error of a callback that knows no trainer."""
    return TrainerError(
        "`CampusCallback` must be given to a trainer when it is made, in callbacks=[…], got none. For a trainer that "
        "is made already, call campus_tune.attach(trainer, config) instead of trainer.add_callback."
    )


def training_rows(trainer: Trainer) -> RowSource:
    """The training set; that there is one, with a length, was seen when the loader was made."""
    rows: Any = trainer.train_dataset
    return cast("RowSource", rows)


def tokenizer_of(trainer: Trainer) -> Any:
    """What turns a trainer's texts into tokens: of a model that sees or hears too, the part of its processor that does.

    Such a processor may keep the chat template to itself.
    """
    from transformers import ProcessorMixin

    processing = getattr(trainer, "processing_class", None)
    if not isinstance(processing, ProcessorMixin):
        return processing
    tokenizer: Any = processing.tokenizer
    if tokenizer.chat_template is None and processing.chat_template is not None:
        tokenizer = copy.copy(tokenizer)
        tokenizer.chat_template = processing.chat_template
    return tokenizer


def trained_template(trainer: Trainer) -> str | None:
    """The chat template that rows were made with, where it is not the tokenizer's own; None where it is.

    For `assistant_only_loss` TRL takes one of its own for models it knows, if theirs does not mark the answers.
    """
    template: str | None = getattr(trainer, "chat_template", None)
    return template


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


def let_go(trainer: Trainer) -> None:
    """Free what a trainer that is done holds, for the next one in this process."""
    import torch

    trainer.callback_handler.callbacks.clear()
    vars(trainer).update(model=None, model_wrapped=None, optimizer=None, lr_scheduler=None)
    trainer.accelerator.free_memory()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def learning_rate(trainer: Trainer) -> float:
    """The rate of the step that comes next, whatever drives the scheduler."""
    return float(trainer._get_learning_rate())


def running_loss(trainer: Trainer) -> torch.Tensor | None:
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


def running_counts(trainer: Trainer) -> dict[str, float]:
    """What else a trainer counts from one log line to the next, and saves nowhere: losses logged, last line, tokens."""
    names = ("_total_loss_scalar", "_globalstep_last_logged", "_total_train_tokens")
    return {name: getattr(trainer, name) for name in names if hasattr(trainer, name)}


def set_running_counts(trainer: Trainer, counts: Mapping[str, float]) -> None:
    """Go on from `running_counts`."""
    for name in running_counts(trainer).keys() & counts.keys():
        setattr(trainer, name, counts[name])


def running_metrics(trainer: Trainer) -> dict[str, list[float]]:
    """What trl has measured of the micro batches since the last log line; another trainer has none."""
    metrics: dict[str, list[float]] = getattr(trainer, "_metrics", {}).get("train", {})
    return metrics


def whole_train_loss(trainer: Trainer) -> float:
    """Mean loss per step of the whole run, once the last step is added up; the trainer's own begins at a resume."""
    return float(trainer._total_loss_scalar / max(trainer.state.global_step, 1))


def event(trainer: Trainer) -> str | None:
    """The event whose callbacks are being called, if that is where this was called from."""
    for name, variables in _callers():
        if name == "call_event" and variables.get("self") is trainer.callback_handler:
            return str(variables["event"])
    return None


def of_last_step(trainer: Trainer) -> dict[str, float | None]:
    """Gradient norm and learning rate of the last step, as the trainer's loop holds them for its log line."""
    for _, variables in _callers():
        if variables.get("self") is trainer and {"grad_norm", "learning_rate"} <= variables.keys():
            found = {name: variables[name] for name in ("grad_norm", "learning_rate")}
            return {name: None if value is None else float(value) for name, value in found.items()}
    return {"grad_norm": None, "learning_rate": None}


_HOLDS_NORM: dict[int, tuple[Any, bool]] = {}  # functions that were asked from, kept so that no other has their id


def gradient_norm(trainer: Trainer) -> Any:
    """Norm of the gradients that an optimizer step is about to use, before they were clipped, as the loop holds it.

    A number or a tensor on the device, which is not waited for; None where it was not asked for, or the loop that is
    being asked from is not a trainer's.
    """
    frame: Any = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if id(code) not in _HOLDS_NORM:  # asking for variables copies all of a frame's, for their names the names
            _HOLDS_NORM[id(code)] = code, "grad_norm" in code.co_varnames
        if _HOLDS_NORM[id(code)][1]:
            variables = frame.f_locals
            if variables.get("self") is trainer and "grad_norm" in variables:
                return variables["grad_norm"]
        frame = frame.f_back
    return None


def _callers() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(Name, variables) of the functions that this was called from, the innermost first."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        yield frame.f_code.co_name, frame.f_locals
        frame = frame.f_back


def log_and_evaluate(trainer: Trainer, grad_norm: float | None, learning_rate: float | None) -> None:
    """What the trainer does behind an optimizer step, as its control says."""
    loss, epoch = running_loss(trainer), int(trainer.state.epoch or 0)
    behind_a_step: Callable[..., None] = trainer._maybe_log_save_evaluate
    behind_a_step(loss, grad_norm, trainer.model, None, epoch, None, time.time(), learning_rate=learning_rate)


def micro_batch_size(trainer: Trainer) -> int:
    """Rows per micro batch and process, after `auto_find_batch_size` and `split_batches`."""
    args = trainer.args  # transformers 4 puts the checkpoint's size into `_train_batch_size`, whatever they say
    size: int = trainer._train_batch_size if args.auto_find_batch_size else args.train_batch_size
    if trainer.accelerator.split_batches:
        size //= trainer.accelerator.num_processes
    return size


def loader_view(trainer: Trainer, dataset: Dataset) -> tuple[Any, Any]:
    """(dataset, collator) as `get_train_dataloader` would use them, unused columns removed."""
    import datasets

    if isinstance(dataset, datasets.Dataset):
        return trainer._remove_unused_columns(dataset, description="training"), trainer.data_collator
    return dataset, trainer._get_collator_with_removed_columns(trainer.data_collator, description="training")


def unused_columns(trainer: Trainer, names: Collection[str]) -> set[str]:
    """Those of some columns that the trainer takes out of every row, because the model has no argument of that name."""
    if not trainer.args.remove_unused_columns:
        return set()
    trainer._set_signature_columns_if_needed()
    return set(names) - set(trainer._signature_columns or ())


def prepare_like_training(trainer: Trainer, dataset: Dataset, name: str) -> Any:
    """Another dataset through the same preparation as the training set (formatting, templates, truncation, masks).

    A plain Trainer prepares nothing, nor does one that was told to skip it: rows must have `input_ids` already.
    """
    skipped = (getattr(trainer.args, "dataset_kwargs", None) or {}).get("skip_prepare_dataset", False)
    if skipped or not hasattr(trainer, "_prepare_dataset"):
        return dataset
    formatting = getattr(trainer, "_formatting_func", None)  # trl 1.0 forgets it
    return trainer._prepare_dataset(dataset, trainer.processing_class, trainer.args, False, formatting, name)


def counts_tokens_of_the_step(trainer: Trainer) -> bool:
    """Whether losses are normalised by the answer tokens of the whole optimizer step, not per micro batch or process.

    What the trainer says; `StepLoss` looks whether it is so.
    """
    return what_the_loss_is(trainer) is None


def what_the_loss_is(trainer: Trainer) -> str | None:
    """What the loss is a mean over, or may be, where it is not one over the tokens of the step; None where it is.

    A loss of the user's own counts as a mean per micro batch unless the trainer's `loss_is_scaled_for_ga` says that it
    is none: what a function does with `num_items_in_batch` cannot be seen from outside.
    """
    own = _own_loss(trainer)
    if own:
        if getattr(trainer, "loss_is_scaled_for_ga", None) is not True:
            return f"{own} is not the library's, and may be a mean per micro batch ({_SCALED} says that it is none)"
    elif (smoother := getattr(trainer, "label_smoother", None)) is not None and (
        "num_items_in_batch" not in inspect.signature(smoother).parameters
    ):
        return "label smoothing is a mean per micro batch in this version of transformers"
    elif not (trainer.model_accepts_loss_kwargs or trainer.compute_loss_func):
        return "this model's loss is a mean per micro batch"
    if trainer.args.world_size > 1 and not trainer.args.average_tokens_across_devices:
        return "the loss is a mean per process (average_tokens_across_devices is off)"
    return None


_SCALED = "loss_is_scaled_for_ga = True in the trainer's class"
_LIBRARY = ("transformers.trainer", "trl.trainer.sft_trainer")  # their losses are known
_LOSS_METHODS = ("compute_loss", "training_step", "get_batch_samples", "_get_num_items_in_batch")


def _own_loss(trainer: Trainer) -> str | None:
    """What of the way to the loss is not the library's: a method of a class of the user's, or set on the trainer."""
    for name in _LOSS_METHODS:
        if (owner := owner_of(trainer, name, _LIBRARY)) is not None:
            return f"{owner}.{name}"
    given = trainer.compute_loss_func
    if given is not None and not str(getattr(given, "__module__", "")).startswith(("transformers.", "trl.")):
        return "`compute_loss_func`"
    return None


def is_taken_at_its_word(trainer: Trainer) -> bool:
    """Whether the loss is said to count the tokens of the step, and is not the library's, so that nobody knows."""
    model: Any = trainer.model
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    foreign = not type(model).__module__.startswith("transformers.")
    return counts_tokens_of_the_step(trainer) and (_own_loss(trainer) is not None or foreign)


def why_rows_stay_as_drawn(trainer: Trainer) -> str | None:
    """Why cutting a step by length would change what is trained; None where it does not."""
    routed = adds_router_loss(trainer)
    return what_the_loss_is(trainer) or ("the router's auxiliary loss is a mean per micro batch" if routed else None)


def adds_router_loss(trainer: Trainer) -> bool:
    """Whether a mixture of experts' auxiliary loss is part of what is trained."""
    config = getattr(getattr(trainer, "model", None), "config", None)
    return bool(getattr(trainer, "aux_loss_enabled", getattr(config, "output_router_logits", False)))


ITSELF = "trainer"  # a method that was set on the object


def owner_of(trainer: Trainer, name: str, libraries: tuple[str, ...]) -> str | None:
    """Who wrote the method that a trainer has of this name, a class's name or `ITSELF`.

    None for one of the libraries' own, and where there is none. Where its code was written counts: a decorator may give
    it another name.

    Args:
        trainer: of any class.
        name: of the method.
        libraries: modules whose methods are known, packages with all that is in them.
    """
    if name in vars(trainer):
        return ITSELF
    method = inspect.getattr_static(type(trainer), name, None)
    module = str(getattr(method, "__globals__", {}).get("__name__", ""))
    if method is None or any(f"{module}.".startswith(f"{library}.") for library in libraries):
        return None
    return next(kind.__name__ for kind in type(trainer).__mro__ if name in vars(kind))


def has_own_training_step(trainer: Trainer) -> bool:
    """Whether the user's own `training_step` decides what is done with a batch."""
    return owner_of(trainer, "training_step", _LIBRARY) is not None


def trains_the_librarys_loss(trainer: Trainer) -> bool:
    """Whether the gradient is that of the mean loss over the step's answer tokens, and nothing else by the settings."""
    other = trainer.compute_loss_func is not None or trainer.label_smoother is not None
    own = _own_loss(trainer) is not None
    return not (own or other or trainer.is_deepspeed_enabled) and counts_tokens_of_the_step(trainer)


def has_the_librarys_loss(model: torch.nn.Module) -> bool:
    """Whether the loss that a model gives is transformers' mean over its answer tokens."""
    base: Any = model
    base = base.get_base_model() if hasattr(base, "get_base_model") else base
    return type(base).__module__.startswith("transformers.") and "_loss_function" not in vars(base)


def why_no_row_losses(trainer: Trainer) -> str:
    """Why the forwards of a training show no losses of single rows."""
    if trainer.label_smoother is not None:
        return "label smoothing (label_smoothing_factor) takes the labels away before the model is asked"
    if trainer.compute_loss_func is not None:
        return "compute_loss_func takes the labels away before the model is asked"
    if getattr(trainer.args, "use_liger_kernel", False):
        return "the loss kernel (use_liger_kernel) makes no logits"
    if (owner := owner_of(trainer, "compute_loss", _LIBRARY)) is not None:
        return f"{owner}.compute_loss asks the model without labels, or for no logits"
    return f"the outputs of {type(trainer.model).__name__} have no logits"


def loss_scale(trainer: Trainer) -> Any:
    """What losses are multiplied by before their gradient (fp16), a tensor on the device; 1 without a scaler."""
    scaler = trainer.accelerator.scaler
    scale = getattr(scaler, "_scale", None) if scaler is not None and scaler.is_enabled() else None
    return 1.0 if scale is None else scale


def stepped_optimizer(trainer: Trainer) -> Any:
    """The optimizer whose steps can be counted; None where an engine, or a backward pass, steps in its own way."""
    import torch

    optimizer = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    counted = isinstance(optimizer, torch.optim.Optimizer) and getattr(type(optimizer).step, "hooked", False)
    in_backward = str(trainer.args.optim).lower().endswith("lomo")
    return optimizer if counted and not in_backward and not trainer.is_deepspeed_enabled else None


def trains_another_task(trainer: Trainer) -> type | None:
    """The class of trl, of those that a trainer's is made of, whose loss or answers are those of another task."""
    known = (*_LIBRARY, "trl.trainer.base_trainer")
    methods = {*_LOSS_METHODS, "_prepare_inputs", "train"}
    for kind in type(trainer).__mro__:
        if kind.__module__.startswith("trl.") and kind.__module__ not in known and methods & vars(kind).keys():
            return kind
    return None


def model_of(trainer: Trainer) -> torch.nn.Module:
    """The model of a trainer, which has none only when it is let go."""
    assert trainer.model is not None, "a trainer that trains has a model"
    return trainer.model


def attention_of(trainer: Trainer) -> str | None:
    """What transformers calls the attention that a trainer's model computes with."""
    config: Any = model_of(trainer).config
    name: str | None = config.get_text_config()._attn_implementation
    return name


def carries_a_state(model: Any) -> bool:
    """Whether a model has layers that hand a state on from token to token."""
    return bool(getattr(model, "_is_stateful", False))


def subject(trainer: Trainer) -> Subject:
    """The trainer's model as measurements see it."""
    from transformers import Trainer as AnyTrainer

    wrapped = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    plain = functools.partial(AnyTrainer._prepare_inputs, trainer)  # where others only place a batch, these generate
    return Subject(
        model=model_of(trainer),
        forward=trainer.model_wrapped if wrapped else model_of(trainer),
        device=trainer.args.device,
        place=plain if answers_prompts(trainer) else trainer._prepare_inputs,
        sharded=trainer.is_fsdp_enabled or any(hasattr(p, "ds_id") for p in model_of(trainer).parameters()),  # ZeRO 3
    )


def answers_prompts(trainer: Trainer) -> bool:
    """Whether a trainer's own model answers the rows, as trl's trainers that are driven by reward let it."""
    return hasattr(trainer, "_generate_and_score_completions")


def learns_prompts(model: torch.nn.Module) -> bool:
    """Whether peft puts places of its own before each row: prompt, prefix and p-tuning."""
    return bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))


@contextmanager
def without_idle_adapters(subject: Subject) -> Iterator[None]:
    """LoRA that adds exactly nothing is not asked inside: all of it, before its first step, has a B of zeros.

    Losses are the same to the last digit, and a forward does a sixth less. Only where every layer's own kind says that
    nothing else is done: what is merged, sharded, or more than B·A·x is left alone.
    """
    layers = [] if subject.sharded else _idle_layers(subject.model)
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def _idle_layers(model: torch.nn.Module) -> list[Any]:
    """The LoRA layers of a model, if none of them adds anything."""
    if not hasattr(model, "peft_config"):
        return []
    from peft.tuners.lora.layer import Linear
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: list[Any] = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    known = all(type(one) is Linear and not (one.merged or one.disable_adapters or one.lora_variant) for one in layers)
    idle = known and not any(
        bool(weight.any())
        for one in layers
        for name in one.active_adapters
        if name in one.lora_B
        for weight in one.lora_B[name].parameters()
    )
    return layers if idle else []


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


def unwrapped(trainer: Trainer) -> Any:
    """The model that generates and is asked for logits, its adapter on, without the wrapping of DDP."""
    return trainer.accelerator.unwrap_model(trainer.model)


def parameter_counts(model: torch.nn.Module) -> tuple[int, int]:
    """(All parameters of a model, those that are trained), wherever they are sharded to."""
    sizes = [(int(getattr(p, "ds_numel", p.numel())), p.requires_grad) for p in model.parameters()]  # ZeRO 3: 0 here
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def refuse_kind_of_launch(trainer: Trainer) -> None:
    """FSDP1 keeps flat pieces of weights, which cannot be read; Megatron's processes share rows; TPUs are unchecked.

    Raises:
        TrainerError: the trainer's processes are of one of these kinds.
    """
    if trainer.is_fsdp_enabled and not trainer.accelerator.is_fsdp2:
        raise TrainerError(
            "FSDP must be version 2 with a curriculum, got version 1: its flat shards cannot be measured. "
            "Write fsdp_version: 2 in the accelerate config (under fsdp_config)."
        )
    kind = str(trainer.accelerator.distributed_type.value)
    why = {"MEGATRON_LM": "its processes share rows", "XLA": "no run on TPUs has been checked"}.get(kind)
    if why is not None:
        raise TrainerError(
            f"`distributed_type` must be MULTI_GPU, FSDP or DEEPSPEED with a curriculum, got {kind}: {why}. "
            "Take one of these."
        )


def precision(trainer: Trainer) -> str:
    """What the forward computes in besides the weights' own type: no, bf16, fp16, fp8."""
    return str(trainer.accelerator.mixed_precision)


def checkpoints_activations(trainer: Trainer) -> bool:
    """Whether the backward pass runs the forward again."""
    args = trainer.args
    return bool(getattr(args, "activation_checkpointing", False) or getattr(args, "gradient_checkpointing", False))


def counts_first_tokens() -> bool:
    """Whether this transformers counts a row's first token among the labels, though nothing predicts it.

    It then divides by too many wherever that token carries loss (huggingface/transformers#46204, in 5.11).
    """
    return tuple(int(part) for part in version("transformers").split(".")[:2]) < (5, 11)


def worker_settings(args: TrainingArguments) -> dict[str, Any]:
    """What the trainer's arguments say of data loading, for torch's DataLoader."""
    settings: dict[str, Any] = {
        "num_workers": args.dataloader_num_workers,
        "pin_memory": args.dataloader_pin_memory and args.device.type == "cuda",
    }
    if args.dataloader_num_workers > 0:
        settings["prefetch_factor"] = args.dataloader_prefetch_factor
        settings["multiprocessing_context"] = getattr(args, "dataloader_multiprocessing_context", None)
    return settings


def training_collator(collator: Collator, *, flat: bool) -> Collator:
    """The collator of training batches; `flat` is trl's own padding-free form of it.

    Raises:
        TrainerError: this collator has no such form.
    """
    if not flat:
        return collator
    if not can_flatten(collator):
        raise TrainerError(
            f"`batching: flat` must have trl's collator, which can flatten rows, got {type(collator).__name__}. "
            "Use SFTTrainer with its own collator, or batching: step."
        )
    return dataclasses.replace(collator, padding_free=True)  # type: ignore[type-var]  # a dataclass instance, see above


def can_flatten(collator: Collator) -> bool:
    """Whether a collator has a padding-free form, as trl's own has."""
    return dataclasses.is_dataclass(collator) and hasattr(collator, "padding_free")


def pads_to_multiple_of(collator: Collator) -> int:
    """Of which number the length of a batch is a multiple; that of all batches where a collator has one for all."""
    own: Any = inner_collator(collator)
    multiple: int = getattr(own, "pad_to_multiple_of", None) or 1
    length: int = (getattr(own, "padding", None) == "max_length" and getattr(own, "max_length", None)) or 1
    return -(-length // multiple) * multiple


def inner_collator(collator: Collator) -> Collator:
    """The user's own collator, without the wrapping in which a Trainer removes unused columns."""
    return getattr(collator, "data_collator", collator)


def reads_labels_from_columns(collator: Collator) -> bool:
    """Whether a collator is one of the libraries' own that takes labels as they stand in the columns."""
    inner = inner_collator(collator)
    kind = inner if hasattr(inner, "__qualname__") else type(inner)
    return (kind.__module__.split(".")[0], kind.__qualname__) in _PADDING_COLLATORS


def refuse_masked_batches(trainer: Trainer, *, last_rows: int, world: int) -> None:
    """A rank without a row takes part with a masked one; that needs losses counted per step.

    Args:
        trainer: whose loss it is.
        last_rows: that the ranks share in the last micro batch of an epoch.
        world: ranks.

    Raises:
        TrainerError: the loss is a mean per micro batch or process, and that of a masked one would be 0 / 0.
    """
    if last_rows < world and (loss := what_the_loss_is(trainer)) is not None:
        raise TrainerError(
            f"an epoch's last micro batch must have at least one row for each of its {world} processes, got "
            f"{last_rows}: {loss}. Set dataloader_drop_last=True, or choose a batch size that "
            "divides the training set."
        )


@contextmanager
def resumed_inside_an_epoch(trainer: Trainer, steps_done: Callable[[], int]) -> Iterator[None]:
    """Inside, a loop that goes on in the middle of an epoch knows how many micro batches of it are left.

    The trainer's loop takes an optimizer step after `accumulation` micro batches, or after the epoch's last one. With
    `ignore_data_skip` it counts a resumed epoch from 0, so where the epoch's last step has fewer micro batches it would
    wait for more, and that step would be lost. Versions without `_run_epoch` ask the loader at the start of each epoch
    (`CurriculumLoader.counts_down`).

    Args:
        trainer: whose loop it is.
        steps_done: optimizer steps of the present epoch that are finished, asked when the loop begins it.
    """
    run_epoch, own = getattr(trainer, "_run_epoch", None), vars(trainer).get("_run_epoch")
    if run_epoch is None:
        yield
        return

    @functools.wraps(run_epoch)
    def run_rest_of_epoch(**loop: Any) -> None:
        if loop["resume_from_checkpoint"] is not None and loop["epoch"] == loop["epochs_trained"]:
            done = steps_done()
            loop["num_update_steps_per_epoch"] -= done
            loop["steps_in_epoch"] -= done * trainer.args.gradient_accumulation_steps
        run_epoch(**loop)

    vars(trainer)["_run_epoch"] = run_rest_of_epoch
    try:
        yield
    finally:
        del vars(trainer)["_run_epoch"]
        if own is not None:
            vars(trainer)["_run_epoch"] = own


def the_loop_asks(trainer: Trainer) -> bool:
    """Whether it is the trainer's own loop that called `get_train_dataloader`, from which this is called.

    Not a callback, a schedule or a loss inside of it: of the trainer's methods the innermost is the loop.
    """
    owners, wrapper = (trainer, trainer.callback_handler), getattr(trainer.get_train_dataloader, "__name__", "")
    for name, variables in _callers():
        if any(variables.get("self") is owner for owner in owners) and name not in (wrapper, "get_train_dataloader"):
            return name == "train" or name.endswith("_inner_training_loop")
    return False


def asks_the_loader_in_each_epoch(trainer: Trainer) -> bool:
    """Whether the trainer's loop asks for the loader's length when an epoch begins, not once before the first."""
    return not hasattr(trainer, "_run_epoch")


def seed_anew(seed: int, step: int, rank: int) -> None:
    """Random states for a resume on other ranks than those whose states were saved: by (seed, step, rank)."""
    from transformers import set_seed

    set_seed(int(hash_rows(np.zeros(1), seed, step, rank)[0] >> np.uint64(33)))


def saves(trainer: Trainer) -> bool:
    """Whether the trainer's own strategy writes checkpoints; a callback may ask for some all the same."""
    strategy = trainer.args.save_strategy
    return str(getattr(strategy, "value", strategy)) != "no"


def around_saves(trainer: Trainer, around: Callable[[Path], AbstractContextManager[None]]) -> Callable[..., Any]:
    """The trainer's way to write a checkpoint, inside of `around(its folder)`, whoever asks for one."""
    save = trainer._save_checkpoint

    @functools.wraps(save)
    def save_checkpoint(*args: Any, **kwargs: Any) -> Any:
        trial = args[1] if len(args) > 1 else kwargs.get("trial")  # of a search over settings
        with around(Path(trainer._get_output_dir(trial=trial)) / f"checkpoint-{trainer.state.global_step}"):
            return save(*args, **kwargs)

    return save_checkpoint


def delete_old_checkpoints(trainer: Trainer, folder: Path, best: str | None) -> None:
    """Delete what `save_total_limit` leaves no room for, as the trainer does after a save.

    Args:
        trainer: whose checkpoints they are.
        folder: that they are in.
        best: the one that is kept whatever its age.
    """
    from transformers import trainer_utils

    if hasattr(trainer_utils, "rotate_checkpoints"):
        trainer_utils.rotate_checkpoints(
            output_dir=str(folder),
            save_total_limit=trainer.args.save_total_limit,
            best_model_checkpoint=best,
            use_mtime=True,
        )
    else:  # transformers 4
        older: Any = trainer
        older._rotate_checkpoints(use_mtime=True, output_dir=str(folder))


def random_states_if(trainer: Trainer, ours: Callable[[], bool]) -> Callable[[Any], None]:
    """The trainer's way to load a checkpoint's random states, where they are `ours()`; else it loads none."""
    load = trainer._load_rng_state

    @functools.wraps(load)
    def load_rng_state(checkpoint: str | None) -> None:
        if ours():
            load(checkpoint)

    return load_rng_state
