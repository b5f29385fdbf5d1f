"""A loss that is said to count the tokens of its whole optimizer step: whether it does, seen on the first steps.

What the library computes is known. What a user's own loss does (`loss_is_scaled_for_ga = True`), or that of a model
from elsewhere whose forward takes any keyword, is taken at its word, and looked at: where micro batch k has t_k answer
tokens of Σ nll_k, a loss that counts the step's is c · Σ nll_k, and a mean over the micro batch c · Σ nll_k / t_k.
Rows that are cut by length make the t_k differ, so a few micro batches tell the two apart. A loss that is neither (a
focal one, say) stays taken at its word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.model.row_sums import batch_sums
from campus_tune.run.stream.loader import CurriculumLoader
from campus_tune.words.errors import TrainerError

if TYPE_CHECKING:
    from transformers import Trainer

STEPS = 8  # after which a loss that shows nothing is left alone
POINTS = 4  # micro batches: of two, another loss may look like a mean by chance
APART = 0.2  # in log tokens: micro batches that are nearly of one size tell nothing
CLOSE = 0.02  # in log loss: what rounding may do under bf16


def counts_tokens(steps: Sequence[NDArray[np.float64]]) -> bool | None:
    """Whether losses are in proportion to sums over tokens (True), to means over the micro batch (False), or neither.

    Args:
        steps: of each step its micro batches' (loss, sum of token losses, tokens), shape (k, 3), on all ranks.
    """
    logs = [np.log(step[np.all((step > 0) & np.isfinite(step), axis=1)]) for step in steps]
    centred = np.concatenate([step - step.mean(0) for step in logs if len(step)] or [np.zeros((0, 3))])
    loss, nll, tokens = centred.T
    if len(loss) < POINTS or np.ptp(tokens) < APART:
        return None
    if np.abs(loss - nll).max() < CLOSE:
        return True
    return False if np.abs(loss - nll + tokens).max() < CLOSE else None


class StepLoss:
    """Looks at a trainer's losses until they have shown what they are; then nothing of it is left on the trainer.

    Args:
        trainer: whose `training_step` is wrapped meanwhile.
        peers: ranks.
    """

    def __init__(self, trainer: Trainer, peers: Peers) -> None:
        self.trainer, self.peers = trainer, peers
        self.closed = False
        self._own = vars(trainer).get("training_step")
        self._labels: torch.Tensor | None = None
        self._forwards: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._step: list[torch.Tensor] = []
        self._steps: list[NDArray[np.float64]] = []
        train = trainer.training_step

        def training_step(
            model: torch.nn.Module, inputs: dict[str, torch.Tensor], *args: object, **kwargs: object
        ) -> torch.Tensor:
            self._labels = inputs.get("labels")
            loss = train(model, inputs, *args, **kwargs)  # type: ignore[arg-type]  # as the trainer's version has them
            if len(self._forwards) == 1:
                self._step.append(torch.stack([loss.detach().double().cpu(), *self._forwards[0]]))
            self._forwards.clear()
            return loss

        vars(trainer)["training_step"] = training_step
        self._handle = compat.model_of(trainer).register_forward_hook(self._after, with_kwargs=True)

    @staticmethod
    def of(trainer: Trainer, loader: CurriculumLoader) -> StepLoss | None:
        """For a trainer whose loss is taken at its word; None where it is known, or where nothing hangs on it."""
        hangs = loader.cut != "drawn" and (loader.accumulation > 1 or loader.peers.world > 1)
        return StepLoss(trainer, loader.peers) if hangs and compat.is_taken_at_its_word(trainer) else None

    def end_step(self) -> None:
        """A step was trained; once its losses have shown what they are, all is as it was. Every rank calls it.

        Raises:
            TrainerError: the loss is a mean over each micro batch.
        """
        if self.closed:
            return
        rows = torch.stack(self._step).numpy() if self._step else np.zeros((0, 3))
        self._step = []
        self._steps.append(np.concatenate(self.peers.gather(rows)))
        counts = counts_tokens(self._steps)
        if counts is False:
            raise TrainerError(
                "the loss must count the answer tokens of its whole optimizer step, as this trainer says of it, got a "
                "mean over each micro batch: cut by length, short rows would weigh more. Write batching: plain in the "
                "recipe, and say of a loss of your own loss_is_scaled_for_ga = False."
            )
        if counts or len(self._steps) >= STEPS:
            self.close()

    def close(self) -> None:
        """Leave the trainer as it was; once."""
        if self.closed:
            return
        self.closed = True
        self._handle.remove()
        if self._own is not None:
            vars(self.trainer)["training_step"] = self._own
        else:
            vars(self.trainer).pop("training_step", None)

    def _after(self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: object) -> None:
        del args
        if not (module.training and torch.is_grad_enabled()) or self._labels is None:
            return
        shown = getattr(outputs, "logits", None)
        if not isinstance(shown, torch.Tensor) or shown.shape[:2] != self._labels.shape:
            return
        with torch.no_grad():
            sums = batch_sums(outputs, {**kwargs, "labels": self._labels.to(shown.device)})
        if sums is not None:
            self._forwards.append((sums.nll.sum().double().cpu(), sums.tokens.sum().double().cpu()))
