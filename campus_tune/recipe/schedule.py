"""A learning-rate schedule of transformers' on a weight of its own, with no model about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


def make_schedule(
    kind: str, rate: float, *, warmup_steps: int, total_steps: int, options: Mapping[str, Any]
) -> tuple[Optimizer, LRScheduler]:
    """An optimizer that holds the rate, and the schedule that moves it.

    Args:
        kind: `lr_scheduler_type`.
        rate: the highest.
        warmup_steps: of the optimizer.
        total_steps: of the optimizer.
        options: `lr_scheduler_kwargs`.

    Raises:
        Exception: whatever the schedule has to say to its options.
    """
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    scheduler = get_scheduler(
        kind,
        optimizer,
        num_warmup_steps=warmup_steps,
        num_training_steps=total_steps,
        scheduler_specific_kwargs=dict(options),
    )
    return optimizer, scheduler
