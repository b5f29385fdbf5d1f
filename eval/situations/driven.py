"""TRL's trainer with another hand on the wheel: which rows come next, and how much they count.

For peers that are no part of ours. `Driven` overrides methods of a trainer as a user would, and writes down what is
trained. Nothing of our own machine is in it but the measuring: no callback, no plan, no audit.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from campus_tune.compare.recorder import Recorder
from campus_tune.method.budget import forward_ratio
from campus_tune.model import compat
from campus_tune.model.row_sums import batch_sums
from campus_tune.words.types import IntArray


class Peer:
    """What drives: a peer overrides what it has a say in."""

    def begin(self, driven: Driven) -> None:
        """The trainer is made, and no step trained."""
        self.driven, self.trainer = driven, driven.trainer

    def rows(self, step: int) -> Sequence[int] | None:
        """The rows to train from this step on, in any sequence; None: go on as before, or as the trainer would."""
        del step
        return None

    def weighted(self, losses: Any, rows: Sequence[int], model: Any, batch: Any) -> Any:
        """What to minimise, of the mean loss of each row of a batch; None: TRL's own loss."""
        del losses, rows, model, batch
        return None

    def trained(self, rows: Sequence[int], batch: Any, loss: float) -> None:
        """A batch was trained, at this mean loss of its tokens."""


class Driven:
    """A trainer that a peer drives, and what was trained.

    Args:
        trainer: an SFTTrainer.
        peer: what drives; one that has no say leaves the trainer as it comes.
    """

    def __init__(self, trainer: Any, peer: Peer) -> None:
        everything, trained = compat.parameter_counts(compat.model_of(trainer))
        self.trainer, self.peer = trainer, peer
        self.ratio = forward_ratio(everything, trained, checkpointing=compat.checkpoints_activations(trainer))
        self.visits: list[tuple[IntArray, Any, int]] = []  # of each batch: rows, their losses, all of its tokens
        self.asked = 0.0  # what the peer asked of models, in training tokens
        self.seconds = 0.0  # that it took
        self._thinking = False
        self._place: dict[tuple[int, ...], int] = {}
        for place, ids in enumerate(trainer.train_dataset["input_ids"]):
            self._place.setdefault(tuple(ids), place)
        self._loss, self._step, self._loader = trainer.compute_loss, trainer.training_step, trainer.get_train_dataloader
        trainer.compute_loss, trainer.training_step = self._compute_loss, self._training_step
        trainer.get_train_dataloader = self._get_train_dataloader
        self._outputs: Any = None  # of the trainer's own forward, last
        trainer.model.register_forward_hook(self._keep)
        self.watch(trainer.model)
        peer.begin(self)

    def watch(self, model: Any) -> None:
        """Charge what the peer asks of this model."""
        model.register_forward_pre_hook(self._charge, with_kwargs=True)

    @contextlib.contextmanager
    def thinking(self) -> Iterator[None]:
        """It is the peer that asks the model, and whose time it is."""
        began, self._thinking = time.perf_counter(), True
        try:
            yield
        finally:
            self._thinking = False
            self.seconds += time.perf_counter() - began

    def places(self, batch: Any) -> IntArray:
        """Which rows a batch holds; of rows that are alike, the first."""
        seen = zip(batch["input_ids"], batch["attention_mask"].bool(), strict=True)
        return np.array([self._place[tuple(ids[mask].tolist())] for ids, mask in seen])

    def _charge(self, model: Any, args: Any, given: Any) -> None:
        """A forward's tokens: a third of what training costs (half, with a LoRA), or all of it with a backward."""
        del model
        if self._thinking:
            mask = given.get("attention_mask")
            tokens = int(mask.sum()) if mask is not None else (args[0] if args else given["input_ids"]).numel()
            self.asked += tokens * (1.0 if torch.is_grad_enabled() else self.ratio)

    def _keep(self, model: Any, args: Any, outputs: Any) -> None:
        del model, args
        if not self._thinking:
            self._outputs = outputs

    # -- what the trainer calls ----------------------------------------------------------------------------------------

    def _get_train_dataloader(self) -> Any:
        with self.thinking():
            first = self.peer.rows(0)
        if first is None:
            return self._loader()
        dataset, collator = compat.loader_view(self.trainer, self.trainer.train_dataset)
        # not prepared by accelerate, which takes a batch too many: rows are chosen once the step before was trained
        return torch.utils.data.DataLoader(dataset, batch_sampler=_Batches(self, first), collate_fn=collator)

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **more: Any) -> Any:
        batch = dict(inputs)
        loss = self._loss(model, inputs, return_outputs, **more)
        outputs, self._outputs = self._outputs, None
        rows = self.places(batch)
        self.visits.append((rows, batch_sums(outputs, batch), int(batch["attention_mask"].sum())))
        means = -outputs.log_probs.sum(1) / outputs.label_mask.sum(1).clamp(min=1)
        with self.thinking():
            weighted = self.peer.weighted(means, rows.tolist(), model, batch)
        return loss if weighted is None else weighted / self.trainer.args.gradient_accumulation_steps

    def _training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        batch = dict(inputs)
        loss = self._step(model, inputs, num_items_in_batch)
        rows, sums, _ = self.visits[-1]
        with self.thinking():
            self.peer.trained(rows.tolist(), batch, float(sums.nll.sum() / sums.tokens.sum()))
        return loss


class _Batches:
    """Batches of the rows that a peer names, drawn without replacement until it names others."""

    def __init__(self, driven: Driven, first: Sequence[int]) -> None:
        self.driven, self.first = driven, first

    def __len__(self) -> int:
        args = self.driven.trainer.args
        return int(args.max_steps * args.gradient_accumulation_steps)

    def __iter__(self) -> Iterator[list[int]]:
        trainer, pool, left = self.driven.trainer, list(self.first), []
        args = trainer.args
        for i in range(len(self)):
            step, inside = divmod(i, args.gradient_accumulation_steps)
            if i and not inside:
                with self.driven.thinking():
                    named = self.driven.peer.rows(step)
                pool, left = (pool, left) if named is None else (list(named), [])
            batch: list[int] = []
            while len(batch) < args.per_device_train_batch_size:
                if not left:  # shuffled anew, also where a pool is trained a second time
                    left = [pool[j] for j in np.random.default_rng([args.seed, i, len(batch)]).permutation(len(pool))]
                batch.append(left.pop())
            yield batch


class DrivenRecorder(Recorder):
    """`compare`'s recorder for a trainer without a run of ours."""

    driven: Driven
    _told = 0  # batches

    def drive(self, driven: Driven) -> None:
        """Whom to record; call it before `trainer.train()`."""
        self.driven = driven
        self._follow(driven.trainer)

    def _follow(self, trainer: Any) -> None:
        follow: Callable[..., None] = super().follow
        follow(trainer, None)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        """The learning rate; what is trained, the trainer says."""
        del args, state, control
        self.learning_rates.append(compat.learning_rate(self.trainer))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: object
    ) -> None:
        """What was trained, and a point of the curve, if it is one."""
        parts = self.driven.visits[self._told :]
        self._told += len(parts)
        self.visits.append(np.concatenate([rows for rows, _, _ in parts]))
        self.tokens += sum(tokens for _, _, tokens in parts)
        super().on_step_end(args, state, control, **more)
