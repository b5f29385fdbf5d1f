"""Rows that a person is to judge, and what was said of them so far: a JSON line for each, the worst first.

    {"row": 41, "key": …, "content": …, "domain": "code", "score": 4.1, …, "text": …, "keep": null}

`keep` is true (it stays), false (it is wrong) or null (nobody has judged it); `drop: [{by: judged, path: rows.jsonl}]`
obeys it (`data.judged`), by `key`, whatever the row's number has become. The file is the only memory: it is written
anew after each answer, in one step, so a kill loses none, and what was judged is never judged again or overwritten.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from campus_tune.data.judged import FEW, KEEP, KEY, kept_of
from campus_tune.words.errors import DataError
from campus_tune.words.files import read_jsonl, write_jsonl
from campus_tune.words.types import Json

SUFFIX = ".jsonl"


@dataclass(frozen=True)
class Written:
    """What a file of rows to judge has become.

    Args:
        rows: in it.
        new: that it did not have.
        judged: that had an answer, which they keep.
    """

    rows: int
    new: int
    judged: int

    def line(self, path: Path) -> str:
        """In words."""
        if self.new == self.rows:
            return f"{self.rows} rows to judge are in {path}"
        return f"{path}: {self.new} new rows of {self.rows}; {self.judged} were judged before and stay as they were"


def write_rows(path: Path, rows: Sequence[Json], *, known: Collection[str]) -> Written:
    """Write rows to judge. Of a file that is there already, answers stay, and rows that are not among the new ones.

    Args:
        path: of the file.
        rows: each with a `key`, the likeliest wrong one first; of rows that say the same the first is written.
        known: keys of all rows of the data set, by which the file of another one is found out.

    Raises:
        DataError: what is there holds no rows to judge, or those of another data set.
        StorageError: it cannot be written.
    """
    if not path.name.endswith(SUFFIX):
        raise DataError(
            f"`{path}` must be a file of JSON lines, got {path.name!r}. Write --out {path.with_suffix(SUFFIX)}."
        )
    before = {str(row[KEY]): row for row in (read_rows(path) if path.exists() else [])}
    if before and len(before.keys() & set(known)) < FEW * len(before):
        raise DataError(
            f"`{path}` must hold rows of this data set, got one of whose {len(before)} rows "
            f"{len(before.keys() & set(known))} are in it: it was written for another data set. Choose another name."
        )
    listed: dict[str, Json] = {}
    for row in rows:
        told = before.get(row[KEY], {})
        listed.setdefault(str(row[KEY]), {**row, KEEP: told.get(KEEP)})
    new = len(listed.keys() - before.keys())
    listed |= {key: row for key, row in before.items() if key not in listed}
    write_jsonl(path, listed.values())
    return Written(len(listed), new, sum(row[KEEP] is not None for row in before.values()))


def read_rows(path: Path) -> list[Json]:
    """The rows of a file that `write_rows` wrote, with the answers that a person gave or wrote into it.

    Raises:
        DataError: it cannot be read, has rows without a key, two of one key, or a `keep` that is no answer.
    """
    rows = read_jsonl(path)
    seen: dict[str, int] = {}
    for number, row in enumerate(rows):
        if not row.get(KEY):
            raise DataError(
                f"`{path}` must hold rows to judge, got row {number} without a {KEY}. Choose another name for them."
            )
        if (first := seen.setdefault(str(row[KEY]), number)) != number:
            raise DataError(
                f"`{path}` must have each row once, got the key {row[KEY]} in its rows {first} and {number}. Remove "
                "one of them."
            )
    return [{**row, KEEP: kept} for row, kept in zip(rows, kept_of(path, rows), strict=True)]


class Judging:
    """A person goes through the rows of a file; each answer is in the file before the next row is shown.

    Args:
        path: of the file.

    Raises:
        DataError: see `read_rows`.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, read_rows(path)
        self.place = -1  # of the row that is shown; len(rows) behind the last one
        self._next()

    @property
    def row(self) -> Json | None:
        """The row that is shown; None where none is left."""
        return self.rows[self.place] if self.place < len(self.rows) else None

    @property
    def n_judged(self) -> int:
        """Rows with an answer."""
        return sum(row[KEEP] is not None for row in self.rows)

    def answer(self, keep: bool) -> None:
        """The row that is shown stays, or is wrong; on to the next one that nobody has judged.

        Raises:
            StorageError: it cannot be written. The answers before are in the file.
        """
        self.rows[self.place] = {**self.rows[self.place], KEEP: keep}
        write_jsonl(self.path, self.rows)
        self._next()

    def skip(self) -> None:
        """On to the next row that nobody has judged; this one comes again when the file is gone through again."""
        self._next()

    def back(self) -> None:
        """Back to the row before, whatever was said of it."""
        self.place = max(0, self.place - 1)

    def _next(self) -> None:
        later = range(self.place + 1, len(self.rows))
        self.place = next((place for place in later if self.rows[place][KEEP] is None), len(self.rows))
