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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar, cast

import numpy as np
import torch

from campus_tune.data.prepared import TOKEN_COLUMNS, answer_masks, items
from campus_tune.method.calibration import BINS, SUMS, confidence_bins
from campus_tune.model import compat
from campus_tune.model.batches import long_rows_first, token_bound
from campus_tune.model.compat import Collator
from campus_tune.model.peers import Peers
from campus_tune.model.row_sums import (
    Places,
    Sums,
    add_up,
    join_tokens,
    places_of,
    token_confidences,
    token_losses,
)
from campus_tune.model.shared_prompts import Batch, MarkedRow, batches_of
from campus_tune.model.subject import Subject, undisturbed
from campus_tune.words.errors import DivergedError, TrainerError
from campus_tune.words.progress import bar
from campus_tune.words.types import FloatArray, IntArray, RowLosses, RowSource

if TYPE_CHECKING:
    from campus_tune.model.prompt_cache import Prompt

LOGIT_BYTES = 256 << 20  # of float32 logits in one forward of a model that does something after its head
TILE_BYTES = 24 << 20  # of float32 logits at a time: more than the allocator keeps (32 MB) costs a page fault per page
TILE = 512  # positions projected to the vocabulary at a time, at most
FEWEST_IN_TILE = 64  # at least: below that a projection is slower
WINDOW_ROWS, WINDOW_TOKENS = 2048, 1 << 18  # of rows that are held, and compared with one another, at a time
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
        asked: share of each row's tokens that went through the model, in (0, 1], shape (n,): the others were those of
            another row too. None for all of them.
    """

    losses: RowLosses
    read: FloatArray
    bins: FloatArray | None = None
    asked: FloatArray | None = None


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

    Attributes:
        seconds: on the clock, spent here so far.
        spared: tokens so far that did not go through the model, for rows before them begin with the same.
        tick: told the tokens of each batch, instead of a bar of our own.
        why_whole: why rows that begin alike are read whole, in words; None where they are not, or none have come.
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
        self.seconds, self.spared = 0.0, 0
        self.tick: Callable[[int], object] | None = None
        self.why_whole: str | None = None
        self._head_is_last: bool | None = None
        self._shares: bool | None = None  # None until rows that begin alike have come

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
            reader: called with every batch's last hidden states; each row is then read whole.
            width: how many numbers the reader gives per row.

        Raises:
            DivergedError: a loss is NaN or infinite.
            TrainerError: the collator joins rows without positions to tell them apart.
        """
        subject = self.subject()
        if subject.device.type == "cuda":
            torch.cuda.synchronize(subject.device)  # what training has queued is not ours
        began = time.perf_counter()
        losses, read, asked = RowLosses.zeros(len(rows)), np.zeros((len(rows), width)), np.ones(len(rows))
        bins = {"bins": np.zeros((len(rows), BINS, SUMS))} if self.confidences else {}
        with undisturbed(subject.model), compat.without_idle_adapters(subject):
            parts = []  # still on the device: one wait at the end, not one a batch
            silent, total = self.peers.rank != 0 or self.tick is not None, int(self.tokens[rows].sum())
            with bar(
                total=total, desc=self.what, unit="token", unit_scale=True, delay=SLOW, disable=silent
            ) as progress:
                for batch, part in self._forwards(subject, rows, reader):
                    parts.append((batch, part))
                    (self.tick or progress.update)(int(self.tokens[rows[batch.places]].sum()) * self.peers.world)
            for batch, part in parts:
                if (n := len(part.sums.nll)) != len(batch.places):
                    raise TrainerError(
                        f"the data collator must keep rows apart, got {n} from {len(batch.places)}: their losses "
                        "cannot be told from one another. Use trl's or transformers' own collators; flat ones need "
                        "position_ids."
                    )
                losses.put(batch.places, part.sums.losses())
                again = batch.places[batch.first :]  # the first row of a group is there with what all of it shares
                asked[again] -= batch.shared / self.tokens[rows[again]]
                if part.read is not None:
                    read[batch.places] = part.read.double().cpu().numpy()
                if self.confidences:
                    bins["bins"][batch.places] = part.bins()
        known = losses.tokens > 0
        columns = self.peers.merge({**vars(losses), "read": read, "asked": asked, **bins}, known)
        merged = RowLosses(**{name: columns[name] for name in vars(losses)})
        measured = MeasuredRows(merged, columns["read"], columns.get("bins"), columns["asked"])
        self.spared += round(float(((1 - columns["asked"]) * self.tokens[rows]).sum()))
        self.seconds += time.perf_counter() - began
        self._refuse_infinite(rows, measured.losses)
        return measured

    def token_bound(self, subject: Subject, rows: IntArray) -> int:
        """Tokens of one forward; on accelerators few rows are cut so that every rank has some of them."""
        most = token_bound(subject.device)
        if subject.device.type == "cpu" or self.peers.world == 1:
            return most
        return min(most, max(FEWEST_TOKENS, math.ceil(int(self.tokens[rows].sum()) / self.peers.world)))

    def _forwards(self, subject: Subject, rows: IntArray, reader: Reader | None) -> Iterator[tuple[Batch, Forwarded]]:
        """This rank's batches, and what the forward of each leaves on the device; places are those in `rows`."""
        bound, loads = self.token_bound(subject, rows), Loads(self.peers)
        for window in windows(self.tokens[rows]):
            held, tokens = items(self.dataset, rows[window].tolist()), self.tokens[rows[window]]
            batches = [Batch(part) for part in long_rows_first(tokens, bound)]
            if reader is None and self._shares is not False:
                alike = batches_of(_as_rows(held), tokens, bound)
                longest, shortest = (held[alike[-1].places[place]] for place in (0, -1))
                if alike[-1].shared and self._may_share(subject, [longest, shortest], alike[-1].shared):
                    batches = alike
            prompt: tuple[int, Prompt | None] = (-1, None)  # that was read last, and the number of its group
            for batch in share(batches, self.peers) if subject.sharded else loads.mine(batches, tokens):
                made = self.collator([held[place] for place in batch.places])
                at = replace(batch, places=window[batch.places])
                if batch.group != prompt[0]:
                    prompt = batch.group, self._read(subject, made, batch.shared)
                if prompt[1] is not None and prompt[1].begins(made):
                    yield at, self._behind(subject, made, prompt[1])
                elif not batch.shared:
                    yield at, self._forward(subject, made, rows[at.places], reader)
                else:  # the collator has made something else of its rows
                    for part in long_rows_first(tokens[batch.places], bound):
                        made = self.collator([held[place] for place in batch.places[part]])
                        yield Batch(at.places[part]), self._forward(subject, made, rows[at.places[part]], reader)

    def _forward(
        self, subject: Subject, made: Mapping[str, torch.Tensor], rows: IntArray, reader: Reader | None
    ) -> Forwarded:
        """One batch of whole rows through the model."""
        batch = subject.place(made)
        places, mask = places_of(batch)
        look = None if reader is None else lambda hidden: reader(hidden, batch, rows)
        head = self._head(subject, batch, mask, look)
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        outputs = head.run(subject.forward, inputs)
        if self._head_is_last is None:  # asked once: each answer makes the host wait for the device
            self._head_is_last = self.peers.from_leader(head.ends_the_model(outputs))  # one answer on all ranks
        told = head.told() if self._head_is_last else self._through_the_end(subject, head, inputs)
        return self._added_up(told, places, head.read)

    def _head(
        self,
        subject: Subject,
        batch: Mapping[str, torch.Tensor],
        mask: torch.Tensor,
        look: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> AnswerHead:
        of_tokens = token_confidences if self.confidences else token_losses
        return AnswerHead(subject.head, batch["labels"], mask, look, of_tokens)

    def _added_up(self, told: tuple[torch.Tensor, ...], places: Places, read: torch.Tensor | None = None) -> Forwarded:
        nll, hits = told[:2]
        return Forwarded(add_up(nll, hits, places), read, (told[2], hits, places.row) if self.confidences else None)

    # -- rows that begin alike -----------------------------------------------------------------------------------

    def _may_share(self, subject: Subject, held: Sequence[Any], shared: int) -> bool:
        """Whether this model can look back on what rows share: seen on some that do, once."""
        if self._shares is None:
            self.why_whole = self.peers.from_leader(self._why_whole(subject, held, shared))
            self._shares = self.why_whole is None
        return self._shares

    def _why_whole(self, subject: Subject, held: Sequence[Any], shared: int) -> str | None:
        """Why rows are read whole; None where some have the same losses behind what they share.

        Args:
            subject: whose model is asked.
            held: rows that begin alike, of different lengths if there are such.
            shared: their first tokens that are read once.
        """
        from campus_tune.model.prompt_cache import agree

        if subject.sharded:
            return "each process holds a part of its weights"
        if compat.learns_prompts(subject.model):
            return "its adapter puts places of its own before each row"
        made = self.collator(list(held))
        whole = self._forward(subject, made, np.zeros(0, dtype=np.int64), None).sums.nll
        if not self._head_is_last:
            return "it does something behind its head"
        prompt = self._read(subject, made, shared)
        if prompt is None:
            return "it does not keep the past of each place, or its rows are not padded on the right"
        cut = self._behind(subject, made, prompt).sums.nll
        return None if agree(whole, cut, prompt.past[0][0].dtype) else "its losses behind what rows share are others"

    def _read(self, subject: Subject, made: Mapping[str, torch.Tensor], shared: int) -> Prompt | None:
        """What the rows of a batch share, read once; None where it cannot be cut off.

        Args:
            subject: whose model reads.
            made: the batch, on the host.
            shared: tokens, without the one that every row reads itself.
        """
        from campus_tune.model.prompt_cache import Prompt, beginning, can_be_cut, past_of

        if not shared or not can_be_cut(made, shared):
            return None
        once = beginning(made, shared)
        batch = subject.place(once)
        places, mask = places_of(batch)
        head = self._head(subject, batch, mask)
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        past = past_of(head.run(subject.forward, inputs, use_cache=True), shared)
        if past is None:
            return None
        return Prompt(once["input_ids"][0], once["labels"][0], past, head.told(), places.place)

    def _behind(self, subject: Subject, made: Mapping[str, torch.Tensor], prompt: Prompt) -> Forwarded:
        """One batch of rows through the model, behind what they share."""
        from campus_tune.model.prompt_cache import rests

        batch = subject.place(rests(made, len(prompt.ids) - 1))
        places, mask = places_of(batch)
        head = self._head(subject, batch, mask)
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        head.run(subject.forward, inputs, past_key_values=prompt.cache(), use_cache=True)
        return self._added_up(*prompt.joined(head.told(), places))

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


@dataclass
class Loads:
    """Shares batches out, each to the rank that has least to do; the same on every rank, whoever asks.

    Args:
        peers: the ranks.
    """

    peers: Peers
    _given: list[int] = field(default_factory=list)  # tokens, by rank

    def mine(self, batches: Sequence[Batch], tokens: IntArray) -> list[Batch]:
        """This rank's part of some batches; where there are fewer than ranks, the first one is done twice.

        Args:
            batches: at least one.
            tokens: of the rows that these are of, shape (n,).
        """
        mine, has_read = [], set[tuple[int, int]]()
        begins = not self._given
        self._given = self._given or [0] * self.peers.world
        for batch in batches:
            rest = len(batch.places) * (int(tokens[batch.places].max()) - batch.shared)
            costs = [rest + batch.shared * ((rank, batch.group) not in has_read) for rank in range(self.peers.world)]
            rank = int(np.argmin(np.add(self._given, costs)))
            self._given[rank] += costs[rank]
            has_read.add((rank, batch.group))
            mine += [batch] if rank == self.peers.rank else []
        return mine or (list(batches[:1]) if begins else [])


def windows(tokens: IntArray) -> Iterator[IntArray]:
    """Places in `tokens`, those of long rows first, some at a time: so many rows are held together."""
    longest_first = np.argsort(-tokens, kind="stable")
    ends, start = np.cumsum(tokens[longest_first]), 0
    while start < len(tokens):
        before = ends[start - 1] if start else 0
        most = int(np.searchsorted(ends, before + WINDOW_TOKENS, side="right"))
        yield longest_first[start : (end := min(start + WINDOW_ROWS, max(start + 1, most)))]
        start = end


def _as_rows(held: Sequence[Mapping[str, Any]]) -> list[MarkedRow]:
    """What rows that were read say of their tokens."""
    names = [name for name in TOKEN_COLUMNS if name in held[0]]
    masks = answer_masks({name: [item[name] for item in held] for name in names})
    return [MarkedRow(np.asarray(item["input_ids"]), mask) for item, mask in zip(held, masks, strict=True)]


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

    def run(
        self, forward: Callable[..., T], inputs: dict[str, Any], chosen: torch.Tensor | None = None, **past: Any
    ) -> T:
        """The model's forward with this head in the place of its own.

        Args:
            forward: the module to call.
            inputs: of the batch, without labels.
            chosen: the answer positions that are to be projected by the model itself, shape (b,); None projects all
                of them here.
            past: what stands before the batch, and whether to keep it; nothing, and not, unless it is said.
        """
        self._chosen = chosen
        handle = self.head.register_forward_pre_hook(self._instead)
        try:
            return forward(**inputs, **({"use_cache": False} | past))
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
        # without an answer, as in a beginning that rows share, the head still sees one position
        self._first = module.forward(answers[:1] if len(answers) else hidden[0, :1])  # not a call: our hook is on it
        tile = TILE
        if answers.device.type == "cpu":
            tile = min(TILE, max(FEWEST_IN_TILE, TILE_BYTES // (4 * self._first.shape[-1])))
        for part, tokens in zip(torch.split(answers, tile), torch.split(self.wanted, tile), strict=True):
            self._parts.append(self.of_tokens(module.forward(part), tokens))
        return (hidden[:1, :1] if not len(answers) else answers[None, :1], *args[1:])
