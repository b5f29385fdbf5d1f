"""Which versions of what made a file."""

from __future__ import annotations

import importlib
from collections.abc import Iterable


def versions(libraries: Iterable[str]) -> dict[str, str | None]:
    """The version of campus_tune, then of some libraries; None for one that is not installed.

    >>> list(versions(["numpy", "no_such_library"]).values())[2] is None
    True
    """
    ours: str = importlib.import_module("campus_tune").__version__
    return {"campus_tune": ours, **{name: _version(name) for name in libraries}}


def _version(library: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # 20 ms, and `--help` asks no library

    try:
        return version(library)
    except PackageNotFoundError:
        return None
