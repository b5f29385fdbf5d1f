"""Keeps the texts of a run's easiest and hardest rows while the prepared rows are at hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.words.files import atomic_write
from campus_tune.words.types import FloatArray, RowSource

ByRow: TypeAlias = Mapping[int, str] | Sequence[str]

FILE = "examples.json"
N_SHOWN = 10
LONGEST = 280  # characters of a row that are kept


def pick(scores: FloatArray, n: int = N_SHOWN) -> tuple[list[int], list[int]]:
    """Row numbers of the `n` easiest and `n` hardest rows, the most extreme first; no row is on both sides.

    >>> pick(np.array([3.0, 1.0, 2.0, 9.0]), n=2)
    ([1, 2], [3, 0])
    >>> pick(np.array([3.0, 1.0, 2.0]), n=10)
    ([1], [0])
    """
    order = np.argsort(scores, kind="stable")
    n = min(n, len(order) // 2)
    return order[:n].tolist(), order[::-1][:n].tolist()


def shorten(text: str, longest: int = LONGEST) -> str:
    """A text on one line, cut with an ellipsis.

    >>> shorten("one two   three", longest=8)
    'one two…'
    """
    text = " ".join(text[: 4 * longest].split())
    return text if len(text) <= longest else f"{text[: longest - 1].rstrip()}…"


def decoded(dataset: RowSource, row: int, tokenizer: object, longest: int = LONGEST) -> str:
    """The beginning of a prepared row as text, on one line; "" where nothing can decode it.

    Two tokens a character are decoded: no token but a few is shorter than half a letter.

    Args:
        dataset: prepared, with `input_ids`.
        row: position in it.
        tokenizer: that decodes.
        longest: characters that are kept.
    """
    decode = getattr(tokenizer, "decode", None)
    if decode is None:
        return ""
    return shorten(decode(list(dataset[row]["input_ids"])[: 2 * longest], skip_special_tokens=True), longest)


def keep_examples(
    home: Path,
    scores: Mapping[str, FloatArray],
    dataset: RowSource,
    tokenizer: object,
    domains: Domains | None = None,
) -> bool:
    """Write `examples.json` beside the ledger; some milliseconds, for only the rows that are kept are decoded.

    Args:
        home: folder of the ledger.
        scores: metric → score of every row, shape (N,).
        dataset: prepared, with `input_ids`.
        tokenizer: that decodes them.
        domains: of the rows.

    Returns:
        False where nothing can decode them.

    Raises:
        StorageError: the file cannot be written.
    """
    if not hasattr(tokenizer, "decode"):
        return False
    rows, codes = _shown(scores), None if domains is None else domains.codes
    texts = {row: decoded(dataset, row, tokenizer) for row in rows}
    names = None if domains is None or codes is None else {row: domains.names[int(codes[row])] for row in rows}
    write_examples(home, scores, texts, names)
    return True


def write_examples(home: Path, scores: Mapping[str, FloatArray], texts: ByRow, domains: ByRow | None = None) -> None:
    """Keep the text of the rows that the page will show, in `examples.json` beside the ledger.

    Args:
        home: folder of the ledger.
        scores: metric → score of every row, shape (N,).
        texts: prompt and answer by row; of the rows that are kept is enough.
        domains: by row; None where there are none.

    Raises:
        StorageError: the file cannot be written.
    """
    kept = {
        str(row): {"text": shorten(texts[row]), "domain": str(domains[row]) if domains is not None else ""}
        for row in _shown(scores)
    }
    atomic_write(home / FILE, json.dumps({"format": 1, "rows": kept}, ensure_ascii=False))


def _shown(scores: Mapping[str, FloatArray]) -> list[int]:
    return sorted({row for values in scores.values() for side in pick(values) for row in side})
