"""Trainers whose loss cannot be weighted: no gradient of single tokens is there, or it is that of another loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from campus_tune.model.compat import what_the_loss_is
from campus_tune.words.errors import TrainerError

if TYPE_CHECKING:
    from transformers import Trainer

_KERNEL = "fused_linear_cross_entropy"  # of liger's: the loss without logits; its others change nothing here


def refuse_weights(trainer: Trainer) -> None:
    """Refuse a trainer under which a recipe's `weights` could not be multiplied.

    Raises:
        TrainerError: the first reason, and what to do.
    """
    why = why_not_weighted(trainer)
    if why is not None:
        raise TrainerError(f"{why}, or take `weights` (and `by: weights` of `domains`) out of the recipe.")


def why_not_weighted(trainer: Trainer) -> str | None:
    """The first reason, up to what else one may do; None where weights can be multiplied."""
    args = trainer.args
    if trainer.label_smoother is not None or args.label_smoothing_factor:
        return (
            f"`label_smoothing_factor` must be 0 with weights, got {args.label_smoothing_factor}: it takes the labels "
            "away before the model is asked, and each token's loss is of all tokens. Set it to 0"
        )
    if (given := trainer.compute_loss_func) is not None:
        return (
            f"`compute_loss_func` must be None with weights, got {getattr(given, '__name__', type(given).__name__)}: "
            "it takes the labels away before the model is asked. Write it as compute_loss of a trainer class of your "
            "own that hands labels to the model, with loss_is_scaled_for_ga = True (of trl's loss_type dft: take "
            "trl >= 1.15)"
        )
    if args.torch_compile:
        return "`torch_compile` must be False with weights, got True: no compiled model was checked. Set it to False"
    if getattr(getattr(trainer.model, "active_peft_config", None), "is_prompt_learning", False):
        return (
            "the adapter must not be one of prompt learning with weights, got one: it adds places to each row that are "
            "no tokens. Train a LoRA"
        )
    kernels: Mapping[str, object] = getattr(args, "liger_kernel_config", None) or {}
    if getattr(args, "use_liger_kernel", False) and kernels.get(_KERNEL, True) is not False:
        return (
            "`use_liger_kernel` must leave logits with weights, got its fused loss, which has none. Set "
            f"liger_kernel_config to {{{_KERNEL}: false}}"
        )
    if (loss := what_the_loss_is(trainer)) is not None:
        return (
            f"the loss must be counted over the answer tokens of the whole step with weights, got another: {loss}. "
            "Take SFTTrainer of trl >= 1.15 with its own loss and average_tokens_across_devices=True"
        )
    return None
