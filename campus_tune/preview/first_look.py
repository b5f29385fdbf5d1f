"""A first look at rows that no recipe names yet: which shape they have, their domains, how long they are, what is odd.

Rows of other shapes are converted by the very call that a refusal names (`data/conversions`), where there is one:
Alpaca's columns, ShareGPT's speakers, questions and answers. What TRL would not train even so is refused as a run
refuses it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from campus_tune.data.as_dataset import as_dataset
from campus_tune.data.conversions import Origin, conversion, converted, renamed_roles
from campus_tune.data.domains import Domains
from campus_tune.data.plain import count_words, full_texts
from campus_tune.data.refusals import foreign_roles, refuse_rows, silent_contents
from campus_tune.data.said import Said
from campus_tune.data.shapes import Shape, columns_read, is_chat
from campus_tune.method.grouping import NO_GROUPS
from campus_tune.model.prepare import prepare_rows, without_chatter
from campus_tune.preview.duplicate_rows import Repeats, duplicate_findings
from campus_tune.recipe.blocks import DOMAIN
from campus_tune.words.errors import CampusError, DataError
from campus_tune.words.findings import Finding, as_findings
from campus_tune.words.library_warnings import left_out
from campus_tune.words.registry import nearest
from campus_tune.words.types import IntArray, Json
from campus_tune.words.wording import listed

# Columns that name a row's domain, the likeliest first, where their values are few and come often.
DOMAIN_NAMES = (DOMAIN, "category", "subject", "topic", "task", "source", "subset", "dataset", "type", "language")
MOST_DOMAINS, FEWEST_ROWS = 50, 5  # domains; rows of each on average
APART = f"own_{DOMAIN}"  # what a column `domain` that names no domains is called: a recipe would read them from it
LEFT_OUT = ("system", "history")  # columns of ShareGPT's and Alpaca's kin that are said before what is asked
UNREAD = "\ufffd"  # what stands for a character that could not be read
MOST_NAMED = 12  # domains that a sentence names
MEASURED = 2000  # rows whose tokens are counted
SHAPES = {
    ("prompt", "completion"): "prompt and completion",
    ("messages",): "chats under `messages`",
    ("conversations",): "chats under `conversations`",
}


@dataclass(frozen=True)
class FirstLook:
    """Rows as TRL trains them, and what they were.

    Args:
        name: where they come from.
        rows: all of them.
        shape: what a recipe has to say of them.
        kind: their shape in words.
        conversion: the call that made them what they are; None where they are as they came.
        column: that names the domains; None where none does.
    """

    name: str
    rows: Sequence[Json]
    shape: Shape
    kind: str
    conversion: str | None
    column: str | None

    @property
    def judges(self) -> bool:
        """Rows like these can judge a comparison: they tell an answer from what is asked."""
        return self.kind in SHAPES.values()

    @cached_property
    def said(self) -> Said:
        """What is asked and answered in each."""
        return Said.of_rows(self.rows, self.shape)

    @cached_property
    def texts(self) -> list[str]:
        """All that is said in each, as `check` compares probes with training rows."""
        return full_texts(self.rows, self.shape)

    @cached_property
    def domains(self) -> Domains:
        """Of the rows."""
        return Domains() if self.column is None else Domains.of([row.get(self.column) for row in self.rows])

    @property
    def written(self) -> Sequence[Json]:
        """The rows as files are to have them: a recipe would take `domain` for the domains whatever stands there."""
        if not self._apart:
            return self.rows
        return [{APART if key == DOMAIN else key: value for key, value in row.items()} for row in self.rows]

    @property
    def _apart(self) -> bool:
        return self.column is None and any(DOMAIN in row for row in self.rows)

    def with_column(self, column: str) -> FirstLook:
        """The same rows, their domains in another column; `none` for none.

        Raises:
            DataError: no such column.
        """
        return replace(self, column=_domain_column(self.rows, column))

    def sentences(self) -> Iterator[str]:
        """What the rows are, and what was done to make them so."""
        yield f"{len(self.rows)} rows of {self.name}: {self.kind}"
        if self.conversion is not None:
            yield f"converted, for TRL would not train them as they were: dataset.{self.conversion}"
        if self.column is None:
            yield "no column of domains: all rows are one"
            if self._apart:
                yield f"`{DOMAIN}` names none here and is written as `{APART}`; --domain-column {DOMAIN} keeps it"
        else:
            sizes = [f"{name} {n}" for name, n in self.domains.sizes().items()]
            yield f"domains in the column `{self.column}`: {listed(sizes, MOST_NAMED)}"

    def findings(self) -> Iterator[Finding]:
        """What is odd: rows that repeat others, prompts with several answers, rows that say nothing."""
        values = None if self.column is None else [row.get(self.column) for row in self.rows]
        yield from duplicate_findings(self.said, Repeats.of(self.said), values, dropped=False)
        answers = list(enumerate(self.said.answers))
        empty = [number for number, answer in answers if not answer.strip()]
        unread = [number for number, answer in answers if UNREAD in answer]
        for rows, what in ((empty, "without an answer"), (unread, f"with {UNREAD}, a letter that could not be read")):
            if rows:
                many = f"{len(rows)} row{'s' if len(rows) > 1 else ''} {what}"
                yield Finding("warning", f"{many} (rows {listed(rows, 5)}).", "Mend them, or leave them out.")
        for name in LEFT_OUT:
            said = [number for number, row in enumerate(self.rows) if row.get(name)]
            if said:
                what = f"TRL does not train what `{name}` says in {len(said)} rows (rows {listed(said, 5)})."
                where = "chats" if "chats" in self.kind else "prompts"
                yield Finding("warning", what, f"Write it into the {where}, or let it be.")
        silent = silent_contents(self.rows)
        if silent is not None:
            yield Finding("warning", silent)

    def count_tokens(self, model: str | None) -> tuple[IntArray, str, list[Finding]]:
        """(Tokens of some rows, what they were counted in, what stood in the way).

        Args:
            model: whose tokenizer and chat template are asked, as a run would; words are counted where they cannot be.
        """
        some = slice(None, None, max(1, -(-len(self.rows) // MEASURED)))
        text_field = self.shape.dataset_text_field
        settings: Json = {"model_name_or_path": model, "max_length": None, "dataset_text_field": text_field}
        findings: list[Finding] = []
        merged = r"(\[RANK \d+\] )?The tokenized prompt is not a prefix"  # TRL: one long line for each end of a prompt
        try:
            with left_out("trl.trainer.sft_trainer", merged) as lines:
                prepared = prepare_rows(settings, as_dataset(self.rows[some], self.name))
        except CampusError as error:
            prepared, findings = None, as_findings(error)
        if lines.met:
            what = "Ends of prompts melt into tokens with the beginnings of their answers, and are left out by TRL."
            findings.append(Finding("warning", what, "End each prompt with a line break or a space."))
        if prepared is None:
            return count_words(self.texts[some]), "words", findings
        return prepared.texts.prompt_tokens + prepared.texts.response_tokens, "tokens", findings


def first_look(name: str, rows: Sequence[Json], column: str | None = None) -> FirstLook:
    """Look at rows, and convert them where TRL would not train them as they are.

    Args:
        name: of the file or data set, for messages.
        rows: as they came.
        column: that names the domains; `none` for none, None for what is likeliest.

    Raises:
        DataError: no rows, rows that nobody knows how to train, no such column.
    """
    rows, shape, calls = _trainable(rows, name)
    origin = Origin.of(name)
    refuse_rows(rows, shape, origin)
    kind = columns_read(rows[0], list(dict.fromkeys(key for row in rows for key in row)), shape) or ()
    said = SHAPES.get(kind, f"plain texts under `{shape.dataset_text_field}`")
    return FirstLook(name, rows, shape, said, ".".join(calls) or None, _domain_column(rows, column))


def _trainable(rows: Sequence[Json], name: str) -> tuple[Sequence[Json], Shape, list[str]]:
    """(The rows in a shape that TRL trains, what a recipe says of it, the calls that made it)."""
    shape, calls = Shape(), list[str]()
    for _ in range(3):  # a column is renamed, then its speakers
        names = list(dict.fromkeys(key for row in rows[:MEASURED] for key in row))
        if not rows or "input_ids" in names:
            break
        if columns_read(rows[0], names, shape) is None:
            call = conversion(rows[0], names)
            texts = [column for column in names if isinstance(rows[0].get(column), str)]
            if call is None and len(texts) == 1:
                shape = Shape(dataset_text_field=texts[0])
        else:
            chat = "conversations" if is_chat(rows[0].get("conversations"), "from", "value") else "messages"
            call = renamed_roles(chat) if foreign_roles(rows) else None
        if call is None:
            break
        with without_chatter():
            rows = converted(as_dataset(rows, name), call).to_list()
        calls.append(call)
    return rows, shape, calls


def _domain_column(rows: Sequence[Json], asked: str | None) -> str | None:
    """The column that was asked for, or the likeliest one."""
    names = list(dict.fromkeys(key for row in rows for key in row))
    if asked == NO_GROUPS:
        return None
    if asked is not None:
        if asked not in names:
            raise DataError(
                f"`--domain-column` must be a column of the rows ({listed(names, 20)}), got {asked!r}."
                f"{nearest(asked, names)} Name one of them, or write --domain-column none."
            )
        return asked
    for name in DOMAIN_NAMES:
        values = [row.get(name) for row in rows]
        if not all(isinstance(value, str) for value in values):
            continue
        most = len(rows) // FEWEST_ROWS  # and more cannot be an accident where the column is called so
        if 2 <= len(Counter(values)) <= (most if name == DOMAIN else min(MOST_DOMAINS, most)):
            return name
    return None


def lengths_in_words(tokens: IntArray, counted: str) -> str:
    """How long rows are, in a line."""
    median, tenth, longest = np.quantile(tokens, [0.5, 0.9, 1.0])
    return f"half have at most {median:.0f} {counted}, nine tenths {tenth:.0f}, the longest {longest:.0f}"
