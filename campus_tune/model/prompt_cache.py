"""What rows have in common at their beginning, read once: keys and values of it, and the losses of its tokens.

A batch of rows that begin alike then brings only what is left of each row. Attention looks back on the kept keys and
values, which are laid beside a layer's own while that layer is at work, and stored nowhere: a batch of many rows costs
the memory of one layer.

Only where a model keeps nothing else of the past than keys and values of every place: a window, a state, places that
prompt learning puts in front of a row, are all reasons to read every row whole. What transformers' cache does not say
is seen: `agree` compares some rows that were measured both ways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from campus_tune.data.token_hashes import IGNORED
from campus_tune.model.row_sums import Places, flat_positions

KNOWN = {"input_ids", "attention_mask", "labels", "position_ids"}  # what a batch may hold to be cut


class Prompt(NamedTuple):
    """The beginning of some rows, as a model has read it.

    Args:
        ids: of its tokens, on the host, shape (c + 1,): the last one is read again by each row.
        labels: of the same tokens, on the host, shape (c + 1,).
        past: keys and values of the first c, each of shape (1, heads, c, d), by layer.
        told: of each token among them that carries loss, shape (k,) each: see `AnswerHead.told`.
        place: where they are predicted from, shape (k,).
    """

    ids: torch.Tensor
    labels: torch.Tensor
    past: Sequence[tuple[torch.Tensor, torch.Tensor]]
    told: tuple[torch.Tensor, ...]
    place: torch.Tensor

    def begins(self, batch: Mapping[str, torch.Tensor]) -> bool:
        """Whether all rows of a batch, on the host, begin with it."""
        n = len(self.ids)
        if not can_be_cut(batch, n - 1):
            return False
        return bool((batch["input_ids"][:, :n] == self.ids).all() and (batch["labels"][:, :n] == self.labels).all())

    def cache(self) -> DynamicCache:
        """What a forward of the rests looks back on."""
        cache = DynamicCache()
        cache.layers = [_Kept(*pair) for pair in self.past]
        return cache

    def joined(self, told: tuple[torch.Tensor, ...], places: Places) -> tuple[tuple[torch.Tensor, ...], Places]:
        """What is told of a batch's rests, and of what stands before each of them.

        Args:
            told: of the rests' tokens.
            places: of them, counted from the beginning of the rests.
        """
        n, shared = places.n_rows, len(self.ids) - 1
        rows = torch.arange(n, device=places.row.device).repeat_interleave(len(self.place))
        row = torch.cat([rows, places.row])
        place = torch.cat([self.place.repeat(n), places.place + shared])
        both = tuple(torch.cat([own.repeat(n), rest]) for own, rest in zip(self.told, told, strict=True))
        return both, Places(row, place, n, places.width + shared)


class _Kept(DynamicLayer):  # type: ignore[no-untyped-call]  # of transformers
    """A layer's keys and values of what stands before; those that come are laid beside them and not kept."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # of transformers
        self.keys, self.values = keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of all places."""
        assert self.keys is not None
        assert self.values is not None
        n = len(key_states)
        keys, values = self.keys.expand(n, -1, -1, -1), self.values.expand(n, -1, -1, -1)
        return torch.cat([keys, key_states], dim=-2), torch.cat([values, value_states], dim=-2)


def past_of(outputs: Any, n: int) -> list[tuple[torch.Tensor, torch.Tensor]] | None:
    """Keys and values of a row's first tokens; None where a model keeps of the past what is not of every place.

    Args:
        outputs: of the row, n + 1 tokens, asked to keep what it has read.
        n: tokens.
    """
    cache = outputs.get("past_key_values") if isinstance(outputs, Mapping) else None
    layers = getattr(cache, "layers", None)
    if type(cache) is not DynamicCache or not layers or any(type(layer) is not DynamicLayer for layer in layers):
        return None
    pairs = [(layer.keys, layer.values) for layer in layers]
    if any(keys is None or values is None or keys.shape[-2] != n + 1 for keys, values in pairs):
        return None  # layers that use another's
    return [(keys[..., :n, :], values[..., :n, :]) for keys, values in pairs]


def can_be_cut(batch: Mapping[str, torch.Tensor], n: int) -> bool:
    """Whether a batch is padded rows, each of which begins with n tokens of its own and more.

    Args:
        batch: on the host.
        n: tokens.
    """
    if set(batch) - KNOWN or flat_positions(batch) is not None:
        return False
    mask = batch.get("attention_mask")
    laid_out = all(value.dim() == 2 and value.shape[1] > n for value in batch.values())
    return laid_out and (mask is None or bool(mask[:, : n + 1].all())) and bool(_counted(batch, n).any())


def beginning(batch: Mapping[str, torch.Tensor], n: int) -> dict[str, torch.Tensor]:
    """The first n + 1 tokens of a batch's first row."""
    return {name: value[:1, : n + 1] for name, value in batch.items()}


def rests(batch: Mapping[str, torch.Tensor], n: int) -> dict[str, torch.Tensor]:
    """What is left of a batch's rows behind n tokens; the mask is of the whole rows."""
    return {name: value if name == "attention_mask" else value[:, n:] for name, value in batch.items()}


def agree(whole: torch.Tensor, cut: torch.Tensor, kind: torch.dtype) -> bool:
    """Whether losses of the same tokens are the same within the rounding of what they were computed in.

    Args:
        whole: of rows that were read whole, shape (n,).
        cut: of the same rows, read behind what they share.
        kind: of the numbers.
    """
    apart = (whole - cut).abs() / whole.abs().clamp(min=1.0)
    return bool((apart <= torch.finfo(kind).eps ** 0.5).all())


def _counted(batch: Mapping[str, torch.Tensor], n: int) -> torch.Tensor:
    return batch["labels"][:, n + 1 :] != IGNORED
