"""A user's own weight of each message of a chat, spread over the tokens of it that are trained.

    {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "5", "weight": 0}, …]}

A message without a weight counts 1. TRL hands messages to the chat template as they are, and their column stays beside
the tokens; so a weight in them survives preparation. `datasets` may add a null for the key where others have it (rows
made in Python; those of a JSON file stay as they are): a null is no weight, so 1.

Which token belongs to which message is found in the text that the template writes. A message ends where the chat up to
it ends, its closing sign included; the header of the next is the next's. Where a template writes a chat otherwise once
it goes on (thoughts of earlier turns left out, a system prompt moved into the question), a mark is written in place of
what the message says, and what follows the mark tells where it ends. A token belongs to the message in which it begins.
The row's own tokens must be those of this text, or its beginning or end (`truncation_mode`); other rows are refused.

Neighbours of one weight need not be told apart, and a row whose messages all weigh the same is not rendered.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jinja2 import TemplateError

from campus_tune.data.own_numbers import OwnNumbers
from campus_tune.data.prepared import SLOW, column_names, read_tokens, rows_with
from campus_tune.data.row_weights import OPTION, refuse_unfit, saying_nothing, scaled, weights_digest
from campus_tune.data.shapes import TO_TEMPLATE, has_turns
from campus_tune.data.turns import template_arguments
from campus_tune.words.errors import DataError
from campus_tune.words.progress import bar
from campus_tune.words.registry import nearest
from campus_tune.words.types import FloatArray, IntArray, Json, RowSource, Tokenizer

CHATS = (("prompt", "completion"), ("messages",))  # columns of a chat, as TRL looks for them
MARK = "\u2042\u2042\u2042"  # what no chat says; no template changes its case or takes blanks off
_OF = ", of: message"


class Shapes(Sequence[FloatArray]):
    """How much each answer token of a row counts beside the row's others: arrays of mean 1, by row.

    Held as runs of tokens that count the same, for messages are few and their tokens many.

    Args:
        values: of each run, shape (R,).
        counts: its tokens, shape (R,).
        ends: number of the run after each row's last, shape (N,).
    """

    def __init__(self, values: FloatArray, counts: IntArray, ends: IntArray) -> None:
        self.values, self.counts = values, counts
        self._ends = np.append(0, ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, row: Any) -> Any:
        if not 0 <= row < len(self):
            raise IndexError(row)
        runs = slice(self._ends[row], self._ends[row + 1])
        return np.repeat(self.values[runs], self.counts[runs])


@dataclass(frozen=True, eq=False)
class MessageWeights:
    """What messages' weights make of each row.

    Args:
        rows: mean weight of each row's answer tokens, itself of token-weighted mean 1 over all rows where no limit cuts
            any, shape (N,).
        shapes: how the row's weight is spread over its answer tokens; 1 for each where the row's is 0.
        warnings: what a person should know of them.
    """

    rows: FloatArray
    shapes: Shapes
    warnings: list[str] = field(default_factory=list)

    @staticmethod
    def of_runs(values: FloatArray, counts: IntArray, runs: IntArray, key: str, limit: float | None) -> MessageWeights:
        """Of runs of tokens that weigh the same.

        Args:
            values: weight of each run, shape (R,).
            counts: its answer tokens, shape (R,).
            runs: of each row, shape (N,).
            key: of the weights, for messages.
            limit: how often the mean a weight is at most; None for no bound.

        Raises:
            DataError: none above 0 where there are tokens.
        """
        ends = np.cumsum(runs)
        row = np.repeat(np.arange(len(runs)), runs)
        if not values[counts > 0].any():
            raise DataError(
                f"`{OPTION}: {key}{_OF}` must give more than 0 to a message that is trained, got 0 for all of them: "
                "nothing would be trained. Weigh the messages that carry loss, or train others (assistant_only_loss)."
            )
        values = np.minimum(scaled(values, counts), math.inf if limit is None else limit)
        tokens = np.bincount(row, counts).astype(np.int64)
        mean = np.bincount(row, values * counts) / np.maximum(1, tokens)
        shapes = np.divide(values, mean[row], out=np.ones_like(values), where=mean[row] > 0)
        return MessageWeights(mean, Shapes(shapes, counts, ends), saying_nothing(values[counts > 0], f"{key}{_OF}"))

    def digest(self) -> str:
        """16 hex digits that change with any weight and any token that it holds for."""
        parts = (self.rows, self.shapes.values, self.shapes.counts)
        return weights_digest(np.concatenate([np.asarray(part, dtype=np.float64) for part in parts]))


def read_message_weights(
    dataset: RowSource,
    key: str,
    tokenizer: Tokenizer,
    *,
    trained: RowSource | None = None,
    template: str | None = None,
    limit: float | None = None,
) -> MessageWeights:
    """The weights in the messages of a prepared training set.

    Args:
        dataset: as the trainer prepared it, its chats included.
        key: of a message, under which its weight stands.
        tokenizer: that the rows were made with.
        trained: the rows as the collator makes them; None where the columns of `dataset` say it.
        template: the chat template, where the trainer took another than the tokenizer's own.
        limit: how often the mean a message's weight is at most, each of its tokens counted; None for no bound.

    Raises:
        DataError: no chats; no message with the key; a weight that is no number, infinite or below 0 (by row and
            message); none above 0 where anything is trained; a row whose tokens cannot be told apart by message.
    """
    names = _chat_columns(dataset, key)
    weights, sizes = _read_keys(dataset, names, key)
    ends = np.cumsum(sizes)
    values, counts, runs = [], [], []
    rows = rows_with(dataset, [*names, *TO_TEMPLATE])
    tokens = read_tokens(dataset if trained is None else trained)
    told = bar(zip(rows, tokens, strict=True), total=len(sizes), desc="message weights", unit="row", delay=SLOW)
    for number, (row, (ids, kept, mask)) in enumerate(told):
        own = weights[ends[number] - sizes[number] : ends[number]]
        first = np.flatnonzero(np.diff(own, prepend=-1.0))  # message with which each run of one weight begins
        run = np.zeros(len(ids), dtype=np.int64)
        if len(first) > 1:
            turns = [turn for name in names for turn in row[name]]
            found = _Chat(turns, template_arguments(row), tokenizer, template).runs(first[1:].tolist(), ids[kept])
            if isinstance(found, str):
                raise DataError(
                    f"`{OPTION}: {key}{_OF}` must find each message in the tokens of its row, got row {number}: "
                    f"{found}. Let the trainer tokenise the chats: "
                    "`dataset = dataset.remove_columns(['input_ids', 'labels'])`; or leave `of: message` out and give "
                    "each row one weight."
                )
            run = found[np.maximum(0, np.cumsum(kept) - 1)]  # padding that carries loss goes with what stands before
        values.append(own[first])
        counts.append(np.bincount(run[mask], minlength=len(first)))
        runs.append(len(first))
    return MessageWeights.of_runs(np.concatenate(values), np.concatenate(counts), np.array(runs), key, limit)


def _chat_columns(dataset: RowSource, key: str) -> tuple[str, ...]:
    """The columns of the rows' chats."""
    names = column_names(dataset)
    for chat in CHATS:
        if set(chat) <= set(names):
            if all(has_turns(dataset[0][name]) for name in chat):
                return chat
            break
    of_rows = f" For the column {key}, one weight a row, leave `of: message` out." if key in names else ""
    raise DataError(
        f"`{OPTION}: {key}{_OF}` must have chats (messages, or prompt and completion as turns), got the columns "
        f"{', '.join(names)}.{of_rows} Train chats, or give each row one weight."
    )


def _read_keys(dataset: RowSource, names: Sequence[str], key: str) -> tuple[FloatArray, list[int]]:
    """The weights of all messages, shape (M,), and how many messages each row has."""
    given: list[Any] = []
    sizes: list[int] = []
    known: dict[str, None] = {}
    for row in rows_with(dataset, names):
        turns = [turn for name in names for turn in row[name]]
        sizes.append(len(turns))
        known.update(dict.fromkeys(name for turn in turns for name in turn))
        given += [turn.get(key) for turn in turns]
    if all(value is None for value in given):
        raise DataError(
            f"`{OPTION}: {key}{_OF}` must be a key of some message, got none that has it: they have "
            f"{', '.join(known)}.{nearest(key, known)} Write it into the messages, or give each row one weight."
        )

    ends = np.cumsum(sizes)

    def where(i: int) -> str:
        row = int(np.searchsorted(ends, i, side="right"))
        return f"message {i - int(ends[row]) + sizes[row]} of row {row}"

    number = f"{{k: float(v) if k == {key!r} and v is not None else v for k, v in turn.items()}}"
    rows = f"[row | {{name: [{number} for turn in row[name]] for name in {names!r}}} for row in dataset]"
    made = f"`dataset = datasets.Dataset.from_list({rows})`"  # a map would keep the old type
    made = made.replace("{", "{{").replace("}", "}}")
    numbers = OwnNumbers(
        OPTION,
        DataError,
        switch=f"Make 1 and 0 of true and false: {made}.",
        stored=f"Store how much each message counts. If it is text that spells numbers: {made}",
        large="Divide all of them by the largest: only how messages stand to each other counts.",
        filled="Write numbers, or take the key out of these messages: without it they count 1.",
        each="message",
    )
    weights = numbers.read([1 if value is None else value for value in given], key, where)
    refuse_unfit(weights, f"`{OPTION}: {key}{_OF}`", where)
    return weights, sizes


def _shared(one: Sequence[object], other: Sequence[object]) -> int:
    """With how many of the same items two sequences begin."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@dataclass(frozen=True)
class _Chat:
    """One chat, and what writes it."""

    turns: Sequence[Json]
    given: Json
    tokenizer: Tokenizer
    template: str | None

    def runs(self, starts: Sequence[int], ids: IntArray) -> IntArray | str:
        """Which run each token belongs to, shape (L,), or why that cannot be said.

        Args:
            starts: messages with which the second run begins, and each after it.
            ids: the row's tokens without padding, shape (L,).
        """
        text, cuts = self.written(self.turns), list[int]()
        for start in starts:
            end = self._end(start - 1, text)
            if end is None or end < max(cuts, default=0):
                return f"its chat template writes message {start - 1} so that its end is not to be found"
            cuts.append(end)
        every, places = self._encoded(text, cuts)
        cut_off = len(every) - len(ids)
        for skipped in (0, cut_off):  # of truncation_mode keep_start, and keep_end
            if cut_off >= 0 and np.array_equal(every[skipped : skipped + len(ids)], ids):
                return np.searchsorted(places, np.arange(skipped, skipped + len(ids)), side="right")
        return "its tokens are not those that the chat template makes of its messages"

    def written(self, turns: Sequence[Mapping[str, Any]]) -> str:
        """They as text."""
        how = self.given if self.template is None else {"chat_template": self.template, **self.given}
        return str(self.tokenizer.apply_chat_template(list(turns), tokenize=False, **how))

    def _end(self, last: int, text: str) -> int | None:
        """Position in the text after a message and what closes it; None where it is not to be found."""
        marked = [*self.turns[:last], {**self.turns[last], "content": MARK}]
        parts = self._part([*marked, *self.turns[last + 1 :]]).split(MARK)
        known = len(parts) == 2 and text.endswith(parts[1])  # else the template writes no content, but calls of tools
        said = len(text) - len(parts[1]) if known else 0
        until = self._part(self.turns[: last + 1])
        if until and text.startswith(until) and (said <= len(until) or not self.turns[last].get("content")):
            return len(until)
        return said + _shared(self._part(marked).partition(MARK)[2], parts[1]) if known else None

    def _part(self, turns: Sequence[Mapping[str, Any]]) -> str:
        """They as text; empty where the template refuses a chat that ends so."""
        try:
            return self.written(turns)
        except (TemplateError, TypeError):  # it may add up what is no text
            return ""

    def _encoded(self, text: str, cuts: Sequence[int]) -> tuple[IntArray, IntArray]:
        """(Token ids, how many of them begin before each cut)."""
        if getattr(self.tokenizer, "is_fast", False):
            told = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
            begins = np.array([begin for begin, _ in told["offset_mapping"]], dtype=np.int64)
            return np.array(told["input_ids"], dtype=np.int64), np.searchsorted(begins, cuts)
        ids, *parts = (
            list(self.tokenizer(part, add_special_tokens=False)["input_ids"])
            for part in (text, *(text[:cut] for cut in cuts))
        )
        shared = [_shared(part, ids) for part in parts]  # a merge across a cut goes with the next
        return np.array(ids, dtype=np.int64), np.array(shared, dtype=np.int64)
