"""`campus-tune search`: which settings of the campus block are worth it? Trials, halving, and a judge of its own."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.options import COMMANDS, Commands, add_command, add_runs
from campus_tune.words.errors import INTERRUPTED

if TYPE_CHECKING:
    from campus_tune.compare.ctrl_c import CtrlC
    from campus_tune.compare.plan import Plan
    from campus_tune.compare.search import Hunt, SearchSettings, Space, Standing
    from campus_tune.data.held_out import HeldOut

EXAMPLE = """\
Which settings of the campus block are worth it? Trains the recipe as it stands and trials that change it, ranks them by
their loss on held-out rows, and lets `compare` judge the best one: with fresh seeds, beside the recipe and plain
shuffling, on rows that neither steered nor ranked. There is no winner unless that verdict is `helped`: the best of many
trials always looks better than it is. Finished runs are kept: the same command goes on after a kill.

The YAML is that of `compare` with one more block; --search.<setting> overrides it, --compare.<setting> and TRL's flags
the rest:

  search:
    space:
      mix: [0, 0.25, 0.5]
      pacing.power: [1, 2, 4]    # a setting inside of another one
      thin: [null, {how: top, by: loss, keep: 0.7}]
    rows: search.jsonl           # neither probes nor test rows
    trials: 24

example:
  campus-tune search --config recipes/compare/search.yaml
  campus-tune search --config recipe.yaml --trials 12 --jobs 2 --out searches/first
  campus-tune search --config recipe.yaml --cost                    (what would it cost? trains nothing)
"""
MORE = """\
At a constant learning rate, and before the decay of warmup_stable_decay, two of three trials are stopped after 1/9 of
the steps, and of those that are left two of three after 1/3; at other rates all are trained in full. The cost is said
first.

Other settings of the block, with their defaults: seeds 1 (of each trial), sampler (tpe where optuna is
installed, else random; --search.sampler random), seed 0 (of the sampler).
"""


def add_parser(commands: Commands) -> None:
    """Add `search` to the commands of `campus-tune`; what it does not know itself is TRL's."""
    parser = add_command(
        commands,
        "search",
        COMMANDS["search"],
        EXAMPLE,
        main,
        takes_rest=True,
        allow_abbrev=False,  # --seed is TRL's, and no short --seeds
        more=MORE,
        rare=("--devices",),
    )
    parser.add_argument("--config", metavar="YAML", required=True, help="a training YAML with all three blocks")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the search (the YAML's output_dir)")
    parser.add_argument("--trials", type=int, metavar="N", help="how many (the YAML's, else 24)")
    add_runs(parser, seeds="of the comparison that judges (the YAML's, else 5)")
    parser.add_argument("--cost", action="store_true", help="say what it would cost, and train nothing")
    add_json(parser, out="its folder", cost="with --cost, in words", more="else all that search.json says")


def main(options: argparse.Namespace) -> int | Answer:
    """Search; gives back what `search.json` says, with exit code 0 whether there is a winner or not.

    Raises:
        CampusError: wrong settings, rows that cannot rank or judge, no trial that can be trained. Finished runs are
            kept.
    """
    from campus_tune.compare.ctrl_c import CtrlC

    with CtrlC() as ctrl_c:
        try:
            return _search(read_search_plan(options), options, ctrl_c)
        except KeyboardInterrupt:
            print("interrupted: finished runs are kept. The same command goes on.")
            return INTERRUPTED


@dataclass(frozen=True)
class SearchPlan:
    """What a command line asks for.

    Args:
        trials: the plan of the trials, whose test rows are the search rows.
        judging: the plan of the comparison that judges, without the best trial.
        space: that is searched.
        settings: of the search.
    """

    trials: Plan
    judging: Plan
    space: Space
    settings: SearchSettings


def read_search_plan(options: argparse.Namespace) -> SearchPlan:
    """What is searched, from the YAML and the flags.

    Raises:
        RecipeError: all that is wrong with them.
    """
    from campus_tune.compare.arms import RANDOM, RECIPE, make_arms
    from campus_tune.compare.reading import make_plan, read_written
    from campus_tune.compare.search import BLOCK, FOLDER, SearchSettings, plan_of_trials, read_space, sampler_in
    from campus_tune.compare.settings import BLOCK as COMPARE
    from campus_tune.compare.settings import CompareSettings
    from campus_tune.words.errors import RecipeError

    written = read_written(options.config, options.rest, command="search", blocks=(COMPARE, BLOCK))
    asked = written.blocks[BLOCK]
    if isinstance(asked, dict) and options.trials is not None:
        asked = {**asked, "trials": options.trials}
    problems: list[str] = []
    settings = compared = None
    try:
        settings = SearchSettings.from_mapping(asked)
    except RecipeError as error:
        problems += error.problems
    try:
        compared = CompareSettings.from_mapping(written.compared(vars(options)))
    except RecipeError as error:
        problems += error.problems
    if settings is None or compared is None:
        raise RecipeError(problems)
    plan = make_plan(written, make_arms(written.block, {RANDOM: {}, RECIPE: {}}), compared, options.out)
    if settings.sampler is None:
        settings = replace(settings, sampler=sampler_in(plan.out))
    space = read_space(settings.space, written.block)
    judging = replace(plan, out=plan.out / FOLDER)
    return SearchPlan(plan_of_trials(judging, settings, space), judging, space, settings)


def _search(plan: SearchPlan, options: argparse.Namespace, ctrl_c: CtrlC) -> Answer:
    """All runs that are missing; what was found, on the console, in search.json and in the report."""
    from campus_tune.compare.proxy_scores import read_proxy
    from campus_tune.compare.search import Hunt, SearchRecord, read_search, refuse_nothing, refuse_test_rows
    from campus_tune.compare.training import Bench
    from campus_tune.compare.trainings import Trainings
    from campus_tune.run.lock import RunLock

    words = ["campus-tune", "search", "--config", options.config]
    for name in ("out", "trials", "seeds", "jobs", "devices"):
        if value := getattr(options, name):
            words += [f"--{name}", *(map(str, value) if isinstance(value, list) else [str(value)])]
    command = shlex.join([*words, *options.rest])
    if plan.judging.settings.proxy is not None:
        read_proxy(plan.judging.settings.proxy)  # the comparison's: refused before a trial is trained
    assert plan.settings.sampler is not None, "it was chosen when the plan was read"
    refuse_nothing(plan.settings.sampler, plan.space, seed=plan.settings.seed)
    lock = RunLock(plan.trials.out, what="--out")
    lock.take()
    trainings = Trainings(plan.trials, ctrl_c.check)
    try:
        test, bench = Bench(plan.judging).read_test(), Bench(plan.trials)
        rows = bench.read_test(what="search: rows")
        refuse_test_rows(plan.settings.rows, plan.judging.settings.test)
        cost = cost_lines(plan)
        print(*cost, sep="\n")
        if options.cost:
            return Answer({"out": plan.trials.out, "cost": cost})
        record = SearchRecord(plan.trials, plan.settings, plan.space, rows, command)
        hunt = Hunt(plan.trials, plan.space, plan.settings, trainings, bench, record, len(test))
        standing = hunt.run()
        trainings.close()  # the comparison has processes of its own
        _judge(plan, hunt, standing, test, command, ctrl_c)
        return Answer({"out": plan.trials.out, **read_search(plan.trials.out)})
    finally:
        trainings.close()
        lock.release()


def cost_lines(plan: SearchPlan) -> list[str]:
    """What a search trains, in whole runs, and why so much.

    Args:
        plan: of the search.
    """
    from campus_tune.compare.search import RECIPE_SEEDS, make_ladder, trained_with
    from campus_tune.recipe.training_yaml import run_size
    from campus_tune.run.make_trainer import load_rows

    settings = plan.settings
    (script, training, _, mixture), _ = plan.trials.parsed(plan.judging.settings.seeds[0], plan.trials.out)
    size = run_size(vars(training), len(load_rows(script, mixture)[script.dataset_train_split]))
    ladder = make_ladder(trained_with(plan.trials), size.total_steps)
    n = min(settings.trials, plan.space.n_points)
    trials = ladder.cost(n) * settings.seeds
    recipe, judged = max(RECIPE_SEEDS, settings.seeds), 3 * len(plan.judging.settings.seeds)
    cost = (
        f"cost: {n} trials as {trials:.1f} whole runs of about {size.total_steps} steps, {recipe} of the recipe as it "
        f"stands, and {judged} of the comparison that judges the best one: {trials + recipe + judged:.1f} runs in all, "
        "and what their curricula cost"
    )
    one_seed = "there will be no winner: one seed cannot tell a recipe from luck. Judge with at least three: --seeds 3"
    drawn = f"trials are drawn by `sampler: {settings.sampler}`"
    return [cost, ladder.why, drawn, *([one_seed] if len(plan.judging.settings.seeds) == 1 else [])]


def _judge(plan: SearchPlan, hunt: Hunt, standing: Standing, test: HeldOut, command: str, ctrl_c: CtrlC) -> None:
    """The best trial against the recipe and plain shuffling, with fresh seeds; then the conclusion."""
    from campus_tune.compare.campaign import Campaign
    from campus_tune.compare.search import conclude, confirm, name_of, plan_of_best, promised, shown_changes
    from campus_tune.compare.training import Bench
    from campus_tune.compare.verdict import lines
    from campus_tune.report.write import write_report

    for line in standing.said():
        print(line)
    judged: dict[str, object] | None = None
    against_recipe = against_random = None
    if standing.improves:
        name = name_of(standing.best)
        print(f"{name} ({shown_changes(hunt.changes(standing.best))}) is trained anew, with fresh seeds:")
        best = plan_of_best(plan.judging, plan.space, hunt.points[standing.best - 1], name)
        campaign = Campaign(best, command, check=ctrl_c.check)
        try:
            verdict, against_recipe = confirm(campaign, Bench(best), test, name)
        finally:
            campaign.close()
        against_random = verdict.judgements[name]
        for line in lines(verdict, campaign.arms()):
            print(line)
        write_report(best.out)
        said = promised(standing, against_recipe)
        judged = {"arm": name, "recipe": against_recipe.to_mapping(), "random": against_random.to_mapping()}
        judged["said"] = said
        if said:
            print(f"against the recipe: {said}")
    conclusion = conclude(standing, against_recipe, against_random)
    hunt.record.write(judged=judged, conclusion=vars(conclusion))
    if conclusion.winner is not None:
        print(f"winner: {shown_changes(hunt.changes(conclusion.winner))}")
    print(conclusion.why)
    print(f"the report: {write_report(plan.trials.out)}")
