"""`campus-tune value --config recipe.yaml`: what groups of rows are worth, by trainings on sets of them."""

from __future__ import annotations

import argparse
import json
import shlex
from dataclasses import replace
from pathlib import Path

from campus_tune.cli.answer import Answer
from campus_tune.cli.options import interrupted
from campus_tune.compare.arms import RANDOM, RECIPE, make_arms
from campus_tune.compare.ctrl_c import CtrlC
from campus_tune.compare.plan import Plan
from campus_tune.compare.reading import OUT, WrittenPlan, make_plan, read_written
from campus_tune.compare.row_groups import DOMAIN, DOMAIN_DIFFICULTY, RowGroups
from campus_tune.compare.settings import CompareSettings
from campus_tune.method.shapley import CoalitionDesign
from campus_tune.metrics import parse_metric
from campus_tune.metrics.learnability import EARLY
from campus_tune.words.errors import RecipeError
from campus_tune.words.tables import table
from campus_tune.words.types import Json
from campus_tune.words.wording import cut, harmless

SEEDS, SEEDS_OF_SEQUENCES = 3, 5  # a seed more is a training more where sequences are drawn, else as many as sets
BESIDE = "value"  # folder of the trainings in the YAML's output_dir
LENGTH = "length"  # the difficulty where the recipe has no metric
CONFIG = "config.json"  # of a model
LONGEST = 24  # characters of a group's name
FLAGS = ("groups", "trainings", "seeds", "test", "domain_column", "difficulty", "model", "out", "jobs", "devices")


def value_of_groups(options: argparse.Namespace) -> int | Answer:
    """Train on sets of groups and share out what is gained; gives back the answer, or the exit code after Ctrl-C.

    Args:
        options: of the command.

    Raises:
        CampusError: wrong settings, rows that cannot decide, a training that cannot be made. Finished ones are kept.
    """
    plan: Plan | None = None
    with CtrlC() as ctrl_c:
        try:
            written = read_yaml_and_flags(options)
            plan = plan_of_value(options, written)
            return _value(options, written, plan, ctrl_c)
        except KeyboardInterrupt:
            return interrupted(None if plan is None else plan.out, "training")


def _value(options: argparse.Namespace, written: WrittenPlan, plan: Plan, ctrl_c: CtrlC) -> Answer:
    """All trainings that are missing, then the values: on the console, in shapley.json and in the report."""
    from campus_tune.compare.group_trainings import GroupTrainings
    from campus_tune.compare.run_bar import RunBar
    from campus_tune.compare.shapley_file import begin_file, end_file
    from campus_tune.compare.training import Bench
    from campus_tune.report.write import write_report
    from campus_tune.run.lock import RunLock

    lock = RunLock(plan.out, what="--out")
    lock.take()
    try:
        groups = groups_of(options, written, plan)
        design = design_of(len(groups.names), plan.settings.seeds, options.trainings, given=bool(options.seeds))
        trainings = GroupTrainings(plan, groups, design, check=ctrl_c.check)
        bar = RunBar(trainings)
        bench = Bench(plan, bar.tick)
        try:
            about = begin_file(trainings, bench.read_test(), command=_command(options), other_model=bool(options.model))
            trainings.say(trainings.cost())
            about = end_file(about, trainings.train(bench), trainings)
            for line in (values_table(about), *map(harmless, about["found"]["sentences"]), domains_table(about)):
                bar.conclude(line)
            bar.conclude(f"the report: {write_report(plan.out)}")
        finally:
            trainings.close()
            bar.close()
    finally:
        lock.release()
    return Answer({"out": plan.out, **about})


# -- what is asked -----------------------------------------------------------------------------------------------------


def read_yaml_and_flags(options: argparse.Namespace) -> WrittenPlan:
    """The YAML and the flags, with the model that is trained.

    Args:
        options: of the command.

    Raises:
        RecipeError: the model is the folder of a proxy, or what `read_written` refuses.
    """
    model: list[str] = []
    if options.model is not None:
        folder = Path(options.model)
        if (folder / EARLY).is_dir() and not (folder / CONFIG).exists():
            raise RecipeError(
                f"`--model` must be a model, got {options.model}, the folder of a proxy. Write --model "
                f"{folder / EARLY}, the one that it was early in its training, or name the model that it began as."
            )
        model = ["--model_name_or_path", options.model]
    return read_written(options.config, [*options.rest, *model], command="value")


def plan_of_value(options: argparse.Namespace, written: WrittenPlan) -> Plan:
    """What every training shares.

    Args:
        options: of the command.
        written: the YAML and the flags.

    Raises:
        RecipeError: all that is wrong with them.
    """
    compared = written.compared({**vars(options), "seeds": options.seeds or [SEEDS_OF_SEQUENCES]})
    settings = CompareSettings.from_mapping(compared)
    settings = replace(
        settings, points=1, evaluate=None, sharpness=False, proxy=None
    )  # of each training only the two ends
    name = RANDOM if options.shuffle else RECIPE
    block = {key: value for key, value in written.block.items() if key != "value"}  # nobody reads it of these runs
    arm = next(arm for arm in make_arms(block, {RANDOM: {}, RECIPE: {}}) if arm.name == name)
    out = options.out or Path(str(written.training.get("output_dir") or OUT)) / BESIDE
    plan = make_plan(written, [replace(arm, kind="baseline")], settings, out)
    return replace(plan, block={})  # nothing but the test rows is looked at when a training ends


def design_of(n_groups: int, seeds: tuple[int, ...], trainings: int | None, *, given: bool) -> CoalitionDesign:
    """Which sets are trained; unless seeds were given, with fewer of them where every set is.

    Args:
        n_groups: of rows.
        seeds: those that were given, or as many as drawn sequences take.
        trainings: at most; None for the usual number.
        given: the seeds were.

    Raises:
        RecipeError: too few or too many groups, or too few trainings.
    """
    few = CoalitionDesign(n_groups, seeds if given else seeds[:SEEDS], trainings)
    room = trainings is None or trainings >= n_groups + len(seeds)
    return CoalitionDesign(n_groups, seeds, trainings) if room and not few.is_exact else few


def _command(options: argparse.Namespace) -> str:
    words = ["campus-tune", "value", "--config", options.config]
    for name in FLAGS:
        if (value := getattr(options, name)) is not None:
            listed = map(str, value) if isinstance(value, list) else [str(value)]
            words += [f"--{name.replace('_', '-')}", *listed]
    return shlex.join([*words, *(["--shuffle"] if options.shuffle else []), *options.rest])


def groups_of(options: argparse.Namespace, written: WrittenPlan, plan: Plan) -> RowGroups:
    """The groups of the training rows.

    Args:
        options: of the command.
        written: the YAML and the flags.
        plan: of the trainings.

    Raises:
        DataError: no column of domains, or a group that fills no step.
        RecipeError: a difficulty for groups that have none; rows in another sequence with each seed.
    """
    from campus_tune.compare.ablation import domain_of_each_row
    from campus_tune.data.domains import Domains

    training = plan.parsed(plan.settings.seeds[0], plan.out)[0][1]
    column = options.domain_column or DOMAIN
    thirds = options.groups == DOMAIN_DIFFICULTY
    if options.difficulty and not thirds:
        raise RecipeError(
            f"`--difficulty` must go with --groups {DOMAIN_DIFFICULTY}, got it with --groups domain. Leave it out."
        )
    domains = Domains.of([str(value) for value in domain_of_each_row(plan, column)])
    if thirds:
        groups = thirds_of(options, written, plan, column, shuffled=bool(getattr(training, "shuffle_dataset", False)))
    else:
        groups = RowGroups.of_domains(domains.sizes(), column)
    groups.refuse_small(training.per_device_train_batch_size * training.gradient_accumulation_steps)
    return groups


def thirds_of(
    options: argparse.Namespace, written: WrittenPlan, plan: Plan, column: str, *, shuffled: bool
) -> RowGroups:
    """Domains cut into thirds by a difficulty, which is asked as `campus-tune score` does it.

    Args:
        options: of the command.
        written: the YAML and the flags.
        plan: of the trainings.
        column: with the domain of each row.
        shuffled: rows are prepared in another sequence with each seed.

    Raises:
        RecipeError: they are.
    """
    from campus_tune.cli.score import open_recipe, prepare
    from campus_tune.data.domains import Domains
    from campus_tune.model.compat import let_go

    if shuffled:
        raise RecipeError(
            "`shuffle_dataset` must be false where groups are numbers of rows, got true: each process would have them "
            "in another sequence. Remove it."
        )
    entry = options.difficulty or next(iter(written.block.get("metrics") or [LENGTH]))
    as_text = entry if isinstance(entry, str) else json.dumps(entry)
    block = {name: value for name, value in written.block.items() if name != "evaluate"}
    scores = written.block.get("scores") or str(plan.out / "scores")
    trainer, config = open_recipe(written.training, block, written.flags, metrics=[as_text], scores=scores)
    scoring, _ = prepare(trainer, config)
    label = parse_metric(entry).label
    difficulty = scoring.start().by_label[label]
    domains = Domains.read(trainer.train_dataset, column)
    let_go(trainer)
    assert domains.codes is not None
    return RowGroups.thirds(difficulty, domains.codes, list(domains.names), column=column, by=label)


# -- what is shown -----------------------------------------------------------------------------------------------------


def values_table(about: Json) -> str:
    """What each group is worth, with its errors, the most first.

    Args:
        about: the file's content.
    """
    found, sizes = about["found"], dict(zip(about["groups"]["names"], about["groups"]["sizes"], strict=True))
    gain = found["loss"]["before"] - found["loss"]["after"]
    errors = {} if found["exact"] else {"by_sequence": "± sequences"}
    errors |= {"by_seed": "± seeds"}
    rows = []
    for name, one in sorted(found["values"].items(), key=lambda pair: -pair[1]["value"]):
        between = "-" if one["low"] is None else f"{_signed(one['low'])} to {_signed(one['high'])}"
        share = f"{one['value'] / gain:.0%}".replace("-", "−") if gain > 0 else "-"
        shown = ("-" if one[error] is None else f"{one[error]:.4f}" for error in errors)
        rows.append([_shown(name), str(sizes[name]), _signed(one["value"]), share, *shown, between])
    return table(["group", "rows", "worth", "share", *errors.values(), "interval"], rows)


def domains_table(about: Json) -> str:
    """What each group is worth to each test domain.

    Args:
        about: the file's content.
    """
    values, domains = about["found"]["values"], list(about["found"]["losses"])
    rows = []
    for name, one in values.items():
        cells = (one["domains"][domain] for domain in domains)
        marks = (cell["low"] is not None and (cell["low"] > 0 or cell["high"] < 0) for cell in cells)
        shown = zip((one["domains"][domain]["value"] for domain in domains), marks, strict=True)
        rows.append([_shown(name), *(f"{_signed(value)}{'*' if clear else ' '}" for value, clear in shown)])
    return f"worth to each test domain (* beyond chance)\n{table(['group', *map(_shown, domains)], rows)}"


def _shown(name: str) -> str:
    return harmless(cut(name, LONGEST))


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")
