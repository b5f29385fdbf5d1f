"""`campus-tune check`: what is wrong with a recipe and its data, before training."""

from __future__ import annotations

import argparse

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.options import COMMANDS, Commands, add_command
from campus_tune.words.errors import RecipeError

EXAMPLE = """\
All problems of a recipe at once; then the data: ties, correlations and gaps of the scores, the learning rate that each
difficulty decile will meet, probe rows that are training rows. Loads no model. Exit code 1 when a run should not start.

example:
  campus-tune check recipe.yaml
"""


def add_parser(commands: Commands) -> None:
    """Add `check` to the commands of `campus-tune`."""
    parser = add_command(commands, "check", COMMANDS["check"], EXAMPLE, main)
    parser.add_argument("recipe", nargs="?", help="a training YAML with a campus block")
    parser.add_argument("--config", metavar="YAML", help="the same, by flag")
    add_json(
        parser,
        recipe="that was checked",
        grave="a run should not start",
        counts="findings by severity",
        findings="each with severity, what and remedy",
    )


def main(options: argparse.Namespace) -> Answer:
    """Look at a recipe and its data.

    Returns:
        What is found; the exit code is 1 where a run should not start.

    Raises:
        RecipeError: no recipe was named, or it cannot be read.
    """
    path = options.recipe or options.config
    if path is None:
        raise RecipeError("`check` must be given a recipe, got none. Write: campus-tune check recipe.yaml")
    from campus_tune.preview.check import check_recipe

    found = check_recipe(path)
    return Answer(found.to_mapping(), str(found), int(found.grave))
