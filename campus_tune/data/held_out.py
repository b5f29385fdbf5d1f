"""Test rows with a domain each, and proof that none of them was trained.

Rows have the shapes of training files that tell question from answer: `messages` (or ShareGPT's `conversations`, which
TRL turns into them), or `prompt` and `completion`, with `tools` and `chat_template_kwargs` where they are. Each
is known by a hash of its text, so that results of the same rows are paired whatever file they stood in and in which
sequence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from campus_tune.data.overlap import overlap
from campus_tune.data.plain import full_texts
from campus_tune.data.shapes import as_messages, is_answer, turns_of
from campus_tune.data.turns import Conversation, template_arguments
from campus_tune.data.word_hashes import N_GRAM
from campus_tune.words.errors import DataError
from campus_tune.words.files import read_table
from campus_tune.words.hashing import as_json, blake2
from campus_tune.words.types import Json
from campus_tune.words.wording import listed

SHOWN = 3  # rows that a message names


@dataclass(frozen=True)
class HeldOut:
    """Test rows with their domains.

    Args:
        conversations: the rows as text.
        domains: of each.
        numbers: a hash of each row's text, in a domain once.
        domain_column: where the domains were read; None where each file is one.
    """

    conversations: tuple[Conversation, ...]
    domains: tuple[str, ...]
    numbers: tuple[str, ...]
    domain_column: str | None

    def __len__(self) -> int:
        return len(self.conversations)

    def take(self, places: Sequence[int]) -> HeldOut:
        """Some of them, by place."""
        conversations, domains, numbers = self.conversations, self.domains, self.numbers
        return HeldOut(
            tuple(conversations[i] for i in places),
            tuple(domains[i] for i in places),
            tuple(numbers[i] for i in places),
            self.domain_column,
        )

    def first_of_each(self, n: int, *, of_one: int) -> HeldOut:
        """The first n of each domain, in their sequence; the first `of_one` where there is but one domain."""
        n = n if len(set(self.domains)) > 1 else of_one
        seen: Counter[str] = Counter()
        places = []
        for place, domain in enumerate(self.domains):
            seen[domain] += 1
            if seen[domain] <= n:
                places.append(place)
        return self.take(places)

    def digest(self) -> str:
        """32 hex digits that say which rows these are, whatever their sequence and their files."""
        return blake2(as_json(sorted(zip(self.domains, self.numbers, strict=True))), 32)


def read_held_out(
    paths: Sequence[str | Path],
    *,
    domain_column: str | None = "domain",
    train: Sequence[str | Path] = (),
    say: Callable[[str], object] = print,
) -> HeldOut:
    """The rows of some test files.

    Args:
        paths: JSON lines, CSV or parquet.
        domain_column: their column with the domain; None makes each file a domain, called as it is, by its
            whole path where another has the same name.
        train: training files, none of whose rows may be a test row.
        say: told what is unusual.

    Raises:
        DataError: no file, a file that cannot be read, a row of another shape, without an answer or without a domain,
            rows that are in a training file.
    """
    rows, places, domains = read_tables(paths, domain_column)
    conversations = tuple(conversation_of(row, place) for row, place in zip(rows, places, strict=True))
    for trained in train:
        refuse_rows(rows, places, read_table(trained), where=f"`{trained}`", say=say)
    seen: Counter[tuple[str, str]] = Counter()
    numbers = []
    for conversation, domain in zip(conversations, domains, strict=True):
        asked = (conversation.turns, conversation.given) if conversation.given else conversation.turns
        key = blake2(as_json(asked), 16)
        seen[domain, key] += 1
        again = seen[domain, key]  # a row that its domain has twice gets a count behind it
        numbers.append(key if again == 1 else f"{key}-{again}")
    return HeldOut(conversations, tuple(domains), tuple(numbers), domain_column)


def read_tables(paths: Sequence[str | Path], domain_column: str | None) -> tuple[list[Json], list[str], list[str]]:
    """The rows of some test files, what to call each in a message, and its domain.

    Args:
        paths: JSON lines, CSV or parquet.
        domain_column: as of `read_held_out`.

    Raises:
        DataError: no file, a file that cannot be read, a row without a domain.
    """
    if not paths:
        raise DataError("`test` must name at least one file of held-out rows, got none. Write --test test.jsonl.")
    rows: list[Json] = []
    places: list[str] = []
    domains: list[str] = []
    files = [Path(path) for path in paths]
    stems = [path.name.split(".")[0] for path in files]  # `math` for data/math.jsonl: the domain, if each file is one
    n_called = Counter(stem for stem, _ in set(zip(stems, files, strict=True)))
    for path, stem in zip(files, stems, strict=True):
        name = stem if stem and n_called[stem] == 1 else str(path)
        for number, row in enumerate(read_table(path)):
            rows.append(row)
            places.append(f"`{path}` row {number}")
            if domain_column is not None and row.get(domain_column) in (None, ""):
                raise DataError(
                    f"{places[-1]} must have its domain in the column {domain_column!r}, got the columns "
                    f"{', '.join(row)}. Name the column with --domain_column, or write --domain_column none to make "
                    "each file a domain."
                )
            domains.append(name if domain_column is None else str(row[domain_column]))
    return rows, places, domains


def refuse_rows(
    rows: Sequence[Json], places: Sequence[str], others: Sequence[Json], *, where: str, say: Callable[[str], object]
) -> None:
    """No test row may be a training row, however it is spaced; one that shares 13 words in a row is told.

    Args:
        rows: of the test.
        places: what to call each in messages.
        others: training rows, or rows that steer a run.
        where: what to call those.
        say: told of near ones.

    Raises:
        DataError: test rows that are among them, both named.
    """
    refuse_texts(full_texts(rows), places, full_texts(others), where=where, say=say)


def refuse_texts(
    texts: Sequence[str], places: Sequence[str], others: Sequence[str], *, where: str, say: Callable[[str], object]
) -> None:
    """The same of their texts.

    Args:
        texts: of the test rows.
        places: what to call each in messages.
        others: of training rows, or of rows that steer a run.
        where: what to call those.
        say: told of near ones.

    Raises:
        DataError: test rows that are among them, both named.
    """
    found = overlap(texts, others)
    if found.equal:
        n = len({test for test, _ in found.equal})
        pairs = listed([f"{places[test]} = row {row} there" for test, row in found.equal], SHOWN)
        raise DataError(
            f"test rows must be held out of the training set, got {n} that are in {where} ({pairs}): "
            "what is measured on them is memory. Remove them from one of the two."
        )
    if found.near:
        n = len({test for test, _ in found.near})
        pairs = ", ".join(f"{places[test]} and row {row}" for test, row in found.near[:SHOWN])
        rows_share = "test row shares" if n == 1 else "test rows share"
        say(f"warning: {n} {rows_share} {N_GRAM} words in a row with a row of {where} ({pairs}). Look at them.")


def conversation_of(row: Json, place: str) -> Conversation:
    """A row as text, its answers marked.

    Args:
        row: of a file or of a data set.
        place: what to call it in messages.

    Raises:
        DataError: it tells no question from an answer.
    """
    row = dict(as_messages(row))
    if row.get("messages"):
        turns = turns_of(row["messages"])
        counted = tuple(map(is_answer, turns))
    elif "prompt" in row and "completion" in row:
        prompt, completion = (turns_of(row[name]) for name in ("prompt", "completion"))
        turns, counted = (*prompt, *completion), (False,) * len(prompt) + (True,) * len(completion)
    else:
        raise DataError(f"{place} must have messages, or prompt and completion, got {', '.join(row)}. Rename columns.")
    if not all(isinstance(turn, Mapping) for turn in turns) and not all(isinstance(turn, str) for turn in turns):
        raise DataError(f"{place} must be all text or all messages with roles, got a mixture. Write it as one of them.")
    if not any(counted):
        raise DataError(f"{place} must have an answer, got no assistant turn and no completion. Remove the row.")
    return Conversation(turns, counted, template_arguments(row))
