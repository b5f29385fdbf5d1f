"""The rows that one forward was given, copied for the host, which hashes them when their step has ended.

Three layouts reach a causal model, and in each of them other things may rightly differ from how a row was prepared:

- padded, with a mask of two dimensions: padding on either side, any width;
- flat: rows behind one another in one, told apart by positions that begin anew, or by `cu_seq_lens_q`; single tokens
  may follow (`pad_to_multiple_of`), as no row attends to them;
- open: no such mask, or one of four dimensions (of which the diagonal says what is padding). A causal model needs none
  for padding on the right, so what follows a row's own length is padding if nothing in it carries loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray

from campus_tune.data.token_hashes import (
    IGNORED,
    WIDTH,
    answer_factors,
    combined,
    no_loss,
    place_table,
    shown_labels,
    token_keys,
    with_labels,
)
from campus_tune.model.row_sums import flat_positions
from campus_tune.run.stream.on_its_way import OnItsWay
from campus_tune.words.types import IntArray

_TABLES: dict[torch.device, torch.Tensor] = {}  # `place_table` of the longest rows so far
_MASKS = [(0, memoryview(b""))]  # of so many tokens and as much padding behind them, so many bytes


class Planned(NamedTuple):
    """Rows that a forward should have been given, each of shape (n,).

    Args:
        tokens: hash of each row's tokens.
        labels: hash of its labels.
        lengths: its tokens.
    """

    tokens: NDArray[np.uint64]
    labels: NDArray[np.uint64]
    lengths: IntArray


class ShownRows(NamedTuple):
    """The rows of one forward.

    Args:
        tokens: hash of each row's tokens.
        labels: hash of its labels, 0 where none carries loss or nobody knows them.
        place: where it stands in the batch: flat padding has a place and is no row.
    """

    tokens: list[int]
    labels: list[int]
    place: list[int]

    def keys(self, *, labelled: bool) -> NDArray[np.uint64]:
        """One number for each row: of what is trained, or of its tokens alone."""
        tokens = np.array(self.tokens, dtype=np.uint64)
        return with_labels(tokens, np.array(self.labels, dtype=np.uint64)) if labelled else tokens


class ShownBatch:
    """What one forward was given, whoever changes the batch meanwhile.

    Args:
        batch: its arguments by name, `input_ids` of shape (n, L) among them.
        labels_known: the plan says what they are.

    Attributes:
        late: how many of its rows' first tokens carry loss, because padding or another row stands before them; known
            when its rows are.
    """

    def __init__(self, batch: Mapping[str, Any], *, labels_known: bool = True) -> None:
        ids, labels = batch["input_ids"], batch.get("labels")
        mask: Any = batch.get("attention_mask")
        positions, self._shape = flat_positions(batch), tuple(ids.shape)
        dimensions = mask.dim() if isinstance(mask, torch.Tensor) else 0
        if dimensions == 2:
            if mask.shape[1] != ids.shape[1]:
                mask = mask[:, -ids.shape[1] :]  # prompt learning puts places in front
        elif dimensions == 4:  # tokens attend to themselves where it is 0, added to the scores, or not False
            mask = torch.diagonal(mask[:, 0], dim1=-2, dim2=-1)[:, -ids.shape[1] :]
            mask = ((mask == 0) if mask.is_floating_point() else (mask != 0)).expand_as(ids)
        else:
            mask = None
        self.layout = "flat" if positions is not None else "padded" if dimensions == 2 else "open"
        self.labelled, self.on_device = labels is not None and labels_known, ids.device.type != "cpu"
        self._has = tuple(one is not None for one in (labels, mask, positions))
        self._given = [one for one in (ids, labels, mask, positions) if one is not None]
        self._sent: OnItsWay | None = None
        self._bytes: list[bytes] = []
        self._rows: ShownRows | None = None
        self.late = 0
        if not self.on_device:  # copied as bytes, which wakes no part of torch or numpy
            self._bytes = [(one if one.dtype == torch.int64 else one.long()).numpy().tobytes() for one in self._given]
        elif all(one.shape == ids.shape and one.dtype == ids.dtype for one in self._given):
            self._sent = OnItsWay(torch.stack(self._given))
        else:
            self._sent = OnItsWay(*self._given)

    def rows(self, planned: Planned) -> ShownRows:
        """Its rows; those of an open layout end where a planned one does. Waits for the copies.

        Args:
            planned: rows that it may be.
        """
        if self._rows is None or self.layout == "open":
            self._rows = self._open(planned) if self.layout == "open" else self._flat_or_padded()
        return self._rows

    def _parts(self) -> list[bytes | None]:
        """(Token ids, labels, mask, positions) as 64-bit numbers; None for what there is not."""
        if self._sent is not None:
            arrays = self._sent.arrays()
            arrays = list(arrays[0]) if len(arrays) < len(self._given) else arrays
            self._bytes, self._sent = [array.astype(np.int64).tobytes() for array in arrays], None
        parts = iter(self._bytes)
        return [next(parts), *(next(parts) if there else None for there in self._has)]

    def _flat_or_padded(self) -> ShownRows:
        ids, labels, mask, positions = self._parts()
        assert ids is not None
        rows = ShownRows([], [], [])
        if positions is None:
            assert mask is not None, "the batch is padded"
            self._padded(ids, labels, mask, rows)
            return rows
        starts = np.flatnonzero(np.frombuffer(positions, dtype=np.int64) == 0).tolist()
        for place, (start, end) in enumerate(zip(starts, [*starts[1:], self._shape[1]], strict=True)):
            self.late += labels is not None and start > 0 and _carries(labels[WIDTH * start : WIDTH * (start + 1)])
            if end - start > 1:  # a single token is padding: a row has two at least
                rows.tokens.append(xxhash.xxh3_64_intdigest(ids[WIDTH * start : WIDTH * end]))
                rows.labels.append(0 if labels is None else shown_labels(labels[WIDTH * (start + 1) : WIDTH * end]))
                rows.place.append(place)
        return rows

    def _padded(self, ids: bytes, labels: bytes | None, mask: bytes, rows: ShownRows) -> None:
        """Add the lines of a padded batch: one pass, for this is done in every step."""
        size = WIDTH * self._shape[1]
        for place in range(self._shape[0]):
            start, stop = place * size, (place + 1) * size
            end = start + WIDTH * mask.count(1, start, stop)
            rows.place.append(place)
            if mask[start:stop] != _mask(end - start, size):  # padded on the left, or between tokens
                line = _Line.of(ids[start:stop], None if labels is None else labels[start:stop], mask[start:stop])
                rows.tokens.append(line.tokens())
                rows.labels.append(line.labels())
                self.late += line.late
                continue
            rows.tokens.append(xxhash.xxh3_64_intdigest(ids[start:end]))
            if labels is None:
                rows.labels.append(0)
            else:  # padding that carries loss is trained
                last = stop if _carries(labels[end:stop]) else end
                rows.labels.append(shown_labels(labels[start + WIDTH : last]))

    def _open(self, planned: Planned) -> ShownRows:
        """Rows of open lines.

        One may begin with several planned rows, and its padding look like tokens of a longer one. Whoever begins with a
        long one also begins with the short ones in it, so the planned rows choose, the longest first.
        """
        ids, labels, mask, _ = self._parts()
        assert ids is not None
        size = WIDTH * self._shape[1]
        cuts = [slice(i * size, (i + 1) * size) for i in range(self._shape[0])]
        lines = [_Line.of(ids[at], *(None if one is None else one[at] for one in (labels, mask))) for at in cuts]
        self.late = sum(line.late for line in lines)
        ends: dict[int, int | None] = {}
        for row in np.argsort(-planned.lengths, kind="stable").tolist():
            end, tokens = WIDTH * int(planned.lengths[row]), int(planned.tokens[row])
            begins = [
                i for i, line in enumerate(lines) if i not in ends and line.holds(end) and line.tokens(end) == tokens
            ]
            # of rows with the same tokens, those that are trained as planned
            exact = [i for i in begins if self.labelled and lines[i].labels(end) == int(planned.labels[row])]
            for i in (exact or begins)[:1]:
                ends[i] = end
        return ShownRows(
            [line.tokens(ends.get(i)) for i, line in enumerate(lines)],
            [line.labels(ends.get(i)) for i, line in enumerate(lines)],
            list(range(len(lines))),
        )

    def keys(self) -> torch.Tensor:
        """The hash by which a row is known, where the batch is: of what is trained, or of its tokens alone.

        Nothing waits for an accelerator where rows are padded; flat ones have waited already.

        Returns:
            int64, shape (n,), by place; that of a flat batch's padding is no row's.
        """
        given = iter(self._given)
        ids, labels, mask, positions = next(given), *(next(given) if there else None for there in self._has)
        real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask != 0
        place = real.cumsum(-1) - 1 if positions is None else positions[None]
        keys = token_keys(ids, _table(ids)[place.clip(0)])
        counted = keys * real
        if labels is None or not self.labelled:
            answers = torch.zeros_like(counted)
        else:  # nothing predicts a row's first token; padding that carries loss is trained
            carries = (labels != IGNORED) & ((place > 0) | ~real)
            carries[:, :1] = False
            answers = keys * answer_factors(ids, labels, carries)
        if self.layout == "padded":
            tokens, answers = counted.sum(-1), answers.sum(-1)
        else:
            running = counted.cumsum(-1)[0], answers.cumsum(-1)[0]
            first = (place[0] == 0).nonzero()[:, 0]
            last = torch.cat([first[1:], first.new_tensor([ids.shape[1]])]) - 1
            tokens, answers = (sums[last] - torch.where(first > 0, sums[(first - 1).clip(0)], 0) for sums in running)
        return combined(tokens, answers) if self.labelled else tokens


class _Line(NamedTuple):
    """A line of a batch, its bytes as 64-bit numbers.

    Args:
        ids: of its tokens without padding.
        own: labels of the same tokens; None where there are none.
        strays: those of padding, where one of them carries loss.
        late: its first token carries loss, and padding stands before it.
    """

    ids: bytes
    own: bytes | None
    strays: bytes
    late: bool = False

    @staticmethod
    def of(ids: bytes, labels: bytes | None, mask: bytes | None) -> _Line:
        """That of a line as it stands in a batch; nothing predicts its first place, be it padding."""
        if mask is None:
            return _Line(ids, labels, b"")
        real = np.frombuffer(mask, dtype=np.int64) != 0
        tokens = np.frombuffer(ids, dtype=np.int64)[real].tobytes()
        if labels is None:
            return _Line(tokens, None, b"")
        of_all = np.frombuffer(labels, dtype=np.int64)
        strays, own = of_all[1:][~real[1:]].tobytes(), of_all[real].tobytes()
        late = not real[:1].any() and _carries(own[:WIDTH])
        return _Line(tokens, own, strays if _carries(strays) else b"", late)

    def holds(self, end: int) -> bool:
        """Whether it has so many bytes of tokens."""
        return end <= len(self.ids)

    def tokens(self, end: int | None = None) -> int:
        """The hash of its tokens up to there."""
        return xxhash.xxh3_64_intdigest(self.ids[:end])

    def labels(self, end: int | None = None) -> int:
        """The hash of their labels, and of others that carry loss."""
        if self.own is None:
            return 0
        rest = b"" if end is None else self.own[end:]
        end = None if _carries(rest) else end
        return shown_labels(self.own[WIDTH:end] + self.strays)


def _carries(labels: bytes) -> bool:
    """Whether one of these labels carries loss."""
    return labels != no_loss(len(labels))


def _mask(real: int, size: int) -> memoryview:
    """A line of a mask, `size` bytes of which the first are of tokens and the others of padding on the right."""
    longest, line = _MASKS[0]
    if longest < size:
        longest = 2 * size
        line = memoryview(np.repeat(np.array([1, 0], dtype=np.int64), longest // WIDTH).tobytes())
        _MASKS[0] = longest, line
    return line[longest - real : longest - real + size]


def _table(ids: torch.Tensor) -> torch.Tensor:
    """`place_table` where the ids are, long enough for them."""
    table = _TABLES.get(ids.device)
    if table is None or len(table) < ids.shape[1]:
        table = torch.from_numpy(place_table(1 << (ids.shape[1] - 1).bit_length())).to(ids.device)
        _TABLES[ids.device] = table
    return table
