"""A bare trainer of trl with a plan of its own, heard and audited without a curriculum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from transformers import TrainerCallback

from campus_tune.run.prompts.audit import PromptAudit, row_keys
from campus_tune.run.prompts.rewards import Heard, RewardWatch
from campus_tune.words.types import RowArray


class PlannedRun(TrainerCallback):
    """A few generations of a plan, which goes from the last row to the first, and what was heard of them.

    Args:
        trainer: that is to train them; `train` may be called again.
        n: generations.
        change: what becomes of a micro batch on its way: (its number, its rows) → rows.
        before_step: called as each optimizer step begins.
    """

    def __init__(
        self,
        trainer: Any,
        n: int = 2,
        *,
        change: Callable[[int, list[Any]], list[Any]] | None = None,
        before_step: Callable[[int], None] | None = None,
    ) -> None:
        args = trainer.args
        self.trainer, self.change, self.before_step = trainer, change, before_step
        self.lasts = args.steps_per_generation * trainer.num_iterations
        self.local = args.per_device_train_batch_size * args.steps_per_generation
        prompts = args.generation_batch_size // trainer.num_generations
        self.rows = np.arange(n * prompts, 0, -1).reshape(n, prompts) % len(trainer.train_dataset)
        self.heard: list[Heard] = []
        args.max_steps = n * self.lasts // args.gradient_accumulation_steps
        trainer._step, trainer._buffered_inputs = 0, None
        self.audit = PromptAudit(trainer, trainer.train_dataset, row_keys(trainer.train_dataset), self.planned)
        self.watch = RewardWatch.on(trainer, self.heard.append, self.planned)

    def planned(self, generation: int) -> RowArray:
        return self.rows[generation].astype(np.int32)

    def train(self) -> PlannedRun:
        trainer = self.trainer
        trainer.get_train_dataloader = lambda: self
        trainer.add_callback(self)
        try:
            trainer.train()
        finally:
            trainer.remove_callback(self)
            del trainer.get_train_dataloader
            self.watch.close()
            self.audit.close()
        return self

    def __len__(self) -> int:
        return len(self.rows) * self.lasts

    def __iter__(self) -> Iterator[list[Any]]:
        first = self.trainer.accelerator.process_index * self.local
        for micro in range(len(self)):
            rows = np.repeat(self.planned(micro // self.lasts), self.trainer.num_generations)
            batch = [self.trainer.train_dataset[int(row)] for row in rows[first : first + self.local]]
            yield batch if self.change is None else self.change(micro, batch)

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        del args, control, given
        if self.before_step is not None:
            self.before_step(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        del args, control, given
        self.audit.settle(state.global_step)
