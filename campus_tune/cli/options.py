"""What the commands of `campus-tune` share: how one is added, and how the values of its options are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from campus_tune.cli.answer import Answer
from campus_tune.cli.help_text import HelpText
from campus_tune.cli.parser import CommandParser, HelpAll
from campus_tune.words.errors import INTERRUPTED
from campus_tune.words.leaves import LARGEST
from campus_tune.words.wording import cut

Command: TypeAlias = Callable[[argparse.Namespace], int | Answer]
Commands: TypeAlias = "argparse._SubParsersAction[CommandParser]"
COMMANDS = {  # each is a file here, in the sequence of `campus-tune --help`
    "init": "a first recipe for your rows, with probes cut off them",
    "sft": "fine-tune under a curriculum",
    "grpo": "train by reward under a curriculum of prompts; also: rloo",
    "rloo": "as grpo, with RLOO",
    "simulate": "show what would be drawn, without a model",
    "check": "find what is wrong before training",
    "score": "score all rows ahead of training",
    "proxy": "train the small model that learnability asks",
    "compare": "did the curriculum help? a tested verdict, with controls",
    "ablate": "what does each domain do for the others? a tested matrix",
    "search": "which settings are worth it? trials, and a judge of its own",
    "report": "a page that shows a run or a comparison",
    "probes": "cut probes and test rows off a training set",
    "suspects": "which rows look wrong, for a person to judge",
    "value": "what rows, or groups of them, are worth",
    "eval": "official benchmarks on a model or on checkpoints",
    "schema": "what a YAML may say, for editors",
    "diff": "did two runs train the same rows in every step",
    "guide": "the guide for users, a page at a time",
    "explain": "what a setting, part, event, word or message means",
    "list": "what there is: metrics, settings, events, …",
    "demo": "write graded tasks or a small model",
    "completion": "let the Tab key complete all of this",
}
BESIDE = {"rloo"}  # named in the line of another one, where all are listed
TRAINERS = ("sft", "grpo", "rloo")  # of one run: they are handed the words as they are
TRAIN = (*TRAINERS, "score", "proxy", "compare", "ablate", "search", "value", "suspects")  # their other flags are TRL's
TAKE_A_RECIPE = (*TRAIN, "simulate", "check")  # it may follow the command's name
LONGEST_S = 24 * 3600  # between two looks at something that goes on


def add_command(
    commands: Commands,
    name: str,
    summary: str,
    description: str,
    command: Command | None = None,
    *,
    takes_rest: bool = False,
    interrupted: str = "",
    allow_abbrev: bool = True,
    more: str = "",
    rare: Sequence[str] = (),
) -> CommandParser:
    """One more command, or part of a command.

    Args:
        commands: to which it is added.
        name: what is typed.
        summary: of it in the list of all.
        description: in its own help, examples included.
        command: run with the parsed options; gives back the exit code, or its `Answer`. None where its parts are run,
            or it is handed the words as they are.
        takes_rest: what it does not know itself is TRL's, and handed on as `rest`.
        interrupted: what is said after Ctrl-C; "" leaves that to the command.
        allow_abbrev: flags may be shortened.
        more: of the description, what only `--help-all` shows.
        rare: flags that `--help` names, and only `--help-all` explains.
    """
    listed: Any = {} if name in BESIDE else {"help": summary}
    parser = commands.add_parser(
        name, description=description, formatter_class=HelpText, allow_abbrev=allow_abbrev, **listed
    )
    parser.more, parser.rare = more, tuple(rare)
    parser.add_argument("--help-all", action=HelpAll)  # named by the last line of the help
    if command is not None:
        parser.set_defaults(
            command=command, takes_rest=takes_rest, interrupted=interrupted, parser=parser, json=False, answers=False
        )
    return parser


def names(words: Sequence[str]) -> list[str]:
    """Names that were given as words, or several in a word with commas between them."""
    return [name for word in words for name in word.split(",") if name]


def number(kind: Callable[[str], float], low: float, high: float = LARGEST) -> Callable[[str], float]:
    """An argparse type: `kind` of the text, at least (whole numbers) or above (others) `low`, and at most `high`."""

    def parse(text: str) -> float:
        value = kind(text)
        if not (value >= low if kind is int else value > low):
            raise argparse.ArgumentTypeError(f"must be {'at least' if kind is int else 'above'} {low:g}, got {text}")
        if value > high:
            raise argparse.ArgumentTypeError(f"must be at most {high}, got {cut(text, 40, mark='')}")
        return value

    parse.__name__ = "number"
    return parse


def count(text: str) -> int:
    """An argparse type: a whole number from 1 to a billion."""
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 999999999, got {cut(text, 40, mark='')!r}")
    return int(text)


def held_out(text: str) -> float:
    """An argparse type: a whole number of rows, or a share of them below 1; 0 for none."""
    if text.isdecimal() and len(text) <= 9:
        return int(text)
    try:
        share = float(text)
    except ValueError:
        share = -1
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"must be rows, or a share below 1, got {cut(text, 40, mark='')!r}")
    return share


def count_or_auto(text: str) -> int | str:
    """An argparse type: `auto` or a whole number from 1."""
    return text if text == "auto" else count(text)


def seconds(text: str) -> float:
    """An argparse type: seconds up to a day, of an option whose value may be left out before the folder DIR."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be seconds, got {text!r}; DIR stands before it") from None
    if not 0 < value <= LONGEST_S:
        raise argparse.ArgumentTypeError(f"must be above 0 and at most {LONGEST_S}, got {text}")
    return value


def add_runs(
    parser: argparse.ArgumentParser, *, seeds: str = "how many, or which: two or more numbers (the YAML's, else 5)"
) -> None:
    """The flags of a command that makes many runs: their seeds, and how many are made at once.

    Args:
        parser: of the command.
        seeds: what these are.
    """
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help=seeds)
    parser.add_argument("--jobs", type=int, metavar="N", help="runs at once on processor cores (the YAML's, else 1)")
    parser.add_argument(
        "--devices", type=int, nargs="+", metavar="N", help="GPUs, each with a run of its own, whatever --jobs says"
    )


def interrupted(out: Path | None, one: str = "run") -> int:
    """Say what is kept of a command that makes many runs; gives back its exit code.

    Args:
        out: its folder; None where it had not begun.
        one: what it makes.
    """
    from campus_tune.compare.result_file import FILE, RUNS

    kept = "nothing was begun"
    if out is not None:
        n = sum(1 for _ in out.glob(f"{RUNS}/*/*/{FILE}"))
        kept = f"{n} {one} is finished and kept in {out}" if n == 1 else f"{n} {one}s are finished and kept in {out}"
    print(f"interrupted: {kept}. The same command goes on.")
    return INTERRUPTED
