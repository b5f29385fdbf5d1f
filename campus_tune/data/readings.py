"""What was read of a large data set, kept for the next start: token counts, hashes of rows and of their texts.

Reading takes about 35 µs a row, so below a million rows nothing is kept. From there on the arrays lie beside the score
cache, one file for what was read of one data set, found by the fingerprint that `datasets` gives its content. A file is
believed only if its checksum holds, if the files of the data set are as they were, and if some rows of it, read anew,
say the same; else it is read and written again, and a warning says so. What a file says wrongly in spite of all that,
the order audit finds in the first step that trains such a row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from campus_tune.words.errors import StorageError
from campus_tune.words.files import atomic_write
from campus_tune.words.hashing import sha256
from campus_tune.words.types import Json, RowSource

if TYPE_CHECKING:
    from datasets import Dataset

MANY = 1_000_000  # rows from which on a reading is kept
KEPT = 8  # files; the oldest go
SAMPLE = 64  # rows that are read anew before a file is believed
TYPES = ("<i8", "<u8")

Arrays: TypeAlias = dict[str, NDArray[Any]]


class Readings:
    """Arrays with an entry for each row of a data set.

    Args:
        folder: of the score cache; None keeps nothing.
        writes: False for all processes but one.
        least: rows from which on something is kept; None for `MANY`.

    Attributes:
        warnings: files that could not be believed, or not be written.
    """

    def __init__(self, folder: Path | None = None, *, writes: bool = True, least: int | None = None) -> None:
        self._folder, self._writes, self._least = folder, writes, least
        self.warnings: list[str] = []

    def take(self, what: str, dataset: RowSource, read: Callable[[RowSource], Arrays]) -> Arrays:
        """What `read` makes of a data set, from the disk where it lies there.

        Args:
            what: is read: one word, for the file's name.
            dataset: prepared.
            read: gives arrays, whole numbers of 64 bits, one for each row of the data set that it is given.
        """
        fingerprint, least = data_fingerprint(dataset), MANY if self._least is None else self._least
        if self._folder is None or fingerprint is None or len(dataset) < least:
            return read(dataset)
        kept: Dataset = dataset  # for rows of another kind have no fingerprint
        files = [Path(file["filename"]) for file in kept.cache_files]
        stats = [path.stat() for path in files if path.exists()]
        mark = {
            "what": what,
            "fingerprint": fingerprint,
            "rows": len(kept),
            "columns": sorted(kept.column_names),
            "files": [[path.name, stat.st_size, stat.st_mtime_ns] for path, stat in zip(files, stats, strict=False)],
        }
        name = sha256(f"{what} {fingerprint}", 32)
        path = self._folder / "readings" / f"{what}-{name}.bin"
        found = self._load(path, mark)
        if found is not None:
            rows = np.unique(np.linspace(0, len(kept) - 1, SAMPLE).astype(np.int64))
            now = read(kept.select(rows))
            if now.keys() == found.keys() and all(np.array_equal(now[name], found[name][rows]) for name in now):
                return found
            self._doubt(path, "says something else of some rows than the data set")
        made = read(dataset)
        if self._writes:
            self._store(path, mark, made)
        return made

    def _load(self, path: Path, mark: Json) -> Arrays | None:
        try:
            with path.open("rb") as file:
                header = json.loads(file.readline(1 << 20))
                if header["mark"] != mark:
                    self._doubt(path, "is of other files")
                    return None
                arrays, found = {}, hashlib.sha256()
                for name, kind in header["arrays"].items():
                    arrays[name] = np.empty(mark["rows"], dtype=TYPES[TYPES.index(kind)])
                    file.readinto(arrays[name].data)
                    found.update(arrays[name].data)
                if found.hexdigest() == header["sha256"] and not file.read(1):
                    return arrays
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # said below
        self._doubt(path, "is damaged (its checksum does not hold)")
        return None

    def _store(self, path: Path, mark: Json, made: Mapping[str, NDArray[Any]]) -> None:
        arrays = {name: np.ascontiguousarray(values) for name, values in made.items()}
        checksum = hashlib.sha256()
        for values in arrays.values():
            checksum.update(values.data)
        header = {"mark": mark, "arrays": {name: values.dtype.str for name, values in arrays.items()}}
        first = json.dumps({**header, "sha256": checksum.hexdigest()}).encode() + b"\n"
        try:
            atomic_write(path, (first, *(values.data for values in arrays.values())))
            for old in sorted(path.parent.glob("*.bin"), key=lambda file: file.stat().st_mtime)[:-KEPT]:
                old.unlink(missing_ok=True)
        except OSError as error:  # ours of the disk is one too
            why = str(error) if isinstance(error, StorageError) else f"{path.parent}: {error}"
            self.warnings.append(f"what was read of the rows is not kept, and the next start reads them again: {why}")

    def _doubt(self, path: Path, why: str) -> None:
        self.warnings.append(f"`{path}` {why}: the rows were read again, and it is written anew.")


def data_fingerprint(dataset: object) -> str | None:
    """What `datasets` calls this very content, files and transformations included; None for rows of another kind."""
    return getattr(dataset, "_fingerprint", None) if hasattr(dataset, "cache_files") else None
