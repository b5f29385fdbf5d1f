"""Hashes of what the arms of a comparison must have in common."""

from __future__ import annotations

import hashlib
import json
from typing import Any

MADE_WITH = ("torch", "transformers", "trl", "peft", "accelerate")


def digest_of(value: Any) -> str:
    """16 hex digits of a JSON value; what JSON does not know counts as its text."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
