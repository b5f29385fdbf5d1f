"""What a curriculum is not for: other tasks than a causal language model's own loss on rows of tokens, or its rewards.

A plan says which rows are trained in which step, scores ask a model for the losses of answers, and the audit compares
tokens. Where the trainer compares two answers, where the model reads its answer beforehand or gives one label a row,
and where rows are more than tokens, none of that means anything. TRL's `GRPOTrainer` and `RLOOTrainer` make their own
answers to planned prompts (`run.prompts`); other trainers that make answers do so in ways of their own. It is said
once, when a curriculum is put on a trainer; by `campus-tune` before a model is loaded.

What is asked is what things are: which class computes the loss, for which task the libraries list the model's class,
what the configuration and the columns say. Whatever is the user's own, a trainer, a model of any class, has its way.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import datasets
import numpy as np

from campus_tune.data.prepared import column_names
from campus_tune.model import compat
from campus_tune.model.model_tasks import task_of_config, task_of_model
from campus_tune.model.reference import find
from campus_tune.model.reward_trainers import is_driven_by_reward, owns_its_data
from campus_tune.model.subject import same_random_states
from campus_tune.words.errors import RecipeError, TrainerError

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import Trainer

SEEN = {"image", "images", "pixel_values", "videos"}
HEARD = {"audio", "audios", "input_features", "input_values"}
PAIR = ("chosen", "rejected")  # how columns of preferences begin
WITHOUT = "or train without the CampusCallback."


def refuse_other_task(trainer: Trainer) -> None:
    """What is trained must be a causal language model, by its own loss, on rows of tokens.

    Args:
        trainer: a `transformers.Trainer` of any class.

    Raises:
        TrainerError: it is another task, which is named.
    """
    kind = compat.trains_another_task(trainer)
    if kind is not None and not is_driven_by_reward(trainer):
        own = "" if kind is type(trainer) else f", a {kind.__name__}"
        raise TrainerError(
            f"the trainer must learn the answers of its rows, got {type(trainer).__name__}{own}: trl's own for another "
            "task, in which answers are compared or made in its own way, so no plan of rows fits it. Use trl's "
            "SFTTrainer on the answers to learn, its GRPOTrainer or RLOOTrainer where a reward says which answers are "
            f"right, {WITHOUT}"
        )
    task = task_of_model(trainer.model)
    if task is not None:
        raise TrainerError(
            f"the model must be a causal language model, got {task}: a curriculum is planned by the losses of answers "
            "that a model writes token by token. Load one that was trained to write with AutoModelForCausalLM, "
            f"{WITHOUT}"
        )
    if getattr(compat.inner_collator(trainer.data_collator), "mlm", False) is True:
        raise TrainerError(
            "the data collator must leave tokens as they are, got one that masks some of them anew each time "
            "(mlm=True): what is planned would not be what is trained. Write DataCollatorForLanguageModeling(…, "
            f"mlm=False), {WITHOUT}"
        )


def refuse_headless(model: torch.nn.Module) -> None:
    """What is measured of a model is read at its head, which a class of somebody's own must name.

    Args:
        model: in training.

    Raises:
        TrainerError: it names none, or cannot be asked without a cache of keys and values.
    """
    named = getattr(model, "get_output_embeddings", None)
    lacks = "get_output_embeddings()" if named is None or named() is None else None
    given = inspect.signature(model.forward).parameters.values()
    if not any(one.name == "use_cache" or one.kind is one.VAR_KEYWORD for one in given):
        lacks = lacks or "an argument use_cache"
    if lacks:
        raise TrainerError(
            f"a model whose losses are measured must name its head, got {type(model).__name__} without {lacks}. Give "
            "its class get_output_embeddings(self), which returns the module that makes the logits, and let forward "
            "take use_cache and give logits without labels; or ask the model nothing: metrics of texts, "
            "selector: round_robin, no probes."
        )


def refuse_other_rows(dataset: Dataset, dropped: Callable[[Collection[str]], Collection[str]] = lambda _: ()) -> None:
    """Rows must be tokens, each with its own answer.

    Args:
        dataset: training rows as the trainer has prepared them, with a length.
        dropped: which of some columns the trainer takes out before the model sees a row.

    Raises:
        TrainerError: they are pictures, sounds, pairs to compare, or have one label each.
    """
    names = column_names(dataset)
    found = set(names) & (SEEN if "input_ids" in names else SEEN | HEARD)
    if found and "input_ids" in names:
        found -= set(dropped(found))
    if found:
        raise TrainerError(
            f"`train_dataset` must be text, got image or sound columns {sorted(found)}: what is seen or heard is not "
            "planned. Remove the columns if the model does not use them."
        )
    pairs = [name for name in names if name.startswith(PAIR)]
    if pairs and "input_ids" not in names:
        raise TrainerError(
            f"`train_dataset` must have one answer a row, got answers to compare ({', '.join(pairs)}). Keep the one to "
            "learn: dataset.remove_columns('rejected').rename_column('chosen', 'completion'), or 'messages' where it "
            f"is the whole conversation; {WITHOUT}"
        )
    if "labels" in names and len(dataset) and _is_one_number(dataset, "labels"):
        raise TrainerError(
            "`labels` must have one label for each token of a row, got one number a row: rows of a classification. "
            f"Leave the column out, so that a row's own tokens are learnt, {WITHOUT}"
        )


def refuse_other_prompts(trainer: Trainer) -> None:
    """Rows of a trainer that is driven by reward must be prompts of text, which no environment makes.

    Args:
        trainer: TRL's own for reward, with a training set.

    Raises:
        TrainerError: they are something else.
    """
    names = column_names(compat.training_rows(trainer))
    if owns_its_data(trainer) or "prompt" not in names:
        made = ", and environments that make them" if owns_its_data(trainer) else ""
        raise TrainerError(
            f"`train_dataset` must have a column prompt, which says what is asked, got {', '.join(names)}{made}: only "
            "prompts that are there before training can be planned. Write them into that column and leave "
            f"environment_factory out, {WITHOUT}"
        )
    if found := SEEN & set(names) - compat.unused_columns(trainer, SEEN):
        raise TrainerError(
            f"prompts must be text, got image columns {sorted(found)}: what is seen is not planned. Remove the columns "
            f"if the model does not use them, {WITHOUT}"
        )


def refuse_probes(probes: object) -> None:
    """A run that is driven by reward has no answers whose losses could be probed.

    Args:
        probes: as the callback was given them.

    Raises:
        TrainerError: there are some.
    """
    if probes is not None:
        raise TrainerError(
            "`probes` must be left out of a trainer that is driven by reward, got some: probes are answers whose loss "
            "is measured. Give the trainer an eval_dataset: it reports the rewards of its prompts."
        )


def refuse_other_model(name: str, *, trust_remote_code: bool) -> None:
    """The same of a model that is not loaded yet, by what its configuration says.

    Args:
        name: folder or hub id; one that is not there is left to whoever loads it.
        trust_remote_code: as in the user's own configuration.

    Raises:
        RecipeError: it was made for another task.
    """
    try:
        config, _ = find(name, "model_name_or_path", trust_remote_code=trust_remote_code)
    except Exception:  # a name or a configuration that is none is said by whoever loads it
        return
    task = task_of_config(config)
    if task is not None:
        raise RecipeError(
            f"`model_name_or_path` must be a causal language model, got {name!r}: its configuration says {task}. Name "
            "a model that was trained to write, or take the campus block out."
        )


def _is_one_number(dataset: Dataset, name: str) -> bool:
    """Whether a column holds one number a row, by its type or by the first row."""
    feature = (getattr(dataset, "features", None) or {}).get(name)
    if feature is not None:
        return isinstance(feature, datasets.Value | datasets.ClassLabel)
    with same_random_states():  # a data set of somebody's own may draw
        return np.ndim(dataset[0][name]) == 0
