"""From per-token losses to what each row of a batch adds up to, padded or flattened, fused or with logits.

Everything is laid out as one line per row before it is added up: sums along a line are the same on every run, which
adding by index on a GPU is not, and a decision must be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional

from campus_tune.types import RowLosses

IGNORED = -100  # the label of a token that carries no loss


class Sums(NamedTuple):
    """What each row adds up to, on the device: see `RowLosses`. Each of shape (n,)."""

    nll: torch.Tensor
    tokens: torch.Tensor
    hits: torch.Tensor
    worst: torch.Tensor
    sureness: torch.Tensor

    def losses(self) -> RowLosses:
        """The same on the host, in double precision."""
        values = {name: value.cpu().numpy() for name, value in self._asdict().items()}
        return RowLosses(
            nll_sum=values["nll"].astype(np.float64),
            tokens=values["tokens"],
            top1=values["hits"],
            worst=values["worst"].astype(np.float64),
            sureness=values["sureness"].astype(np.float64),
        )


def join(parts: list[Sums]) -> Sums:
    """The rows of several batches behind one another."""
    return Sums(*(torch.cat(values) for values in zip(*parts, strict=True)))


class Places(NamedTuple):
    """Where the tokens that carry loss stand: row and place in the row of each, shape (k,), and the layout's size."""

    row: torch.Tensor
    place: torch.Tensor
    n_rows: int
    width: int


def add_up(nll: torch.Tensor, hits: torch.Tensor, places: Places) -> Sums:
    """Per-token values as row sums.

    Args:
        nll: loss of each token in nats, shape (k,).
        hits: whether it was the most likely one, shape (k,).
        places: where each of them stands.
    """

    def lines(values: torch.Tensor) -> torch.Tensor:
        layout = torch.zeros(places.n_rows, places.width, device=values.device, dtype=values.dtype)
        layout[places.row, places.place] = values
        return layout

    losses = nll.detach().float()
    per_row = lines(losses)
    counted = lines(torch.ones_like(places.row))
    return Sums(
        per_row.sum(1),
        counted.sum(1),
        lines(hits.long()).sum(1),
        per_row.amax(1),
        lines(torch.exp(-losses)).sum(1),
    )


def places_of(batch: Mapping[str, Any]) -> tuple[Places, torch.Tensor]:
    """Where a batch's tokens that carry loss are predicted from.

    Args:
        batch: what the model was called with, `labels` (n, L) included; flat ones have `position_ids`.

    Returns:
        (their places, mask over the predicting positions, shape (n, L − 1)).
    """
    mask = batch["labels"][:, 1:] != IGNORED
    row, place = mask.nonzero(as_tuple=True)
    if not is_flat(batch):
        return Places(row, place, *mask.shape), mask
    positions = batch["position_ids"][0]
    rows = (positions == 0).cumsum(0) - 1  # (L,) the row that each token belongs to
    return Places(rows[1:][place], positions[1:][place], int(rows[-1]) + 1, int(positions.max()) + 1), mask


def batch_sums(outputs: Any, batch: Mapping[str, Any]) -> Sums:
    """What each row of a batch adds up to, whether the collator padded or flattened them.

    Args:
        outputs: of a causal language model for this batch: with `log_probs` and `is_top1`, or with `logits` (n, L, V).
        batch: what it was called with, `labels` included.
    """
    places, mask = places_of(batch)
    if getattr(outputs, "log_probs", None) is not None:
        fused = outputs.label_mask[:, : mask.shape[1]] & mask
        nll = -outputs.log_probs[:, : mask.shape[1]][fused]
        hits = outputs.is_top1[:, : mask.shape[1]][fused].bool() if outputs.is_top1 is not None else nll > torch.inf
        return add_up(nll, hits, places)
    wanted = batch["labels"][:, 1:]
    parts = [token_losses(outputs.logits[i, :-1].detach()[line], wanted[i][line]) for i, line in enumerate(mask)]
    return add_up(*join_tokens(parts), places)  # row by row: no second copy of all logits


def is_flat(batch: Mapping[str, Any]) -> bool:
    """Whether a batch is padding-free: all rows behind one another in one, told apart by positions that restart."""
    return batch.get("attention_mask") is None and batch.get("position_ids") is not None and len(batch["labels"]) == 1


def token_losses(logits: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss in nats, whether it was the most likely one) of each token, shape (k,), from logits (k, V)."""
    logits = logits.float()
    return functional.cross_entropy(logits, wanted, reduction="none"), logits.argmax(-1) == wanted


def join_tokens(parts: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """What `token_losses` gave of several blocks, behind one another."""
    losses, hits = zip(*parts, strict=True)
    return torch.cat(losses), torch.cat(hits)
