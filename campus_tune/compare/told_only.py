"""A recipe whose rules do less: some of what they do becomes a note, so that a control keeps watching what it lacks."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import get_args

from campus_tune.method.firing import Action
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.types import Json

NOTE: Action = "note"
ACTIONS: tuple[Action, ...] = tuple(action for action in get_args(Action) if action != NOTE)


def actions_of(config: CampusConfig) -> set[Action]:
    """All that the rules of a recipe do beside notes."""
    return {one.action for one in config.steer.asked()} - {NOTE}


def noting(block: Json, actions: Collection[str]) -> Json:
    """The block with these actions of its rules taken out; a rule that is left with nothing to do notes.

    >>> noting({"when": {"regression": ["review", "raise"], "stagnation": "review"}}, ["review"])["when"]
    {'regression': ['raise'], 'stagnation': 'note'}

    Args:
        block: a campus block.
        actions: that are no longer done.
    """
    found = dict(block)
    if block.get("when"):
        found["when"] = {event: _entry(entry, actions) for event, entry in block["when"].items()}
    if block.get("milestones"):
        found["milestones"] = [_entry(entry, actions) for entry in block["milestones"]]
    return found


def _entry(entry: object, actions: Collection[str]) -> object:
    """What is done about one event: an action, several, or a mapping with `then`."""
    if isinstance(entry, Mapping):
        return {**entry, "then": _entry(entry["then"], actions)} if "then" in entry else dict(entry)
    if isinstance(entry, list | tuple):
        return [action for action in entry if action not in actions] or NOTE
    return NOTE if entry in actions else entry
