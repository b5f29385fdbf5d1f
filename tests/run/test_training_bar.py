"""A run of `campus-tune sft` in a terminal: one bar, lines below each other, a panel, and no word of a library."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from transformers import PrinterCallback, ProgressCallback

from campus_tune.run.ledger import comparable, read_ledger
from campus_tune.run.training_bar import TrainingBar, log_words, take_over_bar
from campus_tune.words import progress
from tests.run.tiny_run import task_rows, tiny_trainer
from tests.terminals import InTerminal

WIDTH = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from campus_tune.demo.tiny import write_tiny

    there = tmp_path_factory.mktemp("sft")
    (there / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in task_rows(48)), "utf-8")
    recipe = {
        "model_name_or_path": str(write_tiny(there / "model")),
        "dataset_name": str(there / "train.jsonl"),
        "output_dir": "run",
        "per_device_train_batch_size": 4,
        "logging_steps": 4,
        "save_steps": 4,
        "save_total_limit": 1,
        "use_cpu": True,
        "use_peft": True,
        "bf16": False,
        "report_to": "none",
        "num_train_epochs": 1,
        "campus": {"metrics": ["length"], "stages": 2, "handover": 1.0},
    }
    (there / "recipe.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    return there


def sft(folder: Path, *words: str, **settings: Any) -> InTerminal:
    command = [sys.executable, "-m", "campus_tune", "sft", "--config", str(folder / "recipe.yaml"), *words]
    here = Path(__file__).parents[2]
    return InTerminal(command, folder, width=WIDTH, settings={"PYTHONPATH": str(here), **settings})


@pytest.fixture(scope="module")
def shown(folder: Path) -> InTerminal:
    ended = sft(folder, "--output_dir", str(folder / "shown"))
    assert ended.code == 0, ended.written[-3000:]
    return ended


def test_each_line_of_the_screen_is_ours(shown: InTerminal) -> None:
    ours = ("campus: ", "        ", "╭─", "│", "╰─", "model saved to ")
    assert [line for line in shown.lines if not line.startswith(ours)] == []
    assert max(map(len, shown.lines)) <= WIDTH


def test_decisions_and_log_lines_have_their_steps_below_each_other(shown: InTerminal) -> None:
    steps = [line for line in shown.lines if line[8:].startswith("step ")]
    assert [line[8:18] for line in steps] == [
        "step  0/12",
        "step  4/12",
        "step  6/12",
        "step  8/12",
        "step 12/12",
        "step 12/12",
    ]
    decisions = [line for line in steps if line.startswith("campus: ")]
    assert [line.split(" · ")[1:2] for line in decisions] == [["stage 0 "], ["stage 1 "]]
    assert "loss " in steps[1]
    assert "campus/" not in shown.written
    assert "trained in " in steps[-1]


def test_the_bar_has_the_loss_and_is_gone_at_the_end(shown: InTerminal) -> None:
    assert "━" in shown.written
    assert ", loss " in shown.written
    assert not any("━" in line for line in shown.lines)


def test_the_end_is_a_panel(shown: InTerminal) -> None:
    text = "\n".join(shown.lines)
    assert "│ audit     ✓ all 12 steps trained the planned rows, tokens and labels" in text
    assert "│ next      campus-tune " in text
    assert shown.lines[-1].startswith("model saved to ")


def test_a_quiet_run_says_nothing_and_has_the_same_ledger(folder: Path, shown: InTerminal) -> None:
    assert shown.code == 0
    quiet = sft(folder, "--output_dir", str(folder / "quiet"), "--quiet")
    assert quiet.code == 0
    assert [line for line in quiet.lines if not line.startswith(("campus: warning", "        "))] == []
    assert not [line for line in quiet.lines if "stage 0" in line]
    one, other = (comparable(read_ledger(folder / name / "curriculum/ledger.jsonl")) for name in ("shown", "quiet"))
    assert one == other


# -- without a terminal -----------------------------------------------------------------------------------------------


def test_a_log_line_of_a_world_that_is_not_ours_is_short_too() -> None:
    assert log_words({"loss": 12345.678, "campus/stage": 3, "epoch": 1.0}) == ["loss 1.235e+04"]
    assert log_words({"epoch": 1.0}) == []


@pytest.mark.parametrize("leads", [True, False])
def test_only_the_process_that_leads_draws(leads: bool, capfd: pytest.CaptureFixture[str]) -> None:
    bar, state = TrainingBar(), SimpleNamespace(is_world_process_zero=leads, max_steps=12, global_step=4)
    given: Any = (None, state, None)
    bar.on_train_begin(*given)
    bar.on_step_end(*given)
    bar.on_log(*given, logs={"loss": 1.5})
    bar.on_log(*given, logs={"epoch": 1.0})
    bar.on_train_end(*given)
    said = capfd.readouterr()
    assert ("step  4/12 · loss 1.500" in said.out) is leads
    assert ("training" in said.err) is leads


def kinds(trainer: Any) -> set[type]:
    return {type(one) for one in trainer.callback_handler.callbacks} & {ProgressCallback, PrinterCallback, TrainingBar}


def test_the_bar_is_put_in_its_place_in_a_terminal_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = tiny_trainer(tmp_path, n=8, disable_tqdm=False)
    take_over_bar(trainer)
    assert kinds(trainer) == {ProgressCallback}
    monkeypatch.setattr(progress, "in_terminal", lambda _: True)
    take_over_bar(trainer)
    assert kinds(trainer) == {TrainingBar}
    plain = tiny_trainer(tmp_path, n=8)  # whoever wants no bar
    take_over_bar(plain)
    assert kinds(plain) == {PrinterCallback}
    with progress.VOLUME.quieted():
        take_over_bar(plain)
    assert kinds(plain) == set()


def test_a_callback_is_quiet_while_its_trainer_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from campus_tune import CampusCallback

    def said(*, quiet: bool) -> list[str]:
        callback = CampusCallback({"metrics": ["length"], "stages": 2}, quiet=quiet, report=False)
        trainer = tiny_trainer(tmp_path / str(quiet), n=16, config=False, callbacks=[callback])
        capsys.readouterr()
        trainer.train()
        lines = capsys.readouterr().out.splitlines()
        return [line for line in lines if line.startswith("campus: ") and not line.startswith("campus: warning: ")]

    assert said(quiet=True) == []
    assert not progress.VOLUME.quiet
    assert said(quiet=False)
