"""The trainer by reward that a YAML describes, TRL's own GRPOTrainer or RLOOTrainer, alone or as one of many."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from campus_tune.data.prompt_rows import why_no_prompts
from campus_tune.model.reward_functions import load_rewards, missing_columns
from campus_tune.recipe.trl_yaml import RLOO
from campus_tune.run.make_trainer import Shared, in_a_sentence, load_rows, loading, named_split, refuse_other_model
from campus_tune.words.errors import DataError, RecipeError

if TYPE_CHECKING:
    from transformers import TrainerCallback
    from trl import DatasetMixtureConfig, GRPOConfig, ModelConfig
    from trl.scripts.grpo import GRPOScriptArguments

FIRST = 100_000  # rows that are looked at before the model is loaded


@in_a_sentence()
def make_reward_trainer(
    trainer: str,
    script: GRPOScriptArguments,
    training: GRPOConfig,
    model: ModelConfig,
    mixture: DatasetMixtureConfig,
    *,
    callbacks: Sequence[TrainerCallback],
    shared: Shared | None = None,
) -> Any:
    """A GRPOTrainer or RLOOTrainer as `trl grpo` or `trl rloo` makes it, with our messages.

    Args:
        trainer: grpo or rloo.
        script: TRL's arguments of that script.
        training: `trl.GRPOConfig` or `trl.RLOOConfig`; gets what the model is loaded with.
        model: `trl.ModelConfig`.
        mixture: `trl.DatasetMixtureConfig`.
        callbacks: of the trainer.
        shared: of several trainers of one recipe in this process: the model is loaded and the rows are read once, by
            the first, and each gets a copy; the same trainer, bit for bit.

    Raises:
        RecipeError: rewards that cannot be had, or that read columns which are not there.
        DataError: rows without prompts, or a model that TRL makes no trainer of.
    """
    from transformers import set_seed
    from trl import GRPOTrainer, RLOOTrainer, get_peft_config, get_quantization_config

    rewards = load_rewards(script)
    once = Shared() if shared is None else shared
    if once.dataset is None:
        once.dataset = load_rows(script, mixture)
        train = named_split(once.dataset, script, "dataset_train_split")
        if hasattr(train, "__len__"):
            refuse_no_prompts(train, str(script.dataset_name or script.dataset_train_split))
            if problems := missing_columns(rewards, train.column_names):
                raise RecipeError(problems)
        refuse_other_model(training, model)
    set_seed(training.seed)  # an adapter's first weights are drawn before the trainer seeds anything
    quantization = get_quantization_config(model)
    of: Any = model.model_name_or_path
    if shared is None or quantization is not None or model.model_revision not in (None, "main"):
        training.model_init_kwargs = loading(training, model)
    else:
        if shared.model is None:
            from campus_tune.model.compat import load_model

            shared.model, _ = load_model(of, loading(training, model))
        training.model_init_kwargs = None
        of = copy.deepcopy(shared.model)
    evaluates = training.eval_strategy != "no"
    made: type[Any] = RLOOTrainer if trainer == RLOO else GRPOTrainer
    return made(
        model=of,
        reward_funcs=rewards,
        args=training,
        train_dataset=named_split(once.dataset, script, "dataset_train_split"),
        eval_dataset=named_split(once.dataset, script, "dataset_test_split") if evaluates else None,
        peft_config=get_peft_config(model),
        callbacks=list(callbacks),
        **({} if quantization is None else {"quantization_config": quantization}),
    )


def refuse_no_prompts(rows: Any, where: str) -> None:
    """Rows that are about to be trained by reward have a prompt each.

    Args:
        rows: a Dataset; the first of it are looked at.
        where: what to call them.

    Raises:
        DataError: one has none; it is named.
    """
    if not len(rows):
        raise DataError(f"`{where}` must have at least one row, got none. Add prompts.")
    first = range(min(FIRST, len(rows)))
    if problem := why_no_prompts([rows[i] for i in first], [f"`{where}` row {i}" for i in first]):
        raise DataError(problem)
