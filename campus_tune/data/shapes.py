"""The shapes of rows that TRL trains, in one place: which columns it reads, and what a turn of a chat is.

    prompt, completion     texts, or both of them turns; only completions carry loss
    messages               turns with role and content; all of them carry loss, or the assistant's alone
    conversations          ShareGPT's turns with from and value, of which TRL makes messages
    text                   a plain text, under the name in `dataset_text_field`
    input_ids              tokenised by its user, as it stands

Beside them `tools` and `chat_template_kwargs` are given to a chat template.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from campus_tune.words.errors import DataError
from campus_tune.words.wording import shown

Row: TypeAlias = Mapping[str, Any]

ANSWERS = "assistant"  # the role of answers in a chat
TO_TEMPLATE = ("tools", "chat_template_kwargs")  # columns that a chat template is given besides the turns


@dataclass(frozen=True)
class Shape:
    """What the trainer's settings say of the rows; the fields are TRL's.

    Args:
        dataset_text_field: the column of plain texts.
        assistant_only_loss: of a chat, only the turns of the assistant carry loss.
        completion_only_loss: prompts carry no loss; null where there are completions.
    """

    dataset_text_field: str = "text"
    assistant_only_loss: bool = False
    completion_only_loss: bool | None = None

    @staticmethod
    def of(settings: Mapping[str, Any]) -> Shape:
        """The shape in a recipe's settings."""
        names = ("dataset_text_field", "assistant_only_loss", "completion_only_loss")
        return Shape(**{name: settings[name] for name in names if settings.get(name) is not None})


def columns_read(first: Row, names: Sequence[str], shape: Shape) -> tuple[str, ...] | None:
    """The columns that TRL reads, as it looks for them; None where it finds none.

    Args:
        first: the first row.
        names: all columns.
        shape: what the trainer's settings say of the rows.
    """
    if "prompt" in names:
        return ("prompt", "completion") if "completion" in names else None
    if is_chat(first.get("conversations"), "from", "value"):
        return ("conversations",)
    messages = first.get("messages")
    if "messages" in names and (has_turns(messages) or shape.dataset_text_field not in names):
        # text, or ShareGPT's turns under this name: another name or form of the whole column mends it, not of a row
        return None if isinstance(messages, str) or is_chat(messages, "from", "value") else ("messages",)
    if shape.dataset_text_field in names:
        return (shape.dataset_text_field,)
    talk = first.get("conversations")
    of_turns = "conversations" in names and isinstance(talk, list | None) and not has_turns(talk)
    return ("conversations",) if of_turns else None


def must_have(names: Sequence[str], shape: Shape) -> str:
    """That rows of these columns have no shape that TRL trains, to be followed by what to do."""
    return (
        "training rows must have prompt and completion, messages, conversations with from and value, or "
        f"{shape.dataset_text_field}, got the columns {', '.join(names)}. "
        + (
            "Prompts and a reward are trained by campus-tune grpo (campus-tune guide prompts). "
            if "prompt" in names
            else ""
        )
    )


def is_chat(value: object, *keys: str) -> bool:
    """A list whose first entry is a mapping with these keys."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping) and {*keys} <= value[0].keys()


def has_turns(value: object) -> bool:
    """A chat as TRL knows it."""
    return is_chat(value, "role")


def is_answer(turn: object) -> bool:
    """A turn of a chat that the assistant says."""
    return isinstance(turn, Mapping) and turn.get("role") == ANSWERS


def turns_of(said: object) -> tuple[Any, ...]:
    """A plain text as one turn, an empty one too; messages as they are, without the null fields that datasets adds."""
    if isinstance(said, str) or not isinstance(said, Sequence):
        return (said,)
    return tuple(
        {name: value for name, value in turn.items() if value is not None} if isinstance(turn, Mapping) else turn
        for turn in said
    )


def checked_turns(name: str, chat: object) -> Sequence[Row]:
    """The turns of a chat.

    Raises:
        DataError: it is none.
    """
    strange = [turn for turn in chat if not isinstance(turn, Mapping)][:1] if isinstance(chat, list) else chat
    if isinstance(chat, list) and not strange:
        return chat
    raise DataError(
        f"`{name}` must be a list of turns, each with what was said and by whom, got {shown(strange)}. Correct or "
        "remove the row."
    )


def as_messages(row: Row) -> Row:
    """The row with the `messages` that TRL makes of ShareGPT's `conversations`; others as they are.

    Raises:
        DataError: a turn of them is none.
    """
    talk = row.get("conversations")
    if not is_chat(talk, "from", "value"):
        return row
    names = {"from": "role", "value": "content"}
    turns = [
        {names.get(name, name): value for name, value in turn.items()} for turn in checked_turns("conversations", talk)
    ]
    return {**{name: value for name, value in row.items() if name != "conversations"}, "messages": turns}
