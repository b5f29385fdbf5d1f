"""How property tests are drawn: anew in every run, alike on CI, and again when a failure is to be repeated."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FRESH = ("--hypothesis-profile=fresh", "--hypothesis-seed=7")
PROPERTIES = """
from pathlib import Path
from hypothesis import given, strategies as st
from tests.strategies import examples

def draw(n, file):
    with Path(__file__).with_name(file).open("a") as told:
        told.write(f"{n}\\n")

@given(st.integers(0, 10**9))
def test_fails(n):
    draw(n, "fails")
    assert n < 10**6

@given(st.integers(0, 10**9))
def test_holds(n):
    draw(n, "holds")

@examples(30)
@given(st.integers(0, 10**9))
def test_is_slow(n):
    draw(n, "slow")
"""


def run(folder: Path, *options: str, ci: bool = False) -> tuple[str, dict[str, list[str]]]:
    """How pytest says to repeat what failed, and the numbers that each property drew, under our conftest."""
    tests = folder / "tests"
    tests.mkdir(parents=True)
    for name in ("conftest.py", "strategies.py"):
        shutil.copyfile(ROOT / "tests" / name, tests / name)
    (tests / "test_properties.py").write_text(PROPERTIES)
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | ({"CI": "1"} if ci else {})
    command = [sys.executable, "-m", "pytest", "-q", "--import-mode=importlib", "--rootdir=.", *options, "tests"]
    if "-n" not in options:  # the plug-ins of other packages take seconds to load
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        command += ["-p", "_hypothesis_pytestplugin"]
    done = subprocess.run(
        command, cwd=folder, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert "1 failed, 2 passed" in (done.stdout.splitlines() or [done.stderr])[-1], done  # CI reads the last line
    (again,) = re.findall("to repeat the failed property tests: (.*)", done.stdout)
    return again, {told: (tests / told).read_text().split() for told in ("fails", "holds", "slow")}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, list[str]]]:
    return run(tmp_path_factory.mktemp("fresh") / "run", *FRESH, ci=True)


def test_a_failure_at_home_names_the_seed_that_repeats_it(tmp_path: Path) -> None:
    again, drawn = run(tmp_path / "first")
    assert again.startswith("python -m pytest tests/test_properties.py::test_fails --hypothesis-profile=campus_tune ")
    repeated = run(tmp_path / "repeated", *(word for word in again.split() if word.startswith("--hypothesis")))
    assert repeated == (again, drawn)
    assert [len(drawn[told]) for told in ("holds", "slow")] == [60, 30]


def test_without_a_seed_every_run_draws_others(tmp_path: Path) -> None:
    assert run(tmp_path / "first")[1]["holds"] != run(tmp_path / "second")[1]["holds"]


def test_ci_draws_what_it_drew_before(tmp_path: Path) -> None:
    again, drawn = run(tmp_path / "first", ci=True)
    assert again == "CI=1 python -m pytest tests/test_properties.py::test_fails"
    assert run(tmp_path / "second", ci=True) == (again, drawn)


def test_the_fresh_round_of_ci_draws_as_many_and_home_can_repeat_it(tmp_path: Path, fresh: Any) -> None:
    again, drawn = fresh
    assert again.endswith(f" {' '.join(FRESH)}")
    assert [len(drawn[told]) for told in ("holds", "slow")] == [60, 30]
    assert run(tmp_path / "home", *FRESH) == fresh


def test_the_processes_of_xdist_draw_from_the_same_seed(tmp_path: Path, fresh: Any) -> None:
    pytest.importorskip("xdist")
    assert run(tmp_path / "two", "-n", "2", *FRESH) == fresh


# -- tests/run.sh, with programs that only say how they were called ----------------------------------------------------

PYTHON = """#!/usr/bin/env bash
case "$*" in
    *sys.prefix*) echo "$VIRTUAL_ENV" ;;
    *secrets*) echo 42 ;;
    "-m pytest"*) echo "pytest ${*:3}"; [[ "$*" != *fresh* ]] || exit "$FRESH" ;;
esac
"""


def run_sh(folder: Path, *words: str, ci: bool, fresh: int = 0) -> tuple[int, list[str]]:
    """Its exit status, and how it called pytest; `fresh` is the exit status of the round with a fresh seed."""
    (folder / "bin").mkdir()
    (folder / "tests").mkdir()
    for name in ("pyproject.toml", "tests/constraints.txt", "tests/environment.sh", "tests/run.sh"):
        shutil.copyfile(ROOT / name, folder / name)
    for name in ("python", "ruff", "mypy"):
        (folder / "bin" / name).write_text(PYTHON)
        (folder / "bin" / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | ({"CI": "1"} if ci else {})
    environment |= {"VIRTUAL_ENV": str(folder), "FRESH": str(fresh)}
    command = ["bash", str(folder / "tests" / "run.sh"), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return done.returncode, [line for line in done.stdout.splitlines() if "pytest" in line]


XDIST = "-q -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart=1"
ROUND = "-m hypothesis --hypothesis-profile=fresh --hypothesis-seed=42"


def test_ci_says_the_fresh_seed_and_ends_with_the_whole_run(tmp_path: Path) -> None:
    told = f"property tests with a fresh seed; to repeat them: python -m pytest tests {ROUND}"
    assert run_sh(tmp_path, ci=True) == (0, [told, f"pytest {XDIST} tests {ROUND}", f"pytest {XDIST}"])


def test_at_home_there_is_one_round(tmp_path: Path) -> None:
    assert run_sh(tmp_path, "tests/method/test_orders.py", ci=False) == (
        0,
        [f"pytest {XDIST} tests/method/test_orders.py"],
    )


def test_a_property_that_fails_under_the_fresh_seed_fails_ci(tmp_path: Path) -> None:
    code, calls = run_sh(tmp_path, ci=True, fresh=1)
    assert code == 1
    assert calls[-1].endswith(ROUND)  # nothing after it says that all is well


def test_tests_among_which_is_no_property_are_no_failure(tmp_path: Path) -> None:
    code, calls = run_sh(tmp_path, "tests/test_layers.py", ci=True, fresh=5)
    assert code == 0
    assert calls[-1] == f"pytest {XDIST} tests/test_layers.py"
