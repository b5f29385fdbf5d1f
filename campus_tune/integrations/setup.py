"""What a run needs to know of its trainer before the first score: settings, budget, what to warn of."""

from __future__ import annotations

from typing import Any

import numpy as np

from campus_tune.budget import Budget, forward_ratio
from campus_tune.health import score_findings, score_health
from campus_tune.integrations import compat
from campus_tune.integrations.rows import column_names
from campus_tune.integrations.scoring import Scores, prediction_warnings
from campus_tune.method import problems_in_method
from campus_tune.recipe import DOMAIN, CampusConfig
from campus_tune.types import IntArray


def resolve(trainer: Any, given: CampusConfig, *, has_probes: bool) -> CampusConfig:
    """The user's settings, nulls filled in from the trainer and its data."""
    args = trainer.args
    domain = given.probes.domain_column if given.probes else DOMAIN
    return given.resolved(
        has_probes=has_probes,
        domain_in_data=domain in column_names(trainer.train_dataset),
        seed=args.seed if args.data_seed is None else args.data_seed,
    )


def make_budget(trainer: Any, share: float, training_tokens: float) -> Budget:
    """What the curriculum may cost.

    Args:
        trainer: whose model is trained; what of it is trained sets the price of a forward.
        share: of the training compute.
        training_tokens: of the whole run.
    """
    parameters = list(trainer.model.parameters())
    ratio = forward_ratio(
        sum(p.numel() for p in parameters),
        sum(p.numel() for p in parameters if p.requires_grad),
        checkpointing=compat.checkpoints_activations(trainer),
    )
    return Budget(share, training_tokens, ratio)


def start_warnings(
    trainer: Any, config: CampusConfig, scores: Scores, budget: Budget, row_tokens: IntArray
) -> list[str]:
    """What a person should know before the first step: the method, the scores, the trainer."""
    findings = problems_in_method(config)
    if scores.by_label:
        health = score_health(scores.by_label, lengths=row_tokens.astype(np.float64))
        findings += score_findings(health)
    warnings = [f"{finding.what} {finding.remedy}".rstrip() for finding in findings if finding.severity != "info"]
    if config.batching != "plain" and not compat.counts_tokens_of_the_step(trainer):
        warnings.append(
            "this model's loss is a mean per micro batch, so cutting a step by length would change it: rows are cut as "
            "drawn. Write batching: plain to say so."
        )
    if trainer.args.save_only_model:
        warnings.append(
            "checkpoints hold no optimizer or random states (save_only_model), so a resumed run cannot be the same. "
            "Set save_only_model=False."
        )
    return warnings + prediction_warnings(scores, budget, row_tokens)
