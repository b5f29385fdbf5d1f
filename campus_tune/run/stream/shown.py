"""The rows that one forward was given, as hashes that are on their way to the host.

Three layouts reach a causal model, and in each of them other things may rightly differ from how a row was prepared:

- padded, with a mask of two dimensions: padding on either side, any width;
- flat: rows behind one another in one, told apart by positions that begin anew, or by `cu_seq_lens_q`; single tokens
  without loss may follow (`pad_to_multiple_of`), as no row attends to them;
- open: no such mask, or one of four dimensions (of which the diagonal says what is padding). A causal model needs none
  for padding on the right, so what follows a row's own length is padding if nothing in it carries loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from campus_tune.data.token_hashes import shown_factors, shown_labels, shown_tokens
from campus_tune.model.row_sums import IGNORED, flat_positions
from campus_tune.run.stream.on_its_way import OnItsWay
from campus_tune.words.types import IntArray

_FACTORS: dict[torch.device | None, Any] = {}  # device (None: numpy) → `shown_factors` of the longest rows so far


class Planned(NamedTuple):
    """Rows that a forward should have been given, each of shape (n,).

    Args:
        tokens: hash of each row's tokens.
        trained: hash of what is trained of it.
        lengths: its tokens.
    """

    tokens: NDArray[np.uint64]
    trained: NDArray[np.uint64]
    lengths: IntArray


class ShownRows(NamedTuple):
    """The rows of one forward on the host.

    Args:
        tokens: hash of each row's tokens, shape (n,).
        trained: hash of its tokens and of which of them carry loss, shape (n,).
        place: where it stands in the batch, shape (n,): flat padding has a place and is no row.
    """

    tokens: NDArray[np.uint64]
    trained: NDArray[np.uint64]
    place: IntArray


class ShownBatch:
    """What one forward was given.

    Args:
        batch: its arguments by name, `input_ids` of shape (n, L) among them.
    """

    def __init__(self, batch: Mapping[str, Any]) -> None:
        ids, labels = batch["input_ids"].detach(), batch.get("labels")
        self.labelled = labels is not None
        mask: Any = batch.get("attention_mask")
        positions, width = flat_positions(batch), ids.shape[1]
        dimensions = mask.dim() if isinstance(mask, torch.Tensor) else 0
        self.layout = "flat" if positions is not None else "padded" if dimensions == 2 else "open"
        if dimensions == 2:
            mask = mask[:, -width:]  # prompt learning puts places in front
        elif dimensions == 4:  # tokens attend to themselves where it is 0, added to the scores, or not False
            mask = torch.diagonal(mask[:, 0], dim1=-2, dim2=-1)[:, -width:]
            mask = ((mask == 0) if mask.is_floating_point() else (mask != 0)).expand_as(ids)
        else:
            mask = torch.ones_like(ids)
        # Tensors of a CPU as numpy's; those of an accelerator stay there.
        here: list[Any] = [
            tensor.detach().numpy() if tensor is not None and tensor.device.type == "cpu" else tensor
            for tensor in (ids, labels, mask, positions)
        ]
        ids, labels, mask, positions = here
        real = mask != 0
        a, b = _factors(ids)
        if positions is not None:
            places = positions[None] + 1
            a, b = a[places], b[places]
        elif self.layout == "padded" and isinstance(ids, np.ndarray) and not (real[:, 1:] > real[:, :-1]).any():
            a, b = a[1 : width + 1], b[1 : width + 1]  # padded on the right, as nearly always: no place is looked up
        else:
            places = real.cumsum(-1)
            a, b = a[places], b[places]
        tokens = shown_tokens(ids, real, a)
        if self.layout != "flat" and labels is not None:  # nothing predicts a first token, be it padding
            labels, b = labels[:, 1:], b[..., 1:]
        answers = tokens * 0 if labels is None else shown_labels(labels, labels != IGNORED, b)
        self._there: tuple[Any, ...]
        if self.layout == "padded":
            self._there = tokens.sum(-1), answers.sum(-1)
        elif self.layout == "flat":
            self._there = tokens.cumsum(-1)[0], answers.cumsum(-1)[0], places[0] == 1
        else:
            self._there = tokens.cumsum(-1), answers.sum(-1)
        self._hashes = OnItsWay(*self._there)

    def rows(self, planned: Planned) -> ShownRows:
        """Its rows; those of an open layout end where a planned one does.

        Args:
            planned: rows that it may be.
        """
        if self.layout == "flat":
            return _segments(*self._hashes.arrays())
        tokens, answers = self._hashes.arrays()
        if self.layout == "open":
            tokens = _cut(tokens, answers if self.labelled else None, planned)
        return _rows(tokens, answers, np.arange(len(tokens)))

    def keys(self, planned: Planned, device: torch.device) -> torch.Tensor:
        """The hash that a row of a plan would have, where the batch is: of what is trained, or of its tokens alone.

        Nothing waits for the device where rows are padded; flat ones have waited already.

        Args:
            planned: rows that it may be: where those of an open layout end hangs on them.
            device: of the batch.

        Returns:
            int64, shape (n,), by place; that of a flat batch's padding is no row's.
        """
        if self.layout == "open":
            rows = self.rows(planned)
            return torch.from_numpy((rows.trained if self.labelled else rows.tokens).view(np.int64)).to(device)
        tokens, answers, *starts = (torch.as_tensor(array) for array in self._there)
        if starts:
            first = starts[0].nonzero()[:, 0]
            last = torch.cat([first[1:], first.new_tensor([len(tokens)])]) - 1
            tokens, answers = (
                sums[last] - torch.where(first > 0, sums[(first - 1).clip(0)], 0) for sums in (tokens, answers)
            )
        return tokens + answers if self.labelled else tokens


def _factors(ids: torch.Tensor | IntArray) -> Any:
    """`shown_factors` where the ids are, of enough places for them."""
    device = ids.device if isinstance(ids, torch.Tensor) else None
    factors = _FACTORS.get(device)
    if factors is None or len(factors[0]) <= ids.shape[1]:
        factors = shown_factors(1 << ids.shape[1].bit_length())
        _FACTORS[device] = factors = (
            factors if device is None else tuple(torch.from_numpy(each).to(device) for each in factors)
        )
    return factors


def _rows(tokens: NDArray[np.int64], answers: NDArray[np.int64], place: IntArray) -> ShownRows:
    return ShownRows(tokens.view(np.uint64), (tokens + answers).view(np.uint64), place)


def _segments(tokens: NDArray[np.int64], answers: NDArray[np.int64], starts: NDArray[np.bool_]) -> ShownRows:
    """Rows of a flat batch from running sums; a single token without loss is padding: a row has two at least."""
    first = np.flatnonzero(starts)
    last = np.append(first[1:], len(tokens)) - 1
    of_tokens, of_answers = (sums[last] - np.where(first > 0, sums[first - 1], 0) for sums in (tokens, answers))
    kept = np.flatnonzero((last > first) | (of_answers != 0))
    return _rows(of_tokens[kept], of_answers[kept], kept)


def _cut(sums: NDArray[np.int64], answers: NDArray[np.int64] | None, planned: Planned) -> NDArray[np.int64]:
    """The tokens hash of each open row, from running sums (n, L).

    A row may begin with several planned ones, and its padding look like tokens of a longer one. Whoever begins with a
    long one also begins with the short ones in it, so the planned rows choose, the longest first.
    """
    n, width = sums.shape
    found = sums[:, -1].copy()
    free = np.ones(n, dtype=np.bool_)
    for row in np.argsort(-planned.lengths, kind="stable"):
        end = int(planned.lengths[row])
        if end > width:
            continue
        begins = free & (sums[:, end - 1].view(np.uint64) == planned.tokens[row])
        if answers is not None:  # of rows with the same tokens, those that are trained as planned
            exact = begins & ((sums[:, end - 1] + answers).view(np.uint64) == planned.trained[row])
            begins = exact if exact.any() else begins
        if begins.any():
            chosen = int(begins.argmax())
            found[chosen], free[chosen] = sums[chosen, end - 1], False
    return found
