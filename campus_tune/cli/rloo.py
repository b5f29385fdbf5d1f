"""`campus-tune rloo`: TRL's own RLOO script, with one more block in its YAML (`by_reward`)."""

from __future__ import annotations

from collections.abc import Sequence

from campus_tune.cli import by_reward
from campus_tune.cli.options import Commands

EXAMPLE = """\
Training by reward under a curriculum of prompts, with TRL's RLOO: a TRL YAML with a `campus:` block. Any flag of TRL's
overrides the YAML, --campus.<setting> the block; --model, --data and --out are short for TRL's names of these.
--help-all lists every setting and every flag.

Rewards are named as `trl rloo` names them: reward_funcs: [accuracy_reward], or where Python finds one of yours:
[my_rewards.is_right]. Rows have a `prompt`, and columns that rewards read.

example:
  campus-tune rloo --config recipe.yaml --learning_rate 1e-6
  campus-tune rloo recipe.yaml --model ./model --data prompts.jsonl --out runs/first
  campus-tune rloo --config recipe.yaml --num_generations 8 --campus.stages 10
  campus-tune rloo --config recipe.yaml --resume_from_checkpoint true
  campus-tune rloo --config recipe.yaml --accelerate_config recipes/accelerate/ddp.yaml --num_processes 4

The last one launches itself on many processes, as `campus-tune sft` does. `campus-tune grpo` is the same for the other
trainer, and `campus-tune compare` says whether the order of the prompts has helped.
"""


def add_parser(commands: Commands) -> None:
    """Add `rloo` to the list of commands."""
    by_reward.add_parser(commands, "rloo", EXAMPLE)


def main(argv: Sequence[str]) -> int:
    """Train by reward under the recipe that `argv` names; gives back the exit code 0.

    Args:
        argv: `--config recipe.yaml` and overrides.

    Raises:
        RecipeError: problems in the YAML or the flags, all at once, before data or a model are loaded.
    """
    return by_reward.train_by_reward("rloo", argv)
