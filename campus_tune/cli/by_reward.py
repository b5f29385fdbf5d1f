"""What `campus-tune grpo` and `campus-tune rloo` share: TRL's own script for each, with one more block in its YAML.

They are to `trl grpo` and `trl rloo` what `campus-tune sft` is to `trl sft`: the same fields, the same flags, the same
names of rewards; a `campus:` block, local tables as `dataset_name`, and strictness.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from campus_tune.cli.options import COMMANDS, Commands, add_command
from campus_tune.cli.sft import finish
from campus_tune.method.rounds import Rounds
from campus_tune.model.reward_functions import load_rewards, weight_problems
from campus_tune.model.reward_trainers import sizes_asked
from campus_tune.recipe.launched import refuse_other_launch
from campus_tune.recipe.reward_rules import for_rewards
from campus_tune.recipe.trainer_settings import refused
from campus_tune.recipe.trl_yaml import parse_trl, read_arguments, read_block
from campus_tune.run.make_reward_trainer import make_reward_trainer
from campus_tune.run.make_trainer import refuse_other_model
from campus_tune.words.errors import RecipeError, TrainerError

if TYPE_CHECKING:
    from trl import DatasetMixtureConfig, GRPOConfig, ModelConfig
    from trl.scripts.grpo import GRPOScriptArguments

    from campus_tune.recipe.config import CampusConfig


def add_parser(commands: Commands, trainer: str, example: str) -> None:
    """Add the command to the list. Its flags are TRL's, so `train_by_reward` is handed the words as they are.

    Args:
        commands: of `campus-tune`.
        trainer: grpo or rloo.
        example: its help.
    """
    parser = add_command(commands, trainer, COMMANDS[trainer], example)
    parser.usage = f"campus-tune {trainer} --config YAML [--campus.<setting> VALUE …] [TRL's flags]"


def train_by_reward(trainer: str, argv: Sequence[str]) -> int:
    """Train under the recipe that `argv` names; gives back the exit code 0.

    Args:
        trainer: grpo or rloo.
        argv: `--config recipe.yaml` and overrides.

    Raises:
        RecipeError: problems in the YAML or the flags, all at once, before data or a model are loaded.
    """
    if not argv:
        raise RecipeError(f"`{trainer}` must be given a recipe, got none. Write: campus-tune {trainer} recipe.yaml")
    settings, block, flags = read_arguments(list(argv))
    config, problems = read_block(block)
    (script, training, model, mixture), more = parse_trl(settings, flags, problems, trainer=trainer)
    refuse_other_launch()
    if not model.model_name_or_path:
        more.append("`model_name_or_path` must be a model folder or a hub id, got nothing. Add it to the YAML.")
    if config is not None:
        more += [*refused({**vars(mixture), **vars(script)}), *_refused_there(config, training)]
    try:
        more += weight_problems(training, load_rewards(script))
    except RecipeError as error:
        more += error.problems
    if problems + more:
        raise RecipeError(problems + more)
    train(trainer, script, training, model, mixture, config)
    return 0


def _refused_there(config: CampusConfig, training: GRPOConfig) -> list[str]:
    """What the trainer would refuse once the model is loaded: parts that go by losses, sizes that do not divide."""
    problems = []
    try:
        for_rewards(config)
    except RecipeError as error:
        problems += error.problems
    try:
        Rounds(**sizes_asked(training))
    except TrainerError as error:
        problems.append(str(error))
    return problems


def train(
    trainer: str,
    script: GRPOScriptArguments,
    training: GRPOConfig,
    model: ModelConfig,
    mixture: DatasetMixtureConfig,
    config: CampusConfig | None,
) -> Any:
    """One run, from TRL's four argument objects and the curriculum's settings; without those, as TRL would train.

    Args:
        trainer: grpo or rloo.
        script: TRL's arguments of that script.
        training: `trl.GRPOConfig` or `trl.RLOOConfig`.
        model: `trl.ModelConfig`.
        mixture: `trl.DatasetMixtureConfig`.
        config: of the `campus:` block; None without one.
    """
    from campus_tune.report.callback import CampusCallback

    callbacks = []
    if config is not None:
        refuse_other_model(training, model)
        callbacks.append(CampusCallback(config))
    made = make_reward_trainer(trainer, script, training, model, mixture, callbacks=callbacks)
    return finish(made, training, script.dataset_name)
