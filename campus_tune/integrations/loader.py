"""The data path: the one object the trainer iterates, which hands over what the curriculum decided.

One torch DataLoader for the whole run, with a mutable batch sampler, iterated anew for each stage: worker look-ahead
never crosses a decision, because the sampler ends where the stage ends. The trainer's loop asks for a stage's last
batch, steps, calls `on_step_end` (where the next stage is decided) and only then asks for more.

Contracts with the trainer (each one was a bug somewhere before it was a contract):

- `len()` is steps per epoch × accumulation, and every rank gets exactly `accumulation` micro batches per step, or the
  trainer loses the last optimizer step after a resume. A step with fewer rows than micro batches is filled with rows
  whose labels are masked: they carry no loss and count no token.
- The position is the number of *finished* steps, which the callback counts, never the number of batches drawn.
- `accelerator.prepare` is not called: ranks are split here, so dispatching, even batches and their repeats never apply.
- Iterating draws nothing from the global random generators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from campus_tune.curriculum import Curriculum
from campus_tune.errors import TrainerError
from campus_tune.integrations.peers import Peers
from campus_tune.integrations.rows import items
from campus_tune.integrations.split import split_step, tokens_by_rank
from campus_tune.types import IntArray, RowArray


class CurriculumLoader:
    """What `get_train_dataloader` returns.

    Args:
        dataset: prepared rows, unused columns removed.
        collator: of the trainer.
        lengths: tokens of every row, shape (N,).
        steps_per_epoch: optimizer steps of one pass.
        accumulation: micro batches per rank and step.
        peers: ranks.
        by_length: split each step by length (the default) or as drawn.
        flat: the collator puts rows behind one another, without padding.
        workers: `num_workers`, `prefetch_factor`, `pin_memory`, … as the trainer's arguments say.
    """

    def __init__(
        self,
        dataset: Any,
        collator: Callable[[list[Any]], Any],
        *,
        lengths: IntArray,
        steps_per_epoch: int,
        accumulation: int,
        peers: Peers,
        by_length: bool,
        flat: bool = False,
        workers: dict[str, Any],
    ) -> None:
        self.dataset = dataset
        self.lengths, self.accumulation, self.peers = lengths, accumulation, peers
        self.by_length, self.flat = by_length, flat
        self.steps_per_epoch = steps_per_epoch
        self.curriculum: Curriculum | None = None
        self.run: Any = None  # the CampusRun that made it
        self._sampler = _StageSampler()
        self.rows = _Rows(dataset)
        self._make_inner = partial(
            DataLoader,
            self.rows,
            batch_sampler=self._sampler,
            collate_fn=_Collate(collator),  # type: ignore[arg-type]  # torch's stub knows no __getitems__ protocol
            persistent_workers=workers["num_workers"] > 0,
            **workers,
        )
        self._inner: DataLoader[Any] | None = None

    def __len__(self) -> int:
        return self.steps_per_epoch * self.accumulation

    def micro_batches(self, rows: RowArray) -> list[list[int]]:
        """What this rank trains of one step's rows: row positions, one list per accumulation step.

        A micro batch that would be empty holds one filling row, written as its complement `~row`.
        """
        mine = [parts[self.peers.rank] for parts in self._split(rows)]
        return [part.tolist() if len(part) else [~int(rows[0])] for part in mine]

    def tokens_by_rank(self, rows: RowArray) -> IntArray:
        """Tokens that each rank's forwards of one step see: the rows' own, and with padding; shape (2, world)."""
        return tokens_by_rank(self._split(rows), self.lengths, padded=not self.flat)

    def _split(self, rows: RowArray) -> list[list[RowArray]]:
        return split_step(
            rows, self.lengths, accumulation=self.accumulation, world=self.peers.world, by_length=self.by_length
        )

    def close(self) -> None:
        """End the workers, if there are any; iterating starts new ones.

        Left to the garbage collector, torch's loader waits five seconds for each: by then the queues are closed through
        which it would tell them to end.
        """
        self._inner = None

    def __iter__(self) -> Iterator[Any]:
        curriculum = self.curriculum
        if curriculum is None:
            raise TrainerError(
                "the curriculum must be planned before its loader is read, got a read first. Let trainer.train() "
                "drive it, with its CampusCallback in place; to look at a plan use `campus-tune simulate`."
            )
        end = curriculum.epoch_end
        while curriculum.step < min(end, curriculum.last_step):
            if curriculum.needs_decision or curriculum.stage is None:
                raise TrainerError(
                    f"the stage after step {curriculum.step} must be decided before its rows are read, got none. "
                    "The CampusCallback was removed from the trainer, or on_step_end was not called: add it back."
                )
            last = min(end, curriculum.stage.first_step + curriculum.stage.n_steps)
            self._sampler.batches = [
                batch
                for step in range(curriculum.step, last)
                for batch in self.micro_batches(curriculum.step_rows(step))
            ]
            if self._inner is None:  # its own generator, else each iteration would draw from the global one
                self._inner = self._make_inner(generator=torch.Generator().manual_seed(0))
            yield from self._inner
            if curriculum.step < last:
                raise TrainerError(
                    f"the rows of steps {curriculum.step} to {last - 1} must be trained before more are asked for, got "
                    "a read ahead. Take off whatever wraps trainer.get_train_dataloader and prefetches "
                    "(dataloader_num_workers is fine), or put the CampusCallback back if it was removed."
                )


class _StageSampler(Sampler[list[int]]):
    """Batches of the current stage. Mutable, so that the DataLoader around it lives as long as the run."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Rows(Dataset[Any]):
    """Rows by position; hands the collator the rows and whether they are filling."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]

    def __getitems__(self, indices: list[int]) -> tuple[list[Any], bool]:
        filling = indices[0] < 0
        return items(self.dataset, [~index if filling else index for index in indices]), filling


class _Collate:
    """The trainer's collator; a filling batch has its labels masked."""

    def __init__(self, collator: Callable[[list[Any]], Any]) -> None:
        self.collator = collator

    def __call__(self, items: tuple[list[Any], bool]) -> Any:
        rows, filling = items
        batch = self.collator(rows)
        if filling:
            batch["labels"] = torch.full_like(batch["labels"], -100)
        return batch
