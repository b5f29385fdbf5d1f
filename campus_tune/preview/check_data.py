"""What `check` says of a recipe's data: its rows, their scores, and the plan that a run would make of them."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import Any

from campus_tune.data.as_dataset import as_dataset, found_again
from campus_tune.data.conversions import Origin
from campus_tune.data.domains import Domains
from campus_tune.data.judged import Known
from campus_tune.data.overlap import overlap, overlap_findings
from campus_tune.data.plain import full_texts, row_texts, token_counter
from campus_tune.data.refusals import foreign_roles, refuse_rows, silent_contents
from campus_tune.data.said import Said
from campus_tune.data.shapes import Shape
from campus_tune.method.grouping import NO_GROUPS
from campus_tune.method.orders import group_codes
from campus_tune.model.packed_rows import translated, unpacked
from campus_tune.model.prepare import PreparedRows, prepare_rows
from campus_tune.model.probes import ALL, load_probes
from campus_tune.preview.check_budget import budget_findings
from campus_tune.preview.draw_plan import plan_findings
from campus_tune.preview.draw_rows import DrawnRows, drawn_rows, length_findings
from campus_tune.preview.drop_rows import drop_findings
from campus_tune.preview.duplicate_rows import Repeats, duplicate_findings
from campus_tune.preview.earned_advice import advice_of_check
from campus_tune.preview.health import health_table, score_findings
from campus_tune.preview.lr_mass import deciles_of, lr_by_decile, lr_findings, phase_findings
from campus_tune.preview.recipe_rows import recipe_rows, rows_named
from campus_tune.preview.reweight_advice import probed_findings
from campus_tune.preview.rule_advice import power_findings, probe_findings, stop_findings
from campus_tune.preview.setup import scores_health
from campus_tune.preview.simulate import SimulatedRun, simulate
from campus_tune.preview.steer_advice import few_decisions
from campus_tune.preview.weight_advice import router_findings
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.drop_block import DUPLICATES
from campus_tune.recipe.packing import SETTING
from campus_tune.recipe.training_yaml import RunSize, learning_rates, run_seed, run_size, setting_whole
from campus_tune.scores.directions import direction_problems
from campus_tune.scores.dropping import known_of
from campus_tune.scores.questions import Questions
from campus_tune.scores.run_scores import Scores
from campus_tune.words.errors import CampusError, DataError, RecipeError
from campus_tune.words.files import read_jsonl
from campus_tune.words.findings import Finding, as_findings
from campus_tune.words.hashing import text_keys
from campus_tune.words.types import BoolArray, FloatArray, IntArray, Json, RowTexts


def unpacked_findings(findings: list[Finding], settings: Json) -> tuple[list[Finding], Json]:
    """Where rows are packed: (The findings, what to write instead among them; the settings that say so).

    Args:
        findings: of the settings, one error of packing among them.
        settings: of the YAML.
    """
    found = translated(settings, recipe_rows(settings)) if rows_named(settings) is not None else None
    if found is None:
        return findings, {**settings, SETTING: False}
    [packing] = [finding for finding in findings if finding.severity == "error"]
    told = replace(packing, remedy=f"Here: {found}.")
    return [told if finding is packing else finding for finding in findings], unpacked(settings, found)


def data_findings(name: str, settings: Mapping[str, Any], config: CampusConfig) -> list[Finding]:
    """What is to be known of the rows that a recipe names, before they are trained.

    Args:
        name: of the data set, as the YAML has it.
        settings: of the YAML, its block among them.
        config: the block, read.

    Raises:
        CampusError: they cannot be looked at: no such file, no rows, a column that is not there.
    """
    rows = recipe_rows(settings)
    shape, origin = Shape.of(settings), Origin.in_recipe(settings)
    dataset = found_again(as_dataset(rows, name))
    refuse_rows(dataset, shape, origin)
    findings: list[Finding] = []
    prepared = None
    try:  # as the run will train them
        prepared = prepare_rows(settings, dataset)
    except CampusError as error:
        findings += as_findings(error)
    if prepared is not None and prepared.dropped:
        what = f"{prepared.dropped} of {len(dataset)} rows are not trained: max_length leaves nothing of their answers."
        findings.append(Finding("warning", what, "Raise max_length, or remove them."))
    notes = (foreign_roles(dataset, origin), silent_contents(dataset, origin))
    said = {finding.what for finding in findings}
    findings += [Finding("warning", note) for note in notes if note and note not in said]
    model = settings.get("model_name_or_path")
    if prepared is not None:
        texts, counted = prepared.texts, f"tokens of {Path(str(model)).name}, as they are trained"
    else:
        count, counted = token_counter(model, trust_remote_code=bool(settings.get("trust_remote_code")))
        texts = row_texts(rows, count, shape)
    findings.append(Finding("info", f"{len(texts)} rows; lengths are counted in {counted}."))
    findings += _probe_findings(config, rows, texts, shape, prepared)
    domain = config.within or (config.probes.domain_column if config.probes else "domain")
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
    words = Said.of(texts.columns, shape)
    repeats = None if words is None else Repeats.of(words)
    if words is not None and repeats is not None:
        drops = any(entry.by == DUPLICATES for entry in config.drop or ())
        findings += duplicate_findings(words, repeats, texts.columns.get(domain), dropped=drops)
    findings += _run_findings(settings, resolved, texts, prepared, chosen=config.within is not None)
    sizes = Counter(map(str, texts.columns.get(domain, ())))
    return findings + advice_of_check(settings, resolved, sizes, len(texts), repeats)


def _probe_findings(
    config: CampusConfig, rows: list[Json], texts: RowTexts, shape: Shape, prepared: PreparedRows | None
) -> Iterator[Finding]:
    """Probes that were trained on, domains that only one of the two sides has, probes that cannot be prepared."""
    if config.probes is None:
        return
    probes = [row for path in config.probes.path for row in read_jsonl(path)]
    yield from overlap_findings(overlap(full_texts(probes, shape), full_texts(rows, shape)))
    column = config.probes.domain_column
    trained = {str(value) for value in texts.columns.get(column, ())}
    shared = bool(trained) and column in probes[0]
    n_rows = Counter(str(row.get(column, ALL)) for row in probes)
    steering = {name: min(n, config.probes.max_rows or n) for name, n in n_rows.items()}
    yield from probed_findings(config, sorted(trained), steering if shared else {})
    if not shared:
        yield Finding(
            "info",
            f"`probes: domain_column` {column!r} is not in both files: competence is measured over all probes at once.",
        )
    else:
        for unprobed in sorted(trained - n_rows.keys()):
            yield Finding(
                "warning", f"Domain {unprobed!r} has training rows and no probe rows.", "Hold some of its rows out."
            )
        for untrained in sorted(n_rows.keys() - trained):
            what = f"Probe domain {untrained!r} has no training rows."
            yield Finding("warning", what, "Correct its name, or drop its probes.")
    unknown = [*config.steer.unknown_probes(n_rows), *direction_problems(config, steering)]
    yield from (Finding("error", problem) for problem in unknown)
    yield from (*probe_findings(config, steering), *power_findings(config, steering))
    if prepared is not None:
        try:
            load_probes(list(config.probes.path), config.probes, prepared.trainer)
        except CampusError as error:
            yield from as_findings(error)


# -- what a run would make of them ---------------------------------------------------------------------------------


def _run_findings(
    settings: Mapping[str, Any],
    config: CampusConfig,
    texts: RowTexts,
    prepared: PreparedRows | None,
    *,
    chosen: bool,
) -> list[Finding]:
    """Its scores, its size, its bill, its plan; `chosen`: the user's own settings name the column to rank within."""
    domains = Domains()
    if config.within not in (None, NO_GROUPS):
        names, codes = group_codes(texts.columns[str(config.within)])
        domains = Domains(codes, names)
    scores, findings = _scores(config, texts, domains.codes)
    health = scores_health(config, scores, texts, domains, chosen=chosen)
    if scores.by_label:
        shown = indent(health_table(health), "  ")
        findings += [*score_findings(health, no_orders=config.no_orders), *length_findings(config, health)]
        findings.append(Finding("info", f"The scores, and their rank correlations (ρ):\n{shown}"))
    size = run_size(settings, len(texts))
    per_epoch = math.ceil(size.n_rows / size.global_batch)
    if size.n_rows < size.global_batch:
        what = f"The training set has {size.n_rows} rows, fewer than one optimizer step takes ({size.global_batch})."
        return [
            *findings,
            Finding("error", what, "Lower per_device_train_batch_size or gradient_accumulation_steps."),
        ]
    if per_epoch < config.stages:
        what = (
            f"stages: {config.stages} do not fit in an epoch of {per_epoch} optimizer steps: there will be {per_epoch} "
            "at most."
        )
        findings.append(Finding("warning", what, f"Write stages: {max(1, per_epoch // 2)} or fewer."))
    findings += few_decisions(config, size.total_steps, per_epoch)
    findings += budget_findings(settings, config, prepared, domains.codes)
    if prepared is not None:
        model_config = getattr(prepared.trainer.model, "config", None)
        findings += router_findings(config, routed=bool(getattr(model_config, "output_router_logits", False)))
    micro = setting_whole(settings, "per_device_train_batch_size")
    findings += [Finding("error", problem) for problem in config.draw.step_problems(micro)]
    drawn = drawn_rows(config, texts, prepared)
    findings += drawn.findings
    if config.drop:
        found, dropped = _drop_findings(settings, config, scores, texts, prepared, drawn.domains)
        findings, drawn = [*findings, *found], replace(drawn, dropped=dropped)
    return findings + _plan_findings(settings, config, size, scores, domains, drawn)


def _drop_findings(
    settings: Mapping[str, Any],
    config: CampusConfig,
    scores: Scores,
    texts: RowTexts,
    prepared: PreparedRows | None,
    domains: Domains,
) -> tuple[list[Finding], BoolArray | None]:
    """Rows that the recipe leaves out, as its run would."""
    if prepared is not None:
        known = known_of(prepared.trainer, texts.columns, prepared.trained.rows().content)
    else:
        shape = Shape.of(settings)
        known = Known(texts.columns, Said.of(texts.columns, shape), shape, text_keys(texts.response_text))
    try:
        return drop_findings(config, scores.by_label, known, domains)
    except CampusError as error:
        return as_findings(error), None


def _scores(config: CampusConfig, texts: RowTexts, groups: IntArray | None) -> tuple[Scores, list[Finding]]:
    """Scores that need no model, members of ensembles included, and what was wrong or noteworthy with them."""
    scores, asked, findings = Scores(), Questions(config), list[Finding]()
    for label, spec in asked.specs.items():
        if label not in asked.texts:
            when = "is measured by the model when the run starts, or ahead of it with `campus-tune score`."
            findings.append(Finding("info", f"`{label}` {when}"))
            continue
        metric = asked.texts[label]
        try:
            scores.put_texts(spec, metric, texts, metric.scores(texts, num_proc=os.cpu_count() or 1))
        except CampusError as error:
            findings += as_findings(error)
            continue
        notes = scores.notes[label].items()
        found = {what.replace("_", " "): n for what, n in notes if n and what != "rows_measured"}
        findings += [Finding("info", f"`{label}`: {what}: {n:g} of {len(texts)}.") for what, n in found.items()]
    ensembles = ((spec, asked.ensembles[spec.label]) for spec in config.scored if spec.label in asked.ensembles)
    for spec, ensemble in ensembles:
        labels = [member.label for member in ensemble.members]
        try:
            own = ensemble.groups_of(texts, groups)
        except CampusError as error:
            findings += as_findings(error)
            continue
        if waits := [f"`{label}`" for label in labels if label not in asked.texts]:
            are = "are" if len(waits) > 1 else "is"
            what = f"`{spec.label}` is combined in the run, when {' and '.join(waits)} {are} measured."
            findings.append(Finding("info", what))
        elif scores.by_label.keys() >= set(labels):
            try:
                scores.combine(spec, ensemble, own)
            except CampusError as error:
                findings += as_findings(error)
    return scores, findings


def _plan_findings(
    settings: Mapping[str, Any],
    config: CampusConfig,
    size: RunSize,
    scores: Scores,
    domains: Domains,
    drawn: DrawnRows,
) -> list[Finding]:
    """What a simulated plan shows: one order is all of it, unseen rows, hard rows under a low rate, who is drawn."""
    try:
        run = simulate(
            config,
            n_rows=size.n_rows,
            global_batch=size.global_batch,
            total_steps=size.total_steps,
            scores=scores.by_label,
            groups=domains.codes,
            domains=tuple(domains.names),
            drawn_by=drawn.domains,
            others=drawn.others,
            dropped=drawn.dropped,
            tokens=drawn.tokens,
            columns=drawn.weights,
            judges=False,
            keep_plan=True,
        )
    except DataError as error:  # a run of a size that can be trained and not simulated
        return [Finding("info", f"The plan was not simulated: {error}")]
    except RecipeError as error:  # blocks that do not go with these rows
        return as_findings(error)
    found = [*run.findings(), *plan_findings(config, run, scores.by_label.keys())]
    try:
        rates = learning_rates(settings, size.total_steps)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return [*found, Finding("info", f"The learning rate schedule could not be simulated: {error}")]
    return [
        *found,
        *phase_findings([phase.until for phase in config.phases or ()], rates),
        *stop_findings(config, rates),
        *_starved(config, run, rates, scores, domains),
    ]


def _starved(
    config: CampusConfig, run: SimulatedRun, rates: FloatArray, scores: Scores, domains: Domains
) -> list[Finding]:
    """The first order whose hardest rows meet hardly any learning rate."""
    assert run.plan is not None, "the plan was asked for"
    assert run.step_of_visit is not None, "the plan was asked for"
    worst = []
    for label in config.labels:
        if (values := scores.by_label.get(label)) is not None:
            tenths = deciles_of(values, groups=domains.codes, planned=run.plan)
            worst += lr_findings(lr_by_decile(tenths, run.plan, rates[run.step_of_visit]), label)
    return worst[:1]
