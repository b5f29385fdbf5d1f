"""What a process needs to make any run of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from campus_tune.compare.arms import Arm
from campus_tune.compare.settings import CompareSettings
from campus_tune.recipe.trl_yaml import BY_REWARD, SFT, parse_trl
from campus_tune.words.types import Json

# Every run is one pass from its start to its end, watched by the recorder and by nobody else.
QUIET = {
    "save_strategy": "no",
    "eval_strategy": "no",
    "eval_on_start": "false",
    "load_best_model_at_end": "false",
    "push_to_hub": "false",
    "report_to": "none",
    "disable_tqdm": "true",
}


@dataclass(frozen=True)
class Plan:
    """What a process needs to make any run of a comparison.

    Args:
        training: TRL's settings from the YAML.
        flags: TRL's flags from the command line.
        settings: of the comparison.
        arms: all of them.
        block: the recipe's campus block.
        out: the comparison's folder.
        device: what CUDA calls the accelerator; None takes what is there.
        threads: of the processor for one run; None leaves the library's choice.
        trainer: sft, grpo or rloo.
    """

    training: Json
    flags: tuple[str, ...]
    settings: CompareSettings
    arms: tuple[Arm, ...]
    block: Json
    out: Path
    device: str | None = None
    threads: int | None = None
    trainer: str = SFT

    @property
    def by_reward(self) -> bool:
        """Its runs are trained by reward."""
        return self.trainer in BY_REWARD

    @property
    def baseline(self) -> Arm:
        """Plain shuffling."""
        return next(arm for arm in self.arms if arm.kind == "baseline")

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def parsed(self, seed: int, folder: Path, max_steps: int | None = None) -> tuple[tuple[Any, ...], list[str]]:
        """TRL's four argument objects of one run, and what is wrong with them."""
        own = {**QUIET, "seed": str(seed), "output_dir": str(folder), "resume_from_checkpoint": "false"}
        own |= {} if max_steps is None else {"max_steps": str(max_steps)}
        flags = [word for name, value in own.items() for word in (f"--{name}", value)]
        settings = {k: v for k, v in self.training.items() if k not in own}
        return parse_trl(settings, [*self.flags, *flags], trainer=self.trainer)
