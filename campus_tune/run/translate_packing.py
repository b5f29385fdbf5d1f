"""`packing: true` in a recipe that is to be trained: translated where somebody says so, else refused in numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from campus_tune.model.packed_rows import translated
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.packing import FLAG, SETTING, Translated
from campus_tune.recipe.trainer_settings import refused
from campus_tune.run.make_trainer import training_rows
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from trl import DatasetMixtureConfig, ScriptArguments, SFTConfig


def translate_packing(
    script: ScriptArguments,
    training: SFTConfig,
    mixture: DatasetMixtureConfig,
    config: CampusConfig,
    *,
    settings: Json,
    agreed: Callable[[Translated], bool],
) -> CampusConfig:
    """The curriculum's settings for whole rows; those of the training change with them.

    Args:
        script: `trl.ScriptArguments`.
        training: `trl.SFTConfig`, which gets the batch and is packed no longer.
        mixture: `trl.DatasetMixtureConfig`.
        config: of the curriculum, as the user gave it.
        settings: TRL's, of the YAML and its flags; what the block says of batching stays.
        agreed: whether the user wants it.

    Raises:
        RecipeError: the user does not, or nothing tells what it would be.
    """
    [problem] = refused({SETTING: True})
    found = translated(settings, training_rows(script, mixture))
    if found is None:
        raise RecipeError(
            [
                problem,
                "The rows could not be counted: name a model with a tokenizer, and a max_length, to be told more.",
            ]
        )
    if not agreed(found):
        raise RecipeError(f"{problem} Here: {found}. Write that, or add {FLAG}.")
    for name, value in found.settings.items():
        setattr(training, name, value)
    return config if config.batching != CampusConfig.batching else replace(config, batching="flat")
