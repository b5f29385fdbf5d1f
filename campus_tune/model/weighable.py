"""Trainers whose loss cannot be weighted: no gradient of single tokens is there, or it is that of another loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from campus_tune.model.compat import learns_prompts, model_of, what_the_loss_is
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


def why_not_weighted(trainer: Trainer, what: str = "weights") -> str | None:
    """The first reason, up to what else one may do; None where the gradient of each token's loss can be seen.

    Args:
        trainer: that is trained.
        what: of the recipe asks for that.
    """
    args = trainer.args
    if trainer.label_smoother is not None or args.label_smoothing_factor:
        return (
            f"`label_smoothing_factor` must be 0 with {what}, got {args.label_smoothing_factor}: it takes the labels "
            "away before the model is asked, and each token's loss is of all tokens. Set it to 0"
        )
    if (given := trainer.compute_loss_func) is not None:
        return (
            f"`compute_loss_func` must be None with {what}, got {getattr(given, '__name__', type(given).__name__)}: "
            "it takes the labels away before the model is asked. Write it as compute_loss of a trainer class of your "
            "own that hands labels to the model, with loss_is_scaled_for_ga = True (of trl's loss_type dft: take "
            "trl >= 1.15)"
        )
    if args.torch_compile:
        return f"`torch_compile` must be False with {what}, got True: no compiled model was checked. Set it to False"
    if learns_prompts(model_of(trainer)):
        return (
            f"the adapter must not be one of prompt learning with {what}, got one: it adds places to each row that are "
            "no tokens. Train a LoRA"
        )
    kernels: Mapping[str, object] = getattr(args, "liger_kernel_config", None) or {}
    if getattr(args, "use_liger_kernel", False) and kernels.get(_KERNEL, True) is not False:
        return (
            f"`use_liger_kernel` must leave logits with {what}, got its fused loss, which has none. Set "
            f"liger_kernel_config to {{{_KERNEL}: false}}"
        )
    if (loss := what_the_loss_is(trainer)) is not None:
        return (
            f"the loss must be counted over the answer tokens of the whole step with {what}, got another: {loss}. "
            "Take SFTTrainer of trl >= 1.15 with its own loss and average_tokens_across_devices=True"
        )
    return None
