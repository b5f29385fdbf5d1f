"""The command line: `campus-tune sft | score | simulate | check | compare | search | report | eval | schema | …`.

Importing this loads no other room but `words`: a command's own file is imported when it is the one that was typed, and
`--help` needs none of them. What a user got wrong is a message on stderr and exit code 2, never a traceback (`--debug`
shows it); the other codes are in `exit_codes`. `--quiet` leaves out what a command tells on its way, but for warnings.
The same things are said by the same flags, whatever the command: a recipe may follow the command's name, and TRL's
fields for the model, the rows and the folder have short names too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from importlib import import_module
from typing import Any

from campus_tune.cli.answer import Answer, as_json, document_alone
from campus_tune.cli.exit_codes import DONE, MEANINGS, WRONG
from campus_tune.cli.help_text import HelpText, filled
from campus_tune.cli.options import BESIDE, COMMANDS, TAKE_A_RECIPE, TRAIN, TRAINERS, Command
from campus_tune.cli.parser import CommandParser
from campus_tune.words.console import complain
from campus_tune.words.errors import INTERRUPTED, CampusError
from campus_tune.words.library_warnings import hushed
from campus_tune.words.progress import VOLUME, Unbroken, tidied
from campus_tune.words.registry import nearest
from campus_tune.words.versions import versions

OURS = ("--debug", "--quiet")  # flags of every command, wherever they stand
_EXAMPLE = """\
example:
  campus-tune check recipe.yaml && campus-tune sft recipe.yaml"""
_SHORT = {"--model": "--model_name_or_path", "--data": "--dataset_name", "--out": "--output_dir"}
_OF_TRL = {  # which of these names a command hands on to TRL; it has the others itself, or no use for them
    "sft": ("--model", "--data", "--out"),
    "grpo": ("--model", "--data", "--out"),
    "rloo": ("--model", "--data", "--out"),
    "score": ("--model", "--data"),
    "proxy": ("--data",),
    "compare": ("--model", "--data"),
    "ablate": ("--data",),
    "search": ("--model", "--data"),
    "value": ("--data",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: the arguments; None takes those of the process.

    Returns:
        The exit code (`exit_codes`).
    """
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what may follow
        from campus_tune.cli.completion import complete

        complete(make_parser)
    argv = list(sys.argv[1:] if argv is None else argv)
    ours = [arg for arg in argv if arg in OURS]
    out: Any = sys.stdout and Unbroken(sys.stdout)
    try:
        words = in_full([arg for arg in argv if arg not in OURS])
        with hushed(), VOLUME.quieted(wanted="--quiet" in ours), redirect_stdout(out):
            launched = _launch(words, ours)
            return _dispatch(words) if launched is None else launched
    except CampusError as error:
        if "--debug" in ours:
            raise
        complain(error)
        return WRONG
    except KeyboardInterrupt:
        if "--debug" in ours:
            raise
        goes_on = (
            ". Where a checkpoint was saved, --resume_from_checkpoint true goes on from it."
            if set(TRAINERS) & set(argv)
            else ""
        )
        print(f"\ncampus-tune: interrupted{goes_on}", file=sys.stderr)
        return INTERRUPTED


def in_full(words: Sequence[str]) -> list[str]:
    """What was typed, with the names that a command knows.

    >>> in_full(["sft", "recipe.yaml", "--out", "run"])
    ['sft', '--config', 'recipe.yaml', '--output_dir', 'run']
    """
    words = list(words)
    command = words[0] if words else ""
    if command in TAKE_A_RECIPE and words[1:] and words[1].endswith((".yaml", ".yml")):
        words.insert(1, "--config")
    for at, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag in _OF_TRL.get(command, ()):
            words[at] = f"{_SHORT[flag]}{equals}{value}"
    return words


def _launch(argv: list[str], ours: list[str]) -> int | None:
    """The exit code of the processes that the command line or its YAML asks for; None: the command runs in this one."""
    if argv[:1] not in (*([name] for name in TRAINERS), ["score"], ["proxy"], ["eval"], ["suspects"]):
        return None
    if argv[0] == "suspects" and not any(word.partition("=")[0] == "--config" for word in argv):
        return None  # of a run: no model is asked
    from campus_tune.cli.launch import end_with_launcher, launch, read_launch

    end_with_launcher()
    plan = read_launch(argv)
    if plan is not None and argv[0] == "eval":
        _parse(plan.words)  # what every one of the processes would say, said once
    return None if plan is None else launch(replace(plan, words=[*plan.words, *ours]))


def _dispatch(argv: list[str]) -> int:
    if not argv:
        make_parser(argv).print_help(sys.stderr)
        return WRONG
    if argv[0] in TRAINERS and not {"-h", "--help"} & set(argv):  # its flags are TRL's: the words are handed on
        trains = import_module(f"campus_tune.cli.{argv[0]}")
        if "--help-all" in argv:
            from campus_tune.recipe.config import CampusConfig
            from campus_tune.recipe.reader import settings_help

            width = shutil.get_terminal_size().columns - 2
            print(filled(trains.EXAMPLE, width), "\nsettings of the campus block:", sep="\n")
            print(settings_help(CampusConfig, "--campus.", width=width), end="\n\n")
            argv = [argv[0], "--help"]  # TRL's own
        with tidied():
            trains.main(argv[1:])
        return DONE
    options = _parse(argv)
    command: Command = options.command
    alone = options.answers and options.json is True
    try:
        with tidied(), document_alone() if alone else nullcontext():
            answer = command(options)
    except KeyboardInterrupt:
        if not options.interrupted:
            raise
        print(f"\ncampus: interrupted. {options.interrupted}", file=sys.stderr if alone else None)
        return INTERRUPTED
    if not isinstance(answer, Answer):
        return answer
    leads = os.environ.get("RANK", "0") == "0"  # of several processes one speaks
    if leads and (said := as_json(answer.document) if alone else answer.text):
        print(said)
    return answer.code


def _parse(argv: list[str]) -> argparse.Namespace:
    if argv[:1] == ["eval"]:
        from campus_tune.cli.eval import refuse_unknown

        refuse_unknown(argv[1:])
    parser = make_parser(argv)
    options: argparse.Namespace
    options, rest = parser.parse_known_args(argv)
    wrong = [] if options.takes_rest else rest
    if argv[0] in TRAIN:
        wrong = [flag for flag in rest if is_misspelt(flag, options.parser)]
    if wrong:
        options.parser.error(f"unrecognized arguments: {' '.join(wrong)}")
    options.rest = rest
    return options


def is_misspelt(word: str, parser: CommandParser) -> bool:
    """Whether a word among TRL's flags is none of them, but nearly one of the command's own: TRL would name another.

    Args:
        word: of the command line.
        parser: of the command.
    """
    flag = word.partition("=")[0]
    if not flag.startswith("--") or "." in flag or not nearest(flag, parser.flags()):
        return False
    from campus_tune.recipe.trl_yaml import unknown_in

    key = {flag.removeprefix("--").replace("-", "_"): None}
    return all(unknown_in(key, trainer) for trainer in TRAINERS)


def make_parser(argv: Sequence[str] | None = None) -> CommandParser:
    """All commands by name, and the flags of the one that was typed.

    Args:
        argv: what was typed; None makes the flags of every command.
    """
    codes = "; ".join(f"{code} {meaning}" for code, meaning in MEANINGS.items())
    parser = CommandParser(
        prog="campus-tune",
        description="Competence-aware curricula for fine-tuning language models with TRL.",
        epilog=f"{_EXAMPLE}\n\nExit codes: {codes}.",
        formatter_class=HelpText,
    )
    parser.add_argument("--version", action="version", version=f"campus-tune {versions(())['campus_tune']}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--quiet", action="store_true", help="no bars and no lines on the way but warnings")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    typed = next((word for word in argv or () if not word.startswith("-")), None)  # the flags before it take no value
    for name, summary in COMMANDS.items():
        if argv is None or name == typed:
            import_module(f"campus_tune.cli.{name}").add_parser(commands)
        elif name in BESIDE:
            commands.add_parser(name)
        else:
            commands.add_parser(name, help=summary)
    return parser
