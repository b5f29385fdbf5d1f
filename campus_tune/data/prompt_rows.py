"""Rows that a trainer by reward takes: a prompt, and the columns that reward functions read.

>>> why_no_prompts([{"prompt": "2 + 3 =", "sum": 5}], ["`train.jsonl` row 0"]) is None
True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from campus_tune.data.shapes import has_turns, is_answer
from campus_tune.words.types import Json
from campus_tune.words.wording import shown

PROMPT = "prompt"
IMAGES = ("image", "images")


def text_of(prompt: object) -> str:
    r"""What a prompt says, its turns one below the other.

    >>> text_of([{"role": "system", "content": "Add."}, {"role": "user", "content": "2 + 3"}])
    'Add.\n2 + 3'

    Args:
        prompt: a text or a chat.
    """
    if isinstance(prompt, str):
        return prompt
    turns = prompt if isinstance(prompt, list | tuple) else []
    return "\n".join(str(turn.get("content") or "") for turn in turns if isinstance(turn, Mapping))


def why_no_prompts(rows: Sequence[Json], places: Sequence[str]) -> str | None:
    """What is wrong with the first row that is no prompt; None where all are.

    Args:
        rows: of a training or test set; all texts, or all chats.
        places: what to call each.
    """
    for place, row in zip(places, rows, strict=True):
        if PROMPT not in row:
            return (
                f"{place} must have its prompt in the column {PROMPT!r}, got the columns {', '.join(map(str, row))}. "
                "Rename the column; what reward functions read stays in columns of its own."
            )
        if any(row.get(name) is not None for name in IMAGES):
            return f"{place} must be text, got images, which a curriculum of prompts does not order. Remove the column."
        prompt = row[PROMPT]
        if has_turns(prompt) != has_turns(rows[0][PROMPT]):
            return f"{place} must be a text or a chat as the first row is, got the other. Write all in one of the two."
        if not (has_turns(prompt) or isinstance(prompt, str)) or not text_of(prompt).strip():
            return (
                f"{place} must have a text or a chat of turns with role and content as its prompt, got "
                f"{shown(prompt)}. Correct or remove the row."
            )
        if has_turns(prompt) and is_answer(prompt[-1]):
            return (
                f"{place} must end with what is asked, got a chat that ends with the assistant's turn. Remove that "
                "turn: the model is to write it."
            )
    return None
