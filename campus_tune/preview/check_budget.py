"""What `campus-tune check` says of the budget: the run's own sum of costs, of the rows as they are trained.

How large the model is, and how much of it is trained, is counted on a skeleton without weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from campus_tune.method.stages import steps_of_epoch
from campus_tune.model.prepare import HERE, OURS, PreparedRows
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.training_yaml import run_size
from campus_tune.words.errors import CampusError
from campus_tune.words.findings import Finding
from campus_tune.words.types import IntArray


def budget_findings(
    settings: Mapping[str, Any], config: CampusConfig, prepared: PreparedRows | None, groups: IntArray | None = None
) -> list[Finding]:
    """A budget that cannot be kept, or only with fewer rows than usual; nothing of rows that could not be prepared.

    Args:
        settings: of the YAML.
        config: resolved.
        prepared: the rows as they are trained; None where they could not be made.
        groups: of each row, inside which it is ranked and sampled, shape (N,); None is one group.
    """
    if prepared is None:
        return []
    try:
        from campus_tune.model.peers import Peers
        from campus_tune.model.probes import named_probes
        from campus_tune.preview.cost_plan import facts_of, made_smaller, needs, rests_on, too_small, unpaid_candidates
        from campus_tune.preview.reward_cost import unpaid_rewards
        from campus_tune.preview.setup import make_budget
        from campus_tune.preview.value_plan import value_findings
        from campus_tune.scores.asking import unpaid_scores
        from campus_tune.scores.planning import NO_CACHE, make_scoring, refreshes_to_come
        from campus_tune.scores.questions import blocks_unpaid

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of libraries about a model that is never used
            prepared.trainer.model = _skeleton(settings)
            trainer, rows = prepared.trainer, prepared.trained.rows()
            size = run_size(settings, len(rows))
            per_epoch = steps_of_epoch(len(rows), size.global_batch, drop_last=trainer.args.dataloader_drop_last)
            training_tokens = size.total_steps / per_epoch * float(rows.tokens.sum())
            refreshes = refreshes_to_come(config, size.total_steps, per_epoch, step=0)
            budget = make_budget(trainer, config, training_tokens, refreshes)
            uncached = replace(config, scores=NO_CACHE)
            meter: Any = None  # nothing is looked up or measured
            probes = named_probes(config, trainer)
            asking = make_scoring(
                trainer, uncached, rows, meter, budget, Peers(), groups=groups, trained=prepared.trained, probes=probes
            )
            facts = facts_of(asking, probes, size.total_steps, per_epoch)
            stages = facts.stages(config, size.total_steps)
            beside = [
                *unpaid_rewards(config, budget, facts),
                *value_findings(trainer, config, probes, budget, stages),
            ]
            budget.fit(needs(config, budget, facts), rests_on(config))
            if blocks_unpaid(config, budget.unpaid):
                share = budget.ratio * asking.fewest_cost() / budget.training_tokens
                return [Finding("error", unpaid_scores(config, share, budget.unpaid))]
            if budget.cut_short:
                return [Finding("warning" if budget.share else "info", *too_small(config, budget, facts)), *beside]
            unpaid, smaller = unpaid_candidates(config, budget, facts), made_smaller(config, budget, facts)
            found = [*([] if smaller is None else [Finding("info", smaller)]), *beside]
            return found if unpaid is None else [*found, Finding("warning", *unpaid)]
    except (CampusError, OSError, ValueError, TypeError, KeyError, ImportError, RuntimeError):
        return []  # a model of which only the tokenizer is here, or what other findings say


def _skeleton(settings: Mapping[str, Any]) -> Any:
    """The recipe's model with its adapter, all shapes and no weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from trl import get_peft_config

    from campus_tune.recipe.trl_yaml import parse_trl

    (_, _, named, _), _ = parse_trl({key: value for key, value in {**settings, **HERE}.items() if key not in OURS}, [])
    trusts = bool(settings.get("trust_remote_code"))
    config = AutoConfig.from_pretrained(
        named.model_name_or_path, revision=named.model_revision, trust_remote_code=trusts
    )
    with torch.device("meta"):
        make: Any = AutoModelForCausalLM.from_config
        model = make(config, trust_remote_code=trusts)
        adapter = get_peft_config(named)
        if adapter is None:
            return model
        from peft import get_peft_model

        return get_peft_model(model, adapter)
