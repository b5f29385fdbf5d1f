"""Weights of rows and tokens on the trainer's own loss: the only place that touches a gradient.

The loss is a sum over tokens of −ln p, each with the part world/N in the step's. What is multiplied is the gradient of
that sum at the model's own outputs (`seam`), behind every loss, kernel and wrapper of the trainer, so that the loss is
computed and logged as ever.

Which weight belongs to which place is decided by what the model is given, not by the plan's sequence, and on the
device: nothing waits. Live weights are computed there too, from the losses of this very forward. `weights_audit`
compares what came of it with the plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from campus_tune.data.prepared import TokenRows
from campus_tune.data.token_hashes import with_labels
from campus_tune.model.row_sums import TokenLines
from campus_tune.run.stream.loss_audit import Counts, LossAudit, tensors_in
from campus_tune.run.stream.seam import seam_of
from campus_tune.run.stream.shown import ShownBatch
from campus_tune.run.stream.step_weights import RowNumbers, StepWeights, step_weights
from campus_tune.run.stream.tie import Forward, planned_rows
from campus_tune.run.stream.weighed import Weighed
from campus_tune.run.stream.weights_audit import StepGradients
from campus_tune.words.errors import AuditError, CampusError, TrainerError
from campus_tune.words.wording import listed

if TYPE_CHECKING:
    from transformers import Trainer

__all__ = ["StepWeights", "Weighing", "step_weights"]

SURE = 1e-3  # under dft, tokens less likely than this have gradients too small to divide by


@dataclass(frozen=True, eq=False)
class _OnDevice:
    """`RowNumbers` where a forward is computed."""

    keys: torch.Tensor
    planned: torch.Tensor
    levels: torch.Tensor
    by_token: torch.Tensor | None


class Weighing:
    """The weights of one run's forwards.

    Args:
        loss: what is known of the trainer's loss and optimizer.
        knows_total: the loss is a mean over the step's tokens by the time it reaches the outputs; an engine (DeepSpeed)
            may scale it by itself.
        guards: gradients lie in `p.grad` between the backward pass and the optimizer's step, and nobody may change
            them there; not where a loss scaler or an engine does.
    """

    def __init__(self, loss: LossAudit, *, knows_total: bool = True, guards: bool = True) -> None:
        self.loss, self.knows_total = loss, knows_total
        self._weights: StepWeights | None = None
        self._numbers: RowNumbers | None = None
        self._planned: TokenRows | None = None
        self._there: dict[torch.device, _OnDevice] = {}
        self.tried, self.cannot = False, ""  # a step was a trial; why weights could not be multiplied in it
        self._whole: object = None  # live weights of the stage whose tokens were compared one by one
        self._gradients: list[tuple[torch.Tensor, torch.Tensor | None, int]] = []
        self._optimizer = loss.optimizer if guards else None
        self._handle = None if self._optimizer is None else self._optimizer.register_step_pre_hook(self._before_step)

    @staticmethod
    def of(trainer: Trainer, loss: LossAudit) -> Weighing:
        """That of a trainer whose optimizer is made."""
        engine, sharded = bool(trainer.is_deepspeed_enabled), bool(trainer.is_fsdp_enabled)
        scaler = trainer.accelerator.scaler
        scaled = scaler is not None and scaler.is_enabled()
        return Weighing(loss, knows_total=not engine, guards=not (engine or sharded or scaled))

    def close(self) -> None:
        """Take the hook off the optimizer."""
        if self._handle is not None:
            self._handle.remove()

    # -- a step -------------------------------------------------------------------------------------------------

    def begin_step(self, weights: StepWeights | None, planned: TokenRows, *, labelled: bool) -> None:
        """A step begins.

        Args:
            weights: of its rows; None for a step without any.
            planned: all rows.
            labelled: their labels are known before they reach the model.
        """
        self._weights, self._numbers, self._gradients = weights, None, []
        self._there.clear()
        if weights is not None:
            self.tried = True
            self._numbers = RowNumbers.of(weights, planned, labelled=labelled)
            self._planned = planned

    def collect(self, forwards: list[Forward]) -> StepGradients | None:
        """What a step's forwards have shown; None of a step without weights. It has ended."""
        weights, numbers = self._weights, self._numbers
        self._weights = None
        if weights is None or numbers is None:
            return None
        return StepGradients(weights, numbers, forwards)

    def weigh(self, forward: Forward, outputs: Any, *, labelled: bool) -> None:
        """Multiply the gradient of a forward, when it comes.

        Args:
            forward: that may train.
            outputs: of the model.
            labelled: it was given labels.
        """
        weights, numbers = self._weights, self._numbers
        if weights is None or numbers is None or not len(numbers.rows):  # a rank that has only a filling row
            return
        lines = None if forward.tokens is None else forward.tokens.lines()
        found = None if lines is None else seam_of(outputs, lines)
        if found is None or lines is None:
            self._refuse_gradient(outputs, labelled=labelled, trial=weights.trial)
            return
        whole = self._whole is not weights.live and bool(weights.live.tokens or weights.shapes)
        with torch.no_grad():
            forward.weighed = weighed = self.weighed(forward, lines, whole=whole)
            in_batch = lines.places_in_batch(weighed.wanted, 1.0)
        (seam, node, place), loss = found, self.loss
        came: list[torch.Tensor] = []

        def multiply(gradients: Any) -> Any:
            gradient = gradients[place]
            weighed.fired += 1
            if gradient is None:
                return None
            came[:] = [seam.size(gradient)]
            weighed.rough = gradient.dtype in (torch.bfloat16, torch.float16)
            return (*gradients[:place], seam.product(gradient, in_batch), *gradients[place + 1 :])

        def look(gradients: Any) -> None:
            if gradients[place] is None:
                return
            part, tells = seam.part(came[0])
            part = part / (loss.loss_scale() * loss.factor)
            if loss.dft:
                likely = torch.exp(-lines.nll)
                part, tells = part / likely, tells & (likely > SURE)
            weighed.note(came[0], seam.size(gradients[place]), part, tells)
            if whole:  # only now: of a forward that nobody trains (a callback's question) no gradient comes
                self._whole = weights.live

        node.register_prehook(multiply)
        node.register_prehook(look)

    def weighed(self, forward: Forward, lines: TokenLines, *, whole: bool) -> Weighed:
        """The weight of each token of a forward."""
        device = lines.nll.device  # of the head, where a model's layers are spread
        weights, numbers = self._weights, self.numbers_on(device)
        assert weights is not None, "a step with weights has begun"
        live, counted = weights.live, lines.counted
        known, at = self._lines(forward.shown, len(counted), device)
        tokens = counted.sum(1)
        factors = live.of_rows(lines.nll.sum(1) / tokens.clip(1), numbers.levels[:, at], torch)
        if live.shuffle is not None and live.rows:
            factors = _dealt(factors, known, weights)
        parts = spread = None
        if live.tokens:
            parts = live.of_tokens(lines.nll, torch)
            if live.shuffle is not None:
                parts = _dealt(parts, counted & known[:, None], weights)
        if numbers.by_token is None:
            planned = numbers.planned[at, None]
        else:
            ordinal = (counted.cumsum(1) - 1).clip(0, numbers.by_token.shape[1] - 1)
            planned = numbers.by_token[at].gather(1, ordinal)
            spread = planned if parts is None else planned * parts
        wanted = planned * factors[:, None]
        wanted = wanted.expand_as(lines.nll) if parts is None else wanted * parts
        wanted = torch.where(known[:, None], wanted, 1.0)  # the order audit finds rows that are not of this step
        return Weighed(wanted, lines.nll, counted, parts, spread, whole)

    def _lines(self, shown: ShownBatch, n: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """(Whether each row of a forward is one of the step, its line in the step's numbers), each of shape (n,)."""
        if shown.on_device and shown.layout != "open":
            same = shown.keys().to(device)[:, None] == self.numbers_on(device).keys  # (n, R)
            return same.any(1), same.int().argmax(1)
        planned, numbers = self._planned, self._numbers
        assert planned is not None, "a step has begun"
        assert numbers is not None, "it has weights"
        ours = planned_rows(numbers.rows, planned)
        wanted = with_labels(ours.tokens, ours.labels) if shown.labelled else ours.tokens
        lines, given = {key: line for line, key in enumerate(wanted.tolist())}, shown.rows(ours)
        found = [-1] * n
        for place, key in zip(given.place, given.keys(labelled=shown.labelled).tolist(), strict=True):
            found[place] = lines.get(key, -1)
        at = torch.tensor(found, device=device)
        return at >= 0, at.clip(0)

    def numbers_on(self, device: torch.device) -> _OnDevice:
        """The numbers of the step's rows, sent once."""
        found = self._there.get(device)
        if found is None:
            numbers = self._numbers
            assert numbers is not None, "a step with weights has begun"

            def sent(array: Any) -> torch.Tensor:
                tensor = torch.from_numpy(np.ascontiguousarray(array))
                return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

            by_token = None if numbers.by_token is None else sent(numbers.by_token)
            found = _OnDevice(sent(numbers.keys), sent(numbers.planned), sent(numbers.levels), by_token)
            self._there[device] = found
        return found

    def total(self, seen: float, counts: Counts) -> float | None:
        """Answer tokens that a step's loss is a mean over; None where that is not known.

        Args:
            seen: those of this rank's forwards; a rank among others knows it where that is what is planned for it.
            counts: what is planned.
        """
        if not self.knows_total:
            return None
        if self.loss.world == 1:
            return seen
        return float(counts.all_tokens) if seen == counts.own_tokens else None

    # -- the optimizer ------------------------------------------------------------------------------------------

    def before_update(self) -> None:
        """The gradients of a step are there; from here on nobody may change them but the optimizer."""
        if self._optimizer is None or self._weights is None:
            return
        parameters = [one for group in self._optimizer.param_groups for one in group["params"]]
        self._gradients = [(one, one.grad, _version(one.grad)) for one in parameters]

    def _before_step(self, *_: object) -> None:
        noted, self._gradients = self._gradients, []
        trial = self._weights is not None and self._weights.trial
        changed = [
            place for place, (one, was, version) in enumerate(noted) if one.grad is not was or _version(was) != version
        ]
        if changed:
            error = AuditError(
                f"weights audit: the weighted gradients must reach the optimizer as they are, got {len(changed)} of "
                f"{len(noted)} parameters with another one after on_pre_optimizer_step (of the optimizer's parameters "
                f"{listed(changed, 8)}). Remove the callback that zeroes or changes them."
            )
            self.fail(error, trial=trial)

    def fail(self, error: CampusError, *, trial: bool) -> None:
        """Weights could not be multiplied: of a trial it is noted, any other step stops the run.

        Args:
            error: what was wrong.
            trial: the step was one.

        Raises:
            CampusError: it was none.
        """
        if not trial:
            raise error from None
        self.cannot = self.cannot or str(error)

    def _refuse_gradient(self, outputs: Any, *, labelled: bool, trial: bool) -> None:
        """A forward that cannot be weighted must not train.

        Raises:
            TrainerError: when a gradient comes back to it, before anything is updated.
        """
        kind = type(outputs).__name__

        def refuse(gradient: torch.Tensor) -> None:
            del gradient
            error = TrainerError(
                "a forward that is weighted must be given `labels`, got none: nobody knows which tokens carry loss. "
                "Hand them to the model, or take `weights` out of the recipe."
                if not labelled
                else f"a forward that is weighted must give log_probs or logits with a gradient, got {kind} with "
                "neither: the loss is computed inside, without logits. Write loss_type: nll (trl before 1.15), switch "
                "the kernel off (use_liger_kernel: false, or liger_kernel_config: {fused_linear_cross_entropy: "
                "false}), or take `weights` out of the recipe."
            )
            self.fail(error, trial=trial)

        for output in tensors_in(outputs):
            if output.requires_grad:
                output.register_hook(refuse)  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _version(gradient: torch.Tensor | None) -> int:
    return -1 if gradient is None else int(gradient._version)


def _dealt(factors: torch.Tensor, known: torch.Tensor, weights: StepWeights) -> torch.Tensor:
    """A control's: the factors of the rows, or tokens, that are known, dealt among them; waits for the device."""
    own = factors[known]
    dealt = weights.live.dealt(len(own), weights.step)
    changed = factors.clone()
    changed[known] = own[torch.as_tensor(dealt, device=own.device)]
    return changed
