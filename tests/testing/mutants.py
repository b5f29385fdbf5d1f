"""Parts that break a promise, registered while a test asks whether that is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from campus_tune.words.registry import Registry


@contextmanager
def registered(registry: Registry[Any], part: Callable[..., Any], name: str = "mutant") -> Iterator[str]:
    """`part` under a name, while the block lasts."""
    registry.register(name)(part)
    try:
        yield name
    finally:
        registry.forget(name)
