"""Hashes, each formula once: of texts, files and values for people to compare, and of row ids as fair priorities.

Text is hashed by SHA-256 or BLAKE2 and said in hex digits. Whole numbers go through splitmix64, whose constants are
here for those too who write it out for another kind of array (`data.token_hashes`, `model.fingerprint`).

Reference:
    Steele, Lea, Flood 2014, Fast Splittable Pseudorandom Number Generators.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

GOLDEN = 0x9E3779B97F4A7C15  # 2⁶⁴ over the golden ratio: the stride of splitmix64
ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))  # its finaliser: shift, then factor
LAST_SHIFT = 31
CHUNK = 1 << 20  # bytes of a file that are read at a time

Pattern = TypeVar("Pattern", np.uint64, NDArray[np.uint64])  # 64 bits, or an array of them


def sha256(data: str | bytes | bytearray, digits: int = 64) -> str:
    """The first hex digits of the SHA-256 of bytes, or of a text as UTF-8."""
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:digits]


def blake2(text: str, digits: int) -> str:
    """BLAKE2b of a text, so many hex digits; half a surrogate pair is text like any other."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=digits // 2).hexdigest()


def as_json(value: object) -> str:
    """A value as JSON whatever the sequence of its keys; what JSON does not know counts as its text."""
    return json.dumps(value, sort_keys=True, default=str)


def digest(value: object, digits: int = 32) -> str:
    """The first hex digits of the SHA-256 of what JSON makes of a value."""
    return sha256(as_json(value), digits)


def hash_file(path: Path, size: int | None = None) -> tuple[int, str]:
    """Size and SHA-256 of a file, or of its first `size` bytes.

    Raises:
        OSError: it cannot be read.
    """
    left = path.stat().st_size if size is None else size
    hashed, read = hashlib.sha256(), 0
    with path.open("rb") as file:
        while left and (chunk := file.read(min(CHUNK, left))):
            hashed.update(chunk)
            left, read = left - len(chunk), read + len(chunk)
    return read, hashed.hexdigest()


def text_keys(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Content keys of texts: a 64-bit hash of each, shape (N,). Half a surrogate pair is text like any other.

    >>> keys = text_keys(["one", "two", "one"])
    >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
    (True, False)
    """
    hashes = (hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(hashes), dtype="<u8").astype(np.uint64)


def hex_keys(keys: NDArray[np.uint64]) -> list[str]:
    """64-bit hashes as files have them: 16 hex digits each."""
    return [f"{key:016x}" for key in keys.tolist()]


def hash_rows(rows: NDArray[Any], *seed: int) -> NDArray[np.uint64]:
    """A well-mixed 64-bit number per row id: splitmix64 of the id, offset by the seeds. Shape as `rows`.

    Used wherever rows need a fair, repeatable, position-free priority: ties, samples, checksums.
    """
    golden, offset = np.uint64(GOLDEN), np.uint64(0)
    with np.errstate(over="ignore"):
        for part in seed:
            offset = finalised(np.uint64(part & 0xFFFFFFFFFFFFFFFF) + offset * golden + golden)
        mixed: NDArray[np.uint64] = finalised(rows.astype(np.uint64) * golden + offset + golden)
    return mixed


def finalised(z: Pattern) -> Pattern:
    """The finaliser of splitmix64, on uint64 scalars or arrays (wrap-around wanted)."""
    for shift, factor in ROUNDS:
        z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
    return z ^ (z >> np.uint64(LAST_SHIFT))


def array_digest(values: NDArray[Any]) -> str:
    """16 hex digits that change with any value of an array and any change of its sequence."""
    with np.errstate(over="ignore"):
        keys = hash_rows(values.astype(np.uint64) ^ hash_rows(np.arange(len(values))))
        return f"{int(keys.sum(dtype=np.uint64)):016x}"


def signed(pattern: int) -> int:
    """The int64 with the low 64 bits of a number: for arrays that have no uint64."""
    return (pattern + 2**63) % 2**64 - 2**63
