"""Keeps the texts of a run's easiest and hardest rows while the prepared rows are at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from campus_tune.integrations.domains import Domains
from campus_tune.report.examples import LONGEST, write_examples
from campus_tune.types import FloatArray

TOKENS = 2 * LONGEST  # of a row that are decoded: no token but a few is shorter than half a letter


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
