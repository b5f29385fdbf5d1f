"""From what somebody types to what is known of it: a name in full or in part, with or without its kind, or a message.

thin.keep, campus.thin.keep, --campus.thin.keep    one setting, however it is written
keep, gamma                                        every setting, option and field of this name
metric random, selector random                     one of several that share a name
-length                                            a metric turned around
"got 0 rows with a domain"                         a message, or a piece of it
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from campus_tune.cli.known.entry import KnownName
from campus_tune.cli.known.kinds import ALL
from campus_tune.cli.known.messages import FEWEST, find_message, words_of
from campus_tune.cli.known.training_fields import training_field
from campus_tune.cli.trl_names import trl_fields

_TEXTS = ("warning",)  # kinds whose names are whole sentences: the messages are looked at for these
NEAR = 5  # names that are offered in the place of one that nobody knows
LIKELY = 0.85  # from which on a name is taken for a misspelt one
_FIELD = re.compile(r"(--)?[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST = 60  # letters of a name


def find(asked: str) -> list[KnownName]:
    """All that a name, or a piece of a message, may mean; nothing where nobody knows it.

    Names come before messages, and names in full before parts of names.

    Args:
        asked: as it was typed.
    """
    name = " ".join(asked.split()).strip("`'\" ,;").removesuffix(":").rstrip()
    word, _, rest = name.partition(" ")
    kinds = [kind for many, kind in ALL.items() if word.lower() in (kind.word, many)]
    found = _named(rest, [kind.word for kind in kinds]) if kinds and rest else []
    found = found or (_named(name, []) if len(name) <= _LONGEST else [])
    if _FIELD.fullmatch(name) and _may_be_of_trl(name, found):
        found = [*training_field(name), *found]
    return found or (find_message(name) if len(words_of(name)) >= FEWEST else [])


def _may_be_of_trl(name: str, found: Sequence[KnownName]) -> bool:
    """Whether TRL is asked, which takes seconds: not of a misspelling, nor of what only we have."""
    if found:
        return all(one.kind in ("field", "command") for one in found) and name.removeprefix("--") in trl_fields()
    return not alike(name, LIKELY)


def _named(name: str, kinds: Sequence[str]) -> list[KnownName]:
    """Those of this name in full, else those that have it as one of their other names.

    Args:
        name: without its kind.
        kinds: words of the kinds to look in; empty for all.
    """
    looked = [kind for kind in ALL.values() if kind.word in kinds or (not kinds and kind.word not in _TEXTS)]
    every = [one for kind in looked for one in kind.names()]
    plain = name.removeprefix("-") if not name.startswith("--") else name
    wanted = {spelling for one in (name, plain) for spelling in _spellings(one)}
    for matches in (
        [one for one in every if wanted & {one.name, *(one.also[:2] if one.kind == "setting" else ())}],
        [one for one in every if wanted & {*one.also}],
    ):
        if matches:
            return matches
    return []


def _spellings(name: str) -> set[str]:
    """A name as it may be written: `drop: by`, `drop/by`, `Drop.By`, `hand over`."""
    small = name.lower()
    dotted = small.replace(": ", ".").replace(":", ".").replace("/", ".")
    return {name, small, dotted, dotted.replace(" ", "_"), dotted.replace("_", " "), dotted.replace("-", "_")}


def near(asked: str) -> list[str]:
    """Known names that are written like one that nobody knows, or that it is a piece of; the nearest first.

    Args:
        asked: as it was typed.
    """
    name = asked.strip("`'\" ").lower()[:_LONGEST]
    written = alike(name, 0.6)
    inside = [one for one in _names() if len(name) > 3 and name in one.lower() and one not in written]
    return [*written, *inside][:NEAR]


def alike(name: str, cutoff: float) -> list[str]:
    """Known names that are written like another one.

    Args:
        name: the other one.
        cutoff: how much they must have in common, in [0, 1].
    """
    return difflib.get_close_matches(name, _names(), n=NEAR, cutoff=cutoff)


def _names() -> list[str]:
    kinds = [kind for kind in ALL.values() if kind.word not in (*_TEXTS, "field", "option")]
    return list({spelling: None for kind in kinds for one in kind.names() for spelling in (one.name, *one.also[:1])})
