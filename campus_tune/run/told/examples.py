"""Keeps the texts of a run's easiest and hardest rows while the prepared rows are at hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from campus_tune.data.domains import Domains
from campus_tune.words.files import atomic_write
from campus_tune.words.types import FloatArray

FILE = "examples.json"
N_SHOWN = 10
LONGEST = 280  # characters of a row that are kept
TOKENS = 2 * LONGEST  # of a row that are decoded: no token but a few is shorter than half a letter


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


def keep_examples(
    home: Path, scores: Mapping[str, FloatArray], dataset: Any, tokenizer: Any, domains: Domains | None = None
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
    names = None if domains is None or domains.codes is None else _Names(domains)
    write_examples(home, scores, _Texts(dataset, tokenizer), names)
    return True


def write_examples(
    home: Path, scores: Mapping[str, FloatArray], texts: Sequence[str], domains: Sequence[str] | None = None
) -> None:
    """Keep the text of the rows that the page will show, in `examples.json` beside the ledger.

    Args:
        home: folder of the ledger.
        scores: metric → score of every row, shape (N,).
        texts: prompt and answer of every row; read only at the rows that are kept.
        domains: of every row; None where there are none.

    Raises:
        StorageError: the file cannot be written.
    """
    rows = sorted({row for values in scores.values() for side in pick(values) for row in side})
    kept = {
        str(row): {"text": shorten(texts[row]), "domain": str(domains[row]) if domains is not None else ""}
        for row in rows
    }
    atomic_write(home / FILE, json.dumps({"format": 1, "rows": kept}, ensure_ascii=False))


class _Texts(Sequence[str]):
    """A row's text, decoded when it is asked for."""

    def __init__(self, dataset: Any, tokenizer: Any) -> None:
        self._dataset, self._tokenizer = dataset, tokenizer

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, row: Any) -> Any:
        return self._tokenizer.decode(list(self._dataset[row]["input_ids"])[:TOKENS], skip_special_tokens=True)


class _Names(Sequence[str]):
    """A row's domain by name."""

    def __init__(self, domains: Domains) -> None:
        self._domains = domains

    def __len__(self) -> int:
        return 0 if self._domains.codes is None else len(self._domains.codes)

    def __getitem__(self, row: Any) -> Any:
        assert self._domains.codes is not None
        return self._domains.names[int(self._domains.codes[row])]
