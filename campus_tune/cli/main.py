"""The command line: `campus-tune sft | score | simulate | check | compare | search | report | eval | schema | …`.

Importing this loads no other room but `words`: a command's own file is imported when it is the one that was typed, and
`--help` needs none of them. What a user got wrong is a message on stderr and exit code 2, never a traceback (`--debug`
shows it); `check` ends with 1 when a run should not start, `diff` when two runs are not the same. `--quiet` leaves out
what a command tells on its way, but for warnings.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from importlib import import_module
from typing import Any

from campus_tune.cli.help_text import HelpText, filled
from campus_tune.cli.options import COMMANDS, Command
from campus_tune.words.console import complain
from campus_tune.words.errors import INTERRUPTED, CampusError
from campus_tune.words.library_warnings import hushed
from campus_tune.words.progress import VOLUME, Unbroken, tidied
from campus_tune.words.versions import versions

OURS = ("--debug", "--quiet")  # flags of every command, wherever they stand


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: the arguments; None takes those of the process.

    Returns:
        The exit code: 0 done, 1 `check` found what should stop a run, 2 wrong usage or input.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    ours = [arg for arg in argv if arg in OURS]
    out: Any = sys.stdout and Unbroken(sys.stdout)
    try:
        words = [arg for arg in argv if arg not in OURS]
        with hushed(), VOLUME.quieted(wanted="--quiet" in ours), redirect_stdout(out):
            launched = _launch(words, ours)
            return _dispatch(words) if launched is None else launched
    except CampusError as error:
        if "--debug" in ours:
            raise
        complain(error)
        return 2


def _launch(argv: list[str], ours: list[str]) -> int | None:
    """The exit code of the processes that the command line or its YAML asks for; None: the command runs in this one."""
    if argv[:1] not in (["sft"], ["score"], ["proxy"], ["eval"], ["suspects"]):
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
    if argv[:1] == ["sft"]:  # its flags are TRL's: everything after the word is handed on
        from campus_tune.cli import sft

        if argv[1:] in (["-h"], ["--help"]):
            from campus_tune.recipe.config import CampusConfig
            from campus_tune.recipe.reader import settings_help

            width = shutil.get_terminal_size().columns - 2
            print(filled(sft.EXAMPLE, width), "\nsettings of the campus block:", sep="\n")
            print(settings_help(CampusConfig, "--campus.", width=width), end="\n\n")
        with tidied():
            sft.main(argv[1:])
        return 0
    if not argv:
        make_parser(argv).print_help(sys.stderr)
        return 2
    options = _parse(argv)
    command: Command = options.command
    try:
        with tidied():
            return command(options)
    except KeyboardInterrupt:
        if not options.interrupted:
            raise
        print(f"\ncampus: interrupted. {options.interrupted}")
        return INTERRUPTED


def _parse(argv: list[str]) -> argparse.Namespace:
    if argv[:1] == ["eval"]:
        from campus_tune.cli.eval import refuse_unknown

        refuse_unknown(argv[1:])
    parser = make_parser(argv)
    options, rest = parser.parse_known_args(argv)
    if rest and not options.takes_rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    return options


def make_parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """All commands by name, and the flags of the one that was typed.

    Args:
        argv: what was typed; None makes the flags of every command.
    """
    parser = argparse.ArgumentParser(
        prog="campus-tune",
        description="Competence-aware curricula for fine-tuning language models with TRL.",
        epilog="example:\n  campus-tune check recipe.yaml && campus-tune sft --config recipe.yaml",
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
        else:
            commands.add_parser(name, help=summary)
    return parser
