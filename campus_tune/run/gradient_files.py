"""The file of the probes' gradients that a checkpoint needs: a run that goes on values rows by the very same ones.

    curriculum/value/gradients-000040.safetensors   measured when 40 steps were finished:
                                                    "a math/name of a weight" → its part, in single precision

One file for each measurement that a checkpoint was saved after, written in one step; no pickle.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import torch

from campus_tune.run.manifest import Files
from campus_tune.words.errors import ResumeError
from campus_tune.words.files import atomic_write
from campus_tune.words.hashing import sha256

NAME = re.compile(r"^gradients-\d+\.safetensors$")
HALF_WRITTEN = ".gradients-*.tmp"  # by a process that was killed

Parts: TypeAlias = Mapping[str, Mapping[str, torch.Tensor]]  # group of probe rows → weight's name → its part


def name_of(step: int) -> str:
    """Of the file of the gradients that were measured after so many steps."""
    return f"gradients-{step:06d}.safetensors"


def write_gradients(folder: Path, step: int, parts: Parts) -> Files:
    """Write the file; gives back its size and hash.

    Raises:
        StorageError: the disk is full, or the folder read-only.
    """
    from safetensors.torch import save

    flat = {f"{group}/{name}": part.cpu().contiguous() for group, of in parts.items() for name, part in of.items()}
    data = save(flat)
    atomic_write(folder / name_of(step), data)
    return {name_of(step): (len(data), sha256(data))}


def read_gradients(folder: Path, files: Files) -> dict[str, torch.Tensor]:
    """What was written, by "group/name".

    Args:
        folder: of the file.
        files: that `write_gradients` gave back.

    Raises:
        ResumeError: it is missing, cannot be read, or is no longer as it was.
    """
    from safetensors.torch import load

    ((name, (_, known)),) = files.items()
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        raise _unlike(folder / name, error.strerror or str(error)) from error
    if sha256(data) != known:
        raise _unlike(folder / name, "another SHA-256")
    return load(data)


def prune(folder: Path, needed: Collection[str]) -> None:
    """Remove the files that nobody needs, and what killed processes have left half written."""
    for path in folder.glob("*"):
        if path.name not in needed and (NAME.match(path.name) or path.match(HALF_WRITTEN)):
            with suppress(OSError):  # then it stays
                path.unlink()


def _unlike(path: Path, found: str) -> ResumeError:
    return ResumeError(
        f"`{path}` must hold the probes' gradients by which this checkpoint's rows are valued, got {found}. Put the "
        "run's curriculum/ folder back beside its checkpoints, resume from an earlier checkpoint, or start anew."
    )
