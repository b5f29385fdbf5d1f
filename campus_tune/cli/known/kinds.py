"""Every kind of name that there is, and the names of each: what `list` shows and `explain` looks in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

from campus_tune.cli.known import messages, words
from campus_tune.cli.known.commands import commands
from campus_tune.cli.known.entry import KnownName
from campus_tune.cli.known.parts import KINDS, parts
from campus_tune.cli.known.settings import settings


class NameKind(NamedTuple):
    """One kind.

    Args:
        word: of one name, as `explain` takes it before the name.
        says: what they are, in one line.
        names: that there are.
    """

    word: str
    says: str
    names: Callable[[], list[KnownName]]


_parts, _of_ledger = cache(parts), cache(words.events)  # asked once in a process, whoever asks


def _only(names: Callable[[], list[KnownName]], word: str) -> Callable[[], list[KnownName]]:
    return lambda: [one for one in names() if one.kind == word]


ALL: Mapping[str, NameKind] = {  # by the word that `list` takes, in the sequence in which it shows them
    "settings": NameKind(
        "setting", "what the blocks `campus`, `compare` and `search` of a YAML can say", cache(settings)
    ),
    **{kind.many: NameKind(kind.word, kind.says, _only(_parts, kind.word)) for kind in KINDS},
    "options": NameKind("option", "what parts take: `root.power`", _only(_parts, "option")),
    "rewards": NameKind("reward", "what a bandit learns from", cache(words.rewards)),
    "actions": NameKind("action", "what can be done when a rule sees something", cache(words.actions)),
    "arms": NameKind("arm", "what `compare` can compare a recipe with, by name", cache(words.arms)),
    "situations": NameKind("situation", "what was measured of what helps when", cache(words.situations)),
    "suites": NameKind("suite", "official tasks that come with campus_tune", cache(words.suites)),
    "events": NameKind("event", "lines of the ledger", _only(_of_ledger, "event")),
    "fields": NameKind("field", "what a line of the ledger holds: `decision.scope`", _only(_of_ledger, "field")),
    "outcomes": NameKind("outcome", "how a decision came about", cache(words.outcomes)),
    "regions": NameKind("region", "of the data map", cache(words.regions)),
    "verdicts": NameKind("verdict", "the words of `compare` and `ablate`", cache(words.verdicts)),
    "terms": NameKind("term", "words of the method", cache(words.terms)),
    "commands": NameKind("command", "of the command line", cache(commands)),
    "errors": NameKind(
        "error", "classes of errors; explain a piece of a message for what it says", cache(messages.errors)
    ),
    "warnings": NameKind(
        "warning", "what `check` finds and a run warns of, each with how grave it is", cache(messages.warnings)
    ),
}
