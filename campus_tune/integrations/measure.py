"""Losses of some rows under the model in hand, and nothing else changed by asking.

The forward is the model's own, adapters on, eval mode, no gradient, under the precision of training. With trl's
fused head the answer tokens' log-probabilities come without logits; otherwise micro batches are so small that their
logits stay under `LOGIT_BYTES`, and a row that is too long by itself is projected in several passes over the answer
positions. Rows go through sorted by length, so padding costs little.

Nothing leaks into training: random states, train/eval flags, gradients, the trainer's own metrics and its logging
flags are as they were (`undisturbed`, and a test that compares every one of them).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.nn import functional
from tqdm.auto import tqdm

from campus_tune.errors import MetricError, TrainerError
from campus_tune.integrations import compat
from campus_tune.integrations.peers import Peers
from campus_tune.integrations.rows import items
from campus_tune.types import IntArray, RowLosses

LOGIT_BYTES = 256 << 20  # of float32 logits in one forward without the fused head
BATCH_TOKENS = 16384  # tokens of one scoring forward on an accelerator
BATCH_TOKENS_CPU = 1024  # a CPU has nothing to gain from more
SLOW = 2.0  # seconds after which a progress bar shows

# (summed loss in nats, counted tokens, top-1 hits) of each row, each of shape (n,), on the device
Sums: TypeAlias = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Eval mode and no gradient inside; every module's mode and all random states as before afterwards."""
    modes = {name: module.training for name, module in model.named_modules()}
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002  # to restore it, not to draw
    torch_state = torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for name, module in model.named_modules():
            module.training = modes[name]
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002  # see above
        torch.set_rng_state(torch_state)
        if cuda_states:
            torch.cuda.set_rng_state_all(cuda_states)


class LossMeter:
    """Answer losses of rows of one prepared dataset under the trainer's current model.

    Args:
        trainer: whose model, collator and device are used.
        dataset: prepared rows, unused columns already removed.
        tokens: tokens of every row, shape (N,).
        peers: the processes that share the work; all of them must call `losses` with the same rows.
        what: the word before the progress bar.
    """

    def __init__(self, trainer: Any, dataset: Any, collator: Any, tokens: IntArray, *, peers: Peers, what: str) -> None:
        self.trainer, self.dataset, self.collator = trainer, dataset, collator
        self.tokens, self.peers, self.what = tokens, peers, what
        self.seconds = 0.0

    def losses(self, rows: IntArray) -> RowLosses:
        """Summed answer loss and answer tokens of `rows`, in their sequence.

        Args:
            rows: shape (n,), positions in the dataset.
        """
        compat.wait_for_device(self.trainer)  # what training has queued is not ours
        began = time.perf_counter()
        result = RowLosses.zeros(len(rows))
        model = compat.forward_model(self.trainer)
        batches = self._batches(rows)
        mine = batches[self.peers.rank :: self.peers.world]
        mine += mine[-1:] * (-(-len(batches) // self.peers.world) - len(mine))  # as many forwards on every rank
        mine = mine or batches[:1] * (-(-len(batches) // self.peers.world))
        bar = tqdm(mine, desc=self.what, unit="batch", delay=SLOW, leave=False, disable=self.peers.rank != 0)
        with undisturbed(self.trainer.model):
            parts = [(batch, self._forward(model, rows[batch])) for batch in bar]
        for batch, (nll, counted, hits) in parts:
            if len(nll) != len(batch):
                raise TrainerError(
                    f"the data collator must keep rows apart, got {len(nll)} from {len(batch)}: their losses cannot be "
                    "told from one another. Use trl's or transformers' own collators; flat ones need position_ids."
                )
            result.put(batch, RowLosses(nll.double().cpu().numpy(), counted.cpu().numpy(), hits.cpu().numpy()))
        result = self.peers.merge_losses(result)
        self.seconds += time.perf_counter() - began
        if not np.isfinite(result.nll_sum).all():
            strange = rows[~np.isfinite(result.nll_sum)]
            raise MetricError(
                f"`{self.what}`: the loss of every row must be finite, got NaN or inf on {len(strange)} of {len(rows)} "
                f"(rows {', '.join(map(str, strange[:3]))}). The model has diverged: lower the learning rate, or "
                "resume from an earlier checkpoint."
            )
        return result

    def _batches(self, rows: IntArray) -> list[IntArray]:
        """Places in `rows`, long rows first, cut so that padded tokens stay under the bound."""
        bound = self._token_bound()
        longest_first = np.argsort(-self.tokens[rows], kind="stable")
        lengths = self.tokens[rows][longest_first]
        batches, start = [], 0
        while start < len(rows):
            size = max(1, bound // int(lengths[start]))
            batches.append(longest_first[start : start + size])
            start += size
        return batches

    def _token_bound(self) -> int:
        on_cpu = self.trainer.args.device.type == "cpu"
        bound = BATCH_TOKENS_CPU if on_cpu else BATCH_TOKENS
        if compat.has_fused_head(self.trainer):
            return bound
        vocabulary = int(self.trainer.model.config.get_text_config().vocab_size)
        return max(1, min(bound, LOGIT_BYTES // (4 * vocabulary)))

    def _forward(self, model: Any, rows: IntArray) -> Sums:
        """One batch of rows through the model."""
        batch = compat.to_device(self.trainer, self.collator(items(self.dataset, rows.tolist())))
        if compat.has_fused_head(self.trainer):
            return batch_sums(model(**batch, use_cache=False, fused_lm_head=True), batch)
        if len(rows) == 1 and batch["labels"].shape[1] > self._token_bound():
            return self._long_row(model, batch, batch.pop("labels"))
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        return batch_sums(model(**inputs, use_cache=False), batch)

    def _long_row(self, model: Any, batch: dict[str, Any], labels: torch.Tensor) -> Sums:
        """A row whose logits would be too large: one forward per block of answer positions."""
        places = (labels[0, 1:] != -100).nonzero()[:, 0]  # (answer tokens,) predicted from these positions
        nll = hits = torch.zeros(1, device=labels.device)
        for block in torch.split(places, self._token_bound()):
            logits = model(**batch, use_cache=False, logits_to_keep=block).logits[0].float()  # (block, vocabulary)
            wanted = labels[0, block + 1]
            nll = nll + functional.cross_entropy(logits, wanted, reduction="sum")
            hits = hits + (logits.argmax(-1) == wanted).sum()
        return nll, torch.tensor([len(places)], device=labels.device), hits.long()


def batch_sums(outputs: Any, batch: Mapping[str, Any]) -> Sums:
    """What each row of a batch adds up to, whether the collator padded or flattened them.

    Args:
        outputs: of a causal language model for this batch, fused or with logits.
        batch: what it was called with, `labels` included.
    """
    if is_flat(batch):
        return flat_row_sums(outputs, batch["labels"], batch["position_ids"])
    return row_sums(outputs, batch["labels"])


def is_flat(batch: Mapping[str, Any]) -> bool:
    """Whether a batch is padding-free: all rows behind one another in one, told apart by positions that restart."""
    return batch.get("attention_mask") is None and batch.get("position_ids") is not None and len(batch["labels"]) == 1


def row_sums(outputs: Any, labels: torch.Tensor) -> Sums:
    """What each row of a padded batch adds up to, from fused outputs or from logits.

    Args:
        outputs: of a causal language model; with `log_probs` and `is_top1` (fused), or with `logits` (n, L, V).
        labels: shape (n, L), −100 where no loss is wanted.
    """
    if getattr(outputs, "log_probs", None) is not None:
        nll, mask, hits = _per_token(outputs)
        return nll.sum(1), mask.sum(1), hits.sum(1)
    wanted = labels[:, 1:]
    mask = wanted != -100
    nll = torch.zeros(len(labels), device=labels.device)
    hits = torch.zeros(len(labels), dtype=torch.long, device=labels.device)
    for i, answer in enumerate(mask):  # row by row: no second copy of all logits
        logits = outputs.logits[i, :-1].detach()[answer].float()  # (answer tokens, vocabulary)
        nll[i] = functional.cross_entropy(logits, wanted[i][answer], reduction="sum")
        hits[i] = (logits.argmax(-1) == wanted[i][answer]).sum()
    return nll, mask.sum(1), hits


def flat_row_sums(outputs: Any, labels: torch.Tensor, position_ids: torch.Tensor) -> Sums:
    """What each row of a padding-free batch (1, L) adds up to; a row begins where the position is 0."""
    row = (position_ids[0, 1:] == 0).cumsum(0)  # (L − 1,) the row that each predicted token belongs to
    if getattr(outputs, "log_probs", None) is not None:
        nll, mask, hits = (value[0, : len(row)] for value in _per_token(outputs))
    else:
        wanted = labels[0, 1:]
        mask = wanted != -100
        logits = outputs.logits[0, :-1].detach()
        nll = functional.cross_entropy(logits.float(), wanted, reduction="none", ignore_index=-100)
        hits = (logits.argmax(-1) == wanted) & mask
    n_rows = int(row[-1]) + 1

    def add_up(values: torch.Tensor) -> torch.Tensor:
        return torch.zeros(n_rows, device=values.device, dtype=values.dtype).index_add_(0, row, values)

    return add_up(nll), add_up(mask.long()), add_up(hits.long())


def _per_token(outputs: Any) -> Sums:
    """(loss, whether it counts, whether the token was the most likely one) of each predicted token, fused outputs."""
    mask = outputs.label_mask
    hits = outputs.is_top1.bool() & mask if outputs.is_top1 is not None else torch.zeros_like(mask)
    return -(outputs.log_probs.detach() * mask).float(), mask, hits
