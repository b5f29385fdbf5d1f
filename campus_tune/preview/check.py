"""`campus-tune check`: what is wrong with a recipe and its data, before a model is loaded or a step is trained.

First the settings: all problems of the block at once, what the method does that its name does not say, and trainer
options that would undo it. If those hold, the data: the scores' health, the learning rate that each difficulty decile
will meet in a simulated plan, and probes that were trained on.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np

from campus_tune.data.conversions import Origin
from campus_tune.data.overlap import overlap, overlap_findings
from campus_tune.data.plain import full_texts, load_rows, row_texts, token_counter
from campus_tune.data.refusals import foreign_roles, refuse_rows, silent_contents
from campus_tune.data.shapes import Shape
from campus_tune.evaluate.suites import load_suite
from campus_tune.method.grouping import NO_GROUPS
from campus_tune.method.orders import group_codes, order_rows, rank_of_rows
from campus_tune.metrics import CpuMetric, MetricSpec, build_metric, finish_scores
from campus_tune.metrics.extras import missing_parts
from campus_tune.metrics.rank_mean import RankMean, leaves
from campus_tune.model.prepare import HERE, OURS, PreparedRows, prepare_rows
from campus_tune.preview.advice import problems_in_method
from campus_tune.preview.check_budget import budget_findings
from campus_tune.preview.health import health_table, known_level, score_findings, score_health
from campus_tune.preview.lr_mass import lr_by_decile, lr_findings
from campus_tune.preview.simulate import SimulatedRun, simulate
from campus_tune.recipe.blocks import EvaluateSettings
from campus_tune.recipe.config import CampusConfig, load_recipe
from campus_tune.recipe.trainer_settings import refused
from campus_tune.recipe.training_yaml import RunSize, learning_rates, run_seed, run_size
from campus_tune.words.errors import CampusError, DataError, RecipeError
from campus_tune.words.files import read_jsonl
from campus_tune.words.findings import SEVERITIES, Finding
from campus_tune.words.strict_yaml import read_yaml
from campus_tune.words.types import FloatArray, IntArray, Json, RowTexts


def check(path: str | Path) -> list[Finding]:
    """Everything a user should know about a training YAML with a `campus:` block before starting it.

    Args:
        path: the YAML, as `campus-tune sft --config` takes it.

    Returns:
        Findings, the gravest first. With a wrong recipe the data are not looked at.
    """
    try:
        settings = read_yaml(path)
    except RecipeError as error:
        return _errors(error)
    findings = [*_unknown_keys(settings), *_trainer_findings(settings)]
    try:
        config = load_recipe(settings, named=path)
    except RecipeError as error:
        return [*_errors(error), *findings]
    findings += problems_in_method(config)
    findings += [Finding("error", problem) for problem in missing_parts(map(build_metric, leaves(config.specs)))]
    findings += _suite_findings(config.evaluate)
    if not any(finding.severity == "error" for finding in findings):
        try:
            _refuse_other_model(settings)
            findings += _data_findings(settings, config)
        except CampusError as error:
            findings += _errors(error)
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def render(findings: list[Finding]) -> str:
    """The findings as text, one paragraph each, and the sum of them."""
    lines = [str(finding) for finding in findings]
    counts = {severity: sum(f.severity == severity for f in findings) for severity in SEVERITIES}
    lines.append(
        f"{counts['refused']} refused, {counts['error']} errors, {counts['warning']} warnings, {counts['info']} notes"
    )
    return "\n".join(lines)


def is_grave(findings: list[Finding]) -> bool:
    """A run should not start."""
    return any(finding.severity in ("refused", "error") for finding in findings)


def _errors(error: CampusError) -> list[Finding]:
    problems = error.problems if isinstance(error, RecipeError) else [str(error)]
    return [Finding("error", problem) for problem in problems]


# -- the trainer's settings ----------------------------------------------------------------------------------------


def _refuse_other_model(settings: Mapping[str, Any]) -> None:
    """By its configuration, as `campus-tune sft` does before it loads the model."""
    if model := settings.get("model_name_or_path"):
        from campus_tune.model.other_tasks import refuse_other_model

        refuse_other_model(str(model), trust_remote_code=bool(settings.get("trust_remote_code")))


def _unknown_keys(settings: Json) -> list[Finding]:
    """Keys and values beside the block that TRL would refuse. TRL ignores unknown keys; `campus-tune sft` does not."""
    if "campus" not in settings:
        return []  # the bare block
    from campus_tune.recipe.trl_yaml import environment_problems, parse_trl

    environment = environment_problems(settings.get("env"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries about their own defaults
        try:
            asked = {k: v for k, v in (settings | HERE).items() if k not in OURS}
            _, problems = parse_trl(asked, [], environment)
        except RecipeError as error:
            return _errors(error)
    return [Finding("error", problem) for problem in [*problems, *environment]]


def _trainer_findings(settings: Mapping[str, Any]) -> Iterator[Finding]:
    """Trainer options that would replace, reorder or blur the planned rows."""
    for problem in refused(settings):
        yield Finding("error", problem)
    if settings.get("auto_find_batch_size"):
        yield Finding(
            "warning",
            "auto_find_batch_size may change the batch, and with it the plan, after the curriculum was built.",
            "Set per_device_train_batch_size to what fits.",
        )
    if settings.get("save_only_model"):
        yield Finding(
            "warning", "save_only_model: a run cannot be resumed exactly without its optimizer.", "Remove it."
        )


def _suite_findings(evaluate: EvaluateSettings | None) -> list[Finding]:
    """Official tasks that watch the run: a misspelt one would be told after the model was loaded."""
    if evaluate is None:
        return []
    try:
        load_suite(evaluate.suite).narrowed(evaluate.tasks, evaluate.limit)
    except CampusError as error:
        return _errors(error)
    return []


# -- the data ------------------------------------------------------------------------------------------------------


def _data_findings(settings: Mapping[str, Any], config: CampusConfig) -> list[Finding]:
    from campus_tune.data.as_dataset import as_dataset

    name = settings.get("dataset_name")
    if not isinstance(name, str):
        return [Finding("info", "The recipe names no dataset_name: the data were not looked at.")]
    rows = load_rows(name, config=settings.get("dataset_config"), split=settings.get("dataset_train_split", "train"))
    origin = Origin.in_recipe(settings)
    dataset = as_dataset(rows, name)
    refuse_rows(dataset, Shape.of(settings), origin)
    prepared, findings = _prepared(settings, dataset)
    notes = (foreign_roles(dataset, origin), silent_contents(dataset, origin))
    said = {finding.what for finding in findings}
    findings += [Finding("warning", note) for note in notes if note and note not in said]
    texts, counted = _texts(settings, rows, prepared)
    domain = config.within or (config.probes.domain_column if config.probes else "domain")
    findings.append(Finding("info", f"{len(texts)} rows; lengths are counted in {counted}."))
    findings += _probe_findings(config, rows, texts, Shape.of(settings))
    findings += _prepared_probe_findings(config, prepared)
    if config.within not in (None, NO_GROUPS) and domain not in texts.columns:
        raise RecipeError(
            f"`within` must be a column of the training set ({', '.join(texts.columns)}), got {domain!r}. "
            "Correct it, or write within: none."
        )
    resolved = config.resolved(
        has_probes=config.probes is not None,
        domain_in_data=domain in texts.columns,
        seed=run_seed(settings),
    )
    domains, groups = _groups(resolved, texts)
    scores, metric_findings = _scores(resolved, texts, groups)
    findings += metric_findings
    findings += _health_findings(resolved, texts, scores, groups, chosen=config.within is not None)
    size = run_size(settings, len(texts))
    findings += _size_findings(resolved, size)
    if size.n_rows >= size.global_batch:
        findings += budget_findings(settings, resolved, prepared)
        ordered = {label: scores[label] for label in resolved.labels if label in scores}
        findings += _plan_findings(settings, resolved, size, ordered, domains, groups)
    return findings


def _prepared(settings: Mapping[str, Any], rows: Any) -> tuple[PreparedRows | None, list[Finding]]:
    """The rows as the run will train them, where they can be prepared, and what is wrong or noteworthy with them."""
    try:
        prepared = prepare_rows(settings, rows)
    except CampusError as error:
        return None, _errors(error)
    if prepared is None or not prepared.dropped:
        return prepared, []
    what = f"{prepared.dropped} of {len(rows)} rows are not trained: max_length leaves nothing of their answers."
    return prepared, [Finding("warning", what, "Raise max_length, or remove them.")]


def _texts(settings: Mapping[str, Any], rows: list[Json], prepared: PreparedRows | None) -> tuple[RowTexts, str]:
    """The rows as CPU metrics see them, and what their lengths are counted in."""
    model = settings.get("model_name_or_path")
    if prepared is not None:
        return prepared.texts, f"tokens of {Path(str(model)).name}, as they are trained"
    count, counted = token_counter(model, trust_remote_code=bool(settings.get("trust_remote_code")))
    return row_texts(rows, count, Shape.of(settings)), counted


def _groups(config: CampusConfig, texts: RowTexts) -> tuple[list[str], IntArray | None]:
    """The names of the groups that rows are ranked in, and each row's; none where all are ranked together."""
    if config.within is None or config.within == NO_GROUPS:
        return [], None
    return group_codes(texts.columns[config.within])


def _scores(
    config: CampusConfig, texts: RowTexts, groups: IntArray | None
) -> tuple[dict[str, FloatArray], list[Finding]]:
    """Scores that need no model, members of ensembles included, and what was wrong or noteworthy with them."""
    scores: dict[str, FloatArray] = {}
    findings = []
    for spec in leaves(config.specs):
        metric = build_metric(spec)
        if not isinstance(metric, CpuMetric):
            findings.append(
                Finding(
                    "info",
                    f"`{spec.label}` is measured by the model when the run starts, or ahead of it with `campus-tune "
                    "score`.",
                )
            )
            continue
        try:
            raw = metric.scores(texts, num_proc=os.cpu_count() or 1)
            scores[spec.label] = finish_scores(raw, spec)
        except CampusError as error:
            findings += _errors(error)
            continue
        for what, n in metric.describe(texts, raw).items():
            if n:
                findings.append(Finding("info", f"`{spec.label}`: {what.replace('_', ' ')}: {n:g} of {len(texts)}."))
    for spec in config.specs:
        metric = build_metric(spec)
        if isinstance(metric, RankMean):
            findings += _combine(spec, metric, scores, groups)
    return scores, findings


def _combine(
    spec: MetricSpec, metric: RankMean, scores: dict[str, FloatArray], groups: IntArray | None
) -> list[Finding]:
    """Add an ensemble's scores, or say what it waits for."""
    waits = [member.label for member in metric.members if not isinstance(build_metric(member), CpuMetric)]
    if waits:
        shown = " and ".join(f"`{label}`" for label in waits)
        are = "are" if len(waits) > 1 else "is"
        return [Finding("info", f"`{spec.label}` is combined in the run, when {shown} {are} measured.")]
    if all(member.label in scores for member in metric.members):
        try:
            scores[spec.label] = finish_scores(metric.combine(scores, groups), spec)
        except CampusError as error:
            return _errors(error)
    return []


def _health_findings(
    config: CampusConfig, texts: RowTexts, scores: dict[str, FloatArray], groups: IntArray | None, *, chosen: bool
) -> list[Finding]:
    """What is wrong with the scores, and their table."""
    health = score_health(
        scores,
        lengths=(texts.response_tokens + texts.prompt_tokens).astype(np.float64),
        level=known_level(texts.columns, config.level),
        groups=groups,
        column=None if groups is None else config.within,
        chosen=chosen,
    )
    if not scores:
        return []
    shown = indent(health_table(health), "  ")
    return [*score_findings(health), Finding("info", f"The scores, and their rank correlations (ρ):\n{shown}")]


def _size_findings(config: CampusConfig, size: RunSize) -> Iterator[Finding]:
    per_epoch = math.ceil(size.n_rows / size.global_batch)
    if size.n_rows < size.global_batch:
        yield Finding(
            "error",
            f"The training set has {size.n_rows} rows, fewer than one optimizer step takes ({size.global_batch}).",
            "Lower per_device_train_batch_size or gradient_accumulation_steps.",
        )
    elif per_epoch < config.stages:
        yield Finding(
            "warning",
            f"stages: {config.stages} do not fit in an epoch of {per_epoch} optimizer steps: there will be {per_epoch} "
            "at most.",
            f"Write stages: {max(1, per_epoch // 2)} or fewer.",
        )


def _prepared_probe_findings(config: CampusConfig, prepared: PreparedRows | None) -> list[Finding]:
    """Probes that cannot be prepared as the training rows are: else said when the run has begun."""
    if config.probes is None or prepared is None:
        return []
    from campus_tune.model.probes import load_probes

    try:
        load_probes(list(config.probes.path), config.probes, prepared.trainer)
    except CampusError as error:
        return _errors(error)
    return []


def _probe_findings(config: CampusConfig, rows: list[Json], texts: RowTexts, shape: Shape) -> Iterator[Finding]:
    """Probes that were trained on, and domains that only one of the two sides has."""
    if config.probes is None:
        return
    probes = [row for path in config.probes.path for row in read_jsonl(path)]
    yield from overlap_findings(overlap(full_texts(probes, shape), full_texts(rows, shape)))
    column = config.probes.domain_column
    if column not in texts.columns or column not in probes[0]:
        yield Finding(
            "info",
            f"`probes: domain_column` {column!r} is not in both files: competence is measured over all probes at once.",
        )
        return
    trained, probed = {str(value) for value in texts.columns[column]}, {str(row.get(column)) for row in probes}
    for unprobed in sorted(trained - probed):
        yield Finding(
            "warning", f"Domain {unprobed!r} has training rows and no probe rows.", "Hold some of its rows out."
        )
    for untrained in sorted(probed - trained):
        yield Finding(
            "warning",
            f"Probe domain {untrained!r} has no training rows.",
            "Correct its name, or drop its probes.",
        )


# -- the plan ------------------------------------------------------------------------------------------------------


def _plan_findings(
    settings: Mapping[str, Any],
    config: CampusConfig,
    size: RunSize,
    scores: dict[str, FloatArray],
    domains: list[str],
    groups: IntArray | None,
) -> list[Finding]:
    """What a simulated plan shows: one order is all of it, unseen rows, hard rows under a decayed rate."""
    try:
        run = simulate(
            config,
            n_rows=size.n_rows,
            global_batch=size.global_batch,
            total_steps=size.total_steps,
            scores=scores,
            groups=groups,
            domains=tuple(domains),
            keep_plan=True,
        )
    except DataError as error:  # a run of a size that can be trained and not simulated
        return [Finding("info", f"The plan was not simulated: {error}")]
    findings = run.findings()
    try:
        rates = learning_rates(settings, size.total_steps)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return [*findings, Finding("info", f"The learning rate schedule could not be simulated: {error}")]
    worst = [found for label in scores for found in _rate_findings(label, scores[label], groups, run, rates)]
    return findings + worst[:1]


def _rate_findings(
    label: str, scores: FloatArray, groups: IntArray | None, run: SimulatedRun, rates: FloatArray
) -> list[Finding]:
    assert run.plan is not None, "the plan was asked for"
    assert run.step_of_visit is not None, "the plan was asked for"
    rank = rank_of_rows(order_rows(scores, seed=0, groups=groups))
    return lr_findings(lr_by_decile(run.step_of_visit, rank[run.plan], rates), label)
