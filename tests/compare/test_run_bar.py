"""What is told while runs are made: all of it, or what was asked for and warnings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from campus_tune.compare.run_bar import RunBar
from campus_tune.words.progress import VOLUME


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    runs: Any = SimpleNamespace(say=print, outcomes={}, n_runs=2)
    bar = RunBar(runs)
    bar.tick(3)
    runs.say("run 1 of 2")
    runs.say("warning: it diverged")
    bar.conclude("the verdict")
    bar.close()
    return capsys.readouterr().out.splitlines()


def test_lines_on_the_way_are_told_unless_they_are_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys) == ["run 1 of 2", "warning: it diverged", "the verdict"]
    with VOLUME.quieted():
        assert told(capsys) == ["warning: it diverged", "the verdict"]


def test_where_no_run_of_this_process_has_made_a_step_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("campus_tune.compare.run_bar.bar", lambda **_: pytest.fail("a bar"))
    runs: Any = SimpleNamespace(say=print, outcomes={}, n_runs=2)
    RunBar(runs).close()
