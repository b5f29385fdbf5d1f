"""One warm process for a session's tests with many ranks; everything in this folder is slow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.distributed.ranks import Warm


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    """Runs scenarios on many ranks; made when the first test asks for it."""
    with Warm(tmp_path_factory.mktemp("ranks")) as made:
        yield made
