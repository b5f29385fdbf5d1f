"""What we know of TRL's trainers that are driven by reward, and the places of theirs that nobody promises.

`GRPOTrainer` and `RLOOTrainer` (TRL ≥ 1.0) are the same machine as far as prompts go: `get_train_dataloader` yields, a
micro batch at a time, the rows of this rank's part of a *generation*; `_prepare_inputs` answers them when `_step`, the
count of micro batches, is a multiple of what a generation lasts, and else takes a part of `_buffered_inputs`. A user's
class of theirs is driven like them unless it chooses prompts, or keeps answers, in a way of its own.

Trainers of `trl.experimental`, also those that are made of these, answer and score in ways that nobody can name here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from campus_tune.model import compat

if TYPE_CHECKING:
    from transformers import Trainer
    from trl import GRPOConfig

MODULES = ("trl.trainer.grpo_trainer", "trl.trainer.rloo_trainer")
LIBRARIES = ("transformers", *MODULES, "trl.extras.profiling")  # whose decorator some of their methods have
PATH_OF_PROMPTS = ("get_train_dataloader", "_get_train_sampler", "_get_dataloader", "_prepare_inputs")


def of_trl(kind: type) -> bool:
    """Whether a class is `GRPOTrainer` or `RLOOTrainer` itself."""
    return kind.__module__ in MODULES and kind.__name__ in ("GRPOTrainer", "RLOOTrainer")


def is_driven_by_reward(trainer: Trainer) -> bool:
    """Whether a trainer is TRL's own for reward, or a class of the user's that is made of it."""
    line = type(trainer).__mro__
    experimental = any(kind.__module__.startswith("trl.experimental.") for kind in line)
    return not experimental and any(of_trl(kind) for kind in line)


def micro_step(trainer: Trainer) -> int:
    """Micro batches that the trainer has trained, as it counts them: while one is trained, its number."""
    counts: Any = trainer
    return int(counts._step)


def stand_at(trainer: Trainer, micro_step: int) -> None:
    """Let the trainer count from here, without answers: its next micro batch begins a generation.

    Args:
        trainer: one of the two.
        micro_step: micro batches trained.
    """
    counts: Any = trainer
    counts._step, counts._buffered_inputs = micro_step, None


def answers_of(trainer: Trainer) -> Sequence[Any] | None:
    """The answers of the last generation, a part for each micro batch; None before the first."""
    holds: Any = trainer
    kept: Sequence[Any] | None = holds._buffered_inputs
    return kept


def sizes_of(trainer: Trainer) -> dict[str, int]:
    """How the trainer cuts prompts and answers, as `method.rounds.Rounds` takes it."""
    reward: Any = trainer
    args = reward.args
    world, group, micro = reward.accelerator.num_processes, reward.num_generations, compat.micro_batch_size(trainer)
    return {
        "prompts": micro * world * args.steps_per_generation // group,
        "group": group,
        "micro_rows": micro,
        "world": world,
        "steps_per_generation": args.steps_per_generation,
        "iterations": reward.num_iterations,
        "accumulation": args.gradient_accumulation_steps,
    }


def sizes_asked(training: GRPOConfig) -> dict[str, int]:
    """The same of a trainer that is not made yet.

    Args:
        training: `trl.GRPOConfig` or `trl.RLOOConfig`.
    """
    return {
        "prompts": training.generation_batch_size // training.num_generations,
        "group": training.num_generations,
        "micro_rows": training.per_device_train_batch_size,
        "world": training.world_size,
        "steps_per_generation": training.steps_per_generation,
        "iterations": training.num_iterations,
        "accumulation": training.gradient_accumulation_steps,
    }


def divides_by_spread(trainer: Trainer) -> bool:
    """Whether what a group's rewards are worth is divided by how far they are apart."""
    return str(getattr(trainer, "scale_rewards", "none")) in ("group", "True")


def names_of_rewards(trainer: Trainer) -> tuple[str, ...]:
    """The reward functions, as the trainer names them; those that are called alike are numbered."""
    reward: Any = trainer
    own = [str(name) for name in reward.reward_func_names]
    again = [own[:place].count(name) for place, name in enumerate(own)]
    return tuple(f"{name} ({n + 1})" if n else name for name, n in zip(own, again, strict=True))


def owns_its_data(trainer: Trainer) -> bool:
    """Whether environments make the prompts, so that there are no rows to plan."""
    return getattr(trainer, "environment_factories", None) is not None
