"""What each row's training does to the loss of held-out rows, read from LoRA's own backward pass.

    value of a row for a probe domain e   ⟨∇ Σ_t ℓ_t, G_e⟩, in the weights of the LoRA; > 0: training it lowers e's loss

G_e is the gradient of e's mean loss (`model.probe_gradients`), ℓ_t the row's own token losses, unweighted. A linear
layer of LoRA sees x_t and gets δ_t back, so a row's gradient in it is Σ_t δ_t x_tᵀ, over its own tokens: one product of
the size of the layer's own weight gradient, and no forward, no backward and no update more. What comes back has the
step's part c = world/N and the row's weight in it: both are divided by afterwards. Where tokens of a row have weights
of their own, what is valued is the row as it was trained, over its mean weight.

A layer's output goes through `_Tap`, which changes nothing of it or of its gradient, and holds x_t as autograd holds
what it needs: where activations are checkpointed they are dropped and made again, and each tap's backward runs once
however often the forward does. x_t of `lora_A` is behind LoRA's dropout, as its gradient is. Where LoRA computes in
half precision and hands over single, what is held is a copy in half precision.

On the first step after each new G the rows of each micro batch are added up and compared with the gradients that the
weights really got: an adapter that computes in another way is found before anybody believes its values.

Reference:
    Wang et al. 2024, "Data Shapley in One Training Run", arXiv 2406.11011 (its first order).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from campus_tune.model.probe_gradients import ProbeGradient
from campus_tune.model.row_sums import flat_positions
from campus_tune.model.valuable import lora_layers
from campus_tune.words.errors import AuditError, TrainerError

# Of ‖∇‖‖G‖: how far sums of rows may be from the weights' own gradient, in single and in half precision. On a CPU they
# were 2e-7 and 2e-4 apart; an adapter that adds one of its products twice, 3e-3.
CLOSE, ROUGH = 1e-4, 2e-3


@dataclass(eq=False)
class ForwardValues:
    """What the backward pass of one forward says of its rows; all on its device.

    Args:
        spans: where the rows of a flat batch stand in it, first and behind the last; None where its lines are its rows.
        shape: of the batch's tokens.
        sums: of each row along each gradient, shape (n, K), with the loss's scale, c and the row's weight.
        audited: whether the weights' own gradients are noted too.
        scale: of the loss (fp16) when the gradient came.
        whole: the weights' own gradients along each, shape (K,).
        size: ‖∇‖‖G‖ added up over the weights, shape (K,).
        rough: half precision came back.
    """

    spans: list[tuple[int, int]] | None
    shape: tuple[int, int]
    sums: torch.Tensor
    audited: bool
    scale: torch.Tensor | float = 1.0
    whole: torch.Tensor | None = None
    size: torch.Tensor | None = None
    rough: bool = False

    def unscaled(self) -> torch.Tensor:
        """The sums without the loss's scale."""
        return self.sums / self.scale

    def refuse_other_sums(self) -> None:
        """The rows together are what the weights got, where that was noted. Waits for the device.

        Raises:
            AuditError: they are not.
        """
        if self.whole is None or self.size is None:
            return
        rows = self.sums.sum(0)
        off = float(((rows - self.whole).abs() / self.size.clip(1e-30)).amax())
        if off > (ROUGH if self.rough else CLOSE):  # NaN is said elsewhere
            raise AuditError(
                f"the values of the rows must add up to those of the weights' own gradients, got sums that are "
                f"{off:.1%} of ‖∇‖‖G‖ away: the adapter computes its product otherwise than by its two linear layers, "
                "or something else adds to its gradients. Remove that, train a plain LoRA, or take `value` out of the "
                "recipe."
            )


class ValueHooks:
    """Taps on the LoRA of one model for one run.

    Args:
        model: the unwrapped module.
        loss_scale: of mixed precision, now.
    """

    def __init__(self, model: torch.nn.Module, loss_scale: Callable[[], torch.Tensor | float] = lambda: 1.0) -> None:
        self._loss_scale = loss_scale
        self._layers = lora_layers(model)
        self._gradients: dict[str, torch.Tensor] = {}  # by name of the weight, each (K, out, in)
        self._norms: dict[str, torch.Tensor] = {}  # of these, each (K,)
        self._now: ForwardValues | None = None  # of the last forward that trains
        self._audits = False  # the step in progress
        self._hooks: list[Any] = []  # on the weights of an audited step
        self._handles = [layer.register_forward_hook(partial(self._tap, name)) for name, layer in self._layers.items()]

    def close(self) -> None:
        """Take all hooks off."""
        for handle in (*self._handles, *self._hooks):
            handle.remove()
        self._now, self._hooks = None, []

    def go_by(self, gradients: Sequence[ProbeGradient]) -> None:
        """From the next forward on, rows are valued along these gradients.

        Args:
            gradients: K of them, in all weights of the LoRA; none for none.
        """
        self._now = None
        self._gradients, self._norms = {}, {}
        for name, layer in self._layers.items() if gradients else ():
            stacked = torch.stack([one.of[name] for one in gradients]).to(layer.weight.device)
            self._gradients[name], self._norms[name] = stacked, stacked.flatten(1).norm(dim=1)
        self._audits = bool(gradients)

    # -- a forward ----------------------------------------------------------------------------------------------

    def begin_step(self) -> None:
        """An optimizer step begins."""
        for handle in self._hooks:
            handle.remove()
        self._hooks = []
        if self._audits:
            for name, layer in self._layers.items():
                weight: Any = layer.weight  # torch leaves its method untyped
                self._hooks.append(weight.register_hook(partial(self._look, name)))

    def end_step(self) -> None:
        """It has ended."""
        for handle in self._hooks:
            handle.remove()
        self._now, self._hooks, self._audits = None, [], False

    def begin(self, batch: Mapping[str, Any]) -> None:
        """A forward that trains begins.

        Args:
            batch: what it is given, by name.
        """
        self._now = None
        if not self._gradients:
            return
        ids, positions = batch["input_ids"], flat_positions(batch)
        spans = None
        if positions is not None:
            first = (positions == 0).nonzero()[:, 0].tolist()
            spans = list(zip(first, [*first[1:], len(positions)], strict=True))
        n_groups = next(len(stacked) for stacked in self._gradients.values())
        n = len(ids) if spans is None else len(spans)
        sums = torch.zeros(n, n_groups, device=ids.device)
        self._now = ForwardValues(spans, (int(ids.shape[0]), int(ids.shape[1])), sums, self._audits)

    def of_forward(self) -> ForwardValues | None:
        """What will be known of the forward that has ended once its gradient has come; None where nothing is asked."""
        return self._now

    # -- hooks --------------------------------------------------------------------------------------------------

    def _tap(
        self, name: str, module: torch.nn.Module, args: tuple[Any, ...], output: torch.Tensor
    ) -> torch.Tensor | None:
        """After the forward of a layer."""
        now = self._now
        if now is None or not (module.training and torch.is_grad_enabled() and output.requires_grad):
            return None
        x = args[0]
        if x.dim() != 3 or tuple(x.shape[:2]) != now.shape:
            raise TrainerError(
                f"`value` must see each token in its place, (rows, tokens, numbers) = ({now.shape[0]}, "
                f"{now.shape[1]}, …), got {tuple(x.shape)} in {name}: a layer that routes, joins or adds tokens "
                "(experts, an image's). Take it out of the LoRA's target_modules, or `value` out of the recipe."
            )
        tapped: torch.Tensor = _Tap.apply(output, x.detach().to(output.dtype), now, self, name)  # type: ignore[no-untyped-call]
        return tapped

    def came(self, now: ForwardValues, name: str, x: torch.Tensor, delta: torch.Tensor) -> None:
        """The gradient of a layer's output has come.

        Args:
            now: the forward that it is of.
            name: of the layer's weight.
            x: what the layer was given, shape (b, L, in).
            delta: the gradient, shape (b, L, out).
        """
        stacked = self._gradients.get(name)
        if stacked is None:
            return
        now.scale = self._loss_scale()
        now.rough |= delta.dtype in (torch.bfloat16, torch.float16)
        if delta.dtype == torch.float16:  # scaled, and a sum over a row's tokens may be too large for it
            x, delta = x.float(), delta.float()
        if now.spans is None:
            rows = delta.transpose(1, 2) @ x  # (n, out, in): each row's own gradient in this weight
        else:
            rows = torch.stack([delta[0, start:end].T @ x[0, start:end] for start, end in now.spans])
        now.sums += (rows.flatten(1).float() @ stacked.flatten(1).T).to(now.sums.device)  # (n, K)

    def _look(self, name: str, gradient: torch.Tensor) -> None:
        """On the weight itself, before DDP sums it up or anything is added to what is there."""
        now = self._now
        if now is None:
            return
        whole = gradient.float().flatten() @ self._gradients[name].flatten(1).T
        size = gradient.float().norm() * self._norms[name]
        device = now.sums.device
        now.whole = whole.to(device) if now.whole is None else now.whole + whole.to(device)
        now.size = size.to(device) if now.size is None else now.size + size.to(device)


class _Tap(torch.autograd.Function):
    """The identity, whose backward sees the gradient beside what the layer was given."""

    @staticmethod
    def forward(
        ctx: Any, output: torch.Tensor, x: torch.Tensor, now: ForwardValues, hooks: ValueHooks, name: str
    ) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.now, ctx.hooks, ctx.name = now, hooks, name
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, delta: torch.Tensor) -> tuple[torch.Tensor, None, None, None, None]:
        (x,) = ctx.saved_tensors
        with torch.no_grad():
            ctx.hooks.came(ctx.now, ctx.name, x, delta)
        return delta, None, None, None, None
