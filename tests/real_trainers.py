"""Fixtures of tests with real trainers, for the `conftest.py` of each folder that has some."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.libraries import leave_libraries_alone
from tests.run import tiny_run


@pytest.fixture(scope="session", autouse=True)
def _quick_collections() -> None:
    leave_libraries_alone()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny_trainer(tmp_path: Path) -> Callable[..., Any]:
    """`tiny_run.tiny_trainer` with `tmp_path / "run"` as output_dir unless another is given first."""

    @functools.wraps(tiny_run.tiny_trainer)
    def make(out: Path | None = None, **settings: Any) -> Any:
        return tiny_run.tiny_trainer(tmp_path / "run" if out is None else out, **settings)

    return make
