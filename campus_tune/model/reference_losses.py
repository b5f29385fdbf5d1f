"""Losses of the training rows under another model, which has its own tokenizer, template and context.

Where tokenizer and template are the same as the trainer's, the model reads the very tokens that training sees; else
the rows are told to it as text (`model.conversations`). Rows are tokenised when a batch needs them: what is
kept of each row is two numbers.

Rows that are too long keep their beginning, as in training. Where nothing of the answer is left the model has nothing
to say: such a row has no tokens in the losses, it is counted, and a warning says so; nothing stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import TemplateError

from campus_tune.data.token_hashes import IGNORED
from campus_tune.metrics.passage import Part
from campus_tune.model.answer_alone import AnswersAlone, PadRight, Prepared, TokenLists, start_token
from campus_tune.model.conversations import Conversations, Retold, has_template, render
from campus_tune.model.measure import SLOW, LossMeter, MeasuredRows, Reader
from campus_tune.model.peers import Peers
from campus_tune.model.reference import Reference, fits_memory
from campus_tune.words.errors import MetricError
from campus_tune.words.progress import bar
from campus_tune.words.types import IntArray, RowLosses, RowSource

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

CHUNK = 256  # rows tokenised at a time to count their tokens


def reads_the_same(tokenizer: PreTrainedTokenizerBase | None, other: PreTrainedTokenizerBase | None) -> bool:
    """Whether two tokenizers make the same tokens of the same rows: one vocabulary, one template, one way to cut."""
    if tokenizer is None or other is None or tokenizer.get_vocab() != other.get_vocab():
        return False
    if _renderings(tokenizer) != _renderings(other):
        return False
    return bool(tokenizer(_SAMPLE)["input_ids"] == other(_SAMPLE)["input_ids"])


_SAMPLE = " Tokens  of a text,\n\twith 1234 ways — naïve ones — to cut it.\n\n"
_TURNS = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]


def _renderings(tokenizer: PreTrainedTokenizerBase) -> list[str | None]:
    """What the template makes of a few chats: trl's training templates differ in text and write the same."""
    if not has_template(tokenizer):
        return []

    def rendered(turns: list[dict[str, str]], prompts: bool) -> str | None:
        try:
            return render(turns, tokenizer, prompts=prompts)
        except TemplateError:
            return None

    system = {"role": "system", "content": "Be brief."}
    chats = [(_TURNS[:1], True), (_TURNS, False), (_TURNS * 2, False), ([system, *_TURNS], False)]
    return [rendered(turns, prompts) for turns, prompts in chats]


@dataclass(frozen=True)
class ReferenceCounts:
    """What became of the rows under the other model's tokenizer.

    Args:
        tokens: that it reads of each, shape (n,).
        answers: of them, tokens that carry loss, shape (n,); 0 where nothing of the answer is left.
        truncated: rows that were cut.
        limit: tokens at which they were; None for no limit.
        foreign: it has a tokenizer or a template of its own.
        untemplated: chats that it reads as plain text, for it has no template.
    """

    tokens: IntArray
    answers: IntArray
    truncated: int
    limit: int | None
    foreign: bool
    untemplated: int

    @property
    def silent(self) -> IntArray:
        """Places of the rows of which nothing can be said."""
        return np.flatnonzero(self.answers == 0)

    def warnings(self, reference: Reference) -> list[str]:
        """One sentence for each thing that a person should know."""
        who, n, told = f"`{reference.setting}` {reference.name}", len(self.tokens), []
        if self.untemplated:
            told.append(
                f"{who} has no chat template: {self.untemplated} of {n} rows are read as plain text, their turns "
                "joined by line breaks. Set the chat_template of its tokenizer if it was trained on chats."
            )
        if self.truncated:
            told.append(f"{who} reads the first {self.limit} tokens of {self.truncated} of {n} rows, which are longer.")
        if len(self.silent):
            first = ", ".join(map(str, self.silent[:3]))
            told.append(
                f"{who} reads nothing of the answer of {len(self.silent)} of {n} rows (first: {first}), cut off at "
                f"{self.limit} tokens or lost by its chat template: it says nothing of them. Drop these rows, or name "
                "a model with a longer context."
            )
        return told


class ReferenceMeter(LossMeter):
    """Losses under a reference. A row without a token of its answer has no tokens in them, and no loss.

    Args:
        reference: whose losses; it may be let go when all is measured.
        rows: as it reads them.
        counts: of these rows.
        peers: the processes that share the work.
        what: the word before the progress bar.
    """

    def __init__(
        self, reference: Reference, rows: TokenLists, counts: ReferenceCounts, *, peers: Peers, what: str
    ) -> None:
        super().__init__(reference.subject, rows, PadRight(), counts.tokens, peers=peers, what=what)
        self._reference, self._answers = reference, counts.answers

    def measure(self, rows: IntArray, *, reader: Reader | None = None, width: int = 0) -> MeasuredRows:
        """As `LossMeter.measure`, of the rows that have an answer.

        Raises:
            MetricError: a loss is NaN or infinite.
            RecipeError: the model does not fit into memory with its batches.
        """
        told = np.flatnonzero(self._answers[rows])
        losses, read, asked = RowLosses.zeros(len(rows)), np.zeros((len(rows), width)), np.ones(len(rows))
        if len(told):
            with fits_memory(self._reference.setting, self._reference.name):
                measured = super().measure(rows[told], reader=reader, width=width)
            losses.put(told, measured.losses)
            read[told] = measured.read
            asked[told] = measured.asked
        return MeasuredRows(losses, read, asked=asked)

    def _refuse_infinite(self, rows: IntArray, losses: RowLosses) -> None:
        strange = rows[~np.isfinite(losses.nll_sum)]
        if len(strange):
            raise MetricError(
                f"`{self._reference.setting}` {self._reference.name}: the loss of every row must be finite, got NaN or "
                f"inf on {len(strange)} of {len(rows)} (rows {', '.join(map(str, strange[:3]))}). Its training has "
                "diverged, or its weights do not bear this precision: name another model, or train it again."
            )


def reference_meter(
    reference: Reference,
    dataset: Dataset,
    rows: IntArray,
    *,
    trained: RowSource | None = None,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int | None,
    text_field: str = "text",
    part: Part = "row",
    peers: Peers,
    what: str,
) -> tuple[LossMeter, ReferenceCounts]:
    """What measures some rows of the training set under another model, and what it will read of them.

    Args:
        reference: loaded.
        dataset: the prepared training set, with the columns that it had before.
        rows: positions in it, shape (n,); the meter's positions are places in this array, 0..n-1.
        trained: the rows as the collator makes them; None where the columns say it.
        tokenizer: the one that `dataset` was prepared with, or None.
        max_length: of training, in tokens; None for no limit. A model with another tokenizer is told what is left.
        text_field: the column of plain texts.
        part: whole rows, or their answers alone.
        peers: the processes that share the work.
        what: the word before the progress bar.

    Raises:
        DataError: rows that cannot be told as text to a model with another tokenizer, or that its template refuses.
    """
    foreign, limit, untemplated = not reads_the_same(reference.tokenizer, tokenizer), reference.limit(max_length), 0
    source: TokenLists = Prepared(dataset if trained is None else trained, rows, limit=limit)
    if foreign:
        limit = reference.limit(None)
        conversations = Conversations(
            dataset, rows, tokenizer, trained=trained, max_length=max_length, text_field=text_field
        )
        source = Retold(conversations, reference.tokenizer, limit=limit)
        if len(rows) and conversations[0].is_chat and not has_template(reference.tokenizer):
            untemplated = len(rows)
    tokens, answers, truncated = _count(source, f"{what}: tokens")
    if part == "answer":
        source, tokens = AnswersAlone(source, start_token(reference.tokenizer)), answers + 1
    counts = ReferenceCounts(tokens, answers, truncated, limit, foreign, untemplated)
    return ReferenceMeter(reference, source, counts, peers=peers, what=what), counts


def _count(rows: TokenLists, what: str) -> tuple[IntArray, IntArray, int]:
    """(tokens of each row that are read, how many of them carry loss, how many rows are cut)."""
    tokens, answers, truncated = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64), 0
    for start in bar(range(0, len(rows), CHUNK), desc=what, unit="chunk", delay=SLOW):
        places = range(start, min(start + CHUNK, len(rows)))
        for place, row in zip(places, rows.whole(places), strict=True):
            kept = row.labels[: rows.limit]
            tokens[place], answers[place] = len(kept), sum(label != IGNORED for label in kept[1:])
            truncated += len(kept) < len(row.labels)
    return tokens, answers, truncated
