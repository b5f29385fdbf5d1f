"""A run in a notebook, beside transformers' own table."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from campus_tune.compare.run_bar import RunBar
from campus_tune.words.progress import VOLUME, notebook
from tests.notebooks import open_notebook
from tests.run.tiny_run import RECIPE, dataset, task_rows, tiny_trainer
from tests.run.witness import events

STYLE = re.compile(' style="[^"]*"')


def test_in_a_notebook_decisions_are_rows_of_one_table_and_the_end_is_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    notebook = open_notebook(monkeypatch)
    monkeypatch.delitem(sys.modules, "transformers.utils.notebook", raising=False)
    from transformers.utils.notebook import NotebookProgressCallback

    probes = {"<script>alert(1)</script>": dataset(task_rows(8, seed=77)), "b": dataset(task_rows(8, seed=78))}
    config = RECIPE | {"metrics": ["length", "-length"], "selector": "matched", "budget": 3.0}
    trainer = tiny_trainer(tmp_path, n=24, probes=probes, config=config, callbacks=[NotebookProgressCallback()])
    capfd.readouterr()
    trainer.train()
    monkeypatch.delitem(sys.modules, "transformers.utils.notebook")
    said = capfd.readouterr()
    ours = next(pages for pages in notebook.pages if ">competence</th><th" in pages[0])
    plain = STYLE.sub("", ours[-1])
    decisions = events(tmp_path, "decision")
    assert len(ours) == len(decisions) == 3
    for decision in decisions:
        assert f"<td>{decision['step']}/6</td><td>{decision['stage']}</td><td>{decision['chosen']}</td>" in plain
    assert "&lt;script&gt;alert(1)&lt;/script&gt; 0.0" in ours[-1]
    assert "<script>" not in ours[-1]
    theirs = [pages for pages in notebook.pages if pages is not ours and "Training Loss" in pages[-1]]
    assert len(theirs) == 1
    assert "campus: step 0/6" not in said.out
    assert "order audit" not in said.out
    ((end,),) = [pages for pages in notebook.pages if "<caption>the run is over</caption>" in pages[0]]
    assert "✓ all 6 steps trained the planned rows" in end
    assert "&lt;script&gt;alert(1)&lt;/script&gt; 0.0" in end
    assert "<script>" not in end
    assert "\r" not in said.out


def test_what_a_run_of_many_tells_goes_to_its_file_and_not_to_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    open_notebook(monkeypatch)
    assert notebook() is not None
    with VOLUME.into_a_file():
        assert notebook() is None
    assert notebook() is not None


def test_the_bar_of_many_runs_is_html(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = open_notebook(monkeypatch)
    runs = SimpleNamespace(say=print, outcomes={"one": 1}, n_runs=4)
    monkeypatch.setattr("campus_tune.words.progress.REDRAW", 0.0)
    bar = RunBar(runs)
    bar.tick(3)  # makes it
    bar._bar._next = 0.0  # it waits a second before it shows
    bar.tick(7)
    bar.close()
    assert shown.pages == [['<div><progress value="7"></progress> run 2 of 4: 7 step</div>', ""]]
