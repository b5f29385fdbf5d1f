"""`campus-tune diff`: did two runs train the same rows in every step?"""

from __future__ import annotations

import argparse
from pathlib import Path

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.exit_codes import DONE, FOUND
from campus_tune.cli.options import COMMANDS, Commands, add_command

EXAMPLE = """\
Did two runs train the same rows in every step? A resumed run and one that never stopped, two processes and one, this
version and the last. Compares their ledgers; exit code 1 when rows differ, with the first decision that did.

example:
  campus-tune diff run run-on-two-processes
"""


def add_parser(commands: Commands) -> None:
    """Add `diff` to the commands of `campus-tune`."""
    parser = add_command(commands, "diff", COMMANDS["diff"], EXAMPLE, main)
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN", help="output_dir of a run, or its ledger")
    add_json(
        parser,
        same="the same rows in every step",
        stages="that both have",
        first="stage with other rows, or null",
        why="what differs there",
        unmatched="stages that one of the two has alone",
        largest="relative difference of each measured number",
        regrown="offers measured on more rows in one run",
        batches="how each cut its steps",
        steered="what rules saw otherwise",
    )


def main(options: argparse.Namespace) -> Answer:
    """How two runs compare; the exit code is 1 where their rows differ.

    Raises:
        DataError: there is no ledger of a run.
    """
    from campus_tune.read.same_stream import compare_runs

    comparison = compare_runs(*options.runs)
    document = {"same": comparison.same, **vars(comparison)}
    return Answer(document, "\n".join(comparison.lines()), DONE if comparison.same else FOUND)
