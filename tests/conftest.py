"""What every test runs under: no network, one thread, a score cache of its own, and hypothesis without a stopwatch."""

from __future__ import annotations

import os
from collections.abc import Iterator

# before anything imports torch or transformers, for a plain `pytest` as for tests/run.sh
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "campus_tune",
    max_examples=60,
    deadline=None,  # a busy machine is not a bug
    derandomize="CI" in os.environ,  # what CI checks today it checks tomorrow; at home every run looks further
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("campus_tune")


@pytest.fixture(autouse=True, scope="module")
def _no_cache_of_another_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs that fixtures of a module make share a cache, but not with other modules: last digits go by the batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAMPUS_TUNE_CACHE", str(tmp_path_factory.mktemp("scores_of_fixtures")))
        yield


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds another test's scores, or touches the user's."""
    monkeypatch.setenv("CAMPUS_TUNE_CACHE", str(tmp_path_factory.mktemp("scores")))
