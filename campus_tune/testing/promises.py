"""How a broken promise is told, and what every part promises before it is asked for anything."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from campus_tune.words.registry import Registry

LEAST_WORDS = 10  # of a card: fewer cannot say what a part does and when one would choose it


class BrokenPromise(AssertionError):  # noqa: N818 - a test that fails, not an error of a run
    """A part does not do what every part of its kind must; says which promise, what was given and what came."""


def promise(kept: bool | Any, sentence: str) -> None:
    """Say what is promised where it is not kept.

    Raises:
        BrokenPromise: it is not.
    """
    if not kept:
        raise BrokenPromise(sentence)


def name_in(setting: str | Mapping[str, Any]) -> str:
    """The part that a setting names: of `-mtld` and of `{name: mtld, label: words}` it is `mtld`."""
    return str(setting if isinstance(setting, str) else setting["name"]).removeprefix("-")


def check_card(registry: Registry[Any], name: str, bases: tuple[type, ...]) -> None:
    """A part has a docstring of its own that says what it does: what `campus-tune` and an editor show of it.

    Args:
        registry: of its kind.
        name: registered.
        bases: the classes whose docstring would be inherited.
    """
    card = inspect.getdoc(registry.get(name)) or ""
    promise(
        card not in {inspect.getdoc(base) for base in bases} and len(card.split()) >= LEAST_WORDS,
        f"`{name}` must have a docstring of its own, its card, of {LEAST_WORDS} words or more, got {card!r}. Say what "
        "it does, when one would choose it, what it costs and where it is from.",
    )


def check_frozen(part: object, name: str, *, may_be_plain: bool) -> None:
    """Settings are frozen: a part that can change is not the one that the ledger names.

    Args:
        part: as a recipe builds it.
        name: registered.
        may_be_plain: a class without settings need be no dataclass.
    """
    if may_be_plain and not getattr(part, "__dict__", {}):
        return
    parameters = getattr(type(part), "__dataclass_params__", None)
    frozen = parameters is not None and parameters.frozen
    promise(frozen, f"`{name}` must be a frozen dataclass, got {type(part).__name__}. Write @dataclass(frozen=True).")
    changeable = [
        field.name
        for field in dataclasses.fields(part)  # type: ignore[arg-type]  # is one
        if isinstance(getattr(part, field.name), list | dict | set)
    ]
    promise(
        not changeable,
        f"`{name}` must keep its settings so that nobody can change them, got a list, dict or set in "
        f"{', '.join(changeable)}. Keep a tuple or a frozenset of it.",
    )
