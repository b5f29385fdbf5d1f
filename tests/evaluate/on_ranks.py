"""What each of several processes runs (see `tests.distributed.ranks`); run itself, it is their warm process.

Then lm-eval is imported once for all of them: that takes longer than what they do.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from campus_tune.words.types import Json


def evaluate(data: str, suite: str) -> Json:
    """The results of a tiny model on the tasks of a suite, and what `on_task` was told."""
    from accelerate import Accelerator

    from campus_tune.demo.tiny import tiny_model
    from campus_tune.evaluate.session import Session
    from campus_tune.evaluate.suites import load_suite
    from campus_tune.evaluate.tasks import load_tasks
    from tests.run.tiny_run import tokenizer

    session = Session(load_tasks(load_suite(suite), data, allow_code_execution=True), silent=True)
    told: list[str] = []
    accelerator = Accelerator(cpu=True) if "WORLD_SIZE" in os.environ else None
    found = session.evaluate(
        tiny_model(), tokenizer(), accelerator=accelerator, on_task=lambda name, _: told.append(name)
    )
    return {"results": {name: task.as_json() for name, task in found.items()}, "told": told}


def command(argv: Sequence[object]) -> int:
    """`campus-tune eval` with these words; what is wrong is raised."""
    from campus_tune.cli.main import main

    return main(["--debug", "eval", *map(str, argv)])


def refusal(data: str) -> str:
    """What a session says to a model that FSDP2 has sharded over the processes."""
    from accelerate import Accelerator
    from torch.distributed.fsdp import fully_shard

    from campus_tune.demo.tiny import tiny_model
    from campus_tune.evaluate.session import Session
    from campus_tune.evaluate.suites import load_suite
    from campus_tune.evaluate.tasks import load_tasks
    from campus_tune.words.errors import TrainerError
    from tests.run.tiny_run import tokenizer

    accelerator, model = Accelerator(cpu=True), tiny_model()
    session = Session(load_tasks(load_suite("smoke").narrowed(["arc_easy"], 2), data, allow_code_execution=False))
    for layer in model.model.layers:
        fully_shard(layer)
    try:
        session.evaluate(fully_shard(model), tokenizer(), accelerator=accelerator)
    except TrainerError as error:
        return str(error)
    return "it was evaluated"


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1] / "distributed")
    import ranks

    sys.path[0] = str(ranks.REPOSITORY)
    ranks.find_tests()
    for name in ("evaluate", "lm_eval.models.huggingface", "lm_eval.evaluator"):
        importlib.import_module(name)
    ranks.serve()
