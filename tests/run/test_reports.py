"""What wants a finished run is handed its trainer once, at the very end; that it fails is no reason to lose a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from campus_tune.run.callback import CampusCallback
from tests.run.test_overrides import Stops
from tests.run.tiny_run import tiny_trainer
from tests.run.witness import events, ledger


def reports_of(trainer: Any) -> list[Any]:
    """The list that the trainer's callback hands down."""
    [callback] = [one for one in trainer.callback_handler.callbacks if isinstance(one, CampusCallback)]
    return callback.reports


def test_each_report_is_handed_the_trainer_once_the_ledger_has_its_last_line(tmp_path: Path) -> None:
    trainer, seen = tiny_trainer(tmp_path, n=8), []
    for name in ("first", "second"):
        reports_of(trainer).append(lambda done, name=name: seen.append((name, done, ledger(tmp_path)[-1]["event"])))
    trainer.train()
    assert seen == [("first", trainer, "end"), ("second", trainer, "end")]


def test_a_report_that_fails_is_a_warning_and_the_next_one_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(done: Any) -> None:
        raise OSError(f"no room after step {done.state.global_step}")

    trainer, seen = tiny_trainer(tmp_path / "run", n=8), []
    reports_of(trainer).extend([fail, seen.append])
    assert trainer.train().global_step == 2
    assert "campus: warning: no report (OSError: no room after step 2)" in capsys.readouterr().out
    assert seen == [trainer]
    assert events(tmp_path / "run", "end")


def test_a_run_that_breaks_off_has_none(tmp_path: Path) -> None:
    trainer, seen = tiny_trainer(tmp_path, n=8, callbacks=[Stops(ValueError("theirs"))]), []
    reports_of(trainer).append(seen.append)
    with pytest.raises(ValueError, match="theirs"):
        trainer.train()
    assert seen == []
