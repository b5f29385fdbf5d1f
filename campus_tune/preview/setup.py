"""What a run needs to know of its trainer before the first score: settings, budget, what to warn of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.data.prepared import column_names
from campus_tune.method.budget import Budget, forward_ratio
from campus_tune.model import compat
from campus_tune.model.weighable import why_not_weighted
from campus_tune.preview.advice import problems_in_method
from campus_tune.preview.health import ScoreHealth, known_level, score_findings, score_health
from campus_tune.preview.weight_advice import router_findings
from campus_tune.recipe.blocks import DOMAIN
from campus_tune.recipe.config import CampusConfig
from campus_tune.scores.asking import Asking, prediction_warnings
from campus_tune.scores.planning import purposes
from campus_tune.scores.run_scores import Scores
from campus_tune.words.types import RowTexts

if TYPE_CHECKING:
    from transformers import Trainer


def resolve(trainer: Trainer, given: CampusConfig, *, has_probes: bool) -> CampusConfig:
    """The user's settings, nulls filled in from the trainer and its data.

    Weights that wait for a sign of wrong rows are left out where the trainer cannot weigh rows (`unweighed`).
    """
    if unweighed(trainer, given):
        given = replace(given, weights=tuple(one for one in given.weights or () if one.weight.when == "always") or None)
    args = trainer.args
    domain = given.probes.domain_column if given.probes else DOMAIN
    return given.resolved(
        has_probes=has_probes,
        domain_in_data=domain in column_names(compat.training_rows(trainer)),
        seed=args.seed if args.data_seed is None else args.data_seed,
    )


def unweighed(trainer: Trainer, given: CampusConfig) -> list[str]:
    """What a person should know of weights that are left out; nothing where all can be multiplied, or must be.

    Args:
        trainer: that is trained.
        given: settings as the user gave them.
    """
    names = [one.name for one in given.weights or () if one.weight.when != "always"]
    why = why_not_weighted(trainer) if names else None
    if why is None:
        return []
    return [f"`weights: {names[0]}` with act: auto is left out of this run: {why}, and it acts where rows are wrong."]


def make_budget(trainer: Trainer, config: CampusConfig, training_tokens: float, refreshes: int) -> Budget:
    """What the curriculum may cost.

    Args:
        trainer: whose model is trained; what of it is trained sets the price of a forward.
        config: resolved settings: the share of the training compute, and what shares it.
        training_tokens: of the whole run.
        refreshes: re-scorings that the whole run will make.
    """
    everything, trained = compat.parameter_counts(compat.model_of(trainer))
    ratio = forward_ratio(everything, trained, checkpointing=compat.checkpoints_activations(trainer))
    return Budget(config.budget, training_tokens, ratio, purposes(config, refreshes))


def scores_health(
    config: CampusConfig, scores: Scores, texts: RowTexts, domains: Domains, *, chosen: bool
) -> ScoreHealth:
    """How the scores of a run look: ties, spread, what they go with, how stable they are.

    Args:
        config: resolved settings.
        scores: of the run.
        texts: of its rows.
        domains: that rows are ranked in.
        chosen: the user's own settings name their column.
    """
    stability = {label: notes["stability"] for label, notes in scores.notes.items() if "stability" in notes}
    return score_health(
        scores.by_label,
        lengths=(texts.response_tokens + texts.prompt_tokens).astype(np.float64),
        level=known_level(texts.columns, config.level),
        groups=domains.codes,
        stability=stability,
        measured={label: notes["rows_measured"] for label, notes in scores.notes.items()},
        column=None if domains.codes is None else config.within,
        chosen=chosen,
    )


def start_warnings(
    trainer: Trainer, scores: Scores, health: ScoreHealth, scoring: Asking, enough: Callable[[], float]
) -> list[str]:
    """What a person should know before the first step: the method, the scores, the trainer.

    Args:
        trainer: of the run.
        scores: of the run.
        health: of these scores.
        scoring: that made them.
        enough: gives the budget that would have paid for all rows' scores.
    """
    config = scoring.config
    findings = [*problems_in_method(config), *score_findings(health, no_orders=config.no_orders)]
    warnings = [finding.what for finding in router_findings(config, routed=compat.adds_router_loss(trainer))]
    warnings += [f"{finding.what} {finding.remedy}".rstrip() for finding in findings if finding.severity != "info"]
    if config.batching != "plain" and (reason := compat.why_rows_stay_as_drawn(trainer)) is not None:
        warnings.append(
            f"{reason}, so cutting a step by length would change it: rows are cut as drawn. "
            "Write batching: plain to say so."
        )
    if trainer.args.save_only_model:
        warnings.append(
            "checkpoints hold no optimizer or random states (save_only_model), so a resumed run cannot be the same. "
            "Set save_only_model=False."
        )
    warnings += [*scores.warnings, *scoring.passages.warnings, *scoring.passages.cache.warnings]
    return warnings + prediction_warnings(scores, scoring, enough)
