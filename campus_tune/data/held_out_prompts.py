"""Test prompts of a trainer by reward: what is asked, the columns that rewards read, and a domain of each.

They are told apart by a hash of the whole row, so results of the same prompts are paired whatever file they stood in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from campus_tune.data.held_out import read_tables, refuse_texts
from campus_tune.data.prompt_rows import PROMPT, text_of, why_no_prompts
from campus_tune.words.errors import DataError
from campus_tune.words.hashing import as_json, blake2
from campus_tune.words.types import Json


@dataclass(frozen=True)
class HeldOutPrompts:
    """Test prompts with their domains.

    Args:
        rows: as the files have them.
        places: what to call each in messages.
        domains: of each.
        numbers: a hash of each row, in a domain once.
    """

    rows: tuple[Json, ...]
    places: tuple[str, ...]
    domains: tuple[str, ...]
    numbers: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def digest(self) -> str:
        """32 hex digits that say which prompts these are, whatever their sequence and their files."""
        return blake2(as_json(sorted(zip(self.domains, self.numbers, strict=True))), 32)

    def refuse_trained(self, rows: Sequence[Json], say: Callable[[str], object]) -> None:
        """No test prompt may be a training prompt, however it is spaced.

        Args:
            rows: of the training set.
            say: told of prompts that share much with one of these.

        Raises:
            DataError: test prompts that are among them, both named.
        """
        texts, others = ([text_of(row.get(PROMPT)) for row in some] for some in (self.rows, rows))
        refuse_texts(texts, self.places, others, where="the training set", say=say)


def read_held_out_prompts(paths: Sequence[str | Path], *, domain_column: str | None = "domain") -> HeldOutPrompts:
    """The prompts of some test files.

    Args:
        paths: JSON lines, CSV or parquet.
        domain_column: their column with the domain; None makes each file a domain.

    Raises:
        DataError: no file, a file that cannot be read, a row without a prompt or without a domain.
    """
    rows, places, domains = read_tables(paths, domain_column)
    if problem := why_no_prompts(rows, places):
        raise DataError(problem)
    seen: Counter[tuple[str, str]] = Counter()
    numbers = []
    for row, domain in zip(rows, domains, strict=True):
        key = blake2(as_json(row), 16)
        seen[domain, key] += 1
        again = seen[domain, key]  # a row that its domain has twice gets a count behind it
        numbers.append(key if again == 1 else f"{key}-{again}")
    return HeldOutPrompts(tuple(rows), tuple(places), tuple(domains), tuple(numbers))
