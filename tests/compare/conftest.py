"""What the libraries warn each other of, and a fixture for tests with real trainers."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:  # peft asks transformers
            item.add_marker(
                pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
            )


@pytest.fixture(scope="session")
def quick_collections() -> Iterator[None]:
    """Every run collects garbage; what the libraries are made of need not be searched each time."""
    import peft  # noqa: F401
    from trl import SFTTrainer

    assert SFTTrainer
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
