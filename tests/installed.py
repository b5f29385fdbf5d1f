"""A package as it lies in an environment when it is installed: modules, and a `.dist-info` beside them.

Written by hand, since an installer needs a build backend and seconds: `importlib.metadata` reads these two files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def lay_out(folder: Path, package: str, version: str, *, parts: Mapping[str, str], modules: Mapping[str, str]) -> None:
    """Install a plug-in into a folder of the search path.

    Args:
        folder: such as site-packages.
        package: its name.
        version: of it.
        parts: entry point → what it names.
        modules: file → source.
    """
    info = folder / f"{package}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    lines = [f"{name} = {value}" for name, value in parts.items()]
    (info / "entry_points.txt").write_text("\n".join(["[campus_tune.parts]", *lines, ""]))
    for name, source in modules.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source)
