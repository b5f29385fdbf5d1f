"""`campus-tune compare`: did the curriculum help? Arms × seeds, the controls among them, and a tested verdict."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.cli.options import COMMANDS, Commands, add_command, add_runs, interrupted

if TYPE_CHECKING:
    from campus_tune.compare.ctrl_c import CtrlC
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
    return parser


def main(options: argparse.Namespace) -> int:
    """Compare; gives back the exit code: 0 whatever the verdict is.

    Raises:
        CampusError: wrong settings, rows that cannot decide, a run that cannot be made. Finished runs are kept.
    """
    from campus_tune.compare.ctrl_c import CtrlC

    plan: Plan | None = None
    with CtrlC() as ctrl_c:
        try:
            plan = read_plan(options)
            return _compare(plan, options, ctrl_c)
        except KeyboardInterrupt:
            return interrupted(None if plan is None else plan.out)


def _compare(plan: Plan, options: argparse.Namespace, ctrl_c: CtrlC) -> int:
    """All runs that are missing, then the verdict: on the console, in verdict.json and in the report."""
    from campus_tune.compare import detectable
    from campus_tune.compare.campaign import Campaign
    from campus_tune.compare.proxy_scores import read_proxy
    from campus_tune.compare.run_bar import RunBar
    from campus_tune.compare.training import Bench
    from campus_tune.compare.verdict import lines
    from campus_tune.compare.verdict_file import write_verdict
    from campus_tune.report.write import write_report
    from campus_tune.run.lock import RunLock

    words = ["campus-tune", "compare", "--config", options.config]
    for name in ("out", "arms", "seeds", "test", "jobs", "devices"):
        if value := getattr(options, name):
            words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    words += ["--random-plus"] if options.random_plus else []
    if plan.settings.proxy is not None:
        read_proxy(plan.settings.proxy)  # refused before anything is trained
    lock = RunLock(plan.out, what="--out")
    lock.take()
    campaign = Campaign(plan, shlex.join([*words, *options.rest]), pilot=options.pilot, check=ctrl_c.check)
    bar = RunBar(campaign)
    bench = Bench(plan, bar.tick)
    try:
        if options.earlier is not None:
            detectable.say(campaign, detectable.from_earlier(options.earlier, plan))
        campaign.begin(bench.read_test())
        campaign.train(["baseline"], bench)
        plans = detectable.from_baseline(campaign)
        detectable.say(campaign, plans)
        if options.pilot:
            return 0
        campaign.train(["recipe", "control"], bench)
        campaign.train(["control", "plus"], bench)  # those that await the recipe's runs
        verdict = write_verdict(campaign, plans)
        for line in lines(verdict, campaign.arms()):
            campaign.say(line)
        campaign.say(f"the report: {write_report(plan.out)}")
        return 0
    finally:
        campaign.close()
        bar.close()
        lock.release()


def read_plan(options: argparse.Namespace) -> Plan:
    """What is compared, from the YAML and the flags.

    Raises:
        RecipeError: all that is wrong with them.
    """
    from campus_tune.compare.arms import PLUS, default_arms, make_arms
    from campus_tune.compare.reading import make_plan, read_written
    from campus_tune.compare.settings import CompareSettings

    written = read_written(options.config, options.rest)
    compared = written.compared(vars(options))
    settings = CompareSettings.from_mapping(compared)
    if isinstance(compared, Mapping) and compared.get("arms") is None:
        settings = replace(settings, arms={name: {} for name in default_arms(written.block)})
    wanted = {**settings.arms, **({PLUS: {}} if options.random_plus else {})}
    return make_plan(written, make_arms(written.block, wanted), settings, options.out)
