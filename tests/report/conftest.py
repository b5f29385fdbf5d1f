"""Each page is drawn once for all tests: drawing takes seconds, looking at it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from campus_tune.report.write import write_report
from tests.report.made_up import make_comparison, make_run


@pytest.fixture(scope="session")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a finished run of six stages."""
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "small", ranks=4))


@pytest.fixture(scope="session")
def long_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run of a thousand stages."""
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "long", stages=1000))


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison's folder, one of whose runs diverged, with its page."""
    folder = make_comparison(tmp_path_factory.mktemp("comparisons") / "one", diverged=("reversed", 1))
    write_report(folder)
    return folder
