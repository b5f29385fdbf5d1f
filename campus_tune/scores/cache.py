"""Scores on disk: those of one run, and a cache that all runs share.

**A run's own scores** (`write_columns`, `read_columns`) lie in its `curriculum/scores/`, one parquet file per metric.
A resumed run must not compute them again: a loss taken after training has begun is another loss. The checkpoint
remembers a digest of the scores, so a file of another run is found out.

**The score cache** (`ScoreCache`) saves the next run the work. A score is found by what it depends on: the *content*
of the row, never its position, so a changed row is scored again alone; and a `CacheKey` of everything else (metric,
settings, weights, adapter, template, precision, version of the code), so what was taken under other conditions is
never mixed in. One key is one folder of shards, written while the scoring goes on (`campus_tune.scores.shards` says how
they survive kills, damage and several writers); a killed run loses one shard at most, the next goes on from there:

    loss-5c0fd6c4ee1e33a5/key.json                                  the key, to be read by people
                          shard-00000000-60303ae22b998861.parquet   some rows: `content`, and a column per value
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from campus_tune.scores.shards import CONTENT, Shard, ShardFolder, look_up
from campus_tune.words.errors import MetricError, ResumeError, StorageError
from campus_tune.words.files import atomic_write
from campus_tune.words.hashing import digest, sha256
from campus_tune.words.json_shapes import parse, read_json
from campus_tune.words.types import BoolArray, Json
from campus_tune.words.wording import cut, differences

if TYPE_CHECKING:
    import pyarrow as pa

_CHECK = "campus_sha256:"  # before the hash of a file of scores, in its footer


def write_columns(path: Path, columns: Mapping[str, NDArray[Any] | pa.Array], about: Json) -> None:
    """Write arrays of one length, numpy's or arrow's, as a parquet table, with `about` in its metadata.

    Raises:
        StorageError: the disk is full or the folder read-only; an earlier file is still whole.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(dict(columns))
    table = table.replace_schema_metadata({"campus_tune": json.dumps(about), "campus_check": _CHECK + "0" * 64})
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer)
    data = bytearray(buffer.getvalue().to_pybytes())
    place = data.rindex(_CHECK.encode()) + len(_CHECK)
    data[place : place + 64] = sha256(data).encode()
    atomic_write(path, bytes(data))


def read_columns(path: Path) -> tuple[dict[str, NDArray[Any]], Json]:
    """What `write_columns` wrote. Nothing of a damaged file reaches the parquet reader, which believes much.

    Raises:
        ResumeError: the file is missing or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        data = path.read_bytes()
        # The hash in the footer is of the file with zeros in its place. A file without one is an earlier version's; a
        # flipped bit that hides the hash has hit nothing else.
        place = data.rfind(_CHECK.encode()) + len(_CHECK)
        if place >= len(_CHECK):
            known, clean = data[place : place + 64], data[:place] + b"0" * 64 + data[place + 64 :]
            if sha256(clean).encode() != known:
                raise ValueError("a damaged file: its SHA-256 is another")
        table = pq.ParquetFile(pa.BufferReader(data)).read()
        about = parse((table.schema.metadata or {}).get(b"campus_tune", b"{}").decode("utf-8"))
        if not isinstance(about, dict):
            raise ValueError(f"notes that are no mapping: {about!r}")
        # of words as numbers and their list, as they stand, numpy takes a null for the last word of the list
        plain = [col.cast(col.type.value_type) if pa.types.is_dictionary(col.type) else col for col in table.columns]
        return {name: np.array(column) for name, column in zip(table.column_names, plain, strict=True)}, about
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ResumeError(
            f"`{path}` must be the scores that this run was planned with, got {error}. They cannot be computed again: "
            "the model has moved since. Put the run's curriculum/ folder back beside its checkpoints, or start anew."
        ) from error


@dataclass(frozen=True)
class CacheKey:
    """Everything but the row that a score depends on. Two keys that differ in anything share no scores.

    >>> CacheKey("loss", {"a": 1, "b": 2}).digest() == CacheKey("loss", {"b": 2, "a": 1}).digest()
    True
    >>> CacheKey("loss", model="a1").digest() == CacheKey("loss", model="c3").digest()
    False

    Args:
        what: what was measured, e.g. `loss`; also begins the name of the key's folder.
        settings: plain JSON, whatever changes the values.
        model: fingerprint of the weights, or hub id @ commit; None where no model is asked.
        adapter: fingerprint of the adapter's state, None without one.
        template: fingerprint of tokenizer and chat template.
        precision: of the forward, e.g. `bfloat16`.
        version: of the code that measures; raised when it gives other values.
    """

    what: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    adapter: str | None = None
    template: str | None = None
    precision: str | None = None
    version: int = 1

    def as_json(self) -> Json:
        """All of it, as it stands in `key.json`."""
        return {**vars(self), "settings": dict(self.settings)}

    def digest(self) -> str:
        """32 hex digits, the same whatever the sequence of the settings."""
        return digest(self.as_json())

    @property
    def folder_name(self) -> str:
        """Folder of this key's shards."""
        return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', self.what)[:60]}-{self.digest()[:16]}"


class ScoreCache:
    """Scores of any runs by key and row content. A damaged shard is never believed and stops nothing.

    Args:
        folder: where it lies; made when first written. None: no cache, nothing is known and nothing is written.
        writes: False leaves the folder as it is, damaged shards included.

    Attributes:
        warnings: what a user must know: damaged shards, a folder that cannot be written; each once.

    Raises:
        StorageError: `folder` is a file.
    """

    def __init__(self, folder: Path | None, *, writes: bool = True) -> None:
        there = next((place for place in (folder, *folder.parents) if os.path.exists(place)), None) if folder else None
        if there is not None and not os.path.isdir(there):
            raise StorageError(f"the score cache must be a folder, got the file `{there}`. Name another place.")
        self.folder = folder
        self.warnings: list[str] = []
        self._writes = writes and folder is not None
        self._begun: set[str] = set()  # digests of the keys that this object has written

    def read(self, key: CacheKey, content: NDArray[np.uint64]) -> tuple[BoolArray, dict[str, NDArray[Any]]]:
        """The scores that are known of these rows.

        Args:
            key: what they depend on.
            content: content key of each row, in any sequence, repeated or not, shape (N,).

        Returns:
            (which rows are known, shape (N,); the values by column, each of shape (N,) and zero where unknown). No
            columns when no row is known. Of a row written several times the latest values count.

        Raises:
            MetricError: content keys of another type.
        """
        _check_content(content)
        shards = self._shards(key)
        known, columns = look_up(shards, content) if shards else (np.zeros(len(content), dtype=np.bool_), {})
        return known, columns if known.any() else {}

    def write(
        self,
        key: CacheKey,
        content: NDArray[np.uint64],
        columns: Mapping[str, NDArray[Any]],
        about: Json | None = None,
    ) -> None:
        """Keep scores of some rows as one shard; call it while the scoring goes on, every minute or so.

        A folder that cannot be written (read-only, disk full) is a warning, once, and the end of writing: the
        caller has the scores, and a disk that has just filled up needs what becomes free for the checkpoints.

        Args:
            key: what the scores depend on.
            content: content key of each row, shape (n,).
            columns: values by name, each of shape (n,), finite; the same names and types in all shards of a key
                (only rows that have those of the latest shard are known).
            about: plain JSON to be given back by `about`, such as what the scores cost.

        Raises:
            MetricError: NaN or inf, another shape, no numbers, or a column named `content`.
        """
        _check_content(content)
        _check(key, content, columns)
        if self.folder is None or not self._writes or not len(content):
            return
        shards = self._of(key)
        try:
            if shards.digest not in self._begun:
                path = shards.folder / "key.json"
                if (there := _read_key(path)) is None or there.digest() != key.digest():
                    atomic_write(path, json.dumps(key.as_json(), indent=2, sort_keys=True) + "\n")
                shards.sweep()
                self._begun.add(shards.digest)
            shards.add(Shard.of(content, columns, about or {}))
        except StorageError as error:
            self._writes = False
            self._warn(f"the score cache `{self.folder}` is not written any more, scoring goes on without it: {error}")

    def about(self, key: CacheKey) -> list[Json]:
        """What the writers said of the key's shards, earliest first; a merged shard speaks for all it was made of."""
        return list({name: about for shard in self._shards(key) for name, about in shard.about.items()}.values())

    def missing(self, key: CacheKey, content: NDArray[np.uint64]) -> str | None:
        """Why the cache knows none of these rows, in a sentence that names the difference; None if it knows some."""
        if self.folder is None or not len(content) or self.read(key, content)[0].any():
            return None
        scores = f"the `{key.what}` scores in `{self.folder}`"
        if self._shards(key):
            return f"{scores} are of another dataset: 0 of {len(content)} rows are in it."
        found = filter(None, map(_read_key, sorted(self.folder.glob("*/key.json"))))
        others = [other for other in found if self._of(other).paths() and other.digest() != key.digest()]
        same = [_differences(other, key) for other in others if other.what == key.what]
        if same:
            nearest = min(same, key=lambda differences: (len(differences), differences))
            return f"{scores} were taken with {' and '.join(nearest)}."
        held = ", ".join(sorted({other.what for other in others})) or "nothing"
        return f"`{self.folder}` holds no `{key.what}` scores, it holds {held}."

    def _of(self, key: CacheKey) -> ShardFolder:
        assert self.folder is not None
        return ShardFolder(self.folder / key.folder_name, key.digest(), self._warn, writes=self._writes)

    def _shards(self, key: CacheKey) -> list[Shard]:
        return [] if self.folder is None else self._of(key).load()

    def _warn(self, message: str) -> None:
        if message not in self.warnings:
            self.warnings.append(message)


def default_folder() -> Path:
    """Where the cache lies unless a run says otherwise.

    `$CAMPUS_TUNE_CACHE`, else `$XDG_CACHE_HOME/campus_tune/scores`, else `~/.cache/campus_tune/scores`.
    """
    own = os.environ.get("CAMPUS_TUNE_CACHE")
    if own:
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "campus_tune" / "scores"


def _check_content(content: NDArray[np.uint64]) -> None:
    if content.dtype != np.uint64 or content.ndim != 1:
        raise MetricError(
            f"`content` must be one uint64 per row, got {content.dtype} of shape {content.shape}. Hash the rows."
        )


def _check(key: CacheKey, content: NDArray[np.uint64], columns: Mapping[str, NDArray[Any]]) -> None:
    """Refuse what could not be read back as scores of these rows."""
    if not columns or CONTENT in columns:
        raise MetricError(
            f"`{key.what}` must have columns of its own to be kept, got {', '.join(columns) or 'none'}. Give at least "
            f"one, and none of the name {CONTENT}."
        )
    for name, values in columns.items():
        if values.dtype.kind not in "biuf" or values.shape != content.shape:
            raise MetricError(
                f"`{name}` of `{key.what}` must be one number per row, shape {content.shape}, got {values.dtype} of "
                f"shape {values.shape}. Make a column of each number."
            )
        strange = np.count_nonzero(~np.isfinite(values))
        if strange:
            raise MetricError(
                f"`{name}` of `{key.what}` must be finite to be kept, got NaN or inf on {strange} of {len(values)} "
                "rows. Leave out the rows that could not be scored."
            )


def _read_key(path: Path) -> CacheKey | None:
    """The key in a `key.json`; None where there is none to be read, or that of another folder."""
    try:
        key = CacheKey(**read_json(path))
        return key if key.folder_name == path.parent.name else None
    except (OSError, ValueError, TypeError):
        return None


def _differences(there: CacheKey, now: CacheKey) -> list[str]:
    """What differs between two keys of the same metric, each as a phrase that follows "taken with"."""

    def same(a: object, b: object) -> bool:
        return json.dumps(a) == json.dumps(b)  # 1, 1.0 and true are three settings

    words = {"model": "model", "adapter": "adapter", "template": "template", "precision": "precision"}
    words["version"] = "version of the code"
    parts = [{word: getattr(key, name) for name, word in words.items()} for key in (there, now)]
    settings = sorted(differences(there.settings, now.settings, absent="not set", same=same))
    found = [*differences(*parts, same=same), *((f"`{name}`", a, b) for name, a, b in settings)]
    return [f"another {what} ({_short(a)} there, {_short(b)} now)" for what, a, b in found]


def _short(value: object) -> str:
    """A value for a message: fingerprints by their first digits, others whole up to a bound."""
    text = "none" if value is None else str(value)
    if re.fullmatch(r"[0-9a-f]{16,}", text):
        return f"{text[:8]}…"
    return cut(text, 80)
