"""Hashes: one formula each, on text and on numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def text_keys(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Content keys of texts: a 64-bit hash of each, shape (N,). Half a surrogate pair is text like any other.

    >>> keys = text_keys(["one", "two", "one"])
    >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
    (True, False)
    """
    hashes = (hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest() for text in texts)
    return np.frombuffer(b"".join(hashes), dtype="<u8").astype(np.uint64)


def digest(value: Any) -> str:
    """SHA-256 of what JSON makes of a value, 32 hex digits; the sequence of keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]
