"""TRL's `datasets:` mixture, each entry with the domain that its rows are of where no column says it.

    datasets:
      - path: openai/gsm8k            # rows of the domain gsm8k
        name: main
      - path: ./chats.jsonl           # chats
      - path: cais/mmlu
        name: abstract_algebra
        domain: algebra               # a name of one's own; the only key that TRL does not know

An entry is called as its path ends, or as its file where the path is a format (`path: json`). Entries that would be
called alike get what tells them apart: their configuration behind it, the folder or the owner before it, their split;
the same rows twice are one domain. `dataset_train_split` is the split of entries that name none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from trl.scripts.utils import DatasetConfig

from campus_tune.words.files import TABLE_SUFFIXES
from campus_tune.words.leaves import Text
from campus_tune.words.registry import nearest

MIXTURE = "datasets"
FORMATS = ("json", "csv", "parquet", "arrow", "text", "xml", "webdataset")  # paths that name no data set


@dataclass
class NamedDataset(DatasetConfig):  # type: ignore[misc]  # TRL is untyped
    """An entry of a mixture.

    Args:
        domain: of its rows; None for the name that it has anyway.
    """

    domain: str | None = None


def read_entries(settings: Mapping[str, object]) -> tuple[list[NamedDataset], list[str]]:
    """The entries of a YAML's `datasets:`, and what is wrong with their keys.

    Args:
        settings: of the YAML; entries are mappings.
    """
    known = [field.name for field in fields(NamedDataset)]
    given = settings[MIXTURE]
    usual = settings.get("dataset_train_split")
    assert isinstance(given, Sequence)
    entries, problems = [], list[str]()
    for number, entry in enumerate(given):
        what = f"{MIXTURE}: {number}"
        found = [
            f"`{what}: {key}` must be one of {', '.join(known)}, got an unknown key.{nearest(str(key), known)}"
            for key in entry
            if key not in known
        ]
        own = entry.get("split")
        if own not in (None, "train", usual) and str(entry.get("path")).endswith(TABLE_SUFFIXES):
            found.append(
                f"`{what}: split` must be left out where `path` is a file, got {own!r}: a file has no splits. Leave it "
                f"out, or write path: json, data_files: {entry['path']} to cut it by a split."
            )
        for key in ("path", *(key for key in ("name", "split", "domain") if entry.get(key) is not None)):
            found += Text().problems(f"{what}: {key}", entry.get(key))
        problems += found
        if not found:
            entries.append(NamedDataset(**{"split": usual or "train", **entry}))
    return entries, problems


def entry_domain(entry: DatasetConfig) -> str | None:
    """What an entry says of its rows itself."""
    own: str | None = getattr(entry, "domain", None)
    return own


def entry_names(entries: Sequence[DatasetConfig]) -> list[str]:
    """What the rows of each entry are called.

    >>> entries = [NamedDataset(path) for path in ("openai/gsm8k", "data/chats.jsonl", "cais/mmlu", "cais/mmlu")]
    >>> entries[1].domain, entries[2].name, entries[3].name = "talk", "algebra", "anatomy"
    >>> entry_names(entries)
    ['gsm8k', 'talk', 'mmlu/algebra', 'mmlu/anatomy']
    """
    forms = [_forms(entry) for entry in entries]
    names = [entry_domain(entry) or form[0] for entry, form in zip(entries, forms, strict=True)]
    for often in [name for name, n in Counter(names).items() if n > 1]:
        alike = [i for i, name in enumerate(names) if name == often and not entry_domain(entries[i])]
        different = [len({forms[i][length] for i in alike}) for length in range(len(forms[0]))]
        shortest = different.index(max(different, default=0))
        for i in alike:
            names[i] = forms[i][shortest]
    return names


def _forms(entry: DatasetConfig) -> list[str]:
    """What an entry may be called, the shortest first, the last one told from all others but its like.

    It is called as its path ends, without the suffix of a file; of a format, as its first file or its folder does.
    """
    path: object = entry.path
    if path in FORMATS:
        files = entry.data_files
        files = next(iter(files.values()), None) if isinstance(files, Mapping) else files
        first = files[0] if isinstance(files, Sequence) and not isinstance(files, str) and files else files
        path = first or entry.data_dir or path
    source = Path(str(path))
    stem, folder = source.name.split(".")[0] or str(path), source.parent
    parts = (
        (stem,),
        (stem, entry.name),
        (folder.name, stem, entry.name),
        (stem, entry.name, entry.split),
        (str(folder), stem, entry.name, entry.split),
    )
    return ["/".join(filter(None, part)) for part in parts]
