"""Losses of some rows under a model, and nothing else changed by asking.

The forward is the model's own, adapters on, eval mode, no gradient, under the precision of training. Logits of a whole
batch never exist: a hook on the model's head takes the hidden states before they are projected, projects only those
that predict an answer token, in tiles, and lets the head itself see a single position. What the model does after its
head (a soft cap, a scale) shows in that position's output; where it does anything, the answer positions go through the
model's own end instead, in batches whose logits stay under `LOGIT_BYTES`. Rows go through sorted by length, so padding
costs little.

Nothing leaks into training: random states, train/eval flags, gradients, the trainer's own metrics and its logging
flags are as they were (`undisturbed`, and a test that compares every one of them).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np
import torch

from campus_tune.data.prepared import items
from campus_tune.method.calibration import BINS, SUMS, confidence_bins
from campus_tune.model.batches import long_rows_first, token_bound
from campus_tune.model.compat import Collator
from campus_tune.model.peers import Peers
from campus_tune.model.row_sums import (
    Sums,
    add_up,
    join_tokens,
    places_of,
    token_confidences,
    token_losses,
)
from campus_tune.model.subject import Subject, undisturbed
from campus_tune.words.errors import DivergedError, TrainerError
from campus_tune.words.progress import bar
from campus_tune.words.types import FloatArray, IntArray, RowLosses, RowSource

LOGIT_BYTES = 256 << 20  # of float32 logits in one forward of a model that does something after its head
TILE = 256  # positions projected to the vocabulary at a time
FEWEST_TOKENS = 2048  # of one scoring forward on an accelerator, below which sharing out a small sample gains nothing
SLOW = 2.0  # seconds after which a progress bar shows
SAME = 1e-3  # how far, relatively, a position's logits may be from its projection to be the same

# (last hidden states (n, L, d), the batch, its rows) → numbers of each row, shape (n, k), on the device
Reader: TypeAlias = Callable[[torch.Tensor, dict[str, Any], IntArray], torch.Tensor]
# (logits (k, V), tokens (k,)) → loss of each, whether it was the most likely one, and what else is asked, each (k,)
OfTokens: TypeAlias = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]
T = TypeVar("T")


@dataclass(frozen=True)
class MeasuredRows:
    """What one pass says of n rows.

    Args:
        losses: of their answers.
        read: what a reader made of their hidden states, shape (n, k); k = 0 without one.
        bins: of the model's confidence in its most likely tokens, shape (n, BINS, SUMS) as `confidence_bins` gives
            them; None where nobody asked.
    """

    losses: RowLosses
    read: FloatArray
    bins: FloatArray | None = None


class Forwarded(NamedTuple):
    """What the forward of one batch leaves on the device.

    Args:
        sums: of its rows.
        read: what a reader made of them; None without one.
        sure: (confidence in the most likely token, whether it was the right one, row in the batch) of each place that
            predicts an answer token, shape (k,) each; None where nobody asks.
    """

    sums: Sums
    read: torch.Tensor | None
    sure: tuple[torch.Tensor, ...] | None

    def bins(self) -> FloatArray:
        """The confidences in the bins of each row, on the host: see `confidence_bins`."""
        assert self.sure is not None
        confidence, hits, row = (values.cpu().numpy() for values in self.sure)
        return confidence_bins(confidence.astype(np.float64), hits, row, len(self.sums.nll))


class LossMeter:
    """Answer losses of rows of one prepared dataset under a model.

    Args:
        subject: gives the model as it is now.
        dataset: prepared rows, unused columns already removed.
        collator: makes a batch of some of them.
        tokens: tokens of every row, shape (N,).
        peers: the processes that share the work; all of them must call `losses` with the same rows.
        what: the word before the progress bar.
        confidences: whether the model's confidence in its most likely tokens is told too, from the same forward.
    """

    def __init__(
        self,
        subject: Callable[[], Subject],
        dataset: RowSource,
        collator: Collator,
        tokens: IntArray,
        *,
        peers: Peers,
        what: str,
        confidences: bool = False,
    ) -> None:
        self.subject, self.dataset, self.collator = subject, dataset, collator
        self.tokens, self.peers, self.what = tokens, peers, what
        self.confidences = confidences
        self.seconds = 0.0
        self.tick: Callable[[int], object] | None = None  # told the tokens of each batch, instead of a bar of our own
        self._head_is_last: bool | None = None

    def losses(self, rows: IntArray) -> RowLosses:
        """Answer losses of `rows`, in their sequence.

        Args:
            rows: shape (n,), positions in the dataset.

        Raises:
            DivergedError: a loss is NaN or infinite.
        """
        return self.measure(rows).losses

    def measure(self, rows: IntArray, *, reader: Reader | None = None, width: int = 0) -> MeasuredRows:
        """Answer losses of `rows`, and what a reader makes of their hidden states in the same forward.

        Args:
            rows: shape (n,), positions in the dataset.
            reader: called with every batch's last hidden states.
            width: how many numbers the reader gives per row.

        Raises:
            DivergedError: a loss is NaN or infinite.
            TrainerError: the collator joins rows without positions to tell them apart.
        """
        subject = self.subject()
        if subject.device.type == "cuda":
            torch.cuda.synchronize(subject.device)  # what training has queued is not ours
        began = time.perf_counter()
        losses, read = RowLosses.zeros(len(rows)), np.zeros((len(rows), width))
        bins = {"bins": np.zeros((len(rows), BINS, SUMS))} if self.confidences else {}
        with undisturbed(subject.model):
            mine = share(long_rows_first(self.tokens[rows], self.token_bound(subject, rows)), self.peers)
            silent = self.peers.rank != 0 or self.tick is not None
            parts = []  # still on the device: one wait at the end, not one a batch
            for batch in bar(mine, desc=self.what, unit="batch", delay=SLOW, disable=silent):
                parts.append((batch, self._forward(subject, rows[batch], reader)))
                if self.tick is not None:
                    self.tick(int(self.tokens[rows[batch]].sum()) * self.peers.world)
            for batch, part in parts:
                if (n := len(part.sums.nll)) != len(batch):
                    raise TrainerError(
                        f"the data collator must keep rows apart, got {n} from {len(batch)}: their losses "
                        "cannot be told from one another. Use trl's or transformers' own collators; flat ones need "
                        "position_ids."
                    )
                losses.put(batch, part.sums.losses())
                if part.read is not None:
                    read[batch] = part.read.double().cpu().numpy()
                if self.confidences:
                    bins["bins"][batch] = part.bins()
        known = losses.tokens > 0
        columns = self.peers.merge({**vars(losses), "read": read, **bins}, known)
        merged = RowLosses(**{name: columns[name] for name in vars(losses)})
        measured = MeasuredRows(merged, columns["read"], columns.get("bins"))
        self.seconds += time.perf_counter() - began
        self._refuse_infinite(rows, measured.losses)
        return measured

    def token_bound(self, subject: Subject, rows: IntArray) -> int:
        """Tokens of one forward; on accelerators few rows are cut so that every rank has some of them."""
        most = token_bound(subject.device)
        if subject.device.type == "cpu" or self.peers.world == 1:
            return most
        return min(most, max(FEWEST_TOKENS, math.ceil(int(self.tokens[rows].sum()) / self.peers.world)))

    def _forward(self, subject: Subject, rows: IntArray, reader: Reader | None) -> Forwarded:
        """One batch of rows through the model."""
        batch = subject.place(self.collator(items(self.dataset, rows.tolist())))
        places, mask = places_of(batch)
        look = None if reader is None else lambda hidden: reader(hidden, batch, rows)
        of_tokens = token_confidences if self.confidences else token_losses
        head = AnswerHead(subject.head, batch["labels"], mask, look, of_tokens)
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        outputs = head.run(subject.forward, inputs)
        if self._head_is_last is None:  # asked once: each answer makes the host wait for the device
            self._head_is_last = self.peers.from_leader(head.ends_the_model(outputs))  # one answer on all ranks
        told = head.told() if self._head_is_last else self._through_the_end(subject, head, inputs)
        nll, hits = told[:2]
        sure = (told[2], hits, places.row) if self.confidences else None
        return Forwarded(add_up(nll, hits, places), head.read, sure)

    def _through_the_end(self, subject: Subject, head: AnswerHead, inputs: dict[str, Any]) -> tuple[torch.Tensor, ...]:
        """The same for a model that does something after its head: answer positions in blocks, one forward each."""
        block = max(1, LOGIT_BYTES // (4 * subject.vocabulary))
        blocks = list(torch.split(torch.arange(len(head.wanted), device=head.wanted.device), block))
        n = max(self.peers.gather(len(blocks))) if subject.sharded else len(blocks)  # a forward takes all ranks
        parts = []
        for chosen in blocks + blocks[-1:] * (n - len(blocks)):
            logits = logits_of(head.run(subject.forward, inputs, chosen))[0]  # (block, V)
            parts.append(head.of_tokens(logits, head.wanted[chosen]))
        return join_tokens(parts[: len(blocks)])

    def _refuse_infinite(self, rows: IntArray, losses: RowLosses) -> None:
        if np.isfinite(losses.nll_sum).all():
            return
        strange = rows[~np.isfinite(losses.nll_sum)]
        raise DivergedError(
            f"`{self.what}`: the loss of every row must be finite, got NaN or inf on {len(strange)} of {len(rows)} "
            f"(rows {', '.join(map(str, strange[:3]))}). The model has diverged: lower the learning rate, or "
            "resume from an earlier checkpoint."
        )


def share(batches: Sequence[T], peers: Peers) -> list[T]:
    """This rank's part of the batches, as many on every rank: some are done twice where they do not come out even.

    Where weights are sharded, a rank with one forward more than the others would wait for them for ever.
    """
    n = -(-len(batches) // peers.world)
    mine = list(batches[peers.rank :: peers.world]) or list(batches[:1])
    return mine + mine[-1:] * (n - len(mine))


def logits_of(outputs: Any) -> torch.Tensor:
    """The logits among what a forward without labels gives: of a mapping, a tuple or transformers' own.

    Args:
        outputs: of any model.
    """
    if isinstance(outputs, tuple):
        return cast("torch.Tensor", outputs[0])
    return cast("torch.Tensor", outputs["logits"] if isinstance(outputs, Mapping) else outputs.logits)


class AnswerHead:
    """A model's head, for one batch: it sees what is asked of it instead of every position.

    Args:
        head: the module that projects to the vocabulary.
        labels: of the batch, shape (n, L).
        mask: positions that predict an answer token, shape (n, L − 1).
        look: called with the hidden states.
        of_tokens: what is told of the answer tokens of a tile.
    """

    def __init__(
        self,
        head: torch.nn.Module,
        labels: torch.Tensor,
        mask: torch.Tensor,
        look: Callable[[torch.Tensor], torch.Tensor] | None,
        of_tokens: OfTokens = token_losses,
    ) -> None:
        self.head, self.mask, self.look, self.of_tokens = head, mask, look, of_tokens
        self.wanted = labels[:, 1:][mask]  # (k,)
        self.read: torch.Tensor | None = None
        self._chosen: torch.Tensor | None = None
        self._first = torch.zeros(0)
        self._parts: list[tuple[torch.Tensor, ...]] = []

    def run(self, forward: Callable[..., T], inputs: dict[str, Any], chosen: torch.Tensor | None = None) -> T:
        """The model's forward with this head in the place of its own.

        Args:
            forward: the module to call.
            inputs: of the batch, without labels.
            chosen: the answer positions that are to be projected by the model itself, shape (b,); None projects all
                of them here.
        """
        self._chosen = chosen
        handle = self.head.register_forward_pre_hook(self._instead)
        try:
            return forward(**inputs, use_cache=False)
        finally:
            handle.remove()

    def ends_the_model(self, outputs: Any) -> bool:
        """Whether the model's logits are what its head gives, as the one position shows that both have seen."""
        return bool(torch.allclose(logits_of(outputs)[0, :1].float(), self._first.float(), rtol=SAME, atol=SAME))

    def told(self) -> tuple[torch.Tensor, ...]:
        """(loss, whether it was the most likely one, …) of each answer token, shape (k,) each: see `of_tokens`."""
        return join_tokens(self._parts)

    def _instead(self, module: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = args[0][:, -self.mask.shape[1] - 1 :]  # prompt learning puts places in front of a row's own
        answers = hidden[:, :-1][self.mask]  # (k, d)
        if self._chosen is not None:
            return (answers[self._chosen][None], *args[1:])
        if self.look is not None:
            self.read = self.look(hidden)
        wanted = torch.split(self.wanted, TILE)
        for tile, tokens in zip(torch.split(answers, TILE), wanted, strict=True):
            self._parts.append(self.of_tokens(module.forward(tile), tokens))  # not a call: our own hook is on it
        self._first = module.forward(answers[:1])
        return (answers[None, :1], *args[1:])
