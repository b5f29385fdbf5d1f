"""`campus-tune list [KIND]`: what there is: metrics, settings, events, …; those of plug-ins with their package."""

from __future__ import annotations

import argparse

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.options import COMMANDS, Commands, add_command
from campus_tune.words.errors import RecipeError
from campus_tune.words.registry import nearest
from campus_tune.words.wording import shown as quoted

EXAMPLE = """\
What there is of a kind, a line each, those of installed plug-ins with the package that they come from; without a kind,
the kinds. `campus-tune explain NAME` says the rest. `--json` gives kind and names (kind, name, line, from of each); or
kinds (kind, names, line), where names is how many there are.

example:
  campus-tune list
  campus-tune list metrics
  campus-tune list settings --json
"""


def add_parser(commands: Commands) -> None:
    """Add `list` to the list of commands."""
    parser = add_command(commands, "list", COMMANDS["list"], EXAMPLE, main)
    parser.add_argument("kind", nargs="?", metavar="KIND", help="metrics, settings, events, …; none lists the kinds")
    add_json(parser)


def main(options: argparse.Namespace) -> Answer:
    """List the names of a kind, or the kinds.

    Raises:
        RecipeError: there is no such kind; the nearest one is named.
    """
    from campus_tune.cli.known import ALL, show_list

    if options.kind is None:
        kinds = [{"kind": many, "names": len(kind.names()), "line": kind.says} for many, kind in ALL.items()]
        if not options.json:
            show_list(("kind", "names", "what they are"), [tuple(map(str, one.values())) for one in kinds])
        return Answer({"kinds": kinds})
    asked = options.kind.lower()
    many = next((name for name, kind in ALL.items() if asked in (name, kind.word)), None)
    if many is None:
        raise RecipeError(
            f"`list` takes {', '.join(ALL)}, got {quoted(options.kind)}.{nearest(asked, ALL)} Choose one."
        )
    names = [one.as_listed() for one in ALL[many].names()]
    rows = [[one["name"], one["from"], one["line"]] for one in names]
    head = ["name", "from", "what it is"]
    if len({one["from"] for one in names}) < 2:  # all are ours
        rows, head = [[row[0], row[2]] for row in rows], [head[0], head[2]]
    if many == "warnings":
        rows, head = [[one["kind"], one["name"]] for one in names], ["how grave", "what it says"]
    if not options.json:
        show_list(head, rows)
    return Answer({"kind": many, "names": names})
