"""The command, with real runs: it goes on after a kill, and finds nothing where nothing matters."""

from pathlib import Path

import pytest

from campus_tune.cli.search import main
from tests.compare.search.tiny_search import options, tiny_search


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_search(tmp_path_factory.mktemp("recipe"))


def test_a_search(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(options(recipe, "--out", str(tmp_path / "out")))
    print(tmp_path)
    raise AssertionError(capsys.readouterr().out)
