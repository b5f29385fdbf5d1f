"""Small JSON files that say themselves whether they are whole: one more key holds the hash of all the others.

What decides which checkpoint counts must not be read wrongly after one bit of it has flipped.
"""

from __future__ import annotations

import json
from pathlib import Path

from campus_tune.words.files import atomic_write
from campus_tune.words.hashing import digest
from campus_tune.words.json_shapes import read_json
from campus_tune.words.types import Json

CHECK = "check"


def write_sealed(path: Path, value: Json) -> None:
    """Write a JSON object with its own hash, in one step.

    Raises:
        StorageError: the disk is full or the folder read-only; an earlier file is still whole.
    """
    atomic_write(path, json.dumps({**value, CHECK: digest(value, 64)}, indent=1) + "\n")


def read_sealed(path: Path) -> Json:
    """What `write_sealed` wrote.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is damaged.
    """
    value = read_json(path)
    if not isinstance(value, dict) or value.pop(CHECK, None) != digest(value, 64):
        raise ValueError("its own hash is another")
    return value
