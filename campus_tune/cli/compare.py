"""`campus-tune compare`: did the curriculum help? Arms × seeds, the controls among them, and a tested verdict."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.options import COMMANDS, Commands, add_command, add_runs, interrupted

if TYPE_CHECKING:
    from campus_tune.compare.plan import Plan

EXAMPLE = """\
Did the curriculum help? Trains the recipe, plain shuffling, and the controls that say what the difference is owed to,
each with several seeds, and tests the difference on held-out rows. Finished runs are kept: the same command goes on
after a kill, and more seeds or arms are added to what is there.

The YAML is that of `sft` with one more block; any flag of TRL's overrides it, --compare.<setting> the block:

  compare:
    test: {path: test.jsonl, domain_column: domain}
    seeds: 5
    arms: [recipe, random, random_same_pacing, reversed]   # the default

example:
  campus-tune compare --config recipes/compare/quickstart.yaml
  campus-tune compare --config recipe.yaml --seeds 3 --jobs 2 --out comparisons/first
  campus-tune compare --config recipe.yaml --pilot          (which effect could be found? trains `random` alone)
  campus-tune compare --config recipe.yaml --devices 0 1 --compare.sharpness true
"""
MORE = """\
A recipe with weights, thin, domains, phases, a bandit, review, drop or rules that act has a control of each of these by
default, up to five arms in all: uniform_weights (shuffled_weights of a recipe of nothing else), shuffled_scores
(random_prune), natural_shares, stacked, round_robin, no_review, random_drop, notes_only; mean_shares, replayed_choices,
uniform_review, drop_best if asked.

Other settings of the block, with their defaults: effect 0.02 and speedup 0.1 (the smallest worth finding, as shares),
points 20 (of each curve; the generalisation gap takes as long as two more), tokens_tolerance 0.01, sharpness false,
evaluate (official tasks; none), proxy (a folder of campus-tune proxy, or of a finished run: does it rank the rows as
the trained model does? none).

A recipe with reward_funcs is trained by reward, as campus-tune grpo or rloo train it (trainer: rloo). Arms take equal
steps; the test rows are prompts, scored by the reward functions: one answer each, the likeliest token by token, or
several drawn with one seed (samples 0). Curves are drawn over generated tokens, and read where both have as many.
"""


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add `compare` to the commands of `campus-tune`; what it does not know itself is TRL's."""
    parser = add_command(
        commands,
        "compare",
        COMMANDS["compare"],
        EXAMPLE,
        main,
        takes_rest=True,
        allow_abbrev=False,  # --seed is TRL's, and no short --seeds
        more=MORE,
        rare=("--random-plus", "--earlier", "--devices"),
    )
    parser.add_argument("--config", metavar="YAML", required=True, help="a training YAML with both blocks")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the comparison (the YAML's output_dir)")
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="which are trained (the YAML's, else the default)")
    parser.add_argument("--test", nargs="+", metavar="FILE", help="held-out rows that decide (the YAML's)")
    add_runs(parser)
    parser.add_argument("--random-plus", action="store_true", help="also `random` for as much compute as the recipe")
    parser.add_argument("--earlier", type=Path, metavar="DIR", help="say from an earlier comparison what can be found")
    parser.add_argument("--pilot", action="store_true", help="train `random` alone and say which effect can be found")
    add_json(
        parser,
        folder="of the comparison",
        report="its page, or null",
        finished="all runs are made",
        runs="that are made",
        planned_runs="of them all",
        words="the verdict of each arm",
        sentences="the same, for a person",
        arms="each with its numbers",
        verdict="all that verdict.json says, or null",
    )
    return parser


def main(options: argparse.Namespace) -> int | Answer:
    """Compare; gives back the verdict, or the exit code: 0 whatever it is.

    Raises:
        CampusError: wrong settings, rows that cannot decide, a run that cannot be made. Finished runs are kept.
    """
    from campus_tune.compare.ctrl_c import CtrlC
    from campus_tune.read.compared import command_line, make_comparison

    plan: Plan | None = None
    with CtrlC() as ctrl_c:
        try:
            plan = read_plan(options)
            command = command_line(options.config, vars(options), options.rest, random_plus=options.random_plus)
            found = make_comparison(plan, command, pilot=options.pilot, earlier=options.earlier, check=ctrl_c.check)
        except KeyboardInterrupt:
            return interrupted(None if plan is None else plan.out)
    return Answer(found.to_mapping(), str(found))


def read_plan(options: argparse.Namespace) -> Plan:
    """What is compared, from the YAML and the flags.

    Raises:
        RecipeError: all that is wrong with them.
    """
    from campus_tune.compare.reading import plan_comparison

    given = vars(options)
    return plan_comparison(options.config, options.rest, given, out=options.out, random_plus=options.random_plus)
