"""The SFTTrainer that a YAML describes, alone or as one of many that share what was loaded and prepared."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from campus_tune.data.conversions import Origin
from campus_tune.data.refusals import refuse_rows, silent_contents, why_not
from campus_tune.data.shapes import Shape
from campus_tune.data.subset import Subset
from campus_tune.words.errors import CampusError, DataError
from campus_tune.words.files import TABLE_SUFFIXES, read_table
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import TrainerCallback
    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig

TRAIN = "train"
FIRST = 100_000  # rows that are looked at before the model is loaded: a second


def refuse_other_model(training: SFTConfig, model: ModelConfig) -> None:
    """A model of another task is refused before it is loaded.

    Args:
        training: `trl.SFTConfig`.
        model: `trl.ModelConfig`.

    Raises:
        RecipeError: it was not made to write.
    """
    from campus_tune.model import other_tasks

    trusted = bool(loading(training, model)["trust_remote_code"])
    other_tasks.refuse_other_model(str(model.model_name_or_path), trust_remote_code=trusted)


@contextmanager
def in_a_sentence() -> Iterator[None]:
    """What libraries raise at options, rows or a model that no trainer can be made of: told as what a user got wrong.

    Raises:
        DataError: with their words; the traceback is behind it, and `--debug` shows it.
    """
    try:
        yield
    except CampusError:
        raise
    except Exception as error:  # of TRL, transformers, peft, or of a damaged file, which has errors of its own
        why = " ".join((str(error) or type(error).__name__).split()).rstrip(". ")
        raise DataError(
            f"The model, the rows and the options must be ones that TRL can make a trainer of, got: {why}. Correct "
            "what it names; --debug shows where it was met."
        ) from error


@in_a_sentence()
def make_trainer(
    script: ScriptArguments,
    training: SFTConfig,
    model: ModelConfig,
    mixture: DatasetMixtureConfig,
    *,
    callbacks: Sequence[TrainerCallback],
    prepared: Any = None,
) -> Any:
    """The SFTTrainer that a recipe describes, its rows prepared.

    Args:
        script: `trl.ScriptArguments`.
        training: `trl.SFTConfig`; gets what the model is loaded with.
        model: `trl.ModelConfig`.
        mixture: `trl.DatasetMixtureConfig`.
        callbacks: of the trainer.
        prepared: rows that an earlier trainer has prepared, in the place of those that the recipe names.
    """
    from transformers import set_seed
    from trl import SFTTrainer, get_peft_config, get_quantization_config

    set_seed(training.seed)  # an adapter's first weights are drawn before the trainer seeds anything
    training.model_init_kwargs = loading(training, model)
    dataset = load_rows(script, mixture)
    train = named_split(dataset, script, "dataset_train_split") if prepared is None else prepared
    quantization = get_quantization_config(model)
    with takeable(train, script, training):
        return SFTTrainer(
            model=model.model_name_or_path,
            args=training,
            train_dataset=train,
            eval_dataset=named_split(dataset, script, "dataset_test_split") if training.eval_strategy != "no" else None,
            peft_config=get_peft_config(model),
            callbacks=list(callbacks),
            **({} if quantization is None else {"quantization_config": quantization}),
        )


@contextmanager
def takeable(rows: Any, script: ScriptArguments, training: SFTConfig) -> Iterator[None]:
    """Rows that a trainer is about to prepare: those that it cannot are told in words, the first ones before it begins.

    Args:
        rows: of the split that is trained; of a stream nothing can be said.
        script: `trl.ScriptArguments`.
        training: `trl.SFTConfig`.

    Raises:
        DataError: TRL does not take these rows; row, column and what to do are named.
    """
    if not hasattr(rows, "__len__"):
        yield
        return
    shape = Shape.of(vars(training))
    origin = Origin.of(script.dataset_name, config=script.dataset_config, split=script.dataset_train_split)
    refuse_rows(rows, shape, origin, most=FIRST)
    try:
        yield
    except CampusError:
        raise
    except Exception as error:  # of TRL, of a chat template
        told = why_not(rows, shape, origin) or silent_contents(rows, origin)
        if told is None:
            raise
        raise DataError(told) from error


@dataclass
class Shared:
    """What the trainers of one recipe can share in one process: loaded once, prepared once.

    Args:
        model: as it was loaded; every trainer gets a copy.
        tokenizer: the model's.
        dataset: training rows, as the first trainer prepared them once there was one.
        prepared: there was.
    """

    model: Any = None
    tokenizer: Any = None
    dataset: Any = None
    prepared: bool = False


@in_a_sentence()
def make_shared_trainer(
    script: ScriptArguments,
    training: SFTConfig,
    model: ModelConfig,
    mixture: DatasetMixtureConfig,
    *,
    callbacks: Sequence[TrainerCallback],
    shared: Shared,
    only: Subset | None = None,
) -> Any:
    """The same trainer as `make_trainer`'s, bit for bit, from what an earlier one has loaded and prepared.

    With some of the rows it is the trainer of a file that has no others. All are prepared all the same, once: the
    numbers of rows are those of the prepared ones.

    Args:
        script: `trl.ScriptArguments`.
        training: `trl.SFTConfig`.
        model: `trl.ModelConfig`.
        mixture: `trl.DatasetMixtureConfig`.
        callbacks: of the trainer.
        shared: empty before the first trainer, and filled by it.
        only: the rows that are trained; None for all.

    Raises:
        DataError: no such rows.
    """
    from transformers import set_seed
    from trl import SFTTrainer, get_peft_config, get_quantization_config

    parts = (script, training, model, mixture)
    shuffles = bool(getattr(training, "shuffle_dataset", False))  # by TRL, with the seed of each trainer
    if only is not None or shuffles:
        prepared_rows(*parts, shared=shared)
    if get_quantization_config(model) is not None:  # quantised weights cannot be copied
        rows = None if only is None else only.take(shared.dataset)
        trainer = make_trainer(*parts, callbacks=callbacks, prepared=rows)
        if only is None and not shuffles:
            shared.dataset, shared.prepared = trainer.train_dataset, True
        return trainer
    if shared.model is None:
        from campus_tune.model.compat import load_model

        refuse_other_model(training, model)
        shared.dataset = training_rows(script, mixture)
        with takeable(shared.dataset, script, training):
            shared.model, shared.tokenizer = load_model(model.model_name_or_path, loading(training, model))
    training.model_init_kwargs = None
    rows = shared.dataset if only is None else only.take(shared.dataset)
    set_seed(training.seed)
    with takeable(rows, script, training):
        trainer = SFTTrainer(
            model=copy.deepcopy(shared.model),
            args=training,
            train_dataset=rows,
            processing_class=shared.tokenizer,
            peft_config=get_peft_config(model),
            callbacks=list(callbacks),
        )
    if only is None and not shuffles:
        shared.dataset, shared.prepared = trainer.train_dataset, True
    return trainer


def prepared_rows(
    script: ScriptArguments,
    training: SFTConfig,
    model: ModelConfig,
    mixture: DatasetMixtureConfig,
    *,
    shared: Shared,
) -> Any:
    """All training rows as a trainer prepares them, in their own sequence: once, by one that trains nothing if need be.

    Args:
        script: `trl.ScriptArguments`.
        training: `trl.SFTConfig`.
        model: `trl.ModelConfig`.
        mixture: `trl.DatasetMixtureConfig`.
        shared: with what trainers of this recipe have loaded.
    """
    if not shared.prepared:
        from campus_tune.model.compat import let_go

        still = copy.copy(training)
        still.shuffle_dataset = False
        let_go(make_shared_trainer(script, still, model, mixture, callbacks=(), shared=shared))
    return shared.dataset


def loading(training: SFTConfig, model: ModelConfig) -> Json:
    """What the model is loaded with.

    Args:
        training: `trl.SFTConfig`.
        model: `trl.ModelConfig`.
    """
    named = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        "trust_remote_code": getattr(training, "trust_remote_code", getattr(model, "trust_remote_code", False)),
    }
    return {**named, **(training.model_init_kwargs or {})}


def load_rows(script: ScriptArguments, mixture: DatasetMixtureConfig) -> Any:
    """The splits that the YAML names: a local table, a hub id or folder, or TRL's `datasets:` mixture.

    Raises:
        DataError: a local file that cannot be read (file and line named), or nothing is named.
    """
    import datasets

    from campus_tune.data.as_dataset import as_dataset, found_again

    if mixture.datasets:
        from campus_tune.model.mixed_rows import load_mixture

        found = load_mixture(mixture)  # whose entries have splits of their own
        if script.dataset_train_split != TRAIN:
            found[script.dataset_train_split] = found.pop(TRAIN)
        return found
    name = script.dataset_name
    if not name:
        raise DataError("`dataset_name` must be a file, a folder or a hub id, got nothing. Add it to the YAML.")
    if str(name).endswith(TABLE_SUFFIXES):
        return datasets.DatasetDict({TRAIN: found_again(as_dataset(read_table(name), name))})
    return datasets.load_dataset(name, name=script.dataset_config, streaming=script.dataset_streaming)


def training_rows(script: ScriptArguments, mixture: DatasetMixtureConfig) -> Any:
    """The rows of the split that is trained, as the YAML names them.

    Args:
        script: `trl.ScriptArguments`.
        mixture: `trl.DatasetMixtureConfig`.

    Raises:
        DataError: they cannot be read, or there is no such split.
    """
    return named_split(load_rows(script, mixture), script, "dataset_train_split")


def named_split(dataset: Mapping[str, Any], script: ScriptArguments, option: str) -> Any:
    """The rows of the split that an option of the YAML names.

    Args:
        dataset: all splits, by name.
        script: `trl.ScriptArguments`.
        option: `dataset_train_split` or `dataset_test_split`.

    Raises:
        DataError: there is no such split.
    """
    name = getattr(script, option)
    if name not in dataset:
        evaluation = "" if option == "dataset_train_split" else ', or set eval_strategy: "no"'
        raise DataError(
            f"`{option}` must be one of {', '.join(dataset)}, got {name!r}. Name a split that is there{evaluation}."
        )
    return dataset[name]
