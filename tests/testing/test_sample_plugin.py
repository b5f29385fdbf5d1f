"""A package of somebody else, installed beside ours: its parts are named in a recipe, planned with, and checked."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.installed import lay_out

SAMPLE = Path(__file__).parent / "sample_plugin"
ROOT = Path(__file__).parents[2]
RECIPE = {
    "metrics": ["commas", "-length"],
    "pacing": {"name": "smooth", "start": 0.2},
    "selector": "highest_perplexity",
    "stages": 4,
    "seed": 0,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed: by pip, or by hand where there is none or nothing that it can build with."""
    folder = tmp_path_factory.mktemp("environment")
    site, source = folder / "site", folder / "source"
    shutil.copytree(SAMPLE, source, ignore=shutil.ignore_patterns("__pycache__"))  # a build leaves files in its source
    built = None
    if all(importlib.util.find_spec(name) for name in ("pip", "setuptools")):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        command = [*pip, "--disable-pip-version-check", "--target", site, source]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built is None or built.returncode:
        print("" if built is None else built.stdout + built.stderr)  # shown where a test of it fails
        shutil.rmtree(site, ignore_errors=True)
        project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
        modules = {str(path.relative_to(SAMPLE)): path.read_text() for path in SAMPLE.rglob("*.py")}
        parts = project["entry-points"]["campus_tune.parts"]
        lay_out(site, project["name"], project["version"], parts=parts, modules=modules)
    return site


def python(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments],
        env=environment,
        cwd=site,
        capture_output=True,
        text=True,
        check=False,
    )


def recipe(site: Path, **changes: Any) -> str:
    path = site / "recipe.yaml"
    path.write_text(json.dumps({"campus": {**RECIPE, **changes}}))  # JSON is YAML
    return str(path)


def test_parts_of_an_installed_package_are_planned_with(site: Path) -> None:
    run = python(site, "-m", "campus_tune", "simulate", "--config", recipe(site), "--rows", "400", "--batch", "8")
    assert run.returncode == 0, run.stderr
    assert "commas" in run.stdout


def test_a_misspelt_part_of_a_package_is_corrected_by_the_command(site: Path) -> None:
    run = python(site, "-m", "campus_tune", "simulate", "--config", recipe(site, selector="highest_perplexty"))
    assert run.returncode != 0
    assert "got 'highest_perplexty'. Did you mean 'highest_perplexity'?" in run.stdout + run.stderr


def test_an_option_of_a_part_of_a_package_is_checked_as_ours_are(site: Path) -> None:
    run = python(
        site, "-m", "campus_tune", "simulate", "--config", recipe(site, metrics=[{"name": "commas", "pre": 3}])
    )
    assert "`metric: commas` takes per, got 'pre'. Did you mean 'per'?" in run.stdout + run.stderr


def test_its_weight_is_the_same_under_numpy_and_torch(site: Path) -> None:
    code = (
        "import sys\n"
        "from campus_tune.testing import check_weight\n"
        "check_weight('hard_double'); check_weight({'name': 'hard_double', 'times': 3}, draws=5)\n"
        "print('torch' in sys.modules)\n"
    )
    run = python(site, "-c", code)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "True"
    broken = python(
        site, "-c", "from campus_tune.testing import *; check_weight({'name': 'hard_double', 'times': 0.5})"
    )
    assert "BrokenPromise: `hard_double` must favour hard rows if it says so" in broken.stderr


def test_its_author_can_ask_whether_the_parts_keep_their_promises_without_pytest_or_hypothesis(site: Path) -> None:
    code = (
        "import sys; sys.modules['pytest'] = sys.modules['hypothesis'] = None\n"
        "from campus_tune.testing import check_metric, check_pacing, check_selector, check_thinner\n"
        "check_metric('commas'); check_metric({'name': '-commas', 'per': 10})\n"
        "check_pacing('smooth'); check_selector('highest_perplexity'); check_thinner('hard_half')\n"
        "from campus_tune.recipe.config import load_recipe\n"
        "from campus_tune.recipe.plugins import plugins_used\n"
        f"print(plugins_used(load_recipe({recipe(site)!r})), 'torch' in sys.modules)\n"
    )
    run = python(site, "-c", code)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "{'sample-parts': '1.2'} False"
