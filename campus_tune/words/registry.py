"""Name → part, for everything a recipe can name: metrics, pacings, selectors.

A part is checked when it registers, not when a run calls it, and an unknown name is answered with the nearest
known one. Every list of accepted values that campus_tune prints is built here, so it cannot fall behind.

>>> colours: Registry[int] = Registry("colour")
>>> @colours.register("red")
... def red() -> int:
...     "The colour red."
...     return 1
>>> colours.names()
['red']
>>> colours.get("rad")
Traceback (most recent call last):
campus_tune.words.errors.RecipeError: `colour` must be one of red, got 'rad'. Did you mean 'red'?
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

from campus_tune.words.errors import RecipeError

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_LONGEST = 100  # characters of a name that are compared: a whole page of them would take minutes


def nearest(name: str, known: Iterable[str]) -> str:
    """The hint that ends an unknown-name message: " Did you mean 'x'?", or nothing when no name is near.

    >>> nearest("pasing", ["pacing", "selector"])
    " Did you mean 'pacing'?"
    >>> nearest("zzz", ["pacing", "selector"])
    ''
    """
    close = difflib.get_close_matches(name[:_LONGEST], list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


class Registry(Generic[T]):
    """Factories by name. `T` is what a factory returns.

    Args:
        kind: the word for one part in messages, e.g. "selector".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._factories: dict[str, Callable[..., T]] = {}

    def register(self, name: str) -> Callable[[F], F]:
        """Decorator: make a class or function available under `name`.

        Raises:
            ValueError: the name is taken, not lower snake case, or the part has no docstring.
        """

        def keep(factory: F) -> F:
            if not name.isidentifier() or name != name.lower():
                raise ValueError(f"`{self.kind}` name must be lower snake case, got {name!r}. Rename {factory!r}.")
            if name in self._factories:
                raise ValueError(f"`{self.kind}` name must be new, got {name!r} twice. Rename {factory!r}.")
            if not inspect.getdoc(factory):
                raise ValueError(f"`{self.kind}` {name!r} must have a docstring, its card, got none. Write one.")
            self._factories[name] = factory
            return factory

        return keep

    def names(self) -> list[str]:
        """All registered names, sorted."""
        return sorted(self._factories)

    def get(self, name: str) -> Callable[..., T]:
        """The factory registered under `name`.

        Raises:
            RecipeError: no such name; the nearest one is suggested.
        """
        if name not in self._factories:
            raise RecipeError(
                f"`{self.kind}` must be one of {', '.join(self.names())}, got {name!r}.{nearest(name, self.names())}"
            )
        return self._factories[name]

    def options(self, name: str) -> list[str]:
        """The option names that the part `name` takes."""
        parameters = inspect.signature(self.get(name)).parameters.values()
        return [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]

    def from_setting(self, setting: str | Mapping[str, Any]) -> T:
        """The part that a recipe names: `linear`, or `{name: root, power: 2}`.

        Raises:
            RecipeError: no name, unknown name or option (nearest one suggested), or a value out of its range.
        """
        options = {"name": setting} if isinstance(setting, str) else dict(setting)
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise RecipeError(f"`{self.kind}` must have a name, one of {', '.join(self.names())}, got {setting!r}.")
        return self.build(name, options)

    def build(self, name: str, options: Mapping[str, Any] | None = None) -> T:
        """Make the part `name` with these options.

        Raises:
            RecipeError: unknown name, unknown option (nearest one suggested), or an option out of its range.
        """
        factory, options = self.get(name), dict(options or {})
        known = self.options(name)
        problems = [
            f"`{self.kind}: {name}` takes {', '.join(known) or 'no options'}, got {key!r}.{nearest(str(key), known)}"
            for key in options
            if key not in known
        ]
        if problems:
            raise RecipeError(problems)
        try:
            return factory(**options)
        except (TypeError, ValueError) as error:
            if isinstance(error, RecipeError):
                raise
            raise RecipeError(f"`{self.kind}: {name}`: {error}") from error
