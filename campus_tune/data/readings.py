"""What was read of a data set, kept for the next start: token counts, hashes of rows and of their texts.

Arrays whose reading took a second or more lie beside the score cache, one file for what was read of one data set. A
file is found by a hash of the very values that were read (`contents`), so that another label, token or sequence is
another data set, and the same rows are found wherever they lie. It is believed only if its own checksum holds and if
some rows, read anew, say the same; else the rows are read and the file is written again, and a warning says so. Files
are written whole or not at all, by the leader alone, and used ones stay: from `ROOM` on the longest unused go.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from campus_tune.data.contents import content_hash
from campus_tune.words.errors import StorageError
from campus_tune.words.files import STALE, atomic_write
from campus_tune.words.types import Json, RowSource

LEAST = 1.0  # seconds from which on a reading is kept
ROOM = 4 << 30  # bytes of all files together; the latest one stays whatever it needs
SAMPLE = 64  # rows that are read anew before a file is believed
VERSION = 2  # of what the arrays say
TYPES = ("<i8", "<u8")

Arrays: TypeAlias = dict[str, NDArray[Any]]


class Readings:
    """Arrays with an entry for each row of a data set.

    Args:
        folder: of the score cache; None keeps nothing.
        writes: False for all processes but one.
        least: seconds of reading from which on something is kept; None for `LEAST`.

    Attributes:
        warnings: files that could not be believed, or not be written.
    """

    def __init__(self, folder: Path | None = None, *, writes: bool = True, least: float | None = None) -> None:
        self._folder, self._writes, self._least = folder, writes, least
        self.warnings: list[str] = []

    def take(
        self, what: str, dataset: RowSource, read: Callable[[RowSource], Arrays], columns: Sequence[str]
    ) -> Arrays:
        """What `read` makes of a data set, from the disk where it lies there.

        Args:
            what: is read, and by what means: one word, for the file's name.
            dataset: prepared.
            read: gives arrays, whole numbers of 64 bits, one for each row of the data set that it is given.
            columns: all that it looks at.
        """
        content = None if self._folder is None else content_hash(dataset, columns)
        if self._folder is None or content is None:
            return read(dataset)
        mark = {"what": what, "content": content, "rows": len(dataset)}
        path = self._folder / "readings" / f"{what}-{content}-{VERSION}.bin"
        doubted, found = len(self.warnings), self._load(path, mark)
        if found is not None:
            kept: Any = dataset  # of `datasets`: others have no such hash
            rows = np.unique(np.linspace(0, len(kept) - 1, SAMPLE).astype(np.int64))
            now = read(kept.select(rows))
            if now.keys() == found.keys() and all(np.array_equal(now[name], found[name][rows]) for name in now):
                return found
            self._doubt(path, "says something else of some rows than the data set")
        began = time.perf_counter()
        made = read(dataset)
        slow = time.perf_counter() - began >= (LEAST if self._least is None else self._least)
        if self._writes and (slow or len(self.warnings) > doubted):
            self._store(path, mark, made)
        return made

    def _load(self, path: Path, mark: Json) -> Arrays | None:
        try:
            with path.open("rb") as file:
                header = json.loads(file.readline(1 << 20))
                if header["mark"] != mark:
                    self._doubt(path, "is of another data set")
                    return None
                arrays, found = {}, hashlib.sha256()
                for name, kind in header["arrays"].items():
                    arrays[name] = np.empty(mark["rows"], dtype=TYPES[TYPES.index(kind)])
                    file.readinto(arrays[name].data)
                    found.update(arrays[name].data)
                if found.hexdigest() == header["sha256"] and not file.read(1):
                    if self._writes:
                        with suppress(OSError):  # used now; of no matter where the folder is read-only
                            os.utime(path)
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
            self._make_room(path)
        except OSError as error:  # ours of the disk is one too
            why = str(error) if isinstance(error, StorageError) else f"{path.parent}: {error}"
            self.warnings.append(f"what was read of the rows is not kept, and the next start reads them again: {why}")

    def _make_room(self, latest: Path) -> None:
        """Remove what was not used for longest where all files are too large, and what killed writers left."""
        used, now = 0, time.time()
        stats: dict[Path, os.stat_result] = {}
        for path in latest.parent.iterdir():
            with suppress(FileNotFoundError):  # another process was faster
                stats[path] = path.stat()
        for path, stat in sorted(stats.items(), key=lambda each: -each[1].st_mtime_ns):
            used += stat.st_size
            left = path.suffix == ".tmp" and now - stat.st_mtime > STALE
            if left or (path.suffix == ".bin" and path != latest and used > ROOM):
                path.unlink(missing_ok=True)

    def _doubt(self, path: Path, why: str) -> None:
        self.warnings.append(f"`{path}` {why}: the rows were read again, and it is written anew.")
