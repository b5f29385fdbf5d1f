"""Where in each row the answer stands that the scorer looks at, and what comes before it.

The tokens that carry loss say it, where a row has a prompt that carries none. Conversations that are trained whole
(TRL's default for `messages`) are cut by their own chat template. The span ends before the token that ends the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from campus_tune.data.prepared import column_names, items, read_column, read_tokens
from campus_tune.data.shapes import ANSWERS, TO_TEMPLATE
from campus_tune.data.turns import template_arguments
from campus_tune.words.types import BoolArray, IntArray, Json, RowSource, Tokenizer

PROMPTS = ("messages", "prompt", *TO_TEMPLATE)  # columns of which TRL renders a prompt
LOOKED_AT = 256  # rows whose roles are named
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


def read_spans(
    dataset: RowSource, tokenizer: Tokenizer, ends: Sequence[int], *, trained: RowSource | None = None
) -> Spans:
    """The spans of a prepared training set.

    Args:
        dataset: as the trainer prepared it, its text columns included where it kept them.
        tokenizer: with the chat template that the rows were made with; may be None.
        ends: ids of the tokens that end an answer.
        trained: the rows as the collator makes them; None where the columns of `dataset` say it.
    """
    starts: list[int] = []
    stops: list[int] = []
    has_template = getattr(tokenizer, "chat_template", None) is not None
    names = [name for name in PROMPTS if name in column_names(dataset)] if has_template else []
    columns = {name: read_column(dataset, name) for name in names}
    for tokens, kept, carries_loss in read_tokens(dataset if trained is None else trained):
        ids, mask = tokens[kept], carries_loss[kept]
        start = int(np.flatnonzero(mask)[0])
        if start < SHORTEST_PROMPT and columns and tokenizer is not None:
            row = {name: values[len(starts)] for name, values in columns.items()}
            start = _prompt_length(row, tokenizer, ids)
        if start < SHORTEST_PROMPT:
            start = 0
        starts.append(start)
        over = ~mask[start:] | np.isin(ids[start:], list(ends))  # a token that ends the answer, or is without loss
        stops.append(start + (int(np.argmax(over)) if over.any() else len(over)))
    return Spans(np.array(starts, dtype=np.int64), np.array(stops, dtype=np.int64))


def _prompt_length(row: Json, tokenizer: Tokenizer, ids: IntArray) -> int:
    """Tokens before the first answer of a chat, if the template says so and the row's tokens agree; else 0."""
    asked, messages = row.get("prompt"), row.get("messages") or []
    if not isinstance(asked, list):
        roles = [turn.get("role") for turn in messages]
        asked = messages[: roles.index(ANSWERS, 1)] if ANSWERS in roles[1:] else []
    if not asked:
        return 0
    given = template_arguments(row)
    text = tokenizer.apply_chat_template(list(asked), add_generation_prompt=True, tokenize=False, **given)
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    return len(prompt) if ids[: len(prompt)].tolist() == list(prompt) else 0


def unknown_roles(dataset: RowSource) -> str:
    """A sentence on chats that nobody answers under the name that is looked for; empty where somebody does."""
    if "messages" not in column_names(dataset):
        return ""
    messages = [item["messages"] or [] for item in items(dataset, range(min(len(dataset), LOOKED_AT)))]
    roles = sorted({str(turn.get("role")) for turns in messages for turn in turns})
    if ANSWERS in roles:
        return ""
    return (
        f" The messages have the roles {', '.join(roles)}, and answers are looked for under {ANSWERS}: rename the role "
        "of the answers."
    )
