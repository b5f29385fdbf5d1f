"""Trainings on sets of groups that train nothing: what each set is worth is planted."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from campus_tune.cli.main import make_parser
from campus_tune.cli.value_of_groups import plan_of_value
from campus_tune.compare.plan import Plan
from campus_tune.compare.reading import read_written
from campus_tune.compare.result_file import write_run_result
from campus_tune.compare.row_groups import RowGroups
from campus_tune.compare.task import Task
from campus_tune.words.types import FloatArray, Json

START = 2.0  # loss of the model as it comes
DOMAINS = ("one", "two")  # of the test rows
TOKENS = np.array([4.0, 2.0, 4.0])  # of three test rows, the last two in the second domain


def value_options(recipe: Path, *words: str) -> argparse.Namespace:
    """What the command line makes of these words."""
    found, rest = make_parser().parse_known_args(["value", "--config", str(recipe), *words])
    found.rest = rest
    return found


def value_plan(recipe: Path, *words: str) -> Plan:
    """The plan that a recipe and some flags make."""
    options = value_options(recipe, *words)
    return plan_of_value(options, read_written(options.config, options.rest, command="value"))


def groups_of(n: int) -> RowGroups:
    """Domains a, b, c, …, of 10, 20, 30, … rows."""
    return RowGroups.of_domains({name: 10 * (i + 1) for i, name in enumerate("abcdefghijklmnop"[:n])}, "domain")


def coalition_of(name: str, n: int) -> int:
    """The bits of a set of groups, from its runs' folder."""
    return (1 << n) - 1 if name == "all" else sum(1 << int(group) for group in name.split("-")[1:])


class Planted:
    """What makes runs: each lowers the loss of the two test domains by what is planted.

    Args:
        plan: whose folder results are written to.
        n: groups.
        gains: of a set of groups and a seed, in each test domain, shape (2,).
        diverges: the folder of the set that does.
    """

    def __init__(self, plan: Plan, n: int, gains: Callable[[int, int], FloatArray], diverges: str = "") -> None:
        self.plan, self.n, self.gains, self.diverges = plan, n, gains, diverges
        self.made: list[tuple[str, int]] = []
        self.tasks: list[Task] = []

    def make(self, task: Task) -> Json:
        """The result of a run, written too."""
        one, two = START - self.gains(coalition_of(task.name, self.n), task.seed)
        losses = np.array([one, two, two]) * TOKENS
        bad = task.name == self.diverges
        outcome: Json = {
            "arm": task.name,
            "kind": "recipe",
            "seed": task.seed,
            "status": "diverged" if bad else "finished",
            "message": "NaN at step 3" if bad else None,
            "shared": {"steps": task.max_steps or 5},
            "seconds": {"training": 1.0},
            "curve": {
                "tokens": [0, 10],
                "loss": [START, losses.sum() / TOKENS.sum()],
                "domains": {name: [START, end] for name, end in zip(DOMAINS, (one, two), strict=True)},
            },
            "test": None
            if bad
            else {
                "domains": list(DOMAINS),
                "items": ["one 1", "two 1", "two 2"],
                "domain": [0, 1, 1],
                "tokens": TOKENS.tolist(),
                "loss": losses.tolist(),
            },
        }
        if task.only is not None:
            outcome["only"] = task.only.to_mapping()
        write_run_result(self.plan.out, outcome)
        self.made.append((task.name, task.seed))
        self.tasks.append(task)
        return outcome
