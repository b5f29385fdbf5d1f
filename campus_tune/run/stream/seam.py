"""Where weights are multiplied: the output of a forward whose gradient has each token's part of the loss in it.

log_probs  (n, L − 1)     −1/N at each token: one product of that size
logits     (n, L, V)      (softmax − onehot)/N at the places that predict, ‖·‖₁ = 2·(1 − p)/N: one copy
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from campus_tune.model.row_sums import TokenLines, has_tensor

UNLIKELY = 0.03  # 1 − p below which the gradient at logits is too small to tell a token's part of the loss


@dataclass(frozen=True, eq=False)
class Seam(ABC):
    """An output of a forward, and how its gradient is read and multiplied.

    Args:
        lines: losses of the batch's tokens.
    """

    lines: TokenLines

    @abstractmethod
    def size(self, gradient: torch.Tensor) -> torch.Tensor:
        """What a gradient says of each token, in single precision, one line per row, (n, w)."""

    @abstractmethod
    def part(self, size: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(The factor of each token's loss in what is propagated back, where the size tells it), each (n, w)."""

    @abstractmethod
    def product(self, gradient: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """A gradient times the weights of the places that predict, (b, L − 1)."""


class AtLogProbs(Seam):
    """trl's fused head; prompt learning would put places in front of a row's own."""

    def size(self, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient is the size."""
        return self.lines.lines(-gradient[:, -self.lines.mask.shape[1] :].float())

    def part(self, size: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """It is the part, too."""
        return size, self.lines.counted

    def product(self, gradient: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """One of the size of the batch."""
        before = gradient.shape[1] - weights.shape[1]
        return gradient * functional.pad(weights, (before, 0), value=1.0).to(gradient.dtype)


class AtLogits(Seam):
    """A model that gives its logits, and a loss that is computed from them, inside of it or outside."""

    def size(self, gradient: torch.Tensor) -> torch.Tensor:
        """‖g‖₁, without a copy of it."""
        predicting = gradient[:, -self.lines.mask.shape[1] - 1 :][:, :-1]
        return self.lines.lines(torch.linalg.vector_norm(predicting, ord=1, dim=-1, dtype=torch.float32))

    def part(self, size: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """‖g‖₁ / (2·(1 − p))."""
        rest = -torch.expm1(-self.lines.nll)
        return size / (2 * rest), self.lines.counted & (rest > UNLIKELY)

    def product(self, gradient: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The last of the logits predicts nothing."""
        before = gradient.shape[1] - weights.shape[1] - 1
        return gradient * functional.pad(weights, (before, 1), value=1.0).to(gradient.dtype)[..., None]


def seam_of(outputs: Any, lines: TokenLines) -> tuple[Seam, Any, int] | None:
    """Where a forward can be weighted; None where its outputs have no gradient of single tokens.

    Under autocast the logits that a model gives are cast once more behind its own loss, which has read those before.

    Args:
        outputs: of the model.
        lines: losses of its tokens.

    Returns:
        (The seam, the autograd node that made the output, which of the node's outputs it is). The node runs behind the
        hooks that anybody may set on the output itself. A hook of the node must not hold it: nothing would free them.
    """
    fused = has_tensor(outputs, "log_probs")
    output = getattr(outputs, "log_probs" if fused else "logits", None)
    if not isinstance(output, torch.Tensor) or output.grad_fn is None:
        return None
    node: Any = output.grad_fn
    place = int(output.output_nr)
    while not fused and node.name() == "ToCopyBackward0":
        node, place = node.next_functions[0]
    return (AtLogProbs if fused else AtLogits)(lines), node, place
