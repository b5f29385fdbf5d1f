"""What trl's GRPOTrainer and RLOOTrainer hold of the generation that they train: private names, all of them here.

Both count micro steps in `_step`, and generate anew where that count is a multiple of `steps_per_generation ×
num_iterations`; in between they train pieces of `_buffered_inputs`. Neither name is in a checkpoint of trl's, which
goes on with other prompts than it stopped with.

Tested with trl 1.16; `tests/model/test_generated.py` finds a break.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from transformers import Trainer

NUMBERS = "advantages"  # the column of the log that holds numbers; those of the rewards do, too


@dataclass(frozen=True)
class Generated:
    """A generation in progress, as one rank has it. Taking it copies no tensor and waits for no device.

    Args:
        micro_step: micro steps that are done, by trl's count.
        inputs: pieces of the generation, one for each micro step of one iteration; None before the first.
        log: of completions, column by column: texts as they are, numbers as floats.
        rewards: of the same log, by the name of the reward function.
        extra: of the same log, columns that reward functions have filled.
        entropy: (coefficient of the entropy bonus, entropy of the last step), where trl adapts the one to the other.
    """

    micro_step: int
    inputs: Sequence[Mapping[str, Any]] | None
    log: Mapping[str, list[Any]] = field(default_factory=dict)
    rewards: Mapping[str, list[float]] = field(default_factory=dict)
    extra: Mapping[str, list[Any]] = field(default_factory=dict)
    entropy: tuple[float, float] | None = None

    @staticmethod
    def of(trainer: Trainer) -> Generated:
        """What a trainer holds now."""
        held: Any = trainer
        columns = {name: list(values) for name, values in held._logs.items() if isinstance(values, deque)}
        rewards, extra = (
            {name: list(values) for name, values in _group(held, key).items()} for key in ("rewards", "extra")
        )
        adapts = getattr(trainer, "use_adaptive_entropy", False)
        entropy = (held.entropy_coef, held._last_world_entropy) if adapts else None
        return Generated(held._step, held._buffered_inputs, columns, rewards, extra, entropy)

    def put(self, trainer: Trainer) -> None:
        """Let a trainer go on from here."""
        held: Any = trainer
        held._step, held._buffered_inputs = self.micro_step, self.inputs
        _fill(held._logs, self.log)
        for key, columns in (("rewards", self.rewards), ("extra", self.extra)):
            _fill(_group(held, key), columns)
        if self.entropy is not None:
            held.entropy_coef, held._last_world_entropy = self.entropy


def _group(held: Any, key: str) -> Any:
    """Columns of the log that are made when they are first asked for; an older trl has no `extra`."""
    return held._logs.get(key, {})


def _fill(columns: Any, values: Mapping[str, Iterable[Any]]) -> None:
    """Columns keep their length; one that is not named is emptied."""
    for name in {*columns, *values}:
        if name in values or isinstance(columns[name], deque):
            columns[name].clear()
            columns[name].extend(values.get(name, ()))


def reference_of(trainer: Trainer) -> torch.nn.Module | None:
    """The reference model, where it is not as it was loaded, because `sync_ref_model` moves it, and is whole here."""
    reward: Any = trainer
    model: torch.nn.Module | None = getattr(reward, "ref_model", None)
    moves = getattr(reward.args, "sync_ref_model", False) and not _is_sharded(reward)
    return model if moves else None


def not_kept(trainer: Trainer) -> list[str]:
    """What no checkpoint holds of what answers, or their gradient, come from: sentences for a run that goes on."""
    reward: Any = trainer
    said = []
    if getattr(reward.args, "use_vllm", False):
        said.append(
            f"answers are sampled by vLLM ({reward.args.vllm_mode}), whose random state is in no checkpoint: from the "
            "next generation on the answers are others than those of the run that was stopped, and so are prompts that "
            "are drawn by their rewards; all that was planned before stays."
        )
    if getattr(reward.args, "sync_ref_model", False) and _is_sharded(reward):
        said.append(
            "the reference model follows the trained one (sync_ref_model) and is sharded, so no checkpoint holds it: "
            "it begins again as it was loaded."
        )
    return said


def _is_sharded(reward: Any) -> bool:
    """Whether no process has a whole model."""
    return bool(reward.is_deepspeed_enabled or reward.is_fsdp_enabled)
