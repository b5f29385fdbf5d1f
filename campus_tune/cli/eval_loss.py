"""`campus-tune eval loss`: the loss of gold answers on held-out rows, of a model, an adapter or a run's checkpoints.

It writes into the same files as `campus-tune eval`, one per checkpoint, beside the tasks that are in them, so one
`campus-tune eval compare` shows both. It needs no lm-eval.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.options import Commands, add_command, count
from campus_tune.recipe.launched import refuse_other_launch
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json

if TYPE_CHECKING:
    import torch

    from campus_tune.data.held_out import HeldOut
    from campus_tune.evaluate.models import Target
    from campus_tune.evaluate.results import TaskResult
    from campus_tune.model.peers import Peers

EXAMPLE = """\
Mean loss of the gold answers on held-out rows, per domain: what moves on models too small for accuracies. Rows are JSON
lines as for training (messages, or prompt and completion). Needs no lm-eval.

example:
  campus-tune eval loss --adapter run --base --test test.jsonl
  campus-tune eval loss --model model --test test.jsonl --train train.jsonl --out results
  campus-tune eval loss --checkpoints 'run/checkpoint-*' --test test.jsonl --out results
  campus-tune eval compare results/model.json results/checkpoint-500.json
"""
NO_COLUMN = "none"
ALL = ""  # domains together


def add_parser(parts: Commands) -> argparse.ArgumentParser:
    """Add `loss` to the subcommands of `campus-tune eval`; its `command` is `main`."""
    kept = "Finished models are kept: the same command goes on after them."
    parser = add_command(parts, "loss", "loss of gold answers on held-out rows", EXAMPLE, main, interrupted=kept)
    parser.add_argument("--model", help="folder or hub id; for adapters their base")
    parser.add_argument("--adapter", metavar="DIR", help="a PEFT adapter on it, not merged")
    parser.add_argument("--base", action="store_true", help="measure the base too, and show the difference to it")
    parser.add_argument("--checkpoints", nargs="+", default=[], metavar="DIR", help="folders or patterns")
    parser.add_argument("--test", nargs="+", required=True, metavar="FILE", help="held-out rows: JSON lines, parquet")
    parser.add_argument("--train", nargs="+", default=[], metavar="FILE", help="refuse test rows that are in these")
    parser.add_argument(
        "--domain_column", default="domain", metavar="NAME", help="(%(default)s); none: each file is a domain"
    )
    parser.add_argument("--max_length", type=count, metavar="N", help="tokens kept of a row (the model's context)")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16", "float16"), default="auto")
    parser.add_argument("--trust_remote_code", action="store_true", help="run the model's own code")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for the results (evaluation/ beside each model)")
    parser.add_argument("--replace", action="store_true", help="replace results of other weights or settings")
    add_json(
        parser,
        models="each with file, loss, stderr, rows, tokens, and the same by domains",
        compared="with --base: as eval compare --json says it",
    )
    return parser


def main(options: argparse.Namespace) -> Answer:
    """Measure all models that the options name.

    Raises:
        RecipeError: wrong options, or no such model.
        DataError: no such checkpoint, test rows that cannot be used or that were trained, a result file of another
            version, of other weights or of other settings.
        MetricError: a loss is NaN or infinite.
        StorageError: a result cannot be written.
    """
    from accelerate import Accelerator

    from campus_tune.cli.eval_compare import compare_files
    from campus_tune.data.held_out import read_held_out
    from campus_tune.evaluate.models import Target, read_targets
    from campus_tune.evaluate.result_files import earlier, refuse_unwritable, result_paths
    from campus_tune.model.peers import Peers
    from campus_tune.words.console import say

    targets = read_targets(options.model, options.adapter, options.checkpoints)
    if options.base:  # before its adapters
        bases = dict.fromkeys(target.name for target in targets if target.adapter is not None)
        if len(bases) != 1 or any(target.adapter is None for target in targets):
            raise RecipeError(
                f"`--base` must be asked of adapters on one base, got {', '.join(target.place for target in targets)}. "
                "Leave it out, and compare the results with campus-tune eval compare."
            )
        targets = [Target(next(iter(bases))), *targets]
    paths = result_paths(targets, options.out)
    accelerator = Accelerator()
    refuse_other_launch()
    peers = Peers(accelerator.process_index, accelerator.num_processes)
    peers.led(lambda: [earlier(path) for path in paths])  # a file that cannot be read is said before anything is done
    column = None if options.domain_column == NO_COLUMN else options.domain_column
    rows = peers.led(lambda: read_held_out(options.test, domain_column=column, train=options.train, say=say))
    peers.led(lambda: refuse_unwritable(paths))
    results = {}
    for target, path in zip(targets, paths, strict=True):
        results[target.place] = _measure(target, path, rows, accelerator.device, peers, options)
        if peers.leads:
            say(f"{target.place}: loss {results[target.place].metrics['answer_loss']['value']:.4f} → {path}")
    if not peers.leads:
        return Answer({})
    models = [
        {"model": place, "file": path, **(of := losses(result)).pop(ALL), "domains": of}
        for (place, result), path in zip(results.items(), paths, strict=True)
    ]
    if not options.base:
        return Answer({"models": models}, as_table(results))
    compared = compare_files(paths)
    return Answer({"models": models, "compared": compared.as_json()}, compared.as_text())


def as_table(results: Mapping[str, TaskResult]) -> str:
    """Each domain's loss under each model, and that of all rows together.

    Args:
        results: by what the models are called.
    """
    from campus_tune.words.tables import table

    lines = []
    by_model = {name: losses(result) for name, result in results.items()}
    for part in (*dict.fromkeys(part for result in results.values() for part in result.documents), ALL):
        for name, of in by_model.items():
            error = "-" if of[part]["stderr"] is None else f"{of[part]['stderr']:.4f}"
            numbers = [f"{of[part]['loss']:.4f}", error, str(of[part]["rows"]), f"{of[part]['tokens']:.0f}"]
            lines.append([part or "all", name, *numbers])
    return table(["domain", "model", "loss", "±", "rows", "answer tokens"], lines)


def losses(result: TaskResult) -> Json:
    """Each domain's loss, and that of all rows together, with its standard error.

    Args:
        result: of the task `answer_loss`.
    """
    from campus_tune.evaluate.paired import paired

    found: Json = {}
    for part in (*result.documents, ALL):
        chosen = list(result.documents) if part == ALL else [part]
        documents = [document for each in chosen for document in result.documents[each].values()]
        tokens = [document["tokens"] for document in documents]
        mean = paired([0.0] * len(documents), [document["answer_loss"] for document in documents], tokens)
        found[part] = {"loss": mean.mean_b, "stderr": mean.stderr, "rows": mean.n, "tokens": sum(tokens)}
    return found


def _measure(
    target: Target, path: Path, rows: HeldOut, device: torch.device, peers: Peers, options: argparse.Namespace
) -> TaskResult:
    """The result of one model, measured or found in its file."""
    from campus_tune.evaluate.answer_loss import TASK, answer_loss_settings, measure_answer_loss
    from campus_tune.evaluate.models import open_model
    from campus_tune.evaluate.result_files import earlier, kept
    from campus_tune.evaluate.results import Result, made_with, write_result
    from campus_tune.model.fingerprint import weights_fingerprint
    from campus_tune.words.console import say

    model, tokenizer = open_model(
        target, device=device, dtype=options.dtype, trust_remote_code=options.trust_remote_code
    )
    weights = "+".join(part for part in weights_fingerprint(model) if part)
    record = {"name": target.name, "adapter": target.adapter, "step": target.step, "weights": weights}
    settings = answer_loss_settings(model, tokenizer, rows, max_length=options.max_length)
    tasks = peers.led(lambda: kept(path, earlier(path), record, {TASK: settings}, replace=options.replace))
    if TASK in tasks:
        return tasks[TASK]
    speak = say if peers.leads else lambda _: None
    found = measure_answer_loss(model, tokenizer, rows, peers=peers, max_length=options.max_length, say=speak)
    peers.led(lambda: write_result(path, Result(record, made_with(), {**tasks, TASK: found})))
    return found
