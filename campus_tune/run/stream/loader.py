"""The data path: the one object the trainer iterates, which hands over what the curriculum decided.

One torch DataLoader for the whole run, with a mutable batch sampler, iterated anew for each stage: worker look-ahead
never crosses a decision, because the sampler ends where the stage ends. The trainer's loop asks for a stage's last
batch, steps, calls `on_step_end` (where the next stage is decided) and only then asks for more.

Contracts with the trainer (each one was a bug somewhere before it was a contract):

- `len()` is the micro batches of an epoch, as the trainer's own loader has them: an epoch's last step may have fewer
  than `accumulation`, so what the trainer averages over micro batches, and `epoch` in its log, are as without us. A
  resume inside an epoch must tell the trainer's loop how many are left (`compat.resumed_inside_an_epoch`), or that
  short step is lost.
- Every rank gets as many micro batches. Where the last of them has fewer rows than there are ranks, a rank without a
  row takes part with a filling row, of which nothing is counted or trained (`filling`). One process never needs it.
- The position is the number of *finished* steps, which the callback counts, never the number of batches drawn.
- `accelerator.prepare` is not called: ranks are split here, so dispatching, even batches and their repeats never apply.
- Iterating draws nothing from the global random generators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from campus_tune.data.prepared import items
from campus_tune.data.token_hashes import IGNORED
from campus_tune.method.curriculum import Curriculum
from campus_tune.model.peers import Peers
from campus_tune.run.stream.filling import emptied, note_share
from campus_tune.run.stream.micro_batches import Cut, n_micro_batches, split_step, tokens_by_rank
from campus_tune.words.errors import TrainerError
from campus_tune.words.types import IntArray, RowArray, RowSource

KEPT = 64  # cuts of steps that are remembered: those that workers have been asked for ahead are among them
TOGETHER = 8  # steps that are cut at a time


def batches_of_epoch(steps: int, accumulation: int, short: int) -> int:
    """Micro batches of an epoch on one rank.

    Args:
        steps: optimizer steps of it.
        accumulation: micro batches of a full one.
        short: of the last one where it is none, else 0.
    """
    return (steps - 1) * accumulation + (short or accumulation)


class CurriculumLoader:
    """What `get_train_dataloader` returns.

    Args:
        dataset: prepared rows, unused columns removed.
        collator: of the trainer.
        lengths: tokens of every row, shape (N,).
        steps_per_epoch: optimizer steps of one pass.
        accumulation: micro batches per rank and full step.
        micro: rows of a full micro batch on one rank.
        short_rows: rows of an epoch's last step where it is not a full one, else 0.
        peers: ranks.
        cut: how a step is cut into micro batches.
        flat: the collator puts rows behind one another, without padding.
        multiple: of which the collator makes the length of a padded batch one.
        workers: `num_workers`, `prefetch_factor`, `pin_memory`, … as the trainer's arguments say.
    """

    def __init__(
        self,
        dataset: RowSource,
        collator: Callable[[list[Any]], Any],
        *,
        lengths: IntArray,
        steps_per_epoch: int,
        accumulation: int,
        micro: int,
        short_rows: int = 0,
        peers: Peers,
        cut: Cut,
        flat: bool = False,
        multiple: int = 1,
        workers: dict[str, Any],
    ) -> None:
        self.dataset = dataset
        self.lengths, self.accumulation, self.peers = lengths, accumulation, peers
        self.micro, self.cut, self.flat, self.multiple = micro, cut, flat, multiple
        self.steps_per_epoch, self.short_rows = steps_per_epoch, short_rows
        short = n_micro_batches(short_rows, micro=micro, world=peers.world)
        self.batches_per_epoch = batches_of_epoch(steps_per_epoch, accumulation, short)
        self.counts_down = False  # whether `len` is what is left of the epoch that the run is in
        self.curriculum: Curriculum | None = None
        self.run: object = None  # the CampusRun that asked for it
        self._cuts: dict[bytes, _Cut] = {}
        self._sampler = _StageSampler()
        self.rows = _Rows(dataset)
        self._collate = _Collate(collator)
        self._make_inner = partial(
            DataLoader,
            self.rows,
            batch_sampler=self._sampler,  # type: ignore[arg-type]  # torch's stub wants lists, its fetcher hands on
            collate_fn=self._collate,  # type: ignore[arg-type]  # torch's stub knows no __getitems__ protocol
            persistent_workers=workers["num_workers"] > 0,
            **workers,
        )
        self._inner: DataLoader[Any] | None = None

    def __len__(self) -> int:
        if not self.counts_down or self.curriculum is None:
            return self.batches_per_epoch
        return self.batches_per_epoch - self.curriculum.steps_in_epoch * self.accumulation

    def epoch_after(self, place: int) -> float:
        """Epochs that have passed at `Curriculum.place`, in micro batches, as the trainer itself counts them."""
        epoch, before = divmod(place - 1, self.steps_per_epoch)
        return epoch + min((before + 1) * self.accumulation, self.batches_per_epoch) / self.batches_per_epoch

    def micro_batches(self, rows: RowArray) -> list[list[int]]:
        """What this rank trains of one step's rows: row positions, one list per accumulation step.

        A micro batch without a row for this rank holds one filling row, written as its complement `~row`.
        """
        return [batch.rows for batch in self._batches(rows)]

    def fills(self) -> bool:
        """Whether some rank lacks a row in some micro batch of an epoch's last step."""
        if not self.short_rows:
            return False
        last = self._split(np.arange(self.short_rows, dtype=np.int32))
        return any(len(part) == 0 for parts in last for part in parts)

    def _batches_of_steps(self, curriculum: Curriculum, first: int, end: int) -> Iterator[_Batch]:
        """Those of some steps of the current stage, a few steps cut when the first batch of them is asked for.

        One after another they take a third of what each takes between two forwards, when caches are full of weights.
        """
        for start in range(first, end, TOGETHER):
            steps = [curriculum.step_rows(step) for step in range(start, min(start + TOGETHER, end))]
            for batches in [self._batches(rows) for rows in steps]:
                yield from batches

    def _batches(self, rows: RowArray) -> list[_Batch]:
        """The same, with how many ranks have rows in each."""
        batches = []
        for parts in self._split(rows):
            mine = parts[self.peers.rank]
            share = self.peers.world / sum(len(part) > 0 for part in parts)
            batches.append(_Batch(mine.tolist() if len(mine) else [~int(rows[0])], share))
        return batches

    def labels_in(self, batches: list[list[int]]) -> list[int]:
        """Tokens that carry loss in each of these micro batches, read and collated once more."""
        made = [self._collate(self.rows.__getitems__(_Batch(batch))) for batch in batches]
        return [int((batch["labels"][..., 1:] != IGNORED).sum()) for batch in made]

    def tokens_by_rank(self, rows: RowArray) -> IntArray:
        """Tokens that each rank's forwards of one step see: the rows' own, and with padding; shape (2, world)."""
        return self._cut(rows).tokens

    def _split(self, rows: RowArray) -> list[list[RowArray]]:
        return self._cut(rows).parts

    def _cut(self, rows: RowArray) -> _Cut:
        """How a step is cut, for all ranks; it is asked several times while the step is read, trained and compared."""
        key = rows.tobytes()
        if key not in self._cuts:
            if len(self._cuts) == KEPT:
                del self._cuts[next(iter(self._cuts))]
            dealt = {"micro": self.micro, "world": self.peers.world, "multiple": self.multiple}
            parts = split_step(rows, self.lengths, cut=self.cut, **dealt)
            tokens = tokens_by_rank(parts, self.lengths, padded=not self.flat, multiple=self.multiple)
            self._cuts[key] = _Cut(parts, tokens)
        return self._cuts[key]

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
                "drive it, with its CampusCallback in place; to look at a batch ask for it before train(), and at a "
                "plan use `campus-tune simulate`."
            )
        end = curriculum.epoch_end
        while curriculum.step < min(end, curriculum.last_step):
            if curriculum.needs_decision or curriculum.stage is None:
                raise TrainerError(
                    f"the stage after step {curriculum.step} must be decided before its rows are read, got none. "
                    "The CampusCallback was removed from the trainer, or on_step_end was not called: add it back."
                )
            last = min(end, curriculum.stage.first_step + curriculum.stage.n_steps)
            self._sampler.batches = partial(self._batches_of_steps, curriculum, curriculum.step, last)
            if self._inner is None:  # its own generator, else each iteration would draw from the global one
                self._inner = self._make_inner(generator=torch.Generator().manual_seed(0))
            yield from self._inner
            if curriculum.step < last:
                raise TrainerError(
                    f"the rows of steps {curriculum.step} to {last - 1} must be trained before more are asked for, got "
                    "a read ahead. Take off whatever wraps trainer.get_train_dataloader and prefetches "
                    "(dataloader_num_workers is fine), or put the CampusCallback back if it was removed."
                )


class _Batch(NamedTuple):
    """What the inner loader is asked for.

    Args:
        rows: their positions; the complement of one for a filling batch.
        share: ranks over ranks that have rows.
    """

    rows: list[int]
    share: float = 1.0


class _Cut(NamedTuple):
    """One step, cut.

    Args:
        parts: rows of each rank in each accumulation step.
        tokens: of each rank, as `tokens_by_rank` gives them.
    """

    parts: list[list[RowArray]]
    tokens: IntArray


class _StageSampler(Sampler[_Batch]):
    """Batches of the current stage. Mutable, so that the DataLoader around it lives as long as the run."""

    def __init__(self) -> None:
        self.batches: Callable[[], Iterator[_Batch]] = partial(iter, ())

    def __iter__(self) -> Iterator[_Batch]:
        return self.batches()


class _Rows(Dataset[Any]):
    """Rows by position; hands the collator the rows and their part, 0 for a filling one."""

    def __init__(self, dataset: RowSource) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]

    def __getitems__(self, batch: _Batch) -> tuple[list[Any], float]:
        filling = batch.rows[0] < 0
        rows = items(self.dataset, [~row if filling else row for row in batch.rows])
        return rows, 0.0 if filling else batch.share


class _Collate:
    """The trainer's collator; what it makes is marked where some rank has no row."""

    def __init__(self, collator: Callable[[list[Any]], Any]) -> None:
        self.collator = collator

    def __call__(self, items: tuple[list[Any], float]) -> Any:
        rows, share = items
        batch = self.collator(rows)
        if share == 0.0:
            return emptied(batch)
        return batch if share == 1.0 else note_share(batch, share)
