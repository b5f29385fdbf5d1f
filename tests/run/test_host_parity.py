"""`eval/host_parity.py`: a few of its trainers, and that it finds what is not equal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from campus_tune.words.errors import TrainerError
from eval import host_parity
from eval.host_parity import Replayed, Run, compare, differences, main, with_campus, without
from eval.trainers import SETTINGS, Setting

SAMPLE = ["lora", "mixtral, accumulated", "asks for save, before", "plain"]


@pytest.fixture(autouse=True)
def _bars_again() -> Iterator[None]:
    """The script switches progress bars off for its process, which here is that of all tests."""
    import datasets
    import transformers

    yield
    datasets.enable_progress_bars()
    transformers.utils.logging.enable_progress_bar()


def test_a_curriculum_leaves_these_trainers_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word for name in SAMPLE for word in ("--only", name)]) == 0
    printed = capsys.readouterr().out
    assert f"{len(SAMPLE)} of {len(SAMPLE)} as they must be, seed 0" in printed
    assert printed.count("equal (") == len(SAMPLE)


def test_there_are_many_trainers_and_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(SETTINGS) >= 30
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == list(SETTINGS)


def test_an_unknown_name_is_answered_with_where_the_names_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "lorra"])
    assert "--only must name a setting (see --list), got lorra" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")  # the script's own table is made without the libraries' warnings
def test_two_rows_in_each_others_place_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = with_campus(SETTINGS["plain"], tmp_path / "campus", 0)
    batches = Replayed.__iter__

    def swapped(sampler: Replayed) -> Iterator[list[int]]:
        of_step_1, also, of_step_2, *rest = map(list, batches(sampler))
        of_step_1[0], of_step_2[0] = of_step_2[0], of_step_1[0]
        yield from (of_step_1, also, of_step_2, *rest)

    monkeypatch.setattr(Replayed, "__iter__", swapped)
    found = differences(ours, without(SETTINGS["plain"], tmp_path / "plain", 0, ours))
    told = " ".join(found)
    assert "step 1 loss: " in told
    assert "step 1 grad_norm: " in told
    assert "weights: " in found[-1]


def a_run(**changes: Any) -> Run:
    log = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]
    parts = {"log": log, "events": [("log", 1), ("log", 2)], "checkpoints": [], "state": {"epoch": 1.0}, "weights": {}}
    return Run(**{**parts, "epochs": [[[0]]], "per_epoch": 1, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"log": [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 1.0}]}, ["step 1 loss: 2.5, plain 2.0 (by 0.2)"]),
        ({"log": [{"step": 1, "loss": 2.0, "more": 3}, {"step": 2, "loss": 1.0}]}, ["step 1 more: 3, plain None"]),
        ({"log": [{"step": 1, "loss": 2.0}]}, ["log: 1 lines, plain 2"]),
        ({"events": [("log", 1)]}, ["events: [], plain [('log', 2)] at place 1 of 2"]),
        ({"checkpoints": ["checkpoint-1"]}, ["checkpoints: ['checkpoint-1'], plain [] at place 0 of 0"]),
        ({"state": {"epoch": 1.1}}, ["state: epoch 1.1, plain 1.0 (by 0.1)"]),
        ({"state": {"epoch": 1.0 + 2**-52}}, ["state: epoch 1.0000000000000002, plain 1.0 (by 2e-16)"]),
        ({"state": {"epoch": math.nan}}, ["state: epoch nan, plain 1.0 (by nan)"]),
        ({}, []),
    ],
)
def test_every_part_that_differs_is_told(changes: dict[str, Any], said: list[str]) -> None:
    assert differences(a_run(**changes), a_run()) == said


def test_a_refusal_counts_only_where_it_is_the_one_that_is_due(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any) -> Run:
        raise TrainerError("`x` must be y, got z. Do w.")

    monkeypatch.setitem(SETTINGS, "refused", Setting(refused="must be y"))
    monkeypatch.setattr(host_parity, "with_campus", refuse)
    assert compare("refused", tmp_path, 0) == ("refused, as it must be", [])
    assert compare("plain", tmp_path, 0) == ("refused", ["refused: `x` must be y, got z. Do w."])
    monkeypatch.setattr(host_parity, "with_campus", lambda *_: a_run())
    assert compare("refused", tmp_path, 0) == ("not refused", ["must be refused: must be y"])


def test_a_setting_that_breaks_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(name: str, *_: Any) -> tuple[str, list[str]]:
        if name == "lora":
            raise IndexError("out of range")
        return "equal", []

    monkeypatch.setattr(host_parity, "compare", broken)
    assert main(["--only", "lora", "--only", "dora"]) == 1
    printed = capsys.readouterr().out
    assert "IndexError: out of range" in printed
    assert "1 of 2 as they must be" in printed
