"""Every door writes the page: a script's callback, `attach`, and `campus-tune sft` (in tests/cli/test_sft.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import Trainer, TrainingArguments

import campus_tune
from campus_tune.demo.tiny import tiny_model
from campus_tune.run.callback import CampusCallback
from campus_tune.run.ledger import read_ledger

PAGE = "curriculum/report.html"
RECIPE = {"metrics": ["length"], "stages": 2}


def made(out: Path, *callbacks: Any) -> Trainer:
    ids = list(range(9, 21))
    rows = [{"input_ids": ids, "labels": [-100] * (1 + n % 7) + ids[1 + n % 7 :]} for n in range(16)]
    args = TrainingArguments(
        str(out), per_device_train_batch_size=4, use_cpu=True, report_to="none", save_strategy="no", num_train_epochs=1
    )
    return Trainer(tiny_model(), args, train_dataset=Dataset.from_list(rows), callbacks=list(callbacks))


def test_a_scripts_run_ends_with_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path, campus_tune.CampusCallback(RECIPE)).train()
    assert (tmp_path / PAGE).stat().st_size > 10_000
    assert capsys.readouterr().out.count(f"the report: {tmp_path / PAGE}") == 1


def test_a_run_whose_callback_was_attached_ends_with_a_report(tmp_path: Path) -> None:
    trainer = made(tmp_path)
    callback = campus_tune.attach(trainer, RECIPE)
    assert isinstance(callback, campus_tune.CampusCallback)
    trainer.train()
    assert (tmp_path / PAGE).exists()


def test_a_report_that_is_not_wanted_is_not_drawn(tmp_path: Path) -> None:
    made(tmp_path, campus_tune.CampusCallback(RECIPE, report=False)).train()
    assert not (tmp_path / PAGE).exists()


def test_an_attached_callback_leaves_the_report_out_too(tmp_path: Path) -> None:
    trainer = made(tmp_path)
    campus_tune.attach(trainer, RECIPE, report=False)
    trainer.train()
    assert not (tmp_path / PAGE).exists()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (KeyboardInterrupt(), "interrupted"),
    ],
)
def test_a_report_that_fails_is_a_warning_and_the_run_is_whole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    told: str,
) -> None:
    def broken(_: str) -> Path:
        raise error

    monkeypatch.setattr("campus_tune.report.write.write_report", broken)
    trainer = made(tmp_path, campus_tune.CampusCallback(RECIPE))
    trainer.train()
    assert f"warning: no report ({told}). campus-tune report {tmp_path}" in capsys.readouterr().out
    assert read_ledger(tmp_path / "curriculum/ledger.jsonl")[-1]["event"] == "end"
    assert trainer.state.global_step == 4


def test_only_the_process_that_leads_writes_one(tmp_path: Path) -> None:
    trainer = made(tmp_path)
    callback = campus_tune.attach(trainer, RECIPE)
    told: list[Any] = []
    callback.reports[:] = [told.append]
    run = callback.run
    assert run is not None
    trainer.train()
    assert told == [trainer]


def test_a_callback_of_a_checkpoint_keeps_the_name_by_which_it_is_found() -> None:
    assert campus_tune.CampusCallback.__name__ == CampusCallback.__name__
    assert isinstance(campus_tune.CampusCallback(RECIPE), CampusCallback)
