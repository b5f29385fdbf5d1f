"""Packages of others that bring parts: which are installed, and whose a part is.

A package says in its metadata which of its modules registers parts; the name before the `=` is the package's own:

    [project.entry-points."campus_tune.parts"]
    sentences = "campus_sentences.metrics"

Nothing of it is imported while a recipe names only parts that are known already (`registry.Registry.get`). A recipe
can say names and nothing else: what is imported is what somebody has installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "campus_tune.parts"
OURS = __name__.split(".")[0]


@dataclass(frozen=True)
class Plugin:
    """One entry of an installed package.

    Args:
        package: as it is called where it is installed from.
        version: of the package.
        entry: what to import.
    """

    package: str
    version: str
    entry: EntryPoint

    def __str__(self) -> str:
        return f"{self.package} {self.version}"

    def shares(self, module: str) -> int:
        """How many names from the left its module has in common with another: 0 is another package's."""
        mine, theirs = self.entry.module.split("."), module.split(".")
        return next((i for i, pair in enumerate(zip(mine, theirs, strict=False)) if pair[0] != pair[1]), len(mine))


def installed() -> list[Plugin]:
    """The plug-ins that are installed, by package and entry, so that every process meets them in one sequence."""
    from importlib.metadata import entry_points  # 20 ms, where no recipe asks for a part of others

    found = [
        Plugin(entry.dist.name, entry.dist.version, entry)
        for entry in entry_points(group=GROUP)
        if entry.dist is not None  # None of one that was made by hand, and lies in no package
    ]
    return sorted(found, key=lambda plugin: (plugin.package, plugin.entry.name))


def module_of(part: Callable[..., Any]) -> str:
    """The dotted name of the module that defines a part."""
    return str(getattr(part, "__module__", None) or "")


def is_ours(part: Callable[..., Any]) -> bool:
    """Whether campus_tune itself brings a part."""
    return module_of(part).split(".")[0] == OURS


def plugin_of(part: Callable[..., Any]) -> Plugin | None:
    """The plug-in that a part is of, however it came to be imported; None for ours and for a user's own file."""
    if is_ours(part):
        return None  # without a look at what is installed: no recipe of our parts pays for it
    module = module_of(part)
    near = max(installed(), key=lambda plugin: plugin.shares(module), default=None)
    return near if near is not None and near.shares(module) else None


def owner(part: Callable[..., Any]) -> str:
    """Whose a part is, in words: a package with its version, or the module of a user's own."""
    return OURS if is_ours(part) else str(plugin_of(part) or f"the module {module_of(part)}")


def version_of(part: Callable[..., Any]) -> dict[str, str]:
    """Package → version where a part is a plug-in's, else nothing: for what is kept of a part's doing."""
    plugin = plugin_of(part)
    return {} if plugin is None else {plugin.package: plugin.version}
