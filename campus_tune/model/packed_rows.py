"""What `packing: true` comes to in whole rows: of a recipe, and of rows that TRL has packed already."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from campus_tune.data.as_dataset import as_dataset
from campus_tune.data.prepared import column_names
from campus_tune.model.prepare import prepare_rows
from campus_tune.recipe.packing import ENOUGH, SETTING, Translated, translate
from campus_tune.recipe.training_yaml import setting_whole
from campus_tune.words.types import Json

if TYPE_CHECKING:
    from transformers import Trainer

_PARTS = "seq_lengths"  # TRL's column: tokens of each row in a packed one


def translated(settings: Mapping[str, Any], rows: Any) -> Translated | None:
    """What to write in the place of a recipe's `packing: true`.

    Of many rows some are drawn, the same ones in every process, and prepared as TRL does.

    Args:
        settings: of the YAML, with the flags that replace some.
        rows: as they stand in the file, as dictionaries or a `datasets.Dataset`.

    Returns:
        None where no tokenizer is there to count with, or nothing says how long a sequence is.

    Raises:
        DataError: TRL does not take these rows under these settings.
        RecipeError: a size is no whole number.
    """
    if len(rows) > ENOUGH:
        chosen = np.sort(np.random.default_rng(0).choice(len(rows), ENOUGH, replace=False)).tolist()
        rows = rows.select(chosen) if hasattr(rows, "select") else [rows[i] for i in chosen]
    given = as_dataset(rows, str(settings.get("dataset_name"))) if isinstance(rows, list) else rows
    prepared = prepare_rows({**settings, SETTING: False}, given)
    if prepared is None:
        return None
    args: Any = prepared.trainer.args  # `trl.SFTConfig`
    if args.max_length is None:
        return None
    return translate(
        prepared.trained.rows().tokens,
        max_length=args.max_length,
        micro=setting_whole(settings, "per_device_train_batch_size"),
        accumulation=setting_whole(settings, "gradient_accumulation_steps"),
    )


def translated_of(trainer: Trainer) -> Translated | None:
    """The same of a trainer whose rows TRL has packed; None where they do not say what they are made of."""
    args: Any = trainer.args  # `trl.SFTConfig`
    dataset: Any = trainer.train_dataset
    if dataset is None or _PARTS not in column_names(dataset):
        return None
    packed = dataset[:ENOUGH][_PARTS]
    lengths = np.fromiter(chain.from_iterable(packed), dtype=np.int64)
    return translate(
        lengths,
        max_length=args.max_length,
        micro=args.per_device_train_batch_size,
        accumulation=args.gradient_accumulation_steps,
        n_sequences=len(packed),
    )


def unpacked(settings: Json, found: Translated) -> Json:
    """The settings of a YAML, its block among them, with what stands for `packing: true`."""
    block = settings.get("campus")
    block = {"batching": "flat", **block} if isinstance(block, Mapping) else block
    return {**settings, **found.settings, "campus": block}
