"""What a module has imported is put out of the garbage collector's sight: lm-eval alone makes a collection 0.4 s."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def _collections_are_of_the_tests_own() -> Iterator[None]:
    """A command collects after each model, and a module makes dozens of commands."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
