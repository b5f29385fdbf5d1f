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

from campus_tune.data.token_hashes import IGNORED
from campus_tune.words.types import RowLosses


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
    counted = torch.ones_like(hits, dtype=torch.bool)
    return _line_sums(*(_in_lines(values, places) for values in (nll.detach().float(), hits, counted)))


def _in_lines(values: torch.Tensor, places: Places) -> torch.Tensor:
    """Values of single tokens, shape (k,), one line per row, (n, w); 0 where none stands."""
    layout = torch.zeros(places.n_rows, places.width, device=values.device, dtype=values.dtype)
    layout[places.row, places.place] = values
    return layout


def _line_sums(nll: torch.Tensor, hits: torch.Tensor, counted: torch.Tensor) -> Sums:
    """Sums along the lines of a layout, each argument of shape (n, w): 0 and False where nothing is counted."""
    both = torch.stack([nll, torch.exp(-nll) * counted]).sum(2)
    return Sums(both[0], counted.sum(1), hits.sum(1), nll.amax(1), both[1])


def places_of(batch: Mapping[str, Any]) -> tuple[Places, torch.Tensor]:
    """Where a batch's tokens that carry loss are predicted from.

    Args:
        batch: what the model was called with, `labels` (n, L) included; flat ones have `position_ids`.

    Returns:
        (their places, mask over the predicting positions, shape (n, L − 1)).
    """
    mask = batch["labels"][:, 1:] != IGNORED
    row, place = mask.nonzero(as_tuple=True)
    positions = flat_positions(batch)
    if positions is None:
        return Places(row, place, *mask.shape), mask
    rows = (positions == 0).cumsum(0) - 1  # (L,) the row that each token belongs to
    return Places(rows[1:][place], positions[1:][place], int(rows[-1]) + 1, int(positions.max()) + 1), mask


class TokenLines(NamedTuple):
    """The tokens of a batch, laid out one line per row, on the device.

    Args:
        nll: loss in nats of what each place predicts, shape (n, w); 0 where nothing is counted.
        hits: whether it was the most likely token, shape (n, w).
        counted: which places count, shape (n, w).
        mask: the same as the batch has it, shape (b, L − 1).
        places: where the counted tokens of a flat batch stand; None where a batch's lines are its rows.
    """

    nll: torch.Tensor
    hits: torch.Tensor
    counted: torch.Tensor
    mask: torch.Tensor
    places: Places | None

    def sums(self) -> Sums:
        """What each row adds up to."""
        return _line_sums(self.nll, self.hits, self.counted)

    def lines(self, values: torch.Tensor) -> torch.Tensor:
        """Values of the batch's places, shape (b, L − 1), as lines, (n, w)."""
        return values if self.places is None else _in_lines(values[self.mask], self.places)

    def places_in_batch(self, lines: torch.Tensor, otherwise: float) -> torch.Tensor:
        """The reverse: lines (n, w) as the batch has them, (b, L − 1); another value where nothing is counted."""
        if self.places is None:
            return lines.masked_fill(~self.counted, otherwise)
        values = torch.full(self.mask.shape, otherwise, device=lines.device, dtype=lines.dtype)
        values[self.mask] = lines[self.places.row, self.places.place]
        return values


class KeptTokens:
    """What a training forward shows of its tokens, until somebody asks what its rows add up to.

    Added up many at a time that costs half of what it costs between two forwards, when all caches are full of weights.
    Of a fused head's outputs copies are kept, as large as the batch; logits are too large for that and asked at once.

    Args:
        outputs: of a causal language model, as `token_lines` takes them.
        batch: what it was called with, `labels` included.
    """

    def __init__(self, outputs: Any, batch: Mapping[str, Any]) -> None:
        self._lines: TokenLines | None = None
        self._sums: Sums | None = None
        self._kept: Any = None
        self._batch: Mapping[str, Any] = {}
        if has_tensor(outputs, "log_probs"):
            top1 = _copy(outputs.is_top1) if has_tensor(outputs, "is_top1") else None
            self._kept = _Fused(_copy(outputs.log_probs), _copy(outputs.label_mask), top1)
            positions = flat_positions(batch)
            self._batch = {"labels": _copy(batch["labels"]), "attention_mask": True}
            if positions is not None:
                self._batch = {**self._batch, "attention_mask": None, "position_ids": _copy(positions)[None]}
        else:
            self._lines = token_lines(outputs, batch)

    @staticmethod
    def of(outputs: Any, batch: Mapping[str, Any]) -> KeptTokens | None:
        """Those of a forward; None where its outputs show none."""
        shows = has_tensor(outputs, "log_probs") or has_tensor(outputs, "logits")
        return KeptTokens(outputs, batch) if shows else None

    @property
    def size(self) -> int:
        """Numbers that are kept."""
        if self._lines is not None:
            return int(self._lines.nll.numel())
        return 0 if self._kept is None else int(self._kept.log_probs.numel())

    def lines(self) -> TokenLines:
        """Line by line, as `token_lines` gives them."""
        if self._lines is None:
            self._lines = token_lines(self._kept, self._batch)
        assert self._lines is not None, "its outputs show them"
        return self._lines

    def sums(self) -> Sums:
        """What each row adds up to; afterwards nothing else is kept."""
        if self._sums is None:
            self._sums = self.lines().sums()
            self._lines, self._kept, self._batch = None, None, {}
        return self._sums


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    """Its numbers by themselves."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.device.type == "cpu" and tensor.dtype != torch.bfloat16:  # of which numpy knows nothing
        return torch.from_numpy(tensor.numpy().copy())
    return tensor.clone()


class _Fused(NamedTuple):
    """Outputs of a fused head, each of shape (n, L − 1)."""

    log_probs: torch.Tensor
    label_mask: torch.Tensor
    is_top1: torch.Tensor | None


def batch_sums(outputs: Any, batch: Mapping[str, Any]) -> Sums | None:
    """What each row of a batch adds up to: see `token_lines`."""
    lines = token_lines(outputs, batch)
    return None if lines is None else lines.sums()


def token_lines(outputs: Any, batch: Mapping[str, Any]) -> TokenLines | None:
    """The loss of each token of a batch, row by row, whether the collator padded or flattened them.

    Only flat batches wait for an accelerator, to know how many rows there are.

    Args:
        outputs: of a causal language model for this batch: with `log_probs` and `is_top1`, or with `logits` (n, L, V).
        batch: what it was called with, `labels` included.

    Returns:
        Lines of the rows, padding of a flat batch counted as rows; None where the outputs have neither tensor: a loss
        kernel that never makes logits, or an object in their place.
    """
    labels = batch["labels"]
    if has_tensor(outputs, "log_probs"):
        nll, counted = _of_fused(outputs, labels)
        shows = has_tensor(outputs, "is_top1")
        hits = counted & outputs.is_top1[:, -counted.shape[1] :] if shows else torch.zeros_like(counted)
    elif has_tensor(outputs, "logits"):
        counted = labels[:, 1:] != IGNORED
        logits = outputs.logits.detach()[:, -labels.shape[1] :]
        nll, hits = _from_logits(logits[:, :-1], labels[:, 1:], counted)
    else:
        return None
    if flat_positions(batch) is None:
        return TokenLines(nll, hits, counted, counted, None)
    places = places_of(batch)[0]
    of_nll, of_hits, of_counted = (_in_lines(values[counted], places) for values in (nll, hits, counted))
    return TokenLines(of_nll, of_hits, of_counted, counted, places)


def _of_fused(outputs: Any, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(Loss in nats, 0 where nothing is counted; which places are counted) of a fused head, each (n, L − 1)."""
    counted = labels[:, 1:] != IGNORED
    width = counted.shape[1]  # prompt learning puts places in front of a row's own
    counted &= outputs.label_mask[:, -width:]
    return torch.where(counted, -outputs.log_probs.detach()[:, -width:].float(), 0.0), counted


def has_tensor(outputs: object, name: str) -> bool:
    """Whether a model's outputs have a tensor of this name: some have an object there that makes it when asked."""
    return isinstance(getattr(outputs, name, None), torch.Tensor)


def _from_logits(
    logits: torch.Tensor, wanted: torch.Tensor, counted: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(Loss in nats, whether it was the most likely token) of every place, (n, w), from logits (n, w, V).

    Row by row: no second copy of all logits. On a CPU only the places that count are asked; elsewhere choosing them
    would make the host wait for each row.
    """
    nll = torch.zeros(counted.shape, device=logits.device)
    hits = torch.zeros_like(counted)
    for i, line in enumerate(counted):
        if logits.device.type == "cpu":
            nll[i, line], hits[i, line] = token_losses(logits[i][line], wanted[i][line])
        else:
            losses, best = token_losses(logits[i], wanted[i])
            nll[i], hits[i] = losses.masked_fill(~line, 0.0), best & line
    return nll, hits


def flat_positions(batch: Mapping[str, Any]) -> torch.Tensor | None:
    """Each token's place in its row, shape (L,), where a batch is padding-free: all rows behind one another in one.

    They are told apart by positions that begin anew, or by where they end (`cu_seq_lens_q`); None for other batches.
    """
    ids = batch["labels"] if batch.get("labels") is not None else batch.get("input_ids")
    if ids is None or batch.get("attention_mask") is not None or len(ids) != 1:
        return None
    positions: torch.Tensor | None = batch.get("position_ids")
    if positions is not None:
        return positions[0]
    ends = batch.get("cu_seq_lens_q")
    if ends is None:
        return None
    width, ends = ids.shape[1], ends.to(torch.int64)
    starts = torch.repeat_interleave(ends[:-1], ends.diff(), output_size=width)
    return torch.arange(width, device=ids.device) - starts


def is_flat(batch: Mapping[str, Any]) -> bool:
    """Whether a batch is padding-free (`flat_positions`)."""
    return flat_positions(batch) is not None


def token_losses(logits: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss in nats, whether it was the most likely one) of each token, (k,), from logits (k, V); 0 if ignored."""
    logits = logits.float()
    return functional.cross_entropy(logits, wanted, reduction="none"), logits.argmax(-1) == wanted


def token_confidences(logits: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What `token_losses` gives, bit for bit, and how sure the model is of its most likely token, in [0, 1], (k,).

    A loss is read from logarithms of probabilities that are there anyway; the most likely token's stands beside it. NaN
    in the logits is no confidence at all: whoever measures refuses the loss.
    """
    logits = logits.float()
    log_probs, best = logits.log_softmax(-1), logits.argmax(-1)  # (k, V), (k,)
    confidence = log_probs.gather(-1, best[:, None])[:, 0].exp().nan_to_num(0.0)
    return functional.nll_loss(log_probs, wanted, reduction="none"), best == wanted, confidence


def join_tokens(parts: list[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    """What `token_losses` or `token_confidences` gave of several blocks, behind one another."""
    return tuple(torch.cat(values) for values in zip(*parts, strict=True))
