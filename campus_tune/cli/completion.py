"""`campus-tune completion bash|zsh|fish`: what a shell needs to complete commands, flags, recipes, settings and parts.

A shell that completes starts the command anew at each Tab, so nothing is imported that is not needed to answer: of a
command, its own file; of the settings, their classes (0.3 s, and only behind `--campus.`); of TRL, whose import takes
seconds, nothing (`trl_names`).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from campus_tune.cli.answer import Answer
from campus_tune.cli.options import COMMANDS, TAKE_A_RECIPE, TRAIN, TRAINERS, Commands, add_command
from campus_tune.cli.trl_names import trl_fields

if TYPE_CHECKING:
    from argcomplete.completers import BaseCompleter

    from campus_tune.cli.parser import CommandParser
    from campus_tune.words.types import Json

SHELLS = ("bash", "zsh", "fish")
EXAMPLE = """\
What a shell needs to complete commands, flags, recipes, settings behind --campus., and their values.

example:
  campus-tune completion bash >> ~/.bash_completion
  campus-tune completion zsh >> ~/.zshrc                     (behind compinit)
  campus-tune completion fish > ~/.config/fish/completions/campus-tune.fish
"""
BLOCKS = {"campus": TRAIN, "compare": ("compare", "ablate", "value", "search"), "search": ("search",)}


def add_parser(commands: Commands) -> None:
    """Add `completion` to the commands of `campus-tune`."""
    parser = add_command(commands, "completion", COMMANDS["completion"], EXAMPLE, main)
    parser.add_argument("shell", choices=SHELLS, help="which shell is used")


def main(options: argparse.Namespace) -> Answer:
    """The code for a shell."""
    from argcomplete.shell_integration import shellcode

    code = shellcode(["campus-tune"], shell=options.shell)
    return Answer({"shell": options.shell, "code": code}, code)


def complete(make_parser: Callable[[Sequence[str]], CommandParser]) -> None:
    """Answer a shell that asks by the environment: print what may follow, and end the process.

    Args:
        make_parser: of the words that were typed.
    """
    import argcomplete

    line = os.environ["COMP_LINE"][: int(os.environ.get("COMP_POINT", "10000"))]
    words = line.split()[1:]
    parser = make_parser(words)
    command = next((word for word in words if not word.startswith("-")), "")
    parts = next(iter(parser._subparsers._group_actions)) if parser._subparsers else None  # argparse gives no other way
    if command in COMMANDS and parts is not None and parts.choices is not None:
        flag = next((word for word in reversed(words) if word.startswith("--")), "")
        prepare(dict(parts.choices)[command], command, flag=flag)
    argcomplete.autocomplete(parser, always_complete_options="long")


def prepare(parser: argparse.ArgumentParser, command: str, *, flag: str) -> None:
    """Give a command's flags what completes their values, and add the flags and the recipe that it reads by itself.

    Args:
        parser: of the command.
        command: its name.
        flag: the last one that was typed, or begun.
    """
    for action in parser._actions:
        _give(action, command)
    if command in TAKE_A_RECIPE and not any(not action.option_strings for action in parser._actions):
        _give(parser.add_argument("recipe", nargs="?", metavar="YAML"), command)
    if command not in TRAIN or not flag:
        return
    known = set(parser._option_string_actions)
    trainers = [command] if command in TRAINERS else list(TRAINERS) if command == "compare" else [TRAINERS[0]]
    for name in () if "." in flag else trl_fields(*trainers):
        if f"--{name}" not in known:
            parser.add_argument(f"--{name}")
    for block in (block for block, commands in BLOCKS.items() if command in commands):
        if flag.startswith(f"--{block}.") or f"--{block}.".startswith(flag):
            for name, schema in block_settings(block).items():
                setting = parser.add_argument(
                    f"--{block}.{name}", help=schema.get("description", "").replace("%", "%%")
                )
                setting.choices = sorted(set(values_of(schema))) or None


def _give(action: argparse.Action, command: str) -> None:
    """What completes the values of a flag or a word, by the name that the help gives it."""
    from argcomplete.completers import ChoicesCompleter, DirectoriesCompleter, FilesCompleter

    completers: dict[str, BaseCompleter] = {
        "YAML": FilesCompleter(("yaml", "yml")),
        "DIR": DirectoriesCompleter(),
        "RUN": DirectoriesCompleter(),
        "N": ChoicesCompleter({}),  # nothing; a `SuppressCompleter` would take the flag itself away
        "SECONDS": ChoicesCompleter({}),
    }
    if action.metavar in completers:
        action.completer = completers[str(action.metavar)]  # type: ignore[attr-defined]  # so argcomplete finds it
    elif action.choices is None and action.dest in ("metrics", "selector", "pacing", "window", "coverage"):
        action.completer = lambda **_: _part_names(action.dest)  # type: ignore[attr-defined]
    elif command == "explain" and not action.option_strings:
        action.completer = lambda **_: explained()  # type: ignore[attr-defined]
    elif action.metavar == "KIND":
        action.completer = lambda **_: kinds()  # type: ignore[attr-defined]
    elif action.metavar == "PAGE":
        action.completer = lambda **_: pages()  # type: ignore[attr-defined]


def pages() -> list[str]:
    """The pages of the guide."""
    return sorted(path.stem for path in (Path(__file__).parents[1] / "guide").glob("*.md"))


def _part_names(setting: str) -> list[str]:
    return sorted(set(values_of(block_settings("campus")[setting])))


def explained() -> list[str]:
    """Names that `explain` knows, but for those that take seconds to gather or are sentences."""
    from campus_tune.cli.known import ALL

    quick = [name for kind, known in ALL.items() if kind not in ("warnings", "commands") for name in known.names()]
    return sorted({*COMMANDS, *(one.name for one in quick if " " not in one.name)})


def kinds() -> list[str]:
    """Of which `list` shows the names."""
    from campus_tune.cli.known import ALL

    return list(ALL)


def block_settings(block: str) -> dict[str, Json]:
    """The settings of a block, as JSON schema, by name.

    Args:
        block: campus, compare or search.
    """
    if block == "campus":
        from campus_tune.recipe.config import CampusConfig as Settings
        from campus_tune.recipe.config import part_schemas

        parts = part_schemas()
        return {name: {**one, "$defs": parts} for name, one in Settings.schema()["properties"].items()}
    if block == "compare":
        from campus_tune.compare.settings import CompareSettings

        return dict(CompareSettings.schema()["properties"])
    from campus_tune.compare.search import SearchSettings

    return dict(SearchSettings.schema()["properties"])


def values_of(schema: Any, parts: Json | None = None) -> Iterator[str]:
    """The words that a setting may have as its value, or as one of its values.

    >>> list(values_of({"anyOf": [{"enum": ["prefix", "slice"]}, {"type": "null"}]}))
    ['prefix', 'slice']
    """
    parts = schema.get("$defs", {}) if parts is None else parts
    if "boolean" in schema.get("type", ()):
        yield from ("false", "true")
    words: Sequence[object] = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]
    yield from (word for word in words if isinstance(word, str) and not word.startswith("-"))
    if "$ref" in schema:
        yield from values_of(parts[schema["$ref"].rpartition("/")[2]], parts)
    for inner in [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])]:
        yield from values_of(inner, parts)
