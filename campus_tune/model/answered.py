"""Prompts with their reference answers, as rows that a model can be asked for losses of.

A trainer that is driven by reward trains no reference answer; yet where the rows have one, what it costs a model says
how hard its prompt is. So the prompt and its answer are put together as supervised tuning would, by the model's own
chat template, and the answer alone carries loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from campus_tune.data.prompts import PROMPT
from campus_tune.data.shapes import ANSWERS, turns_of
from campus_tune.data.turns import Conversation
from campus_tune.model.conversations import retell

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


def answered(
    prompts: Sequence[Any],
    answers: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    *,
    given: Mapping[str, Any],
) -> Dataset:
    """Rows with `input_ids` and `labels`, and `prompt` and `completion` for models with a tokenizer of their own.

    An answer ends with the token at which the model would stop: what a template writes behind it, no model that is
    driven by reward is ever asked for. (Of a tiny model that had never seen it, a line break behind each answer of one
    token cost 15 nats, and the answers were hidden behind it.)

    Args:
        prompts: texts or turns of chats, N of them.
        answers: what follows each, as text.
        tokenizer: of the model in hand.
        given: what its chat template is given besides the turns (`chat_template_kwargs` of the trainer).

    Raises:
        DataError: the chat template refuses a row.
    """
    from datasets import Dataset

    columns: dict[str, list[Any]] = {PROMPT: [], "completion": [], "input_ids": [], "labels": []}
    for prompt, answer in zip(prompts, answers, strict=True):
        completion: Any = answer
        turns: tuple[Any, ...] = (prompt, answer)
        if not isinstance(prompt, str):
            completion = [{"role": ANSWERS, "content": answer}]
            turns = (*turns_of(prompt), *completion)
        row = retell(Conversation(turns, (*[False] * (len(turns) - 1), True), dict(given)), tokenizer)
        ends = [place for place, token in enumerate(row.labels) if token == tokenizer.eos_token_id]
        kept = slice(ends[-1] + 1 if ends else None)
        for name, value in zip(columns, (prompt, completion, row.ids[kept], row.labels[kept]), strict=True):
            columns[name].append(value)
    if given:
        columns["chat_template_kwargs"] = [dict(given)] * len(answers)
    return Dataset.from_dict(columns)
