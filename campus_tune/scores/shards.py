"""Shards: one folder of scores by row content, to which any number of processes add at any time.

A shard is a small parquet file, written whole or not at all, and never changed. Half of its name is its number (of
a row scored twice the later shard counts), the other half the checksum of its bytes. What does not match its name is
never given to the parquet reader: of 3000 files with one bit flipped in their last kilobyte, pyarrow read 468 as
other data without a word. Nothing is locked. Many small shards are merged into one: the merged one is written first,
then the small ones are removed, so a kill in between leaves rows twice, and a reader who finds a shard gone looks
again.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.words.files import STALE, atomic_write
from campus_tune.words.hashing import sha256
from campus_tune.words.types import BoolArray, IntArray, Json

CONTENT = "content"  # the column that says which rows a shard holds
MANY = 64  # small shards of one folder before they are merged
SMALL_BYTES = 8 << 20  # a shard that is larger is never written again; merging holds 0.5 GB at most
_NAME = re.compile(r"shard-(\d{8,})-[0-9a-f]{16}\.parquet")


@dataclass(frozen=True)
class Shard:
    """Scores of some rows.

    Args:
        content: content key of each row, shape (n,).
        columns: values by name, each of shape (n,).
        about: what the writers said of it, by a random name each, so that no word counts twice.
    """

    content: NDArray[np.uint64]
    columns: dict[str, NDArray[Any]]
    about: dict[str, Json]

    @staticmethod
    def of(content: NDArray[np.uint64], columns: Mapping[str, NDArray[Any]], about: Json) -> Shard:
        """A new shard."""
        return Shard(content, dict(columns), {secrets.token_hex(8): about})

    @property
    def types(self) -> dict[str, str]:
        """Name and type of each column."""
        return {name: values.dtype.str for name, values in self.columns.items()}


class ShardFolder:
    """The shards of one key.

    Args:
        folder: where they lie; need not be there.
        digest: of the key; a shard of another one is not believed.
        warn: told of every shard that is left out.
        writes: False leaves damaged shards under their name.
    """

    def __init__(self, folder: Path, digest: str, warn: Callable[[str], None], *, writes: bool) -> None:
        self.folder, self.digest, self.writes = folder, digest, writes
        self._warn = warn

    def paths(self) -> list[Path]:
        """Files of the shards, earliest first, whether they can be believed or not."""
        return sorted(self.folder.glob("shard-*.parquet"))

    def load(self) -> list[Shard]:
        """The shards that can be believed, earliest first."""
        return list(self._load(self.paths()).values())

    def add(self, shard: Shard) -> None:
        """Write one more shard, later than those that are there, and merge the small ones if they have become many.

        Raises:
            StorageError: the disk is full or the folder read-only; nothing that was there is lost.
        """
        # two processes may take the same number: their shards still have different names, and an order
        self._put(shard, 1 + max((_number(path) for path in self.paths()), default=-1))
        small: list[Path] = []  # those after the last large one: what is merged must stay later than what is not
        for path in reversed(self.paths()):
            with suppress(OSError):  # gone meanwhile
                if path.stat().st_size > SMALL_BYTES:
                    break
                small.append(path)
        if len(small) > MANY:
            self._merge(small[::-1])

    def sweep(self) -> None:
        """Remove what killed writers left. A temporary file that is not old may have a writer."""
        for left in self.folder.glob(".*.tmp"):
            with suppress(OSError):  # gone meanwhile, or not ours to remove
                if time.time() - left.stat().st_mtime > STALE:
                    left.unlink()

    def _load(self, paths: Sequence[Path]) -> dict[Path, Shard]:
        shards: dict[Path, Shard] = {}
        tried: set[Path] = set()
        while todo := [path for path in paths if path not in tried]:
            gone = False
            for path in todo:
                try:
                    data = path.read_bytes()
                except FileNotFoundError:  # merged by another process, into one that we have not seen yet
                    gone = True
                except OSError as error:
                    self._warn(f"`{path}` cannot be read ({error.strerror}): its rows are scored again.")
                else:
                    self._believe(path, data, shards)
            tried.update(todo)
            paths = self.paths() if gone else []
        return dict(sorted(shards.items()))

    def _believe(self, path: Path, data: bytes, shards: dict[Path, Shard]) -> None:
        try:
            shards[path] = _from_bytes(data, path.name, self.digest)
        except ValueError as error:
            self._warn(f"`{path}` is damaged ({error}): it is left out and its rows are scored again.")
            if self.writes:
                with suppress(OSError):
                    path.rename(path.with_name(f"{path.name}.damaged"))

    def _put(self, shard: Shard, number: int) -> Path:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table({CONTENT: shard.content, **shard.columns})
        meta = {"campus_tune": json.dumps({"key": self.digest, "about": shard.about})}
        buffer = pa.BufferOutputStream()  # not compressed: scores are nearly random digits
        pq.write_table(table.replace_schema_metadata(meta), buffer, compression="none", use_dictionary=False)
        data: bytes = buffer.getvalue().to_pybytes()
        path = self.folder / f"shard-{number:08d}-{sha256(data, 16)}.parquet"
        atomic_write(path, data)
        return path

    def _merge(self, paths: Sequence[Path]) -> None:
        shards = self._load(paths)
        if len(shards) < 2:
            return
        kept = self._put(merged(list(shards.values())), max(_number(path) for path in shards))
        for path in shards:
            if path != kept:
                with suppress(OSError):  # another process was faster
                    path.unlink()


def merged(shards: Sequence[Shard]) -> Shard:
    """Shards, earliest first, as one: every row once with its latest values, sorted by content key.

    Rows that have not the columns of the latest shard are left out.

    Args:
        shards: at least one.
    """
    alike, content, order = _latest(shards)
    columns = {name: np.concatenate([shard.columns[name] for shard in alike])[order] for name in alike[-1].columns}
    return Shard(content, columns, {name: about for shard in shards for name, about in shard.about.items()})


def look_up(shards: Sequence[Shard], content: NDArray[np.uint64]) -> tuple[BoolArray, dict[str, NDArray[Any]]]:
    """Which rows are known, and the latest values of all, zero where unknown; each of shape (N,).

    Args:
        shards: at least one, earliest first; rows that have not the columns of the latest are unknown.
        content: content key of each row, in any sequence, repeated or not, shape (N,).
    """
    alike, kept, order = _latest(shards)
    asked = np.argsort(content)  # neighbours are looked up together: four times as fast as in random sequence
    place = np.empty(len(content), dtype=np.int64)
    place[asked] = np.searchsorted(kept, content[asked])
    place[place == len(kept)] = 0
    known: BoolArray = kept[place] == content
    rows = order[place]
    columns = {name: np.concatenate([shard.columns[name] for shard in alike])[rows] for name in alike[-1].columns}
    for values in columns.values() if not known.all() else ():
        values[~known] = 0
    return known, columns


def _latest(shards: Sequence[Shard]) -> tuple[list[Shard], NDArray[np.uint64], IntArray]:
    """(shards with the columns of the latest, their content keys sorted, each one's last place among their rows)."""
    alike = [shard for shard in shards if shard.types == shards[-1].types]
    content = np.concatenate([shard.content for shard in alike])
    order = np.argsort(content)  # a stable one takes three times as long
    in_order = content[order]
    first = np.append(True, in_order[1:] != in_order[:-1])
    if first.all():
        return alike, in_order, order
    starts = np.flatnonzero(first)
    return alike, in_order[starts], np.maximum.reduceat(order, starts)


def _number(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def _from_bytes(data: bytes, name: str, digest: str) -> Shard:
    """The shard in a file called `name`; a ValueError says why it cannot be believed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not name.endswith(f"-{sha256(data, 16)}.parquet"):
        raise ValueError("its checksum is another")
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)  # small: threads cost more than they give
        meta = json.loads(table.schema.metadata[b"campus_tune"])
        columns = {name: table[name].to_numpy() for name in table.column_names}
        shard, of = Shard(columns.pop(CONTENT), columns, meta["about"]), meta["key"]
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"it is no shard of scores, {error}") from error
    if of != digest:
        raise ValueError("it belongs to another key")
    return shard
