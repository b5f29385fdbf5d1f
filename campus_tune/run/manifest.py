"""The files of a checkpoint, each with its size and SHA-256, in `campus_files.json` inside of it.

    begun       {"lineage": …, "step": 40, "files": null}                       the save was not finished
    sealed      {"lineage": …, "step": 40, "files": {"optimizer.pt": [9123, "5e…"], …}, "beside": {…}, …}

The trainer reads what it finds: without optimizer.pt it makes a new optimizer, without rng_state.pth it draws other
noise, and of a file with a flipped bit it trains other weights, all of that without a word. So a checkpoint counts
when this file is sealed and everything is as it says. `sha256sum` checks the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from campus_tune.run.lineage import SHAPE as LINEAGE
from campus_tune.run.lineage import Lineage
from campus_tune.words.hashing import hash_file
from campus_tune.words.json_shapes import misshapen
from campus_tune.words.sealed_json import read_sealed, write_sealed

FILE = "campus_files.json"
VERSION = 1
MOST_THREADS = 8
READ_ON_RESUME = re.compile(  # by transformers, FSDP and DeepSpeed, if it is there
    r"(optimizer|scheduler|scaler|rng_state|model|pytorch_model|adapter_model)[^/]*\.(pt|pth|bin|safetensors|index\.json)"
    r"|(global_step\d+|pytorch_model_fsdp[^/]*|optimizer_\d+)/.*|latest"
    r"|campus_(generation-\d+|prompts|reference)\.(safetensors|json)"  # by ourselves
)
RANDOM_STATE = "rng_state_{rank}.pth"  # of many processes; each one's own
GENERATION = "campus_generation-{rank}"  # the same, of trainers that are driven by reward
OF_A_RANK = (RANDOM_STATE, f"{GENERATION}.json", f"{GENERATION}.safetensors")

_FILES: dict[Any, Any] = {str: [int, str]}
SHAPE: dict[str, Any] = {
    "lineage": LINEAGE,
    "step": int,
    "world": int,
    "files": (_FILES, None),
    "beside": _FILES,
    "outcome": _FILES,
    "ledger": str,
}

Files: TypeAlias = dict[str, tuple[int, str]]  # name → (bytes, SHA-256)


@dataclass(frozen=True)
class Beside:
    """Files in the run's folder at the time of a save, by their names in it.

    Args:
        ledger: its name, "" for none.
        ledger_size: bytes of it that belong to the checkpoint.
        needed: that a resume reads.
        outcome: that it does not read, and that are part of what the run leaves behind.
    """

    ledger: str = ""
    ledger_size: int = 0
    needed: tuple[str, ...] = ()
    outcome: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """What is known of a checkpoint.

    Args:
        lineage: the run that wrote it, up to the life that did.
        step: optimizer steps finished.
        world: processes that wrote it.
        files: of the checkpoint; None while the save is not finished.
        beside: in the run's folder, that a resume needs; of the ledger, as many bytes as belong to the checkpoint.
        outcome: in the run's folder, that no resume needs.
        ledger: the name of the one that only begins as it did then; "" for none.
    """

    lineage: Lineage
    step: int
    world: int = 1
    files: Files | None = None
    beside: Files = field(default_factory=dict)
    outcome: Files = field(default_factory=dict)
    ledger: str = ""

    def write(self, checkpoint: Path) -> None:
        """Into the checkpoint, in one step."""
        write_sealed(checkpoint / FILE, {"version": VERSION, **vars(self), "lineage": self.lineage.to_json()})


def read_manifest(checkpoint: Path) -> Manifest | None:
    """What a checkpoint says of its files; None where it says nothing.

    Raises:
        ValueError: it is damaged, or another version of campus_tune wrote it.
    """
    try:
        value = read_sealed(checkpoint / FILE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{FILE} cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ValueError(f"{FILE} is damaged ({error})") from error
    if value.pop("version", None) != VERSION:
        raise ValueError(f"{FILE} is of another version of campus_tune")
    if problem := misshapen(value, SHAPE) or next((f"it has {name!r}" for name in value if name not in SHAPE), None):
        raise ValueError(f"{FILE} is not as it was written ({problem})")
    return Manifest(**{**value, "lineage": Lineage.from_json(value["lineage"])})


def names_in(checkpoint: Path) -> list[str]:
    """All files of a checkpoint but this record, folders inside of it included."""
    names = (path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if path.is_file())
    return sorted(name for name in names if name != FILE and not name.startswith(f".{FILE}."))  # one half written


def is_read_on_resume(name: str) -> bool:
    """Whether a trainer would read such a file, whoever wrote it."""
    return READ_ON_RESUME.fullmatch(name) is not None


def hash_files(folder: Path, names: Iterable[str], sizes: Mapping[str, int] | None = None) -> Files:
    """Sizes and hashes of files, several at a time: hashing does not hold Python up.

    Args:
        folder: of the files.
        names: in it.
        sizes: of those of which only the first bytes count.

    Raises:
        OSError: one cannot be read.
    """
    names, sizes = list(names), sizes or {}
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        hashed = pool.map(lambda name: hash_file(folder / name, sizes.get(name)), names)
        return dict(zip(names, hashed, strict=True))


def what_is_wrong(checkpoint: Path, manifest: Manifest, home: Path) -> str | None:
    """What is not as it was when a checkpoint was saved; None if all of it is. What many ranks wrote is theirs.

    Args:
        checkpoint: sealed.
        manifest: of it.
        home: the run's folder.
    """
    of_ranks = {name for rank in range(manifest.world if manifest.world > 1 else 0) for name in names_of_rank(rank)}
    files = {name: known for name, known in (manifest.files or {}).items() if name not in of_ranks}
    there = [name for name in names_in(checkpoint) if is_read_on_resume(name)]
    strangers = [name for name in there if name not in (manifest.files or {})]
    return (
        _first_wrong(checkpoint, files, "")
        or (f"{strangers[0]} is no part of it: its save did not write that file" if strangers else None)
        or _first_wrong(home, manifest.beside, f"{home.name}/", begins=manifest.ledger)
    )


def damaged_outcome(manifest: Manifest, home: Path) -> list[str]:
    """What a run left behind and is no longer as it was; a resume needs none of it."""
    wrong = (_first_wrong(home, {name: known}, f"{home.name}/") for name, known in manifest.outcome.items())
    return [what for what in wrong if what]


def names_of_rank(rank: int) -> list[str]:
    """Files of a checkpoint that one of many ranks writes and reads itself, where its trainer has them."""
    return [name.format(rank=rank) for name in OF_A_RANK]


def wrong_of_rank(checkpoint: Path, manifest: Manifest, rank: int) -> str | None:
    """What is not as it was of what one rank wrote, where the same number of ranks saved theirs."""
    files = manifest.files or {}
    return _first_wrong(checkpoint, {name: files[name] for name in names_of_rank(rank) if name in files}, "")


def _first_wrong(folder: Path, files: Files, shown: str, begins: str = "") -> str | None:
    """The first file that is not as it was; sizes are looked at before any is read."""
    for name, (size, _) in files.items():
        try:
            found = (folder / name).stat().st_size
        except OSError:
            return f"{shown}{name} is missing"
        if found < size or (found > size and name != begins):
            return f"{shown}{name} has {found} bytes, not {size}"
    try:
        hashed = hash_files(folder, files, {begins: files[begins][0]} if begins in files else None)
    except OSError as error:
        return f"{shown}{error.filename and Path(error.filename).name} cannot be read ({error.strerror})"
    changed = [name for name in files if hashed[name][1] != files[name][1]]
    return f"{shown}{changed[0]} is damaged, or of another run: its SHA-256 is another" if changed else None
