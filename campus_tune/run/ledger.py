"""The ledger: an append-only record of every decision, measurement and cost, one JSON object a line.

It reads without our code (`jq`, pandas). Everything that depends on the clock of the machine stands under the one
key `seconds`, so two ledgers of the same run, one of them killed and resumed, are equal when that key and the
`resumed` lines are left out (`comparable`). A checkpoint remembers how many bytes of the ledger belong to it;
resuming cuts the rest off, into `ledger.abandoned.jsonl`, so nothing that was written is lost.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.words.errors import ResumeError, StorageError
from campus_tune.words.types import Json

FOLDER = "curriculum"  # in a trainer's output_dir: what the run itself leaves, the ledger first
FILE = "ledger.jsonl"


class Ledger:
    """Appends to `folder/ledger.jsonl`; on ranks that do not write, remembers nothing and writes nothing.

    Args:
        folder: the run's `curriculum/` folder, made if it is missing.
        writes: whether this process is the one that writes.
    """

    def __init__(self, folder: Path, *, writes: bool = True) -> None:
        self.path = folder / FILE
        self.writes = writes
        self.size = 0

    def start(self) -> Path | None:
        """Begin a new run: an earlier ledger in this folder is kept under the next free number, which is given back."""
        self.size = 0
        if not self.writes:
            return None
        kept = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                numbered = (self.path.with_name(f"ledger.{i}.jsonl") for i in range(1, 1_000_000))
                kept = self.path.rename(next(path for path in numbered if not path.exists()))
            self.path.touch()
        except OSError as error:
            raise _no_storage(self.path, error) from error
        return kept

    def resume(self, size: int) -> None:
        """Continue a run whose checkpoint knew `size` bytes: what was written after it moves out of the way.

        Raises:
            ResumeError: the ledger is shorter than the checkpoint says, so it is not this run's.
        """
        self.size = size
        if not self.writes:
            return
        found = self.path.stat().st_size if self.path.exists() else 0
        if found < size:
            raise ResumeError(
                f"`{self.path}` must hold the {size} bytes that the checkpoint counted, got {found}. "
                "Put the run's own curriculum/ folder back, or start the run anew without resuming."
            )
        try:
            with self.path.open("r+b") as file:
                file.seek(size)
                later = file.read()
                if later:
                    with self.path.with_name("ledger.abandoned.jsonl").open("ab") as abandoned:
                        abandoned.write(later if later.endswith(b"\n") else later + b"\n")
                file.truncate(size)
        except OSError as error:
            raise _no_storage(self.path, error) from error

    def add(self, event: str, **fields: object) -> None:
        """Append one line and hand it to the operating system, so that a killed process loses none.

        Raises:
            StorageError: the disk is full or the folder read-only; all earlier lines are whole.
        """
        line = (json.dumps(plain({"event": event, **fields}), allow_nan=False) + "\n").encode()
        if self.writes:
            try:
                descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
                try:
                    written = 0
                    while written < len(line):
                        written += os.write(descriptor, line[written:])
                except OSError:  # all of the line or none of it
                    os.ftruncate(descriptor, self.size)
                    raise
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise _no_storage(self.path, error) from error
        self.size += len(line)


def read_ledger(path: Path) -> list[Json]:
    """All lines of a ledger."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def comparable(events: Iterable[Json]) -> list[Json]:
    """The events without what may differ between two runs of the same thing.

    That is `seconds`, `found` (what the score cache held already), how a global batch is cut over processes (`batch`,
    `ranks`, `padding`), and `resumed` lines.
    """
    return [
        {key: value for key, value in event.items() if key not in ("seconds", "found", "batch", "ranks", "padding")}
        for event in events
        if event["event"] != "resumed"
    ]


def audited(
    checked: int, passed: int, *, labels: bool, prompts: bool = False, generations: Sequence[int] | None = None
) -> str:
    """What the order audit found, in words.

    Args:
        checked: steps that were compared with the plan.
        passed: of them, those that trained it.
        labels: labels reached the model and were compared too.
        prompts: rows are prompts, whose answers the model writes itself.
        generations: (generations that were compared with the plan, those that answered the planned prompts).

    >>> audited(120, 120, labels=True)
    'all 120 steps trained the planned rows, tokens and labels'
    >>> print(audited(120, 118, labels=False, prompts=True, generations=[60, 60]))
    only 118 of 120 steps trained the planned prompts; all 60 generations answered them, in their order
    """
    what = "the planned rows, " + ("tokens and labels" if labels else "tokens only: there were no labels to compare")
    parts = [(checked, passed, f"steps trained {'the planned prompts' if prompts else what}")]
    if generations is not None:
        parts.append((generations[0], generations[1], "generations answered them, in their order"))
    return "; ".join(f"all {n:,} {said}" if n == good else f"only {good:,} of {n:,} {said}" for n, good, said in parts)


def weights_audited(checked: int, passed: int) -> str:
    """What the weights audit found, in words.

    Args:
        checked: steps whose gradients were compared with the planned weights.
        passed: of them, those that were multiplied by these.

    >>> weights_audited(120, 120)
    '120 of 120 checked steps multiplied the planned weights'
    """
    if not checked:
        return "no weight held in any step, so there was nothing to check"
    return f"{passed:,} of {checked:,} checked steps multiplied the planned weights"


def plain(value: object) -> Any:
    """A value as JSON knows it: numpy's numbers and arrays as plain ones, paths as text, NaN and infinities as null.

    JSON has no NaN; a reader that is not Python would stop at it, and no two ledgers that hold one are ever equal.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    raise TypeError(f"`ledger` values must be numbers, text, lists or mappings, got {value!r}.")


def _no_storage(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"`{path}` must be writable, got {error.strerror or error}. Free space or mend the folder's rights, then "
        "resume from the last checkpoint: everything written before is whole."
    )
