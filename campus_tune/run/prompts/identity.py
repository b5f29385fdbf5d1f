"""Whether a checkpoint belongs to this run of prompts: differences by name.

A generation is answered by all processes together, and how it is cut into micro batches is how it is trained. So the
number of processes is part of a run of prompts, as it is not of a run of rows; and so is what earns a reward: the pass
rates that one function has shown say nothing of another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.domains import Domains
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.plugins import plugins_used
from campus_tune.run.drawing import Kinds
from campus_tune.run.identity import Identity
from campus_tune.run.prompts.loader import PromptLoader
from campus_tune.words.errors import ResumeError
from campus_tune.words.hashing import array_digest, sha256
from campus_tune.words.types import Json
from campus_tune.words.wording import differences

if TYPE_CHECKING:
    from transformers import Trainer

WORDS = {
    "dataset": "prompts with all their columns (fingerprint)",
    "n_rows": "number of prompts",
    "domains": "domains of the prompts (fingerprint)",
    "template": "chat template (fingerprint)",
    "global_batch": "prompts of a round",
    "rewards": "reward functions and their weights",
    "steps_per_epoch": "optimizer steps of an epoch",
    "total_steps": "optimizer steps of the whole run",
    "drawn domains": "domains that are drawn from (fingerprint)",
    "cells": "groups in the column of `cells: of` (fingerprint)",
    "prompts": "prompts of a generation",
    "group": "answers to a prompt (`num_generations`)",
    "world": "number of processes",
    "micro": "answers of a micro batch",
    "steps_per_generation": "`steps_per_generation`",
    "iterations": "`num_iterations`",
    "accumulation": "`gradient_accumulation_steps`",
}
SAMPLED_BY = (  # settings of trl that say which answers come, and what a reward is worth
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_completion_length", "scale_rewards",
    "multi_objective_aggregation",
)  # fmt: skip


def prompt_identity(
    trainer: Trainer,
    config: CampusConfig,
    loader: PromptLoader,
    keys: NDArray[np.uint64],
    domains: Domains,
    kinds: Kinds,
    *,
    total_steps: int,
) -> Identity:
    """What makes a run of prompts this run.

    Args:
        trainer: that is trained.
        config: resolved settings.
        loader: of its prompts.
        keys: of its rows, all columns, shape (N,).
        domains: of the prompts.
        kinds: of prompts that are drawn from.
        total_steps: optimizer steps of the whole run.
    """
    reward: Any = trainer
    template = getattr(trainer.processing_class, "chat_template", None)
    weights = trainer.args.reward_weights or [1.0] * len(reward.reward_funcs)  # type: ignore[attr-defined]  # of the two
    past = {
        "dataset": array_digest(keys),
        "n_rows": len(keys),
        "domains": None if domains.codes is None else array_digest(domains.codes),
        "template": sha256(repr(template), 16) if template else None,
        "steps_per_epoch": loader.steps_per_epoch,
        "global_batch": loader.rounds.global_batch,
        "rewards": [[name, float(w)] for name, w in zip(reward.reward_func_names, weights, strict=True)],
        **{f"campus: {name}": value for name, value in config.past().items()},
    }
    future = {
        "total_steps": total_steps,
        **kinds.fingerprints(),
        **{f"trl: {name}": getattr(trainer.args, name, None) for name in SAMPLED_BY},
        **{f"campus: {name}": value for name, value in config.future().items()},
        **{f"plug-in {name}": version for name, version in plugins_used(config).items()},
    }
    return Identity(past, future, loader.rounds.record(), {})


def refuse_other(identity: Identity, saved: Json, *, changed_future: bool) -> None:
    """Compare with what a checkpoint holds.

    Args:
        identity: of this run.
        saved: `record()` of the run that wrote the checkpoint.
        changed_future: the user allows a changed future.

    Raises:
        ResumeError: they differ; every difference is named.
    """
    cut = _differences(saved["batch"], identity.batch)
    past = _differences(saved["past"], identity.past)
    future = [] if changed_future else _differences(saved["future"], identity.future)
    if not (cut or past or future):
        return
    remedy = "Resume with the settings and data it was written with, or train without resuming."
    if saved["batch"]["world"] != identity.batch["world"]:
        remedy = f"Its answers are shared out over {saved['batch']['world']} processes: start as many. {remedy}"
    elif future and not past and not cut:
        remedy += " To go on from it under the new settings on purpose, write campus: {resume: changed_future}."
    raise ResumeError(
        f"the checkpoint must belong to this run, got one that differs in {'; '.join(cut + past + future)}. {remedy}"
    )


def _differences(saved: Json, ours: Json) -> list[str]:
    return [
        f"{WORDS.get(name, f'`{name}`')}: {there!r} in the checkpoint, {now!r} now"
        for name, there, now in sorted(differences(saved, ours))
    ]
