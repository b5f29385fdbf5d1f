"""The data path of prompts: what the trainer's loop is handed in place of TRL's own loader.

For each micro batch it yields this rank's part of the generation that is in progress, as TRL's own loader does: a list
of rows, each prompt G times in a row. The trainer answers them once, and takes parts of what it answered from then on.

Contracts with the trainer's loop:

- `len()` is the micro batches of an epoch on this rank, whole rounds: the trainer counts steps and epochs by it. The
  prompts that would fill no round wait for the next epoch.
- TRL's `_get_train_sampler` is never asked: it lays out an epoch before its first step.
- The position is the number of *finished* optimizer steps, which the callback counts: rounds in the curriculum, and
  steps of the one in progress. After a resume the first micro batches of that round are left out.
- Every row is read anew each time, because whoever gets it may write into it.
- A round is yielded once its stage is decided: nothing is read ahead over the end of one.
- Iterating draws nothing from the global random generators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from campus_tune.data.prepared import CHUNK, items
from campus_tune.method.curriculum import Curriculum
from campus_tune.method.rounds import Rounds
from campus_tune.model.peers import Peers
from campus_tune.run.look import SAID
from campus_tune.words.console import say
from campus_tune.words.errors import TrainerError
from campus_tune.words.types import RowArray, RowSource


class PromptLoader:
    """What `get_train_dataloader` returns to a trainer that is driven by reward.

    Args:
        dataset: of prompts, unused columns removed.
        rounds: how they are cut.
        rounds_per_epoch: at least one.
        peers: ranks.
    """

    def __init__(self, dataset: RowSource, rounds: Rounds, *, rounds_per_epoch: int, peers: Peers) -> None:
        self.dataset, self.rounds, self.peers = dataset, rounds, peers
        self.rounds_per_epoch = rounds_per_epoch
        self.curriculum: Curriculum | None = None
        self.steps_inside: Callable[[], int] = int  # optimizer steps of the round in progress that are finished
        self.counts_down = False  # whether `len` is what is left of the epoch that the run is in
        self.run: object = None  # the PromptRun that asked for it

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch."""
        return self.rounds_per_epoch * self.rounds.steps

    def __len__(self) -> int:
        left = self.rounds_per_epoch * self.rounds.micro_batches
        if self.counts_down and self.curriculum is not None:
            left -= self.curriculum.steps_in_epoch * self.rounds.micro_batches + self._first()
        return left

    def _first(self) -> int:
        """Micro batches of the round in progress that are trained."""
        return self.steps_inside() * self.rounds.accumulation

    def each(self) -> Iterator[Mapping[str, Any]]:
        """Every prompt as it is handed over, in the sequence of the data set."""
        for start in range(0, len(self.dataset), CHUNK):
            yield from items(self.dataset, range(start, min(start + CHUNK, len(self.dataset))))

    def planned(self, generation: int) -> RowArray:
        """The prompts of one generation of the current stage, shape (P,), of all ranks.

        Args:
            generation: counted from the run's first.
        """
        assert self.curriculum is not None, "a generation is asked for once its stage is planned"
        rows = self.curriculum.step_rows(generation // self.rounds.generations)
        return self.rounds.of_generation(rows, generation)

    def _batch(self, number: int, micro: int) -> list[Any]:
        """What this rank is handed for one micro batch of a round."""
        generation = number * self.rounds.generations + micro // self.rounds.micro_per_generation
        rows = self.rounds.on_rank(self.planned(generation), self.peers.rank)
        return list(items(self.dataset, rows.tolist()))

    def __iter__(self) -> Iterator[list[Any]]:
        curriculum = self.curriculum
        if curriculum is None:
            raise TrainerError(
                "the curriculum must be planned before its loader is read, got a read first. Let trainer.train() "
                "drive it, with its CampusCallback in place; to look at prompts read trainer.train_dataset."
            )
        end = min(curriculum.epoch_end, curriculum.last_step)
        while curriculum.step < end:
            if curriculum.needs_decision:
                raise TrainerError(
                    f"the stage after round {curriculum.step} must be decided before its prompts are read, got none. "
                    "The CampusCallback was removed from the trainer, or on_step_end was not called: add it back."
                )
            now = curriculum.step
            for micro in range(self._first(), self.rounds.micro_batches):
                yield self._batch(now, micro)
            if curriculum.step == now:
                raise TrainerError(
                    f"the prompts of round {now} must be trained before more are asked for, got a read ahead. Take "
                    "off whatever wraps trainer.get_train_dataloader and prefetches, or put the CampusCallback back if "
                    "it was removed."
                )


class SamplePrompts:
    """Batches like those that will be answered, in the sequence of the data set: for somebody who wants to look.

    Args:
        dataset: of prompts, unused columns removed.
        rounds: how they are cut.
        peers: ranks, each of which sees answers of its own.
    """

    def __init__(self, dataset: RowSource, rounds: Rounds, *, peers: Peers) -> None:
        self.dataset, self.rounds, self.peers = dataset, rounds, peers

    def __len__(self) -> int:
        return len(self.dataset) // self.rounds.prompts

    def __iter__(self) -> Iterator[list[Any]]:
        if self.peers.leads:
            say(SAID)
        for number in range(len(self)):
            first = number * self.rounds.prompts
            rows = np.arange(first, first + self.rounds.prompts, dtype=np.int32)
            yield list(items(self.dataset, self.rounds.on_rank(rows, self.peers.rank).tolist()))
