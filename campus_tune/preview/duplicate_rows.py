"""What `check` says of training rows that repeat one another, and of prompts that are answered in two ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from campus_tune.data.duplicates import Duplicates, contradictions, duplicates
from campus_tune.data.said import Said
from campus_tune.words.findings import Finding
from campus_tune.words.types import RowArray
from campus_tune.words.wording import cut, listed

MOST_CHARACTERS = 64_000_000  # that are compared: ten seconds or so of one core
MANY = 0.01  # share of the rows from which repeating is worth a warning
SHOWN = 3  # pairs that a finding names
REMEDY = "Look at some; to leave them out, write drop: [{by: duplicates, keep: first}]"


@dataclass(frozen=True)
class Repeats:
    """Which rows of a training set say the same.

    Args:
        n_rows: that were compared, the first of them.
        found: who repeats whom.
        contradicting: the rows of each prompt that is answered in several ways.
        most: characters that were to be compared.
    """

    n_rows: int
    found: Duplicates
    contradicting: Sequence[Sequence[int]]
    most: int = MOST_CHARACTERS

    @staticmethod
    def of(said: Said, most: int = MOST_CHARACTERS) -> Repeats:
        """Compare rows.

        Args:
            said: in each row.
            most: characters that are compared; of a larger set its first rows are.
        """
        sizes = np.cumsum([len(text) for text in said.whole])
        n_rows = int(np.searchsorted(sizes, most, side="right")) if len(sizes) and sizes[-1] > most else len(sizes)
        found = duplicates(said.whole[:n_rows], said.prompts[:n_rows])
        return Repeats(n_rows, found, contradictions(said.prompts[:n_rows], said.answers[:n_rows]), most)

    @property
    def share_repeated(self) -> float:
        """Of the compared rows, those that say what an earlier one says, or most of it."""
        return (len(self.found.equal_rows) + len(self.found.near_rows)) / max(1, self.n_rows)

    @property
    def share_contradicting(self) -> float:
        """Of the compared rows, those whose prompt has another answer elsewhere."""
        return sum(map(len, self.contradicting)) / max(1, self.n_rows)


def duplicate_findings(
    said: Said, repeats: Repeats, domains: Sequence[object] | None, *, dropped: bool
) -> Iterator[Finding]:
    """Rows that repeat an earlier one in all their words or in most of them, and prompts with contradicting answers.

    Args:
        said: in each row.
        repeats: which say the same.
        domains: of each row, length N; None where they have none.
        dropped: the recipe drops duplicates already.
    """
    n_rows, found = repeats.n_rows, repeats.found
    if n_rows < len(said.whole):
        of, most = len(said.whole), repeats.most
        what = f"The first {n_rows} of {of} rows were compared with each other, for {most:.2g} characters."
        yield Finding("info", what)

    def told(rows: RowArray, first: RowArray, how: str, remedy: str) -> Iterator[Finding]:
        if len(rows):
            pairs = listed([f"row {row} and row {first[row]}" for row in rows.tolist()], SHOWN)
            share = len(rows) / n_rows
            rows_say = "row says" if len(rows) == 1 else "rows say"
            what = f"{len(rows)} of {n_rows} training {rows_say} {how} ({share:.1%}; {pairs}){_where(rows, domains)}."
            grave = share >= MANY and not dropped
            yield Finding("warning" if grave else "info", what, "" if dropped else remedy)

    yield from told(found.equal_rows, found.equal, "word for word what an earlier row says", f"{REMEDY}.")
    asked = f"{REMEDY}, or near: false with it where rows ask several things about one text."
    yield from told(found.near_rows, found.near, "mostly what an earlier row says", asked)
    yield from _contradicting(said, repeats, lambda rows: _where(rows, domains))


def _contradicting(said: Said, repeats: Repeats, where: Callable[[RowArray], str]) -> Iterator[Finding]:
    """One finding for all prompts that are answered in several ways."""
    groups, n_rows = repeats.contradicting, repeats.n_rows
    if groups:
        rows = np.concatenate([np.array(group, dtype=np.int32) for group in groups])
        shown = listed([f"{_quoted(said.prompts[group[0]])} in rows {listed(group, 2)}" for group in groups], SHOWN)
        prompts_are = "prompt is" if len(groups) == 1 else "prompts are"
        yield Finding(
            "warning" if len(rows) >= MANY * n_rows else "info",
            f"{len(groups)} {prompts_are} answered in more than one way, in {len(rows)} rows ({shown}){where(rows)}. "
            "Nothing drops these: one of the answers may be wrong, or several right.",
            "Look at some; list wrong rows in a file and write drop: [{by: judged, path: judged.jsonl}].",
        )


def _where(rows: RowArray, domains: Sequence[object] | None) -> str:
    """The domains that some rows are in, the commonest first."""
    if domains is None:
        return ""
    counts = Counter(str(domains[row]) for row in rows.tolist())
    return f"; by domain: {listed([f'{name} {n}' for name, n in counts.most_common()], 5)}"


def _quoted(prompt: str) -> str:
    return f"“{cut(' '.join(prompt.split()), 40)}”"
