"""What each of several processes runs (see `tests.distributed.ranks`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from campus_tune.types import Json


def evaluate(data: str, tasks: list[str], limit: int | None = None) -> Json:
    """The results of a tiny model on some tasks of the suite smoke, and what `on_task` was told."""
    from accelerate import Accelerator

    from campus_tune.demo.tiny import tiny_model
    from campus_tune.evaluation.session import Session
    from campus_tune.evaluation.suites import load_suite
    from campus_tune.evaluation.tasks import load_tasks
    from tests.integration.tiny_run import tokenizer

    suite = load_suite("smoke").narrowed(tasks, limit)
    suite = replace(suite, tasks=tuple(replace(task, max_gen_toks=task.max_gen_toks and 8) for task in suite.tasks))
    session = Session(load_tasks(suite, data, allow_code_execution=True), silent=True)
    told: list[str] = []
    found = session.evaluate(
        tiny_model(), tokenizer(), accelerator=Accelerator(cpu=True), on_task=lambda name, _: told.append(name)
    )
    return {"results": {name: task.as_json() for name, task in found.items()}, "told": told}


def command(argv: Sequence[object]) -> int:
    """`campus-tune eval` with these words; what is wrong is raised."""
    from campus_tune.cli import make_parser

    options = make_parser().parse_args(["eval", *map(str, argv)])
    code: int = options.command(options)
    return code
