"""Where in each row the answer stands that the scorer looks at, and what comes before it.

The tokens that carry loss say it, where a row has a prompt that carries none. Conversations that are trained whole
(TRL's default for `messages`) are cut by their own chat template. The span ends before the token that ends the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from campus_tune.integrations.rows import PADDING, answer_masks, column_names, read_chunks, read_column
from campus_tune.types import BoolArray, IntArray

SHORTEST_PROMPT = 2  # tokens: a first token that nothing predicts is no prompt


@dataclass(frozen=True)
class Spans:
    """The first answer of every row, in tokens.

    Args:
        start: tokens before the answer, stored padding not counted, shape (N,); 0 where the row has no prompt.
        end: position after the answer's last token that is looked at, shape (N,); the token that ends it is left out.
    """

    start: IntArray
    end: IntArray

    @property
    def known(self) -> BoolArray:
        """Rows with a prompt and an answer, shape (N,)."""
        return (self.start >= SHORTEST_PROMPT) & (self.end > self.start)

    def cut(self, limit: int) -> Spans:
        """Only the first `limit` tokens of each answer."""
        return Spans(self.start, np.minimum(self.end, self.start + limit))


def read_spans(dataset: Any, tokenizer: Any, ends: Sequence[int]) -> Spans:
    """The spans of a prepared training set.

    Args:
        dataset: as the trainer prepared it, its text columns included where it kept them.
        tokenizer: with the chat template that the rows were made with; may be None.
        ends: ids of the tokens that end an answer.
    """
    starts, stops = [], []
    for ids, mask, conversation in _rows(dataset, tokenizer):
        places = np.flatnonzero(mask)
        start = int(places[0])
        if start < SHORTEST_PROMPT and conversation is not None:
            start = _prompt_length(conversation, tokenizer, ids)
        if start < SHORTEST_PROMPT:
            start = 0
        starts.append(start)
        stops.append(_end(ids, mask, start, ends))
    return Spans(np.array(starts, dtype=np.int64), np.array(stops, dtype=np.int64))


def _rows(dataset: Any, tokenizer: Any) -> Iterator[tuple[IntArray, BoolArray, Any]]:
    """(token ids, which carry loss, the conversation or None) of each row."""
    has_template = getattr(tokenizer, "chat_template", None) is not None
    conversations = read_column(dataset, "messages") if "messages" in column_names(dataset) and has_template else None
    row = 0
    for chunk in read_chunks(dataset):
        for place, (ids, mask) in enumerate(zip(chunk["input_ids"], answer_masks(chunk), strict=True)):
            ids = np.asarray(ids, dtype=np.int64)
            if PADDING in chunk:  # stored with the row, on either side
                kept = np.asarray(chunk[PADDING][place], dtype=np.bool_)
                ids, mask = ids[kept], mask[kept]
            yield ids, mask, conversations[row] if conversations is not None else None
            row += 1


def _prompt_length(conversation: Any, tokenizer: Any, ids: IntArray) -> int:
    """Tokens before the first answer of a conversation, if the template says so and the row's tokens agree; else 0."""
    roles = [turn.get("role") for turn in conversation]
    if "assistant" not in roles[1:]:
        return 0
    asked = conversation[: roles.index("assistant", 1)]
    text = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    return len(prompt) if ids[: len(prompt)].tolist() == list(prompt) else 0


def _end(ids: IntArray, mask: BoolArray, start: int, ends: Sequence[int]) -> int:
    """Where the answer that begins at `start` ends: at a token that says so, at one without loss, or with the row."""
    over = ~mask[start:] | np.isin(ids[start:], list(ends))
    return start + (int(np.argmax(over)) if over.any() else len(over))
