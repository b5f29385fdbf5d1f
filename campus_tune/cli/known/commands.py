"""The commands by their own help: what each does, its flags, its examples."""

from __future__ import annotations

import argparse
import re
from importlib import import_module

from campus_tune.cli.known.entry import KnownName, NameRow
from campus_tune.cli.options import COMMANDS
from campus_tune.cli.parser import CommandParser

NAME = "campus-tune"

_PAGES = {
    "grpo": "prompts",
    "rloo": "prompts",
    "check": "data",
    "suspects": "wrong",
    "value": "wrong",
    "compare": "helps",
    "ablate": "helps",
    "eval": "helps",
    "search": "choosing",
    "simulate": "cost",
    "score": "cost",
    "proxy": "parts",
    "diff": "resume",
    "init": "data",
    "probes": "data",
}
_EXAMPLE = re.compile(r"^example:\n((?:(?: .*)?\n)+)", re.MULTILINE)


def commands() -> list[KnownName]:
    """Every command, each part of one behind it."""
    parser = CommandParser(prog=NAME)
    added = parser.add_subparsers()
    for name in COMMANDS:
        import_module(f"campus_tune.cli.{name}").add_parser(added)
    return _of(parser)


def _of(parser: argparse.ArgumentParser) -> list[KnownName]:
    found = []
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        lines = {one.dest: str(one.help or "") for one in action._choices_actions}
        for name, one in action.choices.items():
            found += [_known(f"{parser.prog} {name}".removeprefix(f"{NAME} "), one, lines.get(name, "")), *_of(one)]
    return found


def _known(name: str, parser: argparse.ArgumentParser, line: str) -> KnownName:
    """One command."""
    said = f"{parser.description or ''}\n"
    examples = _EXAMPLE.search(said)
    told = [one for one in parser._actions if one.help not in (None, argparse.SUPPRESS) and one.dest != "help"]
    typed = [flag for one in told for flag in one.option_strings if flag.startswith("--")]
    return KnownName(
        "command",
        name,
        line[:1].upper() + line[1:] + ".",
        _EXAMPLE.sub("", said).strip(),
        options=tuple(map(_flag, told)),
        example="" if examples is None else "\n".join(row.strip() for row in examples[1].splitlines() if row.strip()),
        page=_PAGES.get(name.partition(" ")[0], "start"),
        also=(f"campus-tune {name}", *(f"{lead}{flag}" for lead in ("", f"{name} ") for flag in typed)),
    )


def _flag(action: argparse.Action) -> NameRow:
    """A flag, or what stands without one."""
    name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
    says = " ".join(str(action.help).replace("%(default)s", str(action.default)).split())
    must = (
        f"one of {', '.join(map(str, action.choices))}"
        if action.choices and not isinstance(action.choices, dict)
        else ""
    )
    return NameRow(name, says, must)
