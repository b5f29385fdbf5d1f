"""How many optimizer steps had their gradient clipped: what weights of very unequal rows do to a run, seen from afar.

A step's gradient is Σ w·T·∇ℓ / Σ w·T, and a few rows of a large weight make it long: then `max_grad_norm` shortens it,
and the weights with it. The norm is the trainer's own, on the device; what is above the bound is added up there, and
read when a stage ends or a checkpoint is written, so nothing waits for it within a step.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import Trainer


class ClippedSteps:
    """Counts the steps of a stage, and those whose gradient was clipped.

    Args:
        most: the norm above which a gradient is clipped.
    """

    def __init__(self, most: float) -> None:
        self.most = most
        self._clipped: Any = 0  # a number, or one on the device
        self._steps = 0

    @staticmethod
    def of(trainer: Trainer) -> ClippedSteps | None:
        """That of a trainer; None where it clips nothing, or DeepSpeed does, inside of its engine."""
        most = trainer.args.max_grad_norm
        return ClippedSteps(float(most)) if most and not trainer.is_deepspeed_enabled else None

    def add(self, norm: Any) -> None:
        """One more step.

        A norm that is no number, or has none, is no clipping: a gradient scaler skips such a step, or the run stops.

        Args:
            norm: of its gradient before it was clipped, a number or a tensor; None where it is not known.
        """
        if norm is None:
            return
        self._steps += 1
        if isinstance(norm, torch.Tensor):
            norm = (norm.full_tensor() if hasattr(norm, "full_tensor") else norm).detach()  # of shards: FSDP 2
            norm = float(norm) if norm.device.type == "cpu" else norm
        self._clipped = self._clipped + (norm > self.most) * (norm < math.inf)

    def take(self) -> list[int] | None:
        """Steps that were clipped and all of them since the last call; None where none is known. Waits for them."""
        now = self.state()
        self.load({"clipped": 0, "steps": 0})
        return [now["clipped"], now["steps"]] if now["steps"] else None

    def state(self) -> Json:
        """What was counted since `take`, as JSON; waits for the device."""
        return {"clipped": int(self._clipped), "steps": self._steps}

    def load(self, state: Json) -> None:
        """Continue from `state()`."""
        self._clipped, self._steps = state["clipped"], state["steps"]
