"""How every command reads its words: an argparse parser whose help is a page, and whose errors say what was meant.

`--help` is a page that is read; `--help-all` has the rest. A flag may be written with hyphens or underscores, and what
is misspelt is answered with the nearest word that is known.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from campus_tune.cli.help_text import filled
from campus_tune.words.registry import nearest

FEW = 4  # flags that the first line of a help names; more are "[options]"
_ASK = ("--help", "--help-all")  # which nobody means who misspelt another one
_CHOICE = re.compile(r"invalid choice: '?([^' ]+)'? \(choose from (.*)\)")


class CommandParser(argparse.ArgumentParser):
    """A parser of argparse's whose help is a page, and whose errors say what was probably meant."""

    more = ""  # of the description: only `--help-all` shows it
    rare: tuple[str, ...] = ()  # flags that `--help` names without a word about them
    keys: Mapping[str, str] = {}  # of what it answers as JSON: only `--help-all` shows them

    def parse_known_args(  # type: ignore[override]  # argparse has overloads, which say the same
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse words; `--a-b` and `--a_b` are one flag."""
        words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args([self._spelt(word) for word in words], namespace)

    def _spelt(self, word: str) -> str:
        flag, equals, value = word.partition("=")
        if flag.startswith("--") and flag not in self._option_string_actions:
            for one, other in ("-_", "_-"):
                swapped = f"--{flag[2:].replace(one, other)}"
                if swapped in self._option_string_actions:
                    return f"{swapped}{equals}{value}"
        return word

    def flags(self) -> list[str]:
        """All that start with two hyphens."""
        return [flag for flag in self._option_string_actions if flag.startswith("--")]

    def format_usage(self) -> str:
        """The first line of the help."""
        return self._with(super().format_usage, hidden=())

    def format_help(self) -> str:
        """The page that `--help` shows."""
        rare = tuple(flag for flag in self.rare if flag in self._option_string_actions)
        page = self._with(super().format_help, hidden=rare)
        if not (rare or self.more or self.keys):
            return page
        named = f", {', '.join(rare)} among it" if rare else ""
        return f"{page}\n{filled(f'More with --help-all{named}.', shutil.get_terminal_size().columns - 2)}\n"

    def format_all(self) -> str:
        """What `--help-all` shows."""
        description = self.description
        self.description = "\n\n".join(filter(None, (description, self.more)))
        try:
            page = self._with(super().format_help, hidden=())
        finally:
            self.description = description
        if not self.keys:
            return page
        told = {"…" if key == "more" else key: said for key, said in self.keys.items()}
        longest = max(map(len, told))
        return "\n".join([page, "keys of --json:", *(f"  {key:<{longest}}  {said}" for key, said in told.items()), ""])

    def _with(self, made: Any, *, hidden: Sequence[str]) -> str:
        """A text of argparse's with a usage of one line, and without some flags."""
        actions = [self._option_string_actions[flag] for flag in hidden]
        usage, helps = self.usage, [action.help for action in actions]
        if usage is None:
            self.usage = self._short_usage()
        for action in actions:
            action.help = argparse.SUPPRESS
        try:
            return str(made())
        finally:
            self.usage = usage
            for action, said in zip(actions, helps, strict=True):
                action.help = said

    def _short_usage(self) -> str | None:
        """What must be given, and `[options]` for what may be; None where argparse's own line is short."""
        shown = [action for action in self._actions if action.help != argparse.SUPPRESS]
        if sum(bool(action.option_strings) for action in shown) <= FEW:
            return None
        words = [self.prog]
        for action in shown:
            name = str(action.metavar or action.dest)
            more = " …" if action.nargs in ("+", argparse.PARSER) else ""
            if action.option_strings and action.required:
                words.append(f"{action.option_strings[-1]} {name}{more}")
            elif not action.option_strings:
                words.append(f"[{name}]" if action.nargs == "?" or not action.required else f"{name}{more}")
        return " ".join([*words, "[options]"]).replace("%", "%%")

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and what was probably meant; ends with 2."""
        if found := _CHOICE.search(message):
            message += "." + nearest(found[1], re.findall(r"[\w.-]+", found[2]))
        elif message.startswith("unrecognized arguments"):
            wrong = [word.partition("=")[0] for word in message.split() if word.startswith("--")]
            message += "." + "".join(map(self._meant, wrong[:1]))
        elif "are required" in message and (example := _first_example(self.description or "")):
            message += f". For example: {example}"
        super().error(message)

    def _meant(self, flag: str) -> str:
        """What to do about a flag that was not taken: one that the command has stood before its name."""
        if flag in self.flags():
            return f" Write {flag} behind `{self.prog}`."
        return nearest(flag, [one for one in self.flags() if one not in _ASK])


class HelpAll(argparse.Action):
    """`--help-all`: everything that a command knows of itself."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest=dest, default=argparse.SUPPRESS, nargs=0, help=argparse.SUPPRESS)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Show it, and end."""
        del namespace, values, option_string
        assert isinstance(parser, CommandParser)
        print(parser.format_all(), end="")
        parser.exit()


def _first_example(description: str) -> str:
    """The first command line of a description."""
    lines = iter(description.splitlines())
    return next((next(lines, "").strip() for line in lines if line == "example:"), "")
