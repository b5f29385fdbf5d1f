"""Gradients and weights that are no numbers any more: the run stops before any of them reaches a checkpoint.

The norm of each optimizer step's gradients is the trainer's own, on the device (where it makes none, they are added up
there), and is read on the host one step later, so nothing waits for it. Where it is not finite, the weights decide: a
gradient scaler skips such a step, and that is no fault. It does not always tell (accelerate knows nothing of the steps
that a fused optimizer skips under fp16, torch 2.13), and an optimizer or a callback may skip steps of its own. Weights
are looked at before every save and at the end, whatever the gradients were.

Under DeepSpeed gradients are inside of its engine: there only the weights are looked at.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.run.stream.loader import CurriculumLoader
from campus_tune.run.stream.on_its_way import OnItsWay
from campus_tune.words.errors import DivergedError
from campus_tune.words.types import RowArray

if TYPE_CHECKING:
    from transformers import Trainer

SKIPS = 20  # in a row: a scaler that begins too high finds its scale in about a dozen
MANY_SKIPPED = (
    f"the last {SKIPS} optimizer steps were skipped, because their gradients were not finite: the rows of these steps "
    "were not trained. Write bf16: true instead of fp16, lower the learning rate, or look for a loss that divides by 0."
)


@dataclass(frozen=True)
class Update:
    """One optimizer step, for the message of its failure.

    Args:
        step: its number, from 1.
        rows: that it trained.
        learning_rate: of it.
        norm: of its gradients, a number or a tensor on the device; None where the trainer has made none.
    """

    step: int
    rows: RowArray
    learning_rate: float
    norm: Any = None


class Finite:
    """What becomes of one model's gradients and weights on this rank.

    Args:
        model: whose trainable parameters are looked at, wherever they are sharded to.
        peers: ranks: one whose part of the weights is bad stops all of them.
        cause: what made an update go wrong, and what to do, in words.
        optimizer: gives what trains them; None where nobody knows.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        peers: Peers,
        cause: Callable[[Update], str],
        optimizer: Callable[[], torch.optim.Optimizer | None] = lambda: None,
    ) -> None:
        self.peers, self._cause, self._optimizer = peers, cause, optimizer
        self._parameters: list[torch.nn.Parameter] = []  # that are trained, or were for a time
        self._frozen = [p for p in model.parameters() if p.is_floating_point()]  # until now
        self._waiting: tuple[Update, OnItsWay] | None = None
        self.last: Update | None = None
        self.skipped = 0  # updates in a row that were left out
        self._said = False  # that they are many
        self.seconds = 0.0  # of looking at weights

    def before_update(self, update: Update) -> None:
        """The gradients of an update are there; those of the one before are read now.

        Raises:
            DivergedError: the update before has made weights that are not finite.
        """
        if self._waiting is not None:
            before, late = self._waiting
            self._waiting = None
            if math.isfinite(late.arrays()[0]):
                self.skipped = 0
            elif self.has_finite_weights():
                self.skipped += 1  # by something that tells nobody
            else:
                self.last = before
                raise self._error("gradients of")
        self.last = update
        norm = update.norm
        if norm is None:
            gradients = [_local(p.grad) for p in self._trained() if p.grad is not None]
            norm = _size(gradients) if gradients else None
        elif isinstance(norm, torch.Tensor):
            norm = _local(norm)
            norm = float(norm) if norm.device.type == "cpu" else norm
        self._waiting = None if norm is None else (update, OnItsWay(norm))

    def after_update(self, *, skipped: bool) -> bool:
        """The update was made, or left out by the gradient scaler: then its gradients have touched no weight.

        Returns:
            Whether so many in a row were skipped that it must be said; True once.
        """
        if skipped:
            self._waiting = None
            self.skipped += 1
        elif self._waiting is None:
            self.skipped = 0
        many, self._said = self.skipped >= SKIPS and not self._said, self.skipped >= SKIPS
        return many

    def settle(self) -> None:
        """Before a save and at the end: nothing is left to read, and all weights are finite. Every rank calls it.

        Raises:
            DivergedError: they are not, on this rank or another one.
        """
        self._waiting = None  # what a bad gradient has done is in the weights
        if any(self.peers.gather(not self.has_finite_weights())):
            raise self._error("weights after")

    def refuse_weights(self) -> None:
        """The same on this rank alone.

        Raises:
            DivergedError: they are not finite.
        """
        if not self.has_finite_weights():
            raise self._error("weights after")

    def has_finite_weights(self) -> bool:
        """Whether every trained weight of this rank is a number; waits for the device."""
        began = time.perf_counter()
        parts = [_local(p) for p in self._trained()]
        finite = math.isfinite(_size(parts)) or all(bool(part.isfinite().all()) for part in parts)
        self.seconds += time.perf_counter() - began
        return finite

    def _trained(self) -> list[torch.nn.Parameter]:
        """A callback may thaw layers as training goes on, and freeze them again: the optimizer has them still."""
        optimizer = self._optimizer()
        groups: Any = () if optimizer is None else optimizer.param_groups
        trained = {id(p) for group in groups for p in group["params"]}
        thawed = [p.requires_grad or id(p) in trained for p in self._frozen]
        if any(thawed):
            self._parameters += [p for p, now in zip(self._frozen, thawed, strict=True) if now]
            self._frozen = [p for p, now in zip(self._frozen, thawed, strict=True) if not now]
        return self._parameters

    def _error(self, what: str) -> DivergedError:
        update = self.last
        if update is None:
            return DivergedError(
                "the weights must be finite before training, got NaN or inf. Load the model again: its file is damaged."
            )
        return DivergedError(f"the {what} step {update.step} must be finite, got NaN or inf. {self._cause(update)}")


def _size(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """A number that is finite if every one in them is, unless they are too large to be added up.

    One pass over memory: on a CPU a sum takes an eighth of the time of the largest absolute value, on a GPU the norm of
    many tensors is a few kernels.
    """
    if not parts:
        return torch.tensor(0.0)
    if all(part.device.type == "cpu" for part in parts):
        return torch.stack([part.sum(dtype=torch.float32) for part in parts]).sum()
    return torch.nn.utils.get_total_norm(parts)


def cause_in(trainer: Trainer, loader: CurriculumLoader) -> Callable[[Update], str]:
    """What says the likely cause of a failure in this trainer; its rows are read again, only then."""

    def cause(update: Update) -> str:
        unlabelled = not all(loader.labels_in(loader.micro_batches(update.rows)))
        half = "The forward computes in" if compat.precision(trainer) == "fp16" else None
        if any(p.requires_grad and p.dtype == torch.float16 for p in compat.model_of(trainer).parameters()):
            half = "The trained weights are in"
        mean = compat.what_the_loss_is(trainer) is not None
        return likely_cause(learning_rate=update.learning_rate, empty_mean=unlabelled and mean, half=half)

    return cause


def likely_cause(*, learning_rate: float, empty_mean: bool = False, half: str | None = None) -> str:
    """Why gradients or weights are no numbers any more, and what to do.

    Args:
        learning_rate: of the step.
        empty_mean: the loss is a mean over each micro batch, and one of the step has no token that carries loss.
        half: what is computed or kept in float16, where anything is.
    """
    if empty_mean:
        return (
            "One of its micro batches has no token that carries loss, and the mean over none is 0 / 0. Let the loss be "
            "0 where it counts no token (divide by at least 1), or mend the collator that masks all labels."
        )
    if half is not None:
        return (
            f"{half} float16, whose numbers end at 65504. Write bf16: true instead of fp16, or keep the weights in "
            f"float32 (dtype); or lower the learning rate (it was {learning_rate:.3g})."
        )
    return (
        f"The model has diverged: lower the learning rate (it was {learning_rate:.3g}), let max_grad_norm clip "
        "gradients, or look whether a loss of your own divides by 0; then resume from the last checkpoint."
    )


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's part of a tensor that FSDP or ZeRO 3 has sharded; others are whole."""
    part = getattr(tensor, "ds_tensor", tensor).detach()
    return part.to_local() if hasattr(part, "to_local") else part
