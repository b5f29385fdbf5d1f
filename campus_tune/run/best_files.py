"""Files of kept weights: two of safetensors for a measurement of the probes, in the run's `curriculum/best/`.

    measurement-00012.safetensors              trained weights, under the parameters' names in the bare model
    measurement-00012-optimizer.safetensors    "parameter/moment" → its numbers; in its metadata, what is no tensor

Every file is written in one step, and its size and hash are known to whoever asks for it again. No pickle.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import torch

from campus_tune.model.moments import Snapshot
from campus_tune.run.manifest import Files
from campus_tune.words.errors import StorageError
from campus_tune.words.files import atomic_write
from campus_tune.words.hashing import sha256

NAME = re.compile(r"^measurement-\d+(-optimizer)?\.safetensors$")
HALF_WRITTEN = ".measurement-*.tmp"  # by a process that was killed
KINDS = "kinds"  # in the metadata of moments


def names_of(measurement: int) -> tuple[str, str]:
    """Of its two files."""
    stem = f"measurement-{measurement:05d}"
    return f"{stem}.safetensors", f"{stem}-optimizer.safetensors"


def write_snapshot(folder: Path, measurement: int, snapshot: Snapshot) -> Files:
    """Write both files; gives back the size and hash of each.

    Raises:
        StorageError: the disk is full, or the folder read-only.
    """
    from safetensors.torch import save

    weights, moments = names_of(measurement)
    kinds = {KINDS: json.dumps(dict(snapshot.kinds))}
    found: Files = {}
    for name, tensors, metadata in ((weights, snapshot.weights, None), (moments, snapshot.moments, kinds)):
        data = save(dict(tensors), metadata=metadata)
        atomic_write(folder / name, data)
        found[name] = (len(data), sha256(data))
    return found


def read_snapshot(folder: Path, files: Files) -> Snapshot:
    """What `write_snapshot` wrote.

    Args:
        folder: of the files.
        files: that it gave back.

    Raises:
        StorageError: one is missing, cannot be read, or is no longer as it was.
    """
    from safetensors.torch import load

    held: list[dict[str, torch.Tensor]] = []
    kinds = "{}"
    for name, (_, known) in files.items():
        try:
            data = (folder / name).read_bytes()
        except OSError as error:
            raise _unlike(folder / name, error.strerror or str(error)) from error
        if sha256(data) != known:
            raise _unlike(folder / name, "another SHA-256")
        held.append(load(data))
        kinds = _metadata(data).get(KINDS, kinds)
    weights, moments = held
    return Snapshot(weights, moments, json.loads(kinds))


def prune(folder: Path, needed: Collection[str]) -> None:
    """Remove the files that nobody needs, and what killed processes have left half written."""
    for path in folder.glob("*"):
        if path.name not in needed and (NAME.match(path.name) or path.match(HALF_WRITTEN)):
            with suppress(OSError):  # then it stays
                path.unlink()


def _metadata(data: bytes) -> dict[str, str]:
    """What stands in the header of a file of safetensors besides its tensors."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    found: dict[str, str] = header.get("__metadata__") or {}
    return found


def _unlike(path: Path, found: str) -> StorageError:
    return StorageError(
        f"`{path}` must hold the weights that were kept there, got {found}. Something else writes into that folder, or "
        "the disk is damaged: resume from the last checkpoint with the run's curriculum/ folder put back from a copy."
    )
