"""Official tasks on the model in training, every few stages: they watch a run and never steer it.

The live model with its adapter is asked, no copy of it; random states, modes and gradients are as before afterwards,
so a run trains the same with and without. What it costs is no part of the curriculum's bill: the ledger has its seconds
apart.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.model import compat
from campus_tune.model.peers import Peers
from campus_tune.recipe.blocks import EvaluateSettings
from campus_tune.words.errors import TrainerError
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import Trainer

    from campus_tune.evaluate.results import TaskResult


class Evaluator:
    """The evaluations of one run.

    Args:
        settings: of the recipe; None evaluates nothing.
        trainer: whose model is asked.
        peers: ranks; the documents are shared among them.
        folder: where each evaluation's scores of every document are written.

    Raises:
        RecipeError: an unknown suite or task, a task that runs code without permission, lm-eval is not installed.
        DataError: the data folder lacks something.
        TrainerError: the model is sharded, so it cannot write from inside of training.
    """

    def __init__(self, settings: EvaluateSettings | None, trainer: Trainer, peers: Peers, folder: Path) -> None:
        self.trainer, self.peers, self.folder = trainer, peers, folder
        self._every = 0 if settings is None else settings.every  # stages; 0: never
        if settings is None:
            return
        from campus_tune.evaluate.session import Session
        from campus_tune.evaluate.suites import load_suite
        from campus_tune.evaluate.tasks import load_tasks

        if compat.subject(trainer).sharded:
            raise TrainerError(
                "`evaluate` must have the whole model in each process, got one that is sharded (FSDP, ZeRO 3). Remove "
                "it, and evaluate the checkpoints afterwards: campus-tune eval --checkpoints OUTPUT_DIR/checkpoint-*."
            )
        suite = load_suite(settings.suite).narrowed(settings.tasks, settings.limit)
        loaded = load_tasks(suite, settings.data, allow_code_execution=settings.allow_code_execution)
        self._suite, self._session = settings.suite, Session(loaded)

    def due(self, n_stages: int, *, ends: bool = False) -> bool:
        """Whether there is one before stage `n_stages`, or (`ends`) after the last."""
        return self._every > 0 and (ends or n_stages % self._every == 0)

    def evaluate(self, n_stages: int) -> Json:
        """What the suite reports of every task now, as the ledger has it.

        All metrics are in the run's folder, with the scores of each document.

        Args:
            n_stages: stages that were trained.
        """
        began = time.perf_counter()
        results = self.results(f"stage-{n_stages:05d}")
        scores = {
            name: {metric: result.metrics[metric] for metric in self.reported(name, result)}
            for name, result in results.items()
        }
        return {"suite": self._suite, "scores": scores, "seconds": time.perf_counter() - began}

    def results(self, name: str) -> dict[str, TaskResult]:
        """Every task's result now, with the scores of each document; written to the run's folder too.

        Args:
            name: of the file.
        """
        from campus_tune.evaluate.results import Result, made_with, write_result

        results: dict[str, TaskResult] = self._session.evaluate(
            compat.unwrapped(self.trainer), compat.tokenizer_of(self.trainer), accelerator=self.trainer.accelerator
        )
        if self.peers.leads:
            model = {"name": str(self.trainer.args.output_dir), "adapter": None, "weights": None}
            result = Result({**model, "step": self.trainer.state.global_step}, made_with(), results)
            write_result(self.folder / f"{name}.json", result)
        return results

    def reported(self, task: str, result: TaskResult) -> list[str]:
        """The metrics that the suite reports of a task, of those that it has."""
        return [metric for metric in self._session.loaded.suite.task(task).metrics if metric in result.metrics]
