"""`campus-tune explain NAME`: what a setting, part, event, word, command or message means, and where else to read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.options import COMMANDS, Commands, add_command
from campus_tune.words.errors import RecipeError
from campus_tune.words.wording import shown as quoted

if TYPE_CHECKING:
    from campus_tune.cli.known import KnownName

MOST = 3  # meanings that are told in full; of more there is a list
EXAMPLE = """\
What a name means: a setting (campus.thin.keep, or keep alone), a part (loss, robust), an event of the ledger or a
field of it (decision.scope), a region of the data map, a word of a verdict, a term, a command, or a warning or an error
by a piece of what it said. Several with one name are told apart by their kind. For a name that nobody knows those near
it are said, and the exit code is 2. `--json` gives asked and found: kind, name, line, text, facts, options, example,
source, page, comes_from and also (other spellings) of each meaning.

example:
  campus-tune explain stages
  campus-tune explain drop.by
  campus-tune explain metric random
  campus-tune explain "packing shuffles and re-cuts the rows"
  campus-tune list
"""


def add_parser(commands: Commands) -> None:
    """Add `explain` to the list of commands."""
    parser = add_command(commands, "explain", COMMANDS["explain"], EXAMPLE, main, takes_rest=True, allow_abbrev=False)
    parser.add_argument("name", nargs="*", metavar="NAME", help="a name, or a piece of a message")
    add_json(parser)


def main(options: argparse.Namespace) -> Answer:
    """Tell what a name means.

    Raises:
        RecipeError: nobody knows the name; those that are near are said.
    """
    from campus_tune.cli.known import find, near

    asked = " ".join([*options.name, *options.rest])  # a flag (`--judge`, `-length`) is a name as well
    if not asked.strip():
        raise RecipeError("`explain` must be given a name, got none. See `campus-tune list` for what there is.")
    found = find(asked)
    if not found:
        names = ", ".join(near(asked))
        hint = f"Near it are: {names}." if names else "See `campus-tune list` for what there is."
        raise RecipeError(
            f"`explain` must be given a name of campus_tune, or a piece of what it said, got {quoted(asked)}. {hint}"
        )
    if not options.json:
        tell(found)
    return Answer({"asked": asked, "found": [one.as_json() for one in found]})


def tell(found: Sequence[KnownName]) -> None:
    """Print what is known of some names: all of it of a few, a line each of many.

    Args:
        found: the names.
    """
    from campus_tune.cli.known import explained, show, show_list, width_of_output

    if len(found) > MOST:
        show_list(("kind", "name", "what it is"), [(one.kind, one.name, one.line) for one in found])
        print("\nOne of them: campus-tune explain NAME, or with its kind before the name.")
        return
    rule = "\n\n" + "─" * 20 + "\n\n"
    titles = [f"{one.name} · {one.kind}" for one in found]
    show(rule.join(explained(one, width_of_output()) for one in found), titles=titles)
