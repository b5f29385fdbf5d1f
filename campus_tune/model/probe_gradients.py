"""Which way the weights would have to go for held-out rows: the gradient of their mean loss, and nothing else changed.

Of each group of rows (a domain's probes, a half of them) the gradient of the mean answer loss, nats per token, in all
weights that are trained: adapters, or the whole model. In eval mode, under the precision of training, for one backward
pass over the rows. The head projects answer positions only, as in `measure`.

Nothing leaks into training. The gradient is asked of `torch.autograd.grad`, so no `grad` of a weight is written, no
hook of DDP fires, and no hook that somebody put on the model itself is told of a forward; modes and random states are
as they were. Where training checkpoints activations, so does this backward, always the way that `autograd.grad` can
(not reentrant): a layer is then told that it trains, and what it does itself with that (the dropout that OPT has in
its layers) is on; its parts are in eval mode.

Each rank does a part of the batches, and all of them then have the same sums, bit for bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from campus_tune.data.prepared import items
from campus_tune.model import compat
from campus_tune.model.batches import BATCH_TOKENS_CPU, long_rows_first
from campus_tune.model.compat import Collator
from campus_tune.model.measure import AnswerHead, logits_of
from campus_tune.model.peers import Peers
from campus_tune.model.probes import Probes
from campus_tune.model.row_sums import places_of
from campus_tune.model.subject import Subject, undisturbed
from campus_tune.words.errors import DivergedError
from campus_tune.words.hashing import hash_rows
from campus_tune.words.types import IntArray, RowSource

if TYPE_CHECKING:
    from transformers import Trainer

BATCH_TOKENS = 4096  # of one forward with a gradient on an accelerator: activations are kept
LOGIT_BYTES = 1 << 30  # of its float32 logits, which are kept too


@dataclass(frozen=True, eq=False)
class ProbeGradient:
    """The gradient of the mean loss of some rows.

    Args:
        of: parameter's name in the bare model → its part, in single precision, of its shape and on its device.
        loss: that mean, in nats per answer token.
        tokens: answer tokens that it is a mean over.
    """

    of: Mapping[str, torch.Tensor]
    loss: float
    tokens: int

    @property
    def norm(self) -> float:
        """‖G‖ over all weights."""
        return math.sqrt(sum(float(part.double().pow(2).sum()) for part in self.of.values()))


def mean_gradient(gradients: Sequence[ProbeGradient]) -> ProbeGradient:
    """That of the mean of several losses, each counted alike: of all domains, each its own.

    Args:
        gradients: at least one, in the same weights.
    """
    n = len(gradients)
    of = {name: torch.stack([one.of[name] for one in gradients]).mean(0) for name in gradients[0].of}
    return ProbeGradient(of, sum(one.loss for one in gradients) / n, sum(one.tokens for one in gradients))


class GradientMeter:
    """Asks one model for gradients of some rows' losses.

    Args:
        subject: gives the model; its weights are whole in each process.
        dataset: prepared rows.
        collator: makes a batch of some of them.
        tokens: tokens of every row, shape (N,).
        peers: the processes that share the work; all of them must ask the same.
        what: these rows, in an error.
    """

    def __init__(
        self,
        subject: Callable[[], Subject],
        dataset: RowSource,
        collator: Collator,
        tokens: IntArray,
        *,
        peers: Peers,
        what: str = "probes",
    ) -> None:
        self.subject, self.dataset, self.collator = subject, dataset, collator
        self.tokens, self.peers, self.what = tokens, peers, what
        self.seconds = 0.0
        self._head_is_last: bool | None = None

    @staticmethod
    def of_probes(trainer: Trainer, probes: Probes, peers: Peers) -> GradientMeter:
        """That of a trainer's probes.

        Args:
            trainer: whose model is asked.
            probes: prepared like its training set.
            peers: ranks.
        """
        dataset, collator = compat.loader_view(trainer, probes.dataset)
        return GradientMeter(partial(compat.subject, trainer), dataset, collator, probes.rows.tokens, peers=peers)

    def gradients(self, groups: Mapping[str, IntArray]) -> dict[str, ProbeGradient]:
        """The gradient of each group's mean loss; every rank calls it.

        Args:
            groups: name → positions in the dataset, each of at least one row with an answer.

        Raises:
            DivergedError: one is NaN or infinite.
        """
        subject, began = self.subject(), time.perf_counter()
        weights = {name: weight for name, weight in subject.model.named_parameters() if weight.requires_grad}
        with undisturbed(subject.model), _checkpointing(subject.model), torch.enable_grad():
            found = {name: self._of_group(subject, weights, rows) for name, rows in groups.items()}
        self.seconds += time.perf_counter() - began
        for name, one in found.items():
            if not math.isfinite(one.loss + one.norm):
                raise DivergedError(
                    f"`{self.what}`: the gradient of the loss of {name!r} must be finite, got NaN or inf. The model "
                    "has diverged: lower the learning rate, or resume from an earlier checkpoint."
                )
        return found

    def _of_group(self, subject: Subject, weights: Mapping[str, torch.nn.Parameter], rows: IntArray) -> ProbeGradient:
        """Gradients of the sums of this rank's batches, added up over all ranks, over the tokens of all."""
        most = BATCH_TOKENS_CPU if subject.device.type == "cpu" else BATCH_TOKENS
        bound = max(1, min(most, LOGIT_BYTES // (4 * subject.vocabulary)))
        parts = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights.values()]
        nats, n = 0.0, 0
        batches = long_rows_first(self.tokens[rows], bound)
        for places in batches[self.peers.rank :: self.peers.world]:
            nll = self._losses(subject, rows[places])
            nats, n = nats + float(nll.detach().double().sum()), n + len(nll)
            found = torch.autograd.grad(nll.sum(), list(weights.values()), allow_unused=True)
            for part, one in zip(parts, found, strict=True):
                if one is not None:
                    part += one  # in place: the sum of half-precision parts is in single
        nats, n = (sum(values) for values in zip(*self.peers.gather((nats, n)), strict=True))
        for part in parts:
            self.peers.add_up(part)
            part /= n
        return ProbeGradient(dict(zip(weights, parts, strict=True)), nats / n, n)

    def _losses(self, subject: Subject, rows: IntArray) -> torch.Tensor:
        """Loss of each answer token of some rows in nats, shape (k,), with its graph.

        The module's `forward` is called, not the module: hooks on it watch training.
        """
        batch = subject.place(self.collator(items(self.dataset, rows.tolist())))
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        head = AnswerHead(subject.head, batch["labels"], places_of(batch)[1], None)
        forward = subject.model.forward
        if self._head_is_last is not False:
            outputs = head.run(forward, inputs)
            if self._head_is_last is None:
                self._head_is_last = head.ends_the_model(outputs)
        if self._head_is_last:
            return head.told()[0]
        # A model that does something after its head: the answer positions go through its own end.
        every = torch.arange(len(head.wanted), device=head.wanted.device)
        return head.of_tokens(logits_of(head.run(forward, inputs, every))[0], head.wanted)[0]


@contextmanager
def _checkpointing(model: torch.nn.Module) -> Iterator[None]:
    """In eval mode, layers whose activations training does not keep do not keep them either."""
    layers: list[Any] = [
        one for one in model.modules() if isinstance(one, GradientCheckpointingLayer) and one.gradient_checkpointing
    ]
    kept = [(one, one._gradient_checkpointing_func) for one in layers]
    try:
        for one in layers:
            one.training = True  # of this module alone
            one._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
        yield
    finally:
        for one, func in kept:
            one.training, one._gradient_checkpointing_func = False, func


def halves(rows: IntArray, seed: int) -> tuple[IntArray, IntArray]:
    """Rows cut in two by chance, the same way every time; the first half has one more of an odd number.

    Args:
        rows: positions, shape (n,), n ≥ 2.
        seed: of the cut.
    """
    dealt = rows[np.argsort(hash_rows(rows, seed), kind="stable")]
    return np.sort(dealt[0::2]), np.sort(dealt[1::2])
