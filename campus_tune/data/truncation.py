"""How much of a conversation is trained, where preparation has cut its tokens off: the same cut in its text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from campus_tune.data.turns import Conversation, content

EDGE = 8  # characters by which the beginning or the end of a conversation is known
BROKEN = "\ufffd"  # what is decoded of a character that is cut in two


def cut_to(conversation: Conversation, text: str) -> Conversation:
    """The part of a conversation that stands in `text`.

    Args:
        conversation: whole.
        text: its tokens that are trained, decoded. Their end is missing, or (`truncation_mode: keep_end`) their
            beginning.
    """
    said = [content(turn) if isinstance(turn, Mapping) else str(turn) for turn in conversation.turns]
    filled = [saying.strip() for saying in said if saying.strip()] or [""]
    kept: list[str | None]
    if filled[-1][-EDGE:] in text and filled[0][:EDGE] not in text:
        back = _kept([saying[::-1] for saying in said[::-1]], text[::-1])[::-1]
        kept = [None] * (len(said) - len(back)) + [part[::-1] for part in back]  # a template may ask who speaks first
    else:
        kept = [*_kept(said, text)]
    turns = tuple(map(_with, conversation.turns, said, kept))  # as many as are kept
    return replace(conversation, turns=turns, counted=conversation.counted[: len(turns)])


def _kept(said: Sequence[str], text: str) -> list[str]:
    """What `text` begins with of some sayings, up to the one in which it ends."""
    at, kept = 0, []
    for i, saying in enumerate(said):
        place = text.find(saying.strip(), at)
        if place >= 0:
            at = place + len(saying.strip())
            kept.append(saying)
        elif any(later.strip() and text.find(later.strip(), at) >= 0 for later in said[i + 1 :]):
            kept.append(saying)  # not cut off: the template has written it in another way
        else:
            rest = (text[start:].strip(BROKEN) for start in range(at, len(text)))
            return [*kept, next((part for part in rest if part and saying.lstrip().startswith(part)), "")]
    return kept


def _with(turn: object, said: str, kept: str | None) -> object:
    """The turn, saying only what is kept; None for nothing at all."""
    if kept == said:
        return turn
    return {**turn, "content": kept or "", "tool_calls": None} if isinstance(turn, Mapping) else kept or ""
