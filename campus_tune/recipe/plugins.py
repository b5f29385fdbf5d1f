"""Which packages of others a recipe's parts are of: they are as much a part of the run as its settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from campus_tune.method.pacing import PACINGS
from campus_tune.method.reweight import SHARES
from campus_tune.method.rules import RULES
from campus_tune.method.selectors import SELECTORS
from campus_tune.method.thin import THINNERS
from campus_tune.method.weights import WEIGHTS
from campus_tune.metrics import METRICS
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.plugins import version_of
from campus_tune.words.registry import Registry


def plugins_used(config: CampusConfig) -> dict[str, str]:
    """Package → version of the plug-ins whose parts a recipe names, by package; empty where all parts are ours.

    >>> plugins_used(CampusConfig(metrics=["length", {"name": "rank_mean", "of": ["mtld", "-length"]}]))
    {}
    """
    settings: list[tuple[Registry[Any], Any]] = [
        (METRICS, [*config.metrics, *(entry for _, entry in config.draw.entries())]),
        (THINNERS, config.thin and config.thin.how),
        (WEIGHTS, [entry.part for entry in config.weights or ()]),
        (PACINGS, config.pacing),
        (SELECTORS, config.selector),
        (SHARES, config.domains and config.domains.reweight),
        (RULES, [*(config.when or ())]),
    ]
    used: dict[str, str] = {}
    for registry, setting in settings:
        for name in set(_names(setting)) & set(registry.names()):
            used |= version_of(registry.get(name))
    return dict(sorted(used.items()))


def _names(setting: object) -> Iterator[str]:
    """Every word of a setting that could name a part, inside of other parts too (`of:`, `pieces:`)."""
    if isinstance(setting, str):
        yield setting.removeprefix("-")
    elif isinstance(setting, Mapping):
        yield from _names(setting.get("name"))
        for value in setting.values():
            if not isinstance(value, str):  # an option that is a word names no part: a column, a folder
                yield from _names(value)
    elif isinstance(setting, list | tuple):
        for entry in setting:
            yield from _names(entry)
