"""What is told while runs are made: all of it, what was asked for alone, or nothing."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from campus_tune.compare.run_bar import RunBar
from campus_tune.words.progress import VOLUME


def told(capsys: pytest.CaptureFixture[str], *, quiet: bool = False) -> list[str]:
    runs: Any = SimpleNamespace(say=print, outcomes={}, n_runs=2)
    bar = RunBar(runs, quiet=quiet)
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
    assert told(capsys, quiet=True) == []
