"""One row as what is said in it: its turns, which of them carry loss, and what a chat template is given besides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from campus_tune.words.types import Json


@dataclass(frozen=True)
class Conversation:
    """One row as text.

    Args:
        turns: messages of a chat, or plain texts that follow one another.
        counted: for each of them whether it carries loss.
        given: what the chat template is given besides the messages, by name.
    """

    turns: tuple[Any, ...]
    counted: tuple[bool, ...]
    given: Json = field(default_factory=dict)

    @property
    def is_chat(self) -> bool:
        """The turns have roles, for a chat template."""
        return bool(self.turns) and isinstance(self.turns[0], Mapping)


def content(turn: Mapping[str, Any]) -> str:
    """What a message says; of a list of parts, the texts."""
    said = turn.get("content") or ""
    return said if isinstance(said, str) else "".join(str(part.get("text") or "") for part in said)


def template_arguments(row: Mapping[str, Any]) -> Json:
    """What TRL gives the chat template of a row besides its messages: its tools, and `chat_template_kwargs`.

    >>> template_arguments({"messages": [], "tools": '[{"type": "function"}]', "chat_template_kwargs": {"brief": True}})
    {'tools': [{'type': 'function'}], 'brief': True}
    """
    tools = row.get("tools")
    given = {} if tools is None else {"tools": json.loads(tools) if isinstance(tools, str) else tools}
    return {**given, **(row.get("chat_template_kwargs") or {})}
