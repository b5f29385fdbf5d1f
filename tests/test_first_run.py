"""The notebook `recipes/first_run.ipynb`: its cells run, and what is stored in it can be shown to anybody."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "recipes/first_run.ipynb"
LARGEST = 400_000  # bytes


def outputs() -> list[dict[str, object]]:
    import nbformat

    cells = nbformat.read(NOTEBOOK, 4).cells
    return [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]


def test_it_is_small_and_every_cell_was_run_in_sequence() -> None:
    import nbformat

    assert NOTEBOOK.stat().st_size < LARGEST
    code = [cell for cell in nbformat.read(NOTEBOOK, 4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert len(code) > 8


def test_no_error_no_librarys_warning_and_no_path_of_a_machine_is_stored_in_it() -> None:
    assert [output["output_type"] for output in outputs() if output["output_type"] == "error"] == []
    assert [output for output in outputs() if output.get("name") == "stderr"] == []
    text = NOTEBOOK.read_text("utf-8")
    assert re.findall(r"\w*Warning\b", re.sub(r"import warnings", "", text)) == []
    assert re.findall(r"(?:/home|/root|/work|/tmp|/Users|site-packages|C:\\)[^\"\s]*", text) == []


def test_it_comes_to_a_map_to_suspects_and_to_a_verdict() -> None:
    text = NOTEBOOK.read_text("utf-8")
    assert sum("image/png" in output.get("data", {}) for output in outputs()) == 2  # type: ignore[operator]
    found = re.search(r"(\d+) suspects; (\d+) of them are among the (\d+) planted rows", text)
    assert found is not None
    suspects, right, planted = map(int, found.groups())
    assert right > 0.8 * suspects
    assert right > 0.8 * planted
    assert "Helped: recipe ended" in text


@pytest.mark.slow
def test_its_cells_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("CAMPUS_TUNE_QUICK", "1")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    notebook = nbformat.read(NOTEBOOK, 4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
    shown = notebook.cells[-2].outputs
    assert "image/png" in shown[0].data
    assert (tmp_path / "first_run/comparison/verdict.json").is_file()
