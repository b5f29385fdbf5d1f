"""What every test runs under: no network, one thread, a score cache of its own, and hypothesis without a stopwatch.

Property tests draw anew in every run, all from one seed, which a failure names with the command that repeats it. CI
(`tests/run.sh`) runs them twice: with a seed of the day (the profile `fresh`), and, among all other tests, with what is
drawn today as it was drawn yesterday.

Tests kill processes and never cut the power: what a process has written is there without waiting for the disk. A tiny
run waits for it some thirty times, two fifths of its time where a wait takes 13 ms.
"""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# before anything imports torch or transformers, for a plain `pytest` as for tests/run.sh
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
from hypothesis import HealthCheck, settings

from tests.strategies import EXAMPLES

os.fsync = os.fstat  # type: ignore[assignment]  # not waited for; a file that is closed is still an error

RANKS = "tests/distributed/"

settings.register_profile(
    "campus_tune",
    max_examples=EXAMPLES,
    deadline=None,  # a busy machine is not a bug
    derandomize="CI" in os.environ,  # what CI checks today it checks tomorrow; at home every run looks further
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("fresh", settings.get_profile("campus_tune"), derandomize=False)
settings.load_profile("campus_tune")


@pytest.hookimpl(tryfirst=True)  # before hypothesis reads the option, and xdist hands it to its processes
def pytest_configure(config: pytest.Config) -> None:
    """One seed for all property tests."""
    if config.option.hypothesis_seed is None:
        config.option.hypothesis_seed = str(secrets.randbits(32))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The round of the profile `fresh` does not spend its time on importing tests that are no properties."""
    if config.option.hypothesis_profile != "fresh" or collection_path.suffix != ".py":
        return None
    return True if "hypothesis" not in collection_path.read_text("utf-8") else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """How to repeat the property tests that failed."""
    failed = [report for report in terminalreporter.stats.get("failed", []) if "hypothesis" in report.keywords]
    if failed:
        given = ["CI=1"] if settings.default.derandomize else []
        given += ["python -m pytest", *dict.fromkeys(shlex.quote(report.nodeid) for report in failed)]
        if not settings.default.derandomize:
            given += [f"--hypothesis-profile={settings.get_current_profile_name()}"]
            given += [f"--hypothesis-seed={config.option.hypothesis_seed}"]
        terminalreporter.write_line(f"to repeat the failed property tests: {' '.join(given)}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: processes that share the files then end at about the same time."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files are dealt whole; those with many ranks all to one process, which then warms up once for all of them."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):  # type: ignore[misc]  # xdist is untyped
        def _split_scope(self, nodeid: str) -> str:
            return RANKS if nodeid.startswith(RANKS) else str(super()._split_scope(nodeid))

    return Files(config, log)


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
