"""campus_tune: curriculum instruction tuning for the Hugging Face Trainer and TRL.

    from campus_tune import CampusCallback
    trainer = SFTTrainer(model, args=config, train_dataset=train, callbacks=[CampusCallback("recipes/campus.yaml")])

Importing this package loads neither torch nor transformers; the names that need them are loaded when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from campus_tune.method.curriculum import Curriculum, Schedule
from campus_tune.recipe.config import CampusConfig, load_recipe
from campus_tune.words.errors import CampusError

if TYPE_CHECKING:
    from campus_tune.report.callback import CampusCallback, attach

__version__ = "0.3.0"
__all__ = ["CampusCallback", "CampusConfig", "CampusError", "Curriculum", "Schedule", "attach", "load_recipe"]


def __getattr__(name: str) -> Any:
    """`CampusCallback` and `attach` live with the trainer and are loaded on first use."""
    if name in ("CampusCallback", "attach"):
        from campus_tune.report import callback

        return getattr(callback, name)
    raise AttributeError(f"module 'campus_tune' has no attribute {name!r}")
