"""`campus-tune value`: what data are worth: rows, of a run that measured it, or groups of them, by trainings."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.options import COMMANDS, Commands, add_command, count
from campus_tune.words.errors import RecipeError

EXAMPLE = """\
What is data worth? Of a run that measured it (`value: true`): which rows and domains have lowered the loss of which
probe domains (RUN is its output_dir). Or, with --config, what each group of rows is worth by Shapley's rule: the recipe
is trained on every set of groups, or on drawn ones where there are more than six, and what is gained on the test rows
of the YAML's `compare:` block is shared out. Finished trainings are kept: the same command goes on after a kill.

example:
  campus-tune value runs/first
  campus-tune value --config recipe.yaml --groups domain
  campus-tune value --config recipe.yaml --groups domain_difficulty --trainings 60 --model proxy/early --jobs 2
"""
MORE = """\
A training on some groups is the run of a file that has no other rows: as many epochs, fewer steps. --model trains a
small model in the place of the recipe's, for what it can say of that one.
"""
USAGE = "campus-tune value RUN [--top N]\n       campus-tune value --config YAML [options] [flags of TRL]"
OF_GROUPS = (
    "groups", "trainings", "seeds", "test", "domain_column", "difficulty", "shuffle", "model", "out", "jobs", "devices"
)  # fmt: skip


def add_parser(commands: Commands) -> None:
    """Add `value` to the commands of `campus-tune`; with --config, what it does not know itself is TRL's."""
    parser = add_command(
        commands,
        "value",
        COMMANDS["value"],
        EXAMPLE,
        main,
        takes_rest=True,  # RUN too, which would else be taken for the value of a flag of TRL's
        allow_abbrev=False,
        more=MORE,
        rare=("--difficulty", "--devices"),
    )
    parser.usage = USAGE
    parser.add_argument("--config", metavar="YAML", help="a training YAML with a compare block, instead of RUN")
    parser.add_argument("--top", type=count, metavar="N", help="rows that helped and harmed most, of a RUN (10)")
    add_json(
        parser,
        sentence="of a RUN: what it says in a line",
        rows="that have a value",
        negative="of them, those that harm",
        not_valued="rows without a value",
        split_half="how far halves of the probes agree",
        transfer="what domains do to each other, or null",
        visits="that were measured, by domain",
        helpful="rows that helped most",
        harmful="rows that harmed most",
        more="with --config: out, and all that shapley.json says",
    )
    given = parser.add_argument_group("with --config")
    given.add_argument("--groups", choices=("domain", "domain_difficulty"), help="domain (default), or thirds of each")
    given.add_argument("--trainings", type=count, metavar="N", help="at most (every set of 6 groups, 60 of more)")
    given.add_argument("--seeds", type=int, nargs="+", metavar="N", help="how many, or which (3; 5 if sets are drawn)")
    given.add_argument("--test", nargs="+", metavar="FILE", help="held-out rows that decide (the YAML's)")
    given.add_argument("--domain-column", metavar="NAME", help="of the training rows (domain)")
    given.add_argument("--difficulty", metavar="METRIC", help="that cuts thirds (the recipe's first, else length)")
    given.add_argument("--shuffle", action="store_true", help="train plain shuffling instead of the recipe")
    given.add_argument("--model", help="folder or hub id, instead of the recipe's model")
    given.add_argument("--out", type=Path, metavar="DIR", help="folder of the trainings (the YAML's output_dir)")
    given.add_argument(
        "--jobs", type=int, metavar="N", help="trainings at once on processor cores (the YAML's, else 1)"
    )
    given.add_argument("--devices", type=int, nargs="+", metavar="N", help="GPUs, each with a training of its own")


def main(options: argparse.Namespace) -> int | Answer:
    """Show what was measured, or train on sets of groups; gives back the answer, or the exit code after Ctrl-C.

    Raises:
        CampusError: flags that do not go together, no run, no values, a training that cannot be made.
    """
    if options.config is not None:
        if options.top is not None:
            raise RecipeError("`--top` must go with RUN, got it with --config. Leave it out.")
        from campus_tune.cli.value_of_groups import value_of_groups

        return value_of_groups(options)
    wrong = [f"--{name.replace('_', '-')}" for name in OF_GROUPS if getattr(options, name)]
    if wrong:
        raise RecipeError(f"`{wrong[0]}` must go with --config, got it with RUN. Leave it out, or name the recipe.")
    from campus_tune.read.run_values import TOP, as_document, as_text, read_run_values

    facts = read_run_values(run_of(options.rest))
    top = options.top or TOP
    return Answer(as_document(facts, top=top), as_text(facts, width=shutil.get_terminal_size().columns, top=top))


def run_of(rest: Sequence[str]) -> Path:
    """The run among words that are nobody's flags.

    Args:
        rest: the words.

    Raises:
        RecipeError: none, several, or a flag that is unknown.
    """
    if flags := [word for word in rest if word.startswith("-")]:
        raise RecipeError(f"`value RUN` must have no flags of TRL's, got {flags[0]}. Remove it, or give --config.")
    if len(rest) != 1:
        got = f"{len(rest)}: {', '.join(rest)}" if rest else "none"
        raise RecipeError(
            f"`value` must have one RUN, the output_dir of a run, or --config with a recipe, got {got}. Name one."
        )
    return Path(rest[0])
