"""The rows of TRL's `datasets:` mixture, with the domain that their entry names where no column says it.

Rows that have a column `domain` keep what stands there, unless their entry says its `domain` itself. A mixture whose
rows all have it is TRL's own, untouched, and so is one of a single entry. Entries may be local files, as `dataset_name`
may.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from campus_tune.data.as_dataset import as_dataset, found_again
from campus_tune.recipe.blocks import DOMAIN
from campus_tune.words.errors import DataError
from campus_tune.words.files import TABLE_SUFFIXES, read_table

if TYPE_CHECKING:
    from trl import DatasetMixtureConfig
    from trl.scripts.utils import DatasetConfig

TRAIN = "train"


def load_mixture(mixture: DatasetMixtureConfig) -> Any:
    """The splits of a mixture, as TRL's `get_dataset` gives them, with domains.

    Args:
        mixture: `trl.DatasetMixtureConfig`.

    Raises:
        DataError: an entry that cannot be read, or columns of different kinds.
    """
    from trl import get_dataset

    from campus_tune.recipe.mixture import entry_domain, entry_names

    entries = mixture.datasets
    own = [entry_domain(entry) for entry in entries]
    local = [str(entry.path).endswith(TABLE_SUFFIXES) for entry in entries]
    if mixture.streaming or not (len(entries) > 1 or any(own) or any(local)):
        return get_dataset(mixture)
    parts = [_load(entry) for entry in entries]
    if not any(own) and not any(local) and all(DOMAIN in part.column_names for part in parts):
        return get_dataset(mixture)
    if len(entries) > 1 or any(own):
        named = zip(parts, entry_names(entries), own, strict=True)
        parts = [_of_domain(part, name, everywhere=given is not None) for part, name, given in named]
    return _together(parts, entries, mixture.test_split_size)


def _load(entry: DatasetConfig) -> Any:
    """The rows of one entry."""
    import datasets

    if str(entry.path).endswith(TABLE_SUFFIXES):
        rows = found_again(as_dataset(read_table(entry.path), entry.path))
    else:
        rows = datasets.load_dataset(
            entry.path, entry.name, data_dir=entry.data_dir, data_files=entry.data_files, split=entry.split
        )
    return rows if entry.columns is None else rows.select_columns(entry.columns)


def _of_domain(rows: Any, name: str, *, everywhere: bool) -> Any:
    """The rows with their domain: in those that name none, or in all of them.

    Args:
        rows: of one entry.
        name: of the domain.
        everywhere: whatever a column says.
    """
    import datasets

    told = [name] * len(rows)
    if DOMAIN in rows.column_names:
        if not everywhere:
            return rows
        rows = rows.remove_columns(DOMAIN)
    return rows.add_column(DOMAIN, told, feature=datasets.Value("string"))


def _together(parts: Sequence[Any], entries: Sequence[DatasetConfig], test: float | None) -> Any:
    """The parts as one data set, in their fractions and with a test split where the mixture asks for them, as TRL does.

    Raises:
        DataError: columns of different kinds, or fractions of some entries alone.
    """
    import datasets

    fractions = [getattr(entry, "fraction", None) for entry in entries]
    given = [fraction for fraction in fractions if fraction is not None]
    if given and len(given) < len(entries):
        raise DataError(
            f"`datasets:` must have a `fraction` in all entries or in none, got {len(given)} of {len(entries)}. Write "
            "one into each, or take them out."
        )
    if given:
        total = min(len(part) * sum(given) / one for part, one in zip(parts, given, strict=True) if one > 0)
        parts = [part.select(range(round(one / sum(given) * total))) for part, one in zip(parts, given, strict=True)]
    try:
        rows = datasets.concatenate_datasets(list(parts))
    except (ValueError, TypeError) as error:
        said = " ".join(str(error).split()).rstrip(". ")
        raise DataError(
            f"`datasets:` must have entries whose columns are of the same kinds, got: {said}. Write into each entry "
            "which columns are read, columns: [messages] for example."
        ) from error
    return datasets.DatasetDict({TRAIN: rows}) if test is None else rows.train_test_split(test_size=test)
