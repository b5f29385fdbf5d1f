"""What reaches the model: the order audit, and the training losses that come for free.

Two hooks on the model itself, below every loader, wrapper and collator. On audited steps the token ids of each
training forward are hashed row by row and compared with the hashes of the rows that were planned, taken when the run
was planned: a replaced or re-shuffled loader and a dataset changed underneath both end the run at once. On every
step the forward's own per-token losses are summed per row; they cost nothing, carry dropout noise, and are used for
statistics, never for a choice.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from campus_tune.errors import AuditError
from campus_tune.integrations.rows import hash_tokens
from campus_tune.integrations.sums import Sums, batch_sums, join
from campus_tune.types import IntArray, RowArray, RowLosses

CHECKS = 200  # about how many steps of a run are audited, besides the first of each stage


class Watch:
    """Hooks on one model for one run.

    Args:
        model: the unwrapped module; its forward is watched in training mode with gradients on.
        content: hash of every row's token ids as planned, shape (N,).
    """

    def __init__(self, model: torch.nn.Module, content: NDArray[np.uint64]) -> None:
        self.content = content
        self.checked = self.passed = 0
        self._auditing = False
        self._seen: list[tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]] = []
        self._step: list[Sums] = []  # one per micro batch of this step
        self._rows: list[int] = []  # rows whose losses wait on the device, and the losses
        self._waiting: list[Sums] = []
        self._stopwatch = ForwardTime()
        self._handles = [
            model.register_forward_pre_hook(self._before, with_kwargs=True),
            model.register_forward_hook(self._after, with_kwargs=True),
        ]

    def close(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def begin_step(self, *, audit: bool) -> None:
        """An optimizer step begins."""
        self._auditing = audit
        self._seen.clear()
        self._step.clear()

    def end_step(self, batches: list[list[int]]) -> None:
        """An optimizer step has ended that should have trained `batches` on this rank.

        Args:
            batches: row positions of each micro batch; the complement `~row` is a filling row.

        Raises:
            AuditError: other rows reached the model.
        """
        auditing, forwards = self._auditing, list(self._step)
        self._auditing = False  # a step that is ended twice counts once
        self._step.clear()
        if auditing:
            self._compare(np.array([max(row, ~row) for batch in batches for row in batch]))
        if len(forwards) != len(batches):
            return  # the forwards of this trainer show no per-token losses
        for batch, sums in zip(batches, forwards, strict=True):
            if batch[0] >= 0 and len(sums.nll) == len(batch):
                self._rows.extend(batch)
                self._waiting.append(sums)

    def harvest(self) -> tuple[RowArray, RowLosses]:
        """Rows trained since the last harvest and their training losses; the only wait for the device."""
        rows = np.array(self._rows, dtype=np.int32)
        losses = RowLosses.zeros(len(rows))
        if self._waiting:
            losses = join(self._waiting).losses()
        self._rows, self._waiting = [], []
        return rows, losses

    def forward_seconds(self) -> float:
        """Time of this rank's own training forwards since the last call."""
        return self._stopwatch.take()

    def _compare(self, planned: IntArray) -> None:
        self.checked += 1
        trained = np.concatenate([np.zeros(0, dtype=np.uint64), *(hash_batch(*seen) for seen in self._seen)])
        if not np.array_equal(np.sort(trained), np.sort(self.content[planned])):
            raise AuditError(self._message(planned, trained))
        self.passed += 1

    def _message(self, planned: IntArray, trained: NDArray[np.uint64]) -> str:
        known = {int(value): row for row, value in enumerate(self.content)}
        rows = [known.get(int(value), -1) for value in trained]
        named = [str(row) for row in sorted(rows) if row >= 0]
        if strangers := rows.count(-1):
            named.insert(0, f"{strangers} that are in no planned row")
        return (
            f"order audit: planned rows {_some(sorted(planned.tolist()))} but the model trained on "
            f"{_some(named) if named else 'nothing'}; something replaced the data loader, re-shuffles it, or changed "
            "the dataset. Remove whatever sets or wraps trainer.get_train_dataloader or train_dataset after the "
            "CampusCallback was attached, and any collator that alters tokens."
        )

    def _before(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if not (module.training and torch.is_grad_enabled()):
            return
        if ids is not None:
            self._stopwatch.start(ids.device)
        if self._auditing and ids is not None:
            self._seen.append((ids.detach(), kwargs.get("attention_mask"), kwargs.get("position_ids")))

    def _after(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any], outputs: Any) -> None:
        del args
        if not (module.training and torch.is_grad_enabled()):
            return
        self._stopwatch.stop()
        if kwargs.get("labels") is None:
            return
        if all(getattr(outputs, name, None) is None for name in ("log_probs", "logits")):
            return  # a loss kernel that never makes logits
        with torch.no_grad():
            self._step.append(batch_sums(outputs, kwargs))


class ForwardTime:
    """Sums the time of forwards where they are computed: by events on a GPU, which runs behind the program."""

    def __init__(self) -> None:
        self._began: Any = None
        self._seconds = 0.0
        self._events: list[tuple[Any, Any]] = []

    def start(self, device: torch.device) -> None:
        """A forward begins."""
        self._began = _event() if device.type == "cuda" else time.perf_counter()

    def stop(self) -> None:
        """It has ended."""
        if isinstance(self._began, float):
            self._seconds += time.perf_counter() - self._began
        elif self._began is not None:
            self._events.append((self._began, _event()))
        self._began = None

    def take(self) -> float:
        """Seconds since the last call; waits for the device where events are still to come."""
        if self._events:
            torch.cuda.synchronize()
        seconds = self._seconds + sum(float(start.elapsed_time(end)) for start, end in self._events) / 1000.0
        self._seconds, self._events = 0.0, []
        return seconds


def _event() -> Any:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    event.record()
    return event


def hash_batch(
    ids: torch.Tensor, attention_mask: torch.Tensor | None, position_ids: torch.Tensor | None
) -> NDArray[np.uint64]:
    """Content hashes of the rows of one batch, padded (mask) or flattened (positions that start again at 0)."""
    tokens = ids.cpu().numpy()
    if attention_mask is not None and attention_mask.dim() == 2:
        mask = attention_mask.cpu().numpy().astype(np.bool_)
        return hash_tokens(tokens[mask], mask.sum(1))
    if position_ids is not None and len(ids) == 1:
        starts = np.flatnonzero(position_ids[0].cpu().numpy() == 0)
        return hash_tokens(tokens[0], np.diff(np.append(starts, tokens.shape[1])))
    return hash_tokens(tokens.reshape(-1), np.full(len(tokens), tokens.shape[1]))


def _some(items: list[Any], n: int = 8) -> str:
    return ", ".join(map(str, items[:n])) + (", …" if len(items) > n else "")
