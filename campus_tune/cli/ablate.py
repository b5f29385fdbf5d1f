"""`campus-tune ablate`: what does each domain do for the others? Runs without it, and a tested difference per cell."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.options import COMMANDS, Commands, add_command, add_runs, interrupted
from campus_tune.words.errors import RecipeError

if TYPE_CHECKING:
    from campus_tune.compare.ablation import Question
    from campus_tune.compare.ctrl_c import CtrlC
    from campus_tune.compare.plan import Plan

EXAMPLE = """\
What does each domain do for the others? Trains the recipe on all rows, and once without each domain, with the same
seeds, and tests what became of the loss of every test domain: needed, harmful, or nothing that can be told from chance.

Runs without a domain train as many tokens as the run of all rows: what else could these tokens have bought? With
--fewer they train fewer: is the domain needed? Each of the two questions has a folder of its own.

The YAML is that of `compare`, without arms. Finished runs are kept: the same command goes on after a kill.

example:
  campus-tune ablate --config recipes/compare/ablate.yaml
  campus-tune ablate --config recipe.yaml --fewer --out ablations/fewer
  campus-tune ablate --config recipe.yaml --only --domains math code       (each of the two alone, too)
  campus-tune ablate --config recipe.yaml --model ./small      (cheap, and the recipe's own model is not tested)
"""
MORE = """\
`ablation.json` holds the matrix; what is detected in it can steer a run:
domains: {reweight: {name: skill_graph, graph: ablations/first/ablation.json}}
"""


def add_parser(commands: Commands) -> argparse.ArgumentParser:
    """Add `ablate` to the commands of `campus-tune`; what it does not know itself is TRL's."""
    parser = add_command(
        commands,
        "ablate",
        COMMANDS["ablate"],
        EXAMPLE,
        main,
        takes_rest=True,
        allow_abbrev=False,  # --seed is TRL's, and no short --seeds
        more=MORE,
        rare=("--devices",),
    )
    parser.add_argument("--config", metavar="YAML", required=True, help="a training YAML with both blocks")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the ablation (the YAML's output_dir)")
    parser.add_argument("--domains", nargs="+", metavar="DOMAIN", help="which are left out in turn (all)")
    parser.add_argument("--domain-column", metavar="COLUMN", help="of the training rows (the recipe's, else domain)")
    parser.add_argument("--only", action="store_true", help="also train each of them alone")
    parser.add_argument("--fewer", action="store_true", help="without a domain, train fewer tokens: another question")
    parser.add_argument("--model", help="folder or hub id, instead of the recipe's model")
    parser.add_argument("--test", nargs="+", metavar="FILE", help="held-out rows that decide (the YAML's)")
    add_runs(parser)
    add_json(parser, out="its folder", more="all that ablation.json says")
    return parser


def main(options: argparse.Namespace) -> int | Answer:
    """Ablate; gives back what `ablation.json` says, with exit code 0 whatever is found.

    Raises:
        CampusError: wrong settings, rows that cannot decide, a run that cannot be made. Finished runs are kept.
    """
    from campus_tune.compare.ctrl_c import CtrlC

    out: Path | None = None
    with CtrlC() as ctrl_c:
        try:
            plan, question = read_question(options)
            out = plan.out
            return _ablate(plan, question, options, ctrl_c)
        except KeyboardInterrupt:
            return interrupted(out)


def _ablate(plan: Plan, question: Question, options: argparse.Namespace, ctrl_c: CtrlC) -> Answer:
    """All runs that are missing, then the matrix: on the console, in ablation.json and in the report."""
    from campus_tune.compare.ablation import AblationRuns
    from campus_tune.compare.kinds import ABLATION
    from campus_tune.compare.run_bar import RunBar
    from campus_tune.compare.training import Bench
    from campus_tune.compare.verdict import ablation_lines
    from campus_tune.report.write import write_report
    from campus_tune.run.lock import RunLock
    from campus_tune.words.json_shapes import read_json

    words = ["campus-tune", "ablate", "--config", options.config]
    for name in ("out", "domains", "domain_column", "model", "seeds", "test", "jobs", "devices"):
        if value := getattr(options, name):
            words += [f"--{name.replace('_', '-')}", *map(str, value if isinstance(value, list) else [value])]
    words += [f"--{name}" for name in ("only", "fewer") if getattr(options, name)]
    lock = RunLock(plan.out, what="--out")
    lock.take()
    runs = AblationRuns(plan, question, shlex.join([*words, *options.rest]), check=ctrl_c.check)
    bar = RunBar(runs)
    bench = Bench(plan, bar.tick)
    try:
        runs.say(runs.cost())
        if len(plan.settings.seeds) == 1:
            bar.conclude(
                "there will be no word: one seed cannot tell a domain from luck. Run at least three: --seeds 3"
            )
        if question.target is not None:
            runs.say(f"trained in the place of {question.target}, which is not tested")
        runs.begin(bench.read_test())
        runs.train(bench)
        seeds = len(plan.settings.seeds)
        for line in ablation_lines(runs.judge(), effect=plan.settings.effect, seeds=seeds):
            bar.conclude(line)
        bar.conclude(f"the report: {write_report(plan.out)}")
        return Answer({"out": plan.out, **read_json(plan.out / ABLATION)})
    finally:
        runs.close()
        bar.close()
        lock.release()


def read_question(options: argparse.Namespace) -> tuple[Plan, Question]:
    """What is trained and what is asked, from the YAML and the flags.

    Raises:
        RecipeError: all that is wrong with them.
        DataError: the training rows have no such domains.
    """
    from campus_tune.compare.ablation import FULL, make_question
    from campus_tune.compare.arms import Arm
    from campus_tune.compare.reading import make_plan, read_written
    from campus_tune.compare.settings import CompareSettings
    from campus_tune.recipe.config import CampusConfig

    model = ["--model_name_or_path", options.model] if options.model else []
    written = read_written(options.config, [*options.rest, *model], command="ablate")
    settings = CompareSettings.from_mapping(written.compared(vars(options)))
    settings = replace(settings, arms={FULL: {}}, evaluate=None, sharpness=False, proxy=None)
    block = {key: value for key, value in written.block.items() if key != "evaluate"}
    config = CampusConfig.from_mapping(block)
    if block.get("seed") is not None:
        raise RecipeError(
            f"`campus: seed` must be left out where seeds are compared, got {block['seed']}: every run would draw the "
            "same. Remove it."
        )
    full = Arm(FULL, "baseline", block)
    full.config(0)
    plan = replace(make_plan(written, [full], settings, options.out), block=block)
    target = written.training.get("model_name_or_path") if options.model else None
    question = make_question(
        plan,
        options.domain_column or config.domain_column,
        options.domains,
        only=options.only,
        fewer=options.fewer,
        target=None if target is None else str(target),
    )
    return plan, question
