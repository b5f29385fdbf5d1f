"""A rank that has no row for a micro batch: it takes part in the forward, and of that nothing is counted or trained.

Several processes compute a micro batch together: gradients are averaged over them, metrics gathered from them, and a
sharded model cannot run on some of them alone. Where an epoch's last micro batch has fewer rows than there are ranks,
the ranks without one run a row whose labels are all masked. Whatever the trainer or trl counts on the way (tokens,
operations, answer tokens) they read off the batch, so that is *empty*: no column has a token. The row itself travels
beside it, and is put in its place in front of the model, which no trainer's code sees.

What a model makes besides its loss over labelled tokens is taken out behind it: the auxiliary loss of a router, which
knows no labels, becomes 0 on a rank without rows. trl averages it over all ranks, in the loss and in the log, so on the
ranks that have rows it is raised by as much as there are fewer of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from campus_tune.data.token_hashes import IGNORED

KEY = "campus_filled"  # of a batch in which some rank has no row


def note_share(batch: Mapping[str, Any], share: float) -> dict[str, Any]:
    """A batch of rows that other ranks fill up.

    Args:
        batch: of the collator.
        share: ranks over ranks that have rows.
    """
    return {**batch, KEY: {"share": share}}


def emptied(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A filling batch: to everybody but the model it has no token.

    Args:
        batch: a row, as the collator made it.
    """
    row = {**batch, "labels": torch.full_like(batch["labels"], IGNORED)}
    shape = row["labels"].shape
    empty = {
        key: value[:, :0].clone() if isinstance(value, torch.Tensor) and value.shape[:2] == shape else value
        for key, value in row.items()
    }
    return {**empty, KEY: {"share": 0.0, "row": row}}


class Filling:
    """Hooks on one model, for as long as a run lasts; batches that nobody filled pass through.

    Args:
        model: the unwrapped module.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._share: float | None = None
        self._handles = [
            model.register_forward_pre_hook(self._before, with_kwargs=True, prepend=True),  # others see the row
            model.register_forward_hook(self._after),
        ]

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def _before(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]] | None:
        del module
        filled = kwargs.get(KEY)
        self._share = None if filled is None else filled["share"]
        if filled is None:
            return None
        row = filled.get("row", {})
        return args, {key: row.get(key, value) for key, value in kwargs.items() if key != KEY}

    def _after(self, module: torch.nn.Module, args: tuple[Any, ...], outputs: Any) -> None:
        del module, args
        share, self._share = self._share, None
        if share is None:
            return
        if getattr(outputs, "aux_loss", None) is not None:
            outputs.aux_loss = outputs.aux_loss * share
        if share:
            return
        if getattr(outputs, "loss", None) is not None:
            outputs.loss = outputs.loss * 0.0
        if isinstance(getattr(outputs, "logits", None), torch.Tensor):
            outputs.logits = outputs.logits[:, :0]  # as long as the labels that a loss outside of the model sees
