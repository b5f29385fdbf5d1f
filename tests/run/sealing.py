"""Checkpoints as a kill, or an edit by somebody who knows, would leave them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from campus_tune.run.manifest import Manifest, hash_files, names_in, read_manifest


def manifest_of(checkpoint: Path) -> Manifest:
    """The record of a checkpoint, which has one."""
    manifest = read_manifest(checkpoint)
    assert manifest is not None
    return manifest


def unseal(checkpoint: Path) -> None:
    """As a kill leaves it that comes before all files are hashed."""
    replace(manifest_of(checkpoint), files=None).write(checkpoint)


def reseal(checkpoint: Path, change: Callable[[Manifest], Manifest] = lambda manifest: manifest) -> None:
    """Record the files as they are now, those of the run's folder too, as if the run had written them."""
    manifest, home = manifest_of(checkpoint), checkpoint.parent / "curriculum"
    ledger = {manifest.ledger: manifest.beside[manifest.ledger][0]}
    beside = hash_files(home, manifest.beside, ledger)
    manifest = replace(manifest, files=hash_files(checkpoint, names_in(checkpoint)), beside=beside)
    change(manifest).write(checkpoint)
