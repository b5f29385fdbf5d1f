"""A round: the least that begins and ends both with a generation and with an optimizer step.

TRL's trainers for reward answer many prompts at a time, each a few times over, and train the answers in several micro
batches, perhaps more than once. How many micro batches one generation lasts and how many one optimizer step takes are
two settings. A round is the longer of the two, which must be a multiple of the other; the curriculum counts in rounds,
so a stage never ends inside of a generation, nor inside of an optimizer step.

    steps_per_generation 4, accumulation 2     a round is one generation, two optimizer steps
    steps_per_generation 1, accumulation 2     a round is two generations, one optimizer step

>>> rounds = Rounds(prompts=8, group=4, micro_rows=8, world=1, steps_per_generation=4, iterations=1, accumulation=2)
>>> rounds.micro_batches, rounds.generations, rounds.steps, rounds.global_batch, rounds.local_rows
(4, 1, 2, 8, 32)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from campus_tune.words.errors import TrainerError
from campus_tune.words.types import Json, RowArray


@dataclass(frozen=True)
class Rounds:
    """How a trainer cuts its prompts into generations and these into optimizer steps.

    Args:
        prompts: P, answered in one generation, on all ranks together.
        group: G, answers to each prompt.
        micro_rows: answers of a micro batch on one rank.
        world: ranks.
        steps_per_generation: micro batches that the answers of one generation fill.
        iterations: times that each of them is trained.
        accumulation: micro batches of an optimizer step.

    Raises:
        TrainerError: a generation and an optimizer step do not divide one another.
    """

    prompts: int
    group: int
    micro_rows: int
    world: int
    steps_per_generation: int
    iterations: int
    accumulation: int

    def __post_init__(self) -> None:
        lasts, takes = self.micro_per_generation, self.accumulation
        if lasts % takes and takes % lasts:
            of = f"steps_per_generation {self.steps_per_generation} × num_iterations {self.iterations}"
            spans = (takes * k for k in range(1, self.group + 1))
            whole = next(k for k in spans if self.micro_rows * self.world * k % self.group == 0)
            raise TrainerError(
                f"a generation and an optimizer step must divide one another, got {of} = {lasts} micro batches a "
                f"generation and gradient_accumulation_steps {takes}: no stage could end with both. Set "
                f"gradient_accumulation_steps={lasts}, or steps_per_generation={whole}."
            )

    @property
    def micro_per_generation(self) -> int:
        """Micro batches that one generation lasts."""
        return self.steps_per_generation * self.iterations

    @property
    def micro_batches(self) -> int:
        """Micro batches of a round."""
        return max(self.micro_per_generation, self.accumulation)

    @property
    def generations(self) -> int:
        """Generations of a round."""
        return self.micro_batches // self.micro_per_generation

    @property
    def steps(self) -> int:
        """Optimizer steps of a round."""
        return self.micro_batches // self.accumulation

    @property
    def global_batch(self) -> int:
        """Prompts of a round, on all ranks together."""
        return self.prompts * self.generations

    @property
    def local_rows(self) -> int:
        """Answers of one generation that one rank makes."""
        return self.micro_rows * self.steps_per_generation

    def of_generation(self, rows: RowArray, number: int) -> RowArray:
        """The prompts of one generation of a round, shape (P,).

        Args:
            rows: of the round, shape (global_batch,).
            number: of the generation, counted from the run's first.
        """
        first = number % self.generations * self.prompts
        return rows[first : first + self.prompts]

    def on_rank(self, rows: RowArray, rank: int) -> RowArray:
        """The prompt of each answer that one rank makes, each G times in a row, shape (local_rows,).

        Args:
            rows: prompts of the generation, shape (P,).
            rank: that asks.
        """
        return np.repeat(rows, self.group)[rank * self.local_rows : (rank + 1) * self.local_rows]

    def record(self) -> Json:
        """As the ledger and a checkpoint hold it."""
        sizes = {"prompts": self.prompts, "group": self.group, "world": self.world, "micro": self.micro_rows}
        return {
            **sizes,
            "steps_per_generation": self.steps_per_generation,
            "iterations": self.iterations,
            "accumulation": self.accumulation,
        }
