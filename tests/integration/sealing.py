"""Checkpoints as a kill, or an edit by somebody who knows, would leave them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from campus_tune.integrations.manifest import Manifest, hash_files, names_in, read_manifest


def manifest_of(checkpoint: Path) -> Manifest:
    """The record of a checkpoint, which has one."""
    manifest = read_manifest(checkpoint)
    assert manifest is not None
    return manifest


def unseal(checkpoint: Path) -> None:
    """As a kill leaves it that comes before all files are hashed."""
    replace(manifest_of(checkpoint), files=None).write(checkpoint)


def reseal(checkpoint: Path, change: Callable[[Manifest], Manifest] = lambda manifest: manifest) -> None:
    """Record the files as they are now, as if the run had written them."""
    manifest = replace(manifest_of(checkpoint), files=hash_files(checkpoint, names_in(checkpoint)))
    change(manifest).write(checkpoint)
