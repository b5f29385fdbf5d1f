"""What `pip install campus-tune` would bring: the wheel, built here without a network, looked into and not installed.

`.ci/package` installs it, in fresh environments with each extra.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest

import campus_tune

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
NOT_OURS = shutil.ignore_patterns("__pycache__", "*.egg-info")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    """Built from a copy: setuptools leaves its work behind."""
    for name in ("build", "setuptools"):
        pytest.importorskip(name)
    copy = tmp_path_factory.mktemp("package")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("campus_tune", "tests/demo", "eval/situations", "recipes"):
        shutil.copytree(ROOT / name, copy / name, ignore=NOT_OURS)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "made"]
    built = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    [path] = (copy / "made").iterdir()
    return ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: ZipFile) -> Message:
    [name] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_bytes(wheel.read(name))


def test_the_wheel_is_the_package_whole_and_nothing_else(wheel: ZipFile) -> None:
    info = f"campus_tune-{campus_tune.__version__}.dist-info/"
    files = (path for path in (ROOT / "campus_tune").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    package = {str(path.relative_to(ROOT)) for path in files}
    assert {name for name in wheel.namelist() if not name.startswith(info)} == package
    assert f"{info}licenses/LICENSE" in wheel.namelist()


@pytest.mark.parametrize(
    "data",
    [
        "py.typed",
        "CHANGES.md",
        "evaluate/suites/smoke.yaml",
        "preview/evidence.json",
        "recipe/campus.schema.json",
        "report/templates/run.html.jinja",
    ],
)
def test_what_is_read_beside_the_code_is_in_it(wheel: ZipFile, data: str) -> None:
    assert wheel.read(f"campus_tune/{data}") == (ROOT / "campus_tune" / data).read_bytes()


def test_it_runs_everywhere_and_brings_the_command(wheel: ZipFile) -> None:
    assert Path(str(wheel.filename)).name == f"campus_tune-{campus_tune.__version__}-py3-none-any.whl"
    [entries] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert "campus-tune = campus_tune.cli.main:main" in wheel.read(entries).decode()


def test_its_version_is_that_of_the_package(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"]) == ("campus_tune", campus_tune.__version__)


def test_its_page_is_the_readme(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = metadata.get_payload(decode=True)
    assert isinstance(page, bytes)
    assert page.decode("utf-8").strip() == (ROOT / "README.md").read_text("utf-8").strip()


def test_it_asks_for_what_the_project_says_and_no_more(metadata: Message) -> None:
    asked = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert len(asked) == len(PROJECT["dependencies"])
    assert set(metadata.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])
    assert "arxiv.org" in metadata["Project-URL"]


def test_twine_finds_nothing_to_say(wheel: ZipFile) -> None:
    pytest.importorskip("twine")
    command = [sys.executable, "-m", "twine", "--no-color", "check", "--strict", str(wheel.filename)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_every_dependency_has_a_floor_that_ci_can_install() -> None:
    bare = [line for line in PROJECT["dependencies"] if not re.search(r">=\d", line)]
    assert bare == []


def test_the_floors_lie_below_what_ci_has() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (ROOT / "tests/constraints.txt").read_text("utf-8").splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    have = {canonicalize_name(name): version for name, version in pinned.items()}
    extras = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    for line in [*PROJECT["dependencies"], *extras]:
        asked = Requirement(line)
        if asked.name != "campus_tune":
            assert asked.specifier.contains(have[canonicalize_name(asked.name)], prereleases=True), line
