"""`campus-tune check`: what it prints, as a document too, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from campus_tune import check_recipe
from campus_tune.cli.main import main

Read = pytest.CaptureFixture[str]


@pytest.fixture
def fine(tmp_path: Path) -> Path:
    path = tmp_path / "fine.yaml"
    path.write_text("campus: {}\n", "utf-8")
    return path


@pytest.fixture
def wrong(tmp_path: Path) -> Path:
    path = tmp_path / "wrong.yaml"
    path.write_text("campus: {metrics: [lenght], stages: 0}\n", "utf-8")
    return path


def test_the_text_is_the_checks_own(fine: Path, wrong: Path, capsys: Read) -> None:
    assert main(["check", str(fine)]) == 0
    assert capsys.readouterr().out == f"{check_recipe(fine)}\n"
    assert main(["check", "--config", str(wrong)]) == 1
    assert "Did you mean 'length'" in capsys.readouterr().out


def test_the_document_has_every_finding_and_their_numbers(fine: Path, wrong: Path, capsys: Read) -> None:
    for path, code in ((fine, 0), (wrong, 1)):
        assert main(["check", str(path), "--json"]) == code
        said, found = capsys.readouterr(), check_recipe(str(path))
        document = json.loads(said.out)
        assert document == found.to_mapping()
        assert document["grave"] is bool(code)
        assert document["recipe"] == str(path)
        assert [(one["severity"], one["what"], one["remedy"]) for one in document["findings"]] == [
            (finding.severity, finding.what, finding.remedy) for finding in found.findings
        ]
        for severity, word in (("refused", "refused"), ("error", "errors"), ("warning", "warnings"), ("info", "notes")):
            assert f"{document['counts'][severity]} {word}" in str(found)


def test_no_recipe_is_wrong_usage(capsys: Read) -> None:
    assert main(["check", "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "`check` must be given a recipe, got none. Write: campus-tune check recipe.yaml" in said.err
