"""The training rows that a recipe names, before any trainer: of a file, of a data set, or of TRL's mixture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from campus_tune.data.plain import load_rows
from campus_tune.recipe.config import load_recipe
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.strict_yaml import read_yaml
from campus_tune.words.types import Json
from campus_tune.words.wording import listed

NAME, MIXTURE = "dataset_name", "datasets"


def rows_named(settings: Mapping[str, Any]) -> str | None:
    """What a recipe's rows are called; None where it names none."""
    entries, name = settings.get(MIXTURE), settings.get(NAME)
    if isinstance(entries, list) and entries:
        return " + ".join(str(entry.get("path")) for entry in entries if isinstance(entry, Mapping))
    return name if isinstance(name, str) else None


def of_recipe(path: str | Path, column: str | None) -> tuple[str, list[Json], str | None]:
    """(What a YAML's rows are called, all of them, their column of domains) for a command that trains nothing.

    Args:
        path: of the YAML.
        column: that the command was given; None for the recipe's `within`, or that of its probes.

    Raises:
        RecipeError: the YAML cannot be read, or names no rows.
        DataError: they cannot be read.
    """
    settings = read_yaml(path)
    name = rows_named(settings)
    if name is None:
        raise RecipeError(f"`{path}` must name its rows in {NAME} or {MIXTURE}, got neither. Add one of them.")
    block = load_recipe(settings, named=path) if "campus" in settings else None
    if column is None and block is not None:
        column = block.within or (block.probes.domain_column if block.probes else None)
    return name, recipe_rows(settings), column


def recipe_rows(settings: Mapping[str, Any]) -> list[Json]:
    """All of them.

    Args:
        settings: of the YAML.

    Raises:
        DataError: they cannot be found or read.
        RecipeError: the keys of a mixture's entry are wrong.
    """
    split = settings.get("dataset_train_split") or "train"
    entries = settings.get(MIXTURE)
    if not (isinstance(entries, list) and entries):
        return load_rows(str(settings[NAME]), config=settings.get("dataset_config"), split=split)
    from trl import DatasetMixtureConfig

    from campus_tune.model.mixed_rows import TRAIN, load_mixture
    from campus_tune.model.prepare import without_chatter
    from campus_tune.recipe.mixture import read_entries

    named, problems = read_entries(settings)
    if problems:
        raise RecipeError(problems)
    mixture = DatasetMixtureConfig(datasets=list(named), test_split_size=settings.get("test_split_size"))
    try:
        with without_chatter():
            rows: list[Json] = load_mixture(mixture)[TRAIN].to_list()
    except (OSError, ValueError) as error:  # not found, no network, no such split; ours are among them
        if isinstance(error, DataError):
            raise
        what = (str(error).splitlines() or [type(error).__name__])[0]
        paths = listed([entry.path for entry in named], 5)
        raise DataError(
            f"`{MIXTURE}` must name data sets that can be loaded, got {paths}: {what} Correct a path, a "
            "configuration, a split or a column."
        ) from error
    return rows
