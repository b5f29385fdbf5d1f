"""Name → part, for everything a recipe can name: metrics, pacings, selectors, thinners.

A part is checked when it registers, not when a run calls it, and an unknown name is answered with the nearest
known one. Every list of accepted values that campus_tune prints is built here, so it cannot fall behind.

Parts of others come in two ways: a script registers its own before it makes the callback, or a package that is
installed names its module (`plugins`), which is imported when a recipe says a name that nobody knows yet.

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

from campus_tune.words import plugins
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


_registries: list[Registry[Any]] = []
_failed: list[str] | None = None  # what ask_plugins() answers; None until it was asked


def ask_plugins() -> list[str]:
    """Import every plug-in that is installed, once in a process, so that its parts are registered.

    All of them: which one has a name is known only then, and that two have it is a mistake to be told. The parts of one
    that fails on the way are taken back, so that no half of a package takes part in a run.

    Returns:
        A sentence for each that cannot be imported: it matters only to who needs its parts.
    """
    global _failed
    if _failed is None:
        _failed = []  # before the first import: a plug-in may itself ask for a part that is not there
        for plugin in plugins.installed():
            known = {id(part) for registry in _registries for part in registry._factories.values()}
            try:
                plugin.entry.load()
            except (Exception, SystemExit) as error:  # whatever the code of others does
                for registry in _registries:
                    for name, part in list(registry._factories.items()):
                        if id(part) not in known and not plugins.is_ours(part):
                            registry.forget(name)
                _failed.append(
                    f"The plug-in {plugin} cannot be imported (entry point {plugin.entry.name} = {plugin.entry.value}: "
                    f"{type(error).__name__}: {error}). If the part is its, repair or update it."
                )
    return _failed


class Registry(Generic[T]):
    """Factories by name. `T` is what a factory returns.

    Args:
        kind: the word for one part in messages, e.g. "selector".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._factories: dict[str, Callable[..., T]] = {}
        self._contested: dict[str, str] = {}  # name → that two plug-ins want it
        _registries.append(self)

    def register(self, name: str) -> Callable[[F], F]:
        """Decorator: make a class or function available under `name`.

        Raises:
            ValueError: the name is taken, not lower snake case, or the part has no docstring.
        """

        def keep(factory: F) -> F:
            if not name.isidentifier() or name != name.lower():
                raise ValueError(f"`{self.kind}` name must be lower snake case, got {name!r}. Rename {factory!r}.")
            if name in self._factories:
                raise ValueError(self._taken(name, factory))
            if not inspect.getdoc(factory):
                raise ValueError(f"`{self.kind}` {name!r} must have a docstring, its card, got none. Write one.")
            self._factories[name] = factory
            return factory

        return keep

    def _taken(self, name: str, factory: Callable[..., Any]) -> str:
        """That a name has a part already, with the packages of both."""
        first, second = plugins.owner(self._factories[name]), plugins.owner(factory)
        whose = "" if first == second else f", of {first} and of {second}"
        if whose and plugins.plugin_of(self._factories[name]) and plugins.plugin_of(factory):
            self._contested[name] = f"`{self.kind}` {name!r} is a part of {first} and of {second}. Uninstall one."
        return f"`{self.kind}` name must be new, got {name!r} twice{whose}. Rename {factory!r}."

    def forget(self, name: str) -> None:
        """Take a part out again, so that a notebook's cell that registers it can be run anew."""
        self._factories.pop(name, None)

    def names(self) -> list[str]:
        """All registered names, sorted; those of plug-ins once these were asked (`ask_plugins`)."""
        return sorted(self._factories)

    def get(self, name: str) -> Callable[..., T]:
        """The factory registered under `name`, here or by a plug-in.

        Raises:
            RecipeError: no such name, with the nearest one and the plug-ins that cannot be imported; or two plug-ins
                have a part of this name.
        """
        failed = [] if name in self._factories else ask_plugins()
        if name in self._contested:
            raise RecipeError(self._contested[name])
        if name not in self._factories:
            unknown = f"`{self.kind}` must be one of {', '.join(self.names())}, got {name!r}."
            raise RecipeError(" ".join([unknown + nearest(name, self.names()), *failed]))
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
            raise RecipeError(
                f"`{self.kind}` must have a name, one of {', '.join(self.names())}, got {setting!r}. Write {{name: …}}."
            )
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
