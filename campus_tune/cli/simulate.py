"""`campus-tune simulate`: what a recipe would draw, without a model."""

from __future__ import annotations

import argparse
from dataclasses import replace

from campus_tune.cli.answer import Answer, add_json
from campus_tune.cli.options import COMMANDS, Commands, add_command, count, names, number
from campus_tune.words.leaves import LARGEST_SEED

EXAMPLE = """\
What would be drawn, without a model: stages, sizes, scopes, repeats, share per domain. Scores are made up, and where
the selector asks for losses, so are they: it shows what the rules lead to, not what your model will learn.

example:
  campus-tune simulate --config recipe.yaml --rows 10000 --epochs 3
  campus-tune simulate --config phases.yaml --domains math=8000,code=1500,chat=500
  campus-tune simulate --metrics length,mtld,loss --selector lowest_perplexity --window slice --coverage revisit
"""
SETTINGS = ("metrics", "selector", "pacing", "stages", "window", "coverage", "mix", "handover", "seed")
USUAL_ROWS = 10_000
FOUR = ("length", "mtld", "compression", "loss")  # metrics where no recipe names any


def add_parser(commands: Commands) -> None:
    """Add `simulate` to the commands of `campus-tune`."""
    parser = add_command(commands, "simulate", COMMANDS["simulate"], EXAMPLE, main)
    parser.add_argument("--config", metavar="YAML", help="a recipe with a campus block; flags below override it")
    parser.add_argument(
        "--rows", type=number(int, 1, 10**8), help="rows of the training set (the domains', else 10000)"
    )
    parser.add_argument("--batch", type=number(int, 1, 10**8), help="rows per optimizer step (the recipe's, else 16)")
    parser.add_argument("--epochs", type=number(float, 0, 10**6), help="passes over the rows (the recipe's, else 1)")
    parser.add_argument(
        "--domains",
        type=domains,
        metavar="N|NAME=ROWS,…",
        help="how many equal ones, or the size of each (those that the recipe names, else 4)",
    )
    parser.add_argument("--seed", type=number(int, 0, LARGEST_SEED), help="of every draw (the recipe's, else 0)")
    add_json(
        parser,
        n_rows="of the training set",
        global_batch="rows in a step",
        total_steps="of the run",
        domains="their names",
        selector="which chooses",
        seen="rows that come at all",
        repeats="visits of rows that came before",
        rows_by_choice="visits by what was chosen",
        made_up="scores, and losses, are",
        stages="each with its rows, scope and shares of domains",
        findings="what to know, with severity, what and remedy",
        more="how a policy draws, and what steers, as in the ledger",
    )
    settings = parser.add_argument_group("settings of the campus block")
    settings.add_argument("--metrics", nargs="+", help="names, also comma-separated; --metrics=-length for a reverse")
    settings.add_argument("--selector", help="which sub-curriculum is trained next")
    settings.add_argument("--pacing", help="how far the orders open, by name")
    settings.add_argument("--stages", type=number(int, 1, 100_000))
    settings.add_argument("--window", help="prefix or slice")
    settings.add_argument("--coverage", help="exact or revisit")
    settings.add_argument("--mix", type=float, help="share of every stage drawn at random")
    settings.add_argument("--handover", type=float, help="progress from which rows are shuffled")


def domains(text: str) -> int | dict[str, int]:
    """An argparse type: how many domains, or the rows of each by its name."""
    if "=" not in text:
        return int(number(int, 1, 10_000)(text))
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, _, rows = part.rpartition("=")
        if not name.strip() or name.strip() in sizes:
            raise argparse.ArgumentTypeError(
                f"must be names and their rows, each once, got {part!r}: math=8000,code=1500"
            )
        sizes[name.strip()] = count(rows)
    return sizes


def main(options: argparse.Namespace) -> Answer:
    """The plan of a recipe, or of the paper's four metrics.

    Raises:
        RecipeError: all that is wrong with the recipe and the flags.
    """
    from campus_tune.preview.advice import problems_in_method
    from campus_tune.preview.draw_plan import plan_findings
    from campus_tune.preview.made_up_domains import made_up_domains
    from campus_tune.preview.plan_table import plan_as_json, plan_as_text
    from campus_tune.preview.simulate import simulate
    from campus_tune.recipe.config import CampusConfig, load_recipe
    from campus_tune.recipe.drop_block import SUSPECTS
    from campus_tune.recipe.training_yaml import in_rounds, rounds_of, run_seed, run_size, setting_number, setting_whole
    from campus_tune.recipe.trl_yaml import REWARDS
    from campus_tune.words.findings import Finding
    from campus_tune.words.strict_yaml import read_yaml

    given = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}
    if options.metrics:
        given["metrics"] = names(options.metrics)
    training = read_yaml(options.config) if options.config else {}
    block = load_recipe(training, named=options.config).to_mapping() if options.config else {"metrics": list(FOUR)}
    if "campus" not in training:  # no trainer is named: one pass of small batches
        training = {"per_device_train_batch_size": 16, "num_train_epochs": 1.0, "seed": 0}
    if options.epochs:
        training |= {"num_train_epochs": options.epochs, "max_steps": -1}
    sized = isinstance(options.domains, dict)
    n_rows = options.rows or (sum(options.domains.values()) if sized else USUAL_ROWS)
    size = run_size(training, n_rows, global_batch=options.batch)
    rounds = rounds_of(training) if any(training.get(name) for name in REWARDS) and not options.batch else None
    if rounds is not None:
        by_epochs = setting_whole(training, "max_steps") <= 0
        size = in_rounds(size, rounds, setting_number(training, "num_train_epochs") if by_epochs else 0.0)
    config = CampusConfig.from_mapping({**block, **given})
    seed = run_seed(training) if config.seed is None else config.seed
    config = replace(config, seed=seed)
    rows = made_up_domains(config, options.domains, n_rows=n_rows, seed=seed)
    run = simulate(
        config,
        n_rows=n_rows,
        global_batch=size.global_batch,
        total_steps=size.total_steps,
        groups=rows.codes,
        domains=tuple(rows.names),
    )
    findings = [*problems_in_method(config), *run.findings(), *plan_findings(config, run)]
    if rounds is not None:
        what = (
            f"It is trained by reward: a step here is a round, of {rounds.global_batch} prompts with {rounds.group} "
            f"answers each and of {rounds.steps} optimizer step{'s' * (rounds.steps > 1)}."
        )
        findings.append(Finding("info", what))
    if any(entry.by != SUSPECTS for entry in config.drop or ()):
        what = "`drop` leaves out nothing here: which rows it names is known from the data, by campus-tune check."
        findings.append(Finding("info", what))
    return Answer(plan_as_json(run, findings), plan_as_text(run, findings))
