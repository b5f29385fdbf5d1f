"""Tokenizers by what they do: is this the one under which a score was taken?"""

from __future__ import annotations

import json
from typing import Any

from campus_tune.words.hashing import digest

_PER_CALL = {"truncation", "padding"}  # of a tokenizer: every call sets them anew


def tokenizer_fingerprint(tokenizer: object) -> str | None:
    """A hash of what turns conversations into tokens, 32 hex digits; None where there is no vocabulary.

    Vocabulary, merges, normaliser, special tokens and chat template count; padding and truncation, which every call
    sets anew, do not.

    Args:
        tokenizer: of transformers, fast or slow, or a processor that has one; None where there is none.
    """
    inner: Any = getattr(tokenizer, "tokenizer", tokenizer)
    if not hasattr(inner, "get_vocab"):
        return None
    backend = getattr(inner, "backend_tokenizer", None)
    if backend is None:
        parts = {"class": type(inner).__name__, "vocabulary": inner.get_vocab()}
    else:
        parts = {key: part for key, part in json.loads(backend.to_str()).items() if key not in _PER_CALL}
    special = {name: str(token) for name, token in inner.special_tokens_map.items()}
    templates = [getattr(each, "chat_template", None) for each in (tokenizer, inner)]
    return digest([parts, special, templates])
