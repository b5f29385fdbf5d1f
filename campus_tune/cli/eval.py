"""`campus-tune eval`: the official tasks of a suite on a model, an adapter or all checkpoints of a run.

One JSON file per checkpoint, written anew after every finished task: what is killed or interrupted goes on with the
same command. A file is only added to where its weights, settings and lm-eval are the same; anything else in it is
refused rather than replaced, since it may have cost a night.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.exit_codes import DONE, FOUND
from campus_tune.cli.options import COMMANDS, Commands, add_command, count, count_or_auto, names
from campus_tune.cli.parser import CommandParser
from campus_tune.words.errors import RecipeError
from campus_tune.words.registry import nearest

if TYPE_CHECKING:
    from accelerate import Accelerator

    from campus_tune.evaluate.models import Target
    from campus_tune.evaluate.results import TaskResult
    from campus_tune.evaluate.session import Session
    from campus_tune.evaluate.suites import Suite
    from campus_tune.model.peers import Peers

DAY = 24 * 3600  # a process may wait that long for one with longer answers
_TEMPLATE = {"on": True, "off": False}

EXAMPLE = """\
Official tasks of lm-eval (MATH, MBPP, MMLU, …) on a model, an adapter or the checkpoints of a run. A killed one goes on
with the same command.

example:
  campus-tune eval --model HuggingFaceTB/SmolLM2-135M --suite smoke
  campus-tune eval --checkpoints 'run/checkpoint-*' --data data
  campus-tune eval check-data data --suite campus
  campus-tune eval compare base/model.json run/evaluation/checkpoint-500.json
"""
_MORE = """\
  campus-tune eval --model model --adapter run/checkpoint-500 --tasks mmlu --limit 9 --multi_gpu --num_processes 4

On many processes each answers its share of the documents: flags of `accelerate launch` (--num_processes, --multi_gpu,
--accelerate_config recipes/accelerate/ddp.yaml, …) may stand among the others, for `eval loss` too.
"""
_CHECK = """\
Does a folder have the test sets that a suite needs, and are they whole? Exit code 1 when something is missing.

example:
  campus-tune eval check-data data --suite campus_wide
"""


class _Parts(argparse._SubParsersAction):  # type: ignore[type-arg]  # of parsers, as its maker says
    """The parts of `eval`, which have options of their own: one that stands before a part would be lost in silence."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        for action in parser._actions:
            if action.option_strings and getattr(namespace, action.dest, action.default) != action.default:
                flag, part = action.option_strings[-1], values[0] if values else ""
                parser.error(f"{flag} must stand behind {part}, if it has it: campus-tune eval {part} … {flag} …")
        super().__call__(parser, namespace, values, option_string)


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add `eval` to the commands of `campus-tune`, with `loss`, `compare` and `check-data` below it."""
    from campus_tune.cli.eval_compare import add_parser as add_compare
    from campus_tune.cli.eval_loss import add_parser as add_loss
    from campus_tune.evaluate.local_data import describe_layout

    kept = "Finished tasks are kept: the same command goes on after them."
    parser = add_command(
        commands,
        "eval",
        COMMANDS["eval"],
        EXAMPLE,
        main,
        interrupted=kept,
        more=_MORE,
        rare=("--dtype", "--trust_remote_code", "--limit", "--chat_template", "--batch_size", "--replace"),
    )
    _add_options(parser)
    parts = parser.add_subparsers(title="other questions", required=False, metavar="PART", action=_Parts)
    add_loss(parts)
    add_compare(parts)
    check = add_command(parts, "check-data", "is a data folder complete", _CHECK, check_data, more=describe_layout())
    check.add_argument("folder", type=Path, metavar="DIR")
    check.add_argument("--suite", default="campus", help="a suite's name or YAML file (%(default)s)")
    add_json(
        check,
        folder="that was looked at",
        suite="its name",
        tasks="of the suite",
        whole="it can be evaluated",
        problems="each with text, and fatal",
    )
    return parser


def _add_options(parser: CommandParser) -> None:
    which = parser.add_argument_group("what is evaluated")
    which.add_argument("--model", help="folder or hub id; for adapters their base")
    which.add_argument("--adapter", metavar="DIR", help="a PEFT adapter on it, not merged")
    which.add_argument(
        "--checkpoints", nargs="+", default=[], metavar="DIR", help="folders or patterns, models or adapters"
    )
    which.add_argument(
        "--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto", help="(%(default)s)"
    )
    which.add_argument("--trust_remote_code", action="store_true", help="run the model's own code")
    on = parser.add_argument_group("on what")
    on.add_argument("--suite", default="campus", help="campus, campus_wide, smoke or a YAML file (%(default)s)")
    on.add_argument("--tasks", nargs="+", metavar="TASK", help="only these of the suite, also comma-separated")
    on.add_argument("--limit", type=count, metavar="N", help="only the first N documents of each task, for trying")
    on.add_argument("--data", metavar="DIR", help="folder with the test sets (from the hub)")
    on.add_argument("--chat_template", choices=("auto", "on", "off"), default="auto", help="auto: as the suite says")
    on.add_argument("--allow_code_execution", action="store_true", help="run the model's programs, in a sandbox")
    how = parser.add_argument_group("how")
    how.add_argument("--batch_size", type=count_or_auto, metavar="N", help="documents at once, or auto (the suite's)")
    how.add_argument("--out", type=Path, metavar="DIR", help="for the results (evaluation/ beside each model)")
    how.add_argument("--replace", action="store_true", help="replace results of other weights or settings")
    add_json(parser, suite="its name", models="each with its file and the metrics of its tasks")


def refuse_unknown(words: Sequence[str]) -> None:
    """Name a misspelt flag, where argparse would take its value for a part of `eval` and complain of that.

    Args:
        words: what follows `eval`; those that name a part are left to the part.

    Raises:
        RecipeError: a flag that `eval` does not have; the nearest is named.
    """
    if set(words) & {"loss", "compare", "check-data"}:
        return
    parser = CommandParser()
    _add_options(parser)
    known = [flag for action in parser._actions for flag in action.option_strings if flag.startswith("--")]
    kept = [flag.replace("-", "_") for flag in [*known, "--help-all"]]
    for word in words:
        flag = word.partition("=")[0]
        if flag.startswith("--") and not any(one.startswith(flag.replace("-", "_")) for one in kept):
            raise RecipeError(
                f"`campus-tune eval` takes {', '.join(known)} and the flags of `accelerate launch`, got {flag!r}."
                f"{nearest(flag, known)} Correct or remove it."
            )


def main(options: argparse.Namespace) -> Answer:
    """Evaluate all that the options name.

    Raises:
        RecipeError: wrong options, an unknown suite or task, a code task without permission, lm-eval not installed.
        DataError: no such checkpoint, a data folder with gaps, a result file of another version or of other settings.
        StorageError: a result cannot be written.
    """
    suite = read_suite(options)
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    from campus_tune.evaluate.models import read_targets
    from campus_tune.evaluate.result_files import earlier, refuse_others, refuse_unwritable, result_paths

    targets = read_targets(options.model, options.adapter, options.checkpoints)
    paths = result_paths(targets, options.out)
    from campus_tune.evaluate.session import Session
    from campus_tune.evaluate.tasks import FOLDERS, load_tasks
    from campus_tune.model.peers import Peers
    from campus_tune.recipe.launched import refuse_other_launch
    from campus_tune.words.console import say

    accelerator = Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(seconds=DAY))])
    refuse_other_launch()
    peers = Peers(accelerator.process_index, accelerator.num_processes)
    there = peers.led(lambda: {path: earlier(path) for path in paths})  # what is wrong is said before hours of work
    if peers.leads and (rare := [task.task for task in suite.tasks if task.task not in FOLDERS]):
        say(f"{', '.join(rare)}: lm-eval indexes all its tasks for it, which takes up to half a minute")
    loaded = load_tasks(suite, options.data, allow_code_execution=options.allow_code_execution)
    for warning in loaded.warnings if peers.leads else ():
        say(f"warning: {warning}")
    session = Session(loaded)
    known = {name: session.known_settings(name) for name in loaded.tasks}
    for path in () if options.replace else paths:
        refuse_others(path, there[path], known)
    peers.led(lambda: refuse_unwritable(paths))
    results = {}
    for target, path in zip(targets, paths, strict=True):
        results[target] = _evaluate(session, target, path, accelerator, peers, options)
    models = [
        {"model": target.place, "file": path, "tasks": {name: of.metrics for name, of in results[target].items()}}
        for target, path in zip(targets, paths, strict=True)
    ]
    text = "\n".join([as_table(suite, targets, results), *(f"campus: {path}" for path in paths)])
    return Answer({"suite": suite.name, "models": models}, text)


def check_data(options: argparse.Namespace) -> Answer:
    """What a data folder lacks for a suite; the exit code is 1 where the suite could not be evaluated with it."""
    from campus_tune.evaluate.local_data import check_folder
    from campus_tune.evaluate.suites import load_suite

    suite = load_suite(options.suite)
    problems = check_folder(options.folder, suite)
    lines, whole = [str(problem) for problem in problems], not any(problem.fatal for problem in problems)
    tasks = [task.task for task in suite.tasks]
    if whole:
        lines.append(f"{options.folder} has what the suite {suite.name} needs: {', '.join(tasks)}")
    document = {"folder": options.folder, "suite": suite.name, "tasks": tasks, "whole": whole, "problems": problems}
    return Answer(document, "\n".join(lines), DONE if whole else FOUND)


def _evaluate(
    session: Session, target: Target, path: Path, accelerator: Accelerator, peers: Peers, options: argparse.Namespace
) -> dict[str, TaskResult]:
    """The results of one model, those that were there and those that had to be found."""
    import torch

    from campus_tune.evaluate.live import own_tokenizer
    from campus_tune.evaluate.models import open_model
    from campus_tune.evaluate.result_files import earlier, kept
    from campus_tune.evaluate.results import Result, made_with, scores_in_words, write_result
    from campus_tune.model.fingerprint import weights_fingerprint
    from campus_tune.words.console import say

    model, tokenizer = open_model(
        target, device=accelerator.device, dtype=options.dtype, trust_remote_code=options.trust_remote_code
    )
    weights = "+".join(part for part in weights_fingerprint(model) if part)
    record = {"name": target.name, "adapter": target.adapter, "step": target.step, "weights": weights}
    own = own_tokenizer(tokenizer, session.loaded.suite.apply_chat_template)
    settings = {name: session.settings(name, own, model) for name in session.loaded.tasks}
    tasks = peers.led(lambda: kept(path, earlier(path), record, settings, replace=options.replace))
    if peers.leads and (there := [name for name in settings if name in tasks]):
        say(f"{target.place}: {', '.join(there)} finished before")

    def keep(name: str, result: TaskResult) -> None:
        tasks[name] = result
        write_result(path, Result(record, made_with(), tasks))
        scores = scores_in_words(name, session.loaded.suite.task(name).metrics, result.metrics)
        say(f"{target.place}: {scores} ({result.seconds:.0f} s)")

    found = session.evaluate(
        model, tokenizer, accelerator=accelerator, batch_size=options.batch_size, done=tasks, on_task=keep
    )
    del model
    gc.collect()
    torch.cuda.empty_cache()  # nothing without CUDA
    return found


def read_suite(options: argparse.Namespace) -> Suite:
    """The suite with what the options change of it.

    Raises:
        RecipeError: an unknown suite or task; the nearest is named.
    """
    from dataclasses import replace

    from campus_tune.evaluate.suites import load_suite

    tasks = names(options.tasks or ())
    if options.tasks and not tasks:
        raise RecipeError("`--tasks` must name at least one task of the suite, got none. Leave it out to take all.")
    suite = load_suite(options.suite).narrowed(tasks or None, options.limit)
    if options.chat_template == "auto" or _TEMPLATE[options.chat_template] == bool(suite.apply_chat_template):
        return suite
    return replace(suite, apply_chat_template=_TEMPLATE[options.chat_template])


def as_table(suite: Suite, targets: Sequence[Target], results: Mapping[Target, Mapping[str, TaskResult]]) -> str:
    """What the suite reports of each model, models of one task below each other."""
    from campus_tune.evaluate.results import metric_in_words
    from campus_tune.words.tables import table

    rows = []
    for setting in suite.tasks:
        for metric in setting.metrics:
            for target in targets:
                found = results[target][setting.task].metrics.get(metric)
                numbers = ["-", "-", "-"]
                if found is not None:
                    error = "-" if found["stderr"] is None else f"{found['stderr']:.4f}"
                    numbers = [f"{found['value']:.4f}", error, str(found["n"])]
                rows.append([setting.task, metric_in_words(metric), target.place, *numbers])
    return table(["task", "metric", "model", "score", "±", "documents"], rows)
