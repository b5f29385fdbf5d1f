"""Each page is drawn once for all tests: drawing takes seconds, looking at it does not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from campus_tune.report import figures
from campus_tune.report.write import write_report
from tests.report.made_up import make_comparison, make_run
from tests.report.made_up_map import make_map


@contextmanager
def coarse_pictures() -> Iterator[None]:
    """A quarter of the pixels, the same size on the page: half of a page's seconds are its pixels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "DPI", figures.DPI // 2)
        yield


@pytest.fixture(scope="session")
def run_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a finished run of six stages, with a map of its rows."""
    run = make_run(tmp_path_factory.mktemp("runs") / "small", ranks=4)
    make_map(run)
    with coarse_pictures():
        return write_report(run)


@pytest.fixture(scope="session")
def long_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run of a thousand stages, its pictures as fine as a user's."""
    return write_report(make_run(tmp_path_factory.mktemp("runs") / "long", stages=1000))


@pytest.fixture(scope="session")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison's folder, one of whose runs diverged, with its page."""
    folder = make_comparison(tmp_path_factory.mktemp("comparisons") / "one", diverged=("reversed", 1))
    with coarse_pictures():
        write_report(folder)
    return folder
