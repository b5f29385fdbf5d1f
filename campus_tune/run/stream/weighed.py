"""What one forward shows of its weights: the gradient that came for each token, and the one that went on."""

from __future__ import annotations

from dataclasses import dataclass

import torch

LEAST = 1e-3  # a weight below it is compared as if it were this
NOTED = ("nll", "tokens", "got", "worst", "least", "most", "parts", "spread")


@dataclass(eq=False)
class Weighed:
    """A forward whose gradient is weighted; all on its device.

    Args:
        wanted: weight of each token, one line per row, shape (n, w).
        nll: losses in nats, likewise.
        counted: which places count, likewise.
        parts: tokens' own factors, likewise; None where none has one.
        spread: these, times planned weights of single tokens; None where all tokens of a row are planned alike.
        whole: every token is compared on the host.
        fired: gradients that came.
        rough: they were in half precision.
        noted: `NOTED` of each row, shape (8, n); None before the first.
        tokens: loss and measured weight of each place, shape (2, n, w), where every token is compared.
    """

    wanted: torch.Tensor
    nll: torch.Tensor
    counted: torch.Tensor
    parts: torch.Tensor | None
    spread: torch.Tensor | None
    whole: bool
    fired: int = 0
    rough: bool = False
    noted: torch.Tensor | None = None
    tokens: torch.Tensor | None = None

    def note(self, incoming: torch.Tensor, outgoing: torch.Tensor, share: torch.Tensor, valid: torch.Tensor) -> None:
        """Take what came and what went on.

        Args:
            incoming: size of the gradient before the weights, of each token, shape (n, w).
            outgoing: after them.
            share: part of each token's loss in the step's that the incoming one says.
            valid: where it says one.
        """
        tells = self.counted & incoming.isfinite() & (incoming != 0)
        got = torch.where(tells, outgoing / torch.where(tells, incoming, 1.0), self.wanted)
        tokens = self.counted.sum(1)
        ones = torch.ones_like(tokens, dtype=torch.float32)

        def mean(values: torch.Tensor | None) -> torch.Tensor:
            if values is None:
                return ones
            return values.masked_fill(~self.counted, 0.0).sum(1) / tokens.clip(1)

        off = ((got - self.wanted).abs() / self.wanted.clip(LEAST)).masked_fill(~self.counted, 0.0)
        self.noted = torch.stack(
            [
                self.nll.sum(1),
                tokens.float(),
                mean(got),
                off.amax(1),
                share.masked_fill(~valid, torch.inf).amin(1),
                share.masked_fill(~valid, -torch.inf).amax(1),
                mean(self.parts),
                mean(self.spread),
            ]
        )
        if self.whole:
            self.tokens = torch.stack([self.nll, torch.where(self.counted, got, torch.nan)])
