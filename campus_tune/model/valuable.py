"""Trainers whose rows can be valued in training: a LoRA whose every weight is that of a linear layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from campus_tune.model import compat
from campus_tune.model.weighable import why_not_weighted
from campus_tune.words.errors import TrainerError

if TYPE_CHECKING:
    from transformers import Trainer

_KINDS = {  # part of a weight's name → whose it is, and what to do
    "lora_magnitude_vector": ("the magnitudes of DoRA, which are no linear layer's", "Write use_dora: false"),
    "lora_embedding": (
        "an adapter on an embedding, which is no linear layer",
        "Take the embeddings (embed_tokens) out of the adapter's target_modules",
    ),
    "trainable_tokens": ("rows of an embedding (trainable_token_indices)", "Train none of them"),
    "modules_to_save": ("a layer that is trained whole (modules_to_save)", "Train none of them"),
    ".bias": ("a bias", 'Write bias: "none" and lora_bias: false in the adapter\'s configuration'),
}
_OUT = "or take `value` out of the recipe."


def lora_layers(model: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """Name of each trained weight of a LoRA → the linear layer that it is the weight of."""
    found: dict[str, torch.nn.Linear] = {}
    for name, module in model.named_modules():
        for part in ("lora_A", "lora_B"):
            layers = getattr(module, part, None)
            for adapter, layer in layers.items() if isinstance(layers, torch.nn.ModuleDict) else ():
                if type(layer) is torch.nn.Linear and layer.weight.requires_grad:
                    found[f"{name}.{part}.{adapter}.weight"] = layer
    return found


def refuse_value(trainer: Trainer, *, adam: bool = False) -> None:
    """Refuse a trainer whose rows cannot be valued in training.

    Args:
        trainer: with its model.
        adam: the gradient is to be divided by Adam's second moments.

    Raises:
        TrainerError: the first reason, and what to do.
    """
    model: Any = compat.model_of(trainer)
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise TrainerError(
            f"`value` must have whole weights and gradients in each process, got "
            f"{'FSDP' if trainer.is_fsdp_enabled else 'DeepSpeed'}. Train in one process or under DDP, {_OUT}"
        )
    if not hasattr(model, "peft_config"):
        raise TrainerError(
            "`value` must have a LoRA, got full fine-tuning: a row's gradient in all weights would be as large as the "
            f"model. Train one (use_peft: true in the YAML, peft_config=LoraConfig(…) in Python), {_OUT}"
        )
    why = why_not_weighted(trainer, "value")
    if why is not None:
        raise TrainerError(f"{why}, {_OUT}")
    own = compat.trains_the_librarys_loss(trainer)
    if not own or getattr(trainer.args, "loss_type", None) == "dft" or compat.adds_router_loss(trainer):
        got, do = "that of a router beside it (output_router_logits)", "Set output_router_logits of the model to False"
        if not own:
            got, do = "another: a compute_loss of your own", "Take SFTTrainer with its own nll"
        if getattr(trainer.args, "loss_type", None) == "dft":
            got, do = "loss_type: dft", "Write loss_type: nll"
        raise TrainerError(
            "the loss must be the library's mean over the answer tokens and nothing else with `value`, got "
            f"{got}. {do}, {_OUT}"
        )
    layers = lora_layers(model)
    others = [name for name, one in model.named_parameters() if one.requires_grad and name not in layers]
    if others or not layers:
        name = others[0] if others else "no trained weight"
        kind = next((kind for part, kind in _KINDS.items() if part in name), None)
        kinds = sorted({str(getattr(one.peft_type, "value", one.peft_type)) for one in model.peft_config.values()})
        is_what, do = kind or (f"no linear layer of a LoRA (the adapter is {', '.join(kinds)})", "Train a plain LoRA")
        more = f" ({len(others)} such weights)" if len(others) > 1 else ""
        raise TrainerError(
            f"`value` must have a LoRA of linear layers alone, got {name}, {is_what}{more}. {do}, {_OUT}"
        )
    optim = str(getattr(trainer.args.optim, "value", trainer.args.optim))
    if adam and optim not in ("adamw_torch", "adamw_torch_fused"):
        raise TrainerError(
            f"`value: adam` must have an AdamW of torch, whose second moments can be read, got optim: "
            f"{optim}. Write optim: adamw_torch, or value: true."
        )
