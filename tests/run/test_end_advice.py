"""What a run advises at its end: on the console, in the ledger and on its page, from what it has seen of its rows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from campus_tune.method.dirt import Dirt
from campus_tune.preview.evidence import EvidenceTable
from campus_tune.report.write import write_report
from campus_tune.run import end_advice
from campus_tune.run.end_advice import advise, signs_of
from campus_tune.run.ledger import read_ledger
from campus_tune.run.ledger_lines import read_events
from campus_tune.words.errors import DataError
from tests.preview.made_up_evidence import table
from tests.run.test_resume import SaveAt, StopAfter, StoppedError
from tests.run.tiny_run import RECIPE, task_rows, tiny_trainer


def end_of(out: Path) -> dict[str, Any]:
    return read_ledger(out / "curriculum/ledger.jsonl")[-1]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end_advice, "evidence", table)


@pytest.mark.usefixtures("known")
def test_a_run_ends_with_advice_in_the_ledger_on_the_console_and_on_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*task_rows(40), *task_rows(20)]  # a third is said again
    tiny_trainer(tmp_path, train=rows, probes=10, config={**RECIPE, "budget": 3}).train()
    told = end_of(tmp_path)["advice"]
    assert [one["rows"] for one in told if "say what an earlier row says" in one["line"]] == [["duplicates_20"]]
    assert told[-1]["rows"] == ["clean_1"]
    assert "one epoch, five domains: nothing here suggests that an order will help" in told[-1]["line"]
    printed = capsys.readouterr().out
    assert [f"campus: advice · {one['line']}" in printed for one in told] == [True] * len(told)
    assert printed.index("advice · ") < printed.index("everything about this run is in")
    assert read_events(tmp_path / "curriculum/ledger.jsonl")[-1]["advice"] == told
    page = write_report(tmp_path).read_text("utf-8")
    assert "What may help here" in page
    assert "<code>duplicates_20</code>" in page
    assert "<p>One epoch, five domains: nothing here suggests" in page


@pytest.mark.usefixtures("known")
def test_a_run_that_was_stopped_ends_with_the_advice_of_one_that_was_not(tmp_path: Path) -> None:
    rows = [*task_rows(16), *task_rows(8)]
    tiny_trainer(tmp_path / "whole", train=rows).train()
    with pytest.raises(StoppedError):
        tiny_trainer(tmp_path / "cut", train=rows, callbacks=[SaveAt(4), StopAfter(4)]).train()
    tiny_trainer(tmp_path / "cut", train=rows).train(resume_from_checkpoint=True)
    assert end_of(tmp_path / "cut")["advice"] == end_of(tmp_path / "whole")["advice"]


def test_a_run_of_which_the_table_knows_nothing_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(end_advice, "evidence", lambda: EvidenceTable("", {}, ()))
    tiny_trainer(tmp_path, n=12).train()
    assert "advice" not in end_of(tmp_path)
    assert "advice" not in capsys.readouterr().out
    assert "What may help here" not in write_report(tmp_path).read_text("utf-8")


def test_a_damaged_table_costs_the_run_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def damaged() -> EvidenceTable:
        raise DataError("`evidence.json` must be the table of what was measured, got nothing.")

    monkeypatch.setattr(end_advice, "evidence", damaged)
    tiny_trainer(tmp_path, n=12).train()
    assert "warning: no advice: `evidence.json` must be the table" in capsys.readouterr().out
    assert end_of(tmp_path)["event"] == "end"


def test_a_run_knows_of_its_rows_what_its_map_says(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=24, num_train_epochs=2)
    trainer.train()
    now = next(one for one in trainer.callback_handler.callbacks if hasattr(one, "begun")).begun.situation
    dirt = Dirt(24, 0.2, 0.1, 0.3, {"code": Dirt(5, 0.2, 0.1, 0.4)})
    signs = signs_of(now, {"dirt": dirt.to_mapping(), "regions": {"duplicate": 6, "contradicting": 3}})
    assert (signs.rows, signs.epochs, signs.dirt) == (24, 2.0, dirt)
    assert (signs.repeated, signs.contradicting, signs.probe_losses) == (0.25, 0.125, {})
    assert sum(signs.domains.values()) == 24
    assert signs_of(now, {"basis": "none", "why": "no disk"}).dirt is None
    assert advise(now, {}) == advise(now, {})  # the same words for the same run


def test_probes_without_a_loss_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(end_advice, "domains_to_tell", lambda _: SimpleNamespace(names=[], sizes=dict))
    now: Any = SimpleNamespace(
        loaded=SimpleNamespace(rows=[1, 2]),
        curriculum=SimpleNamespace(coverage_counts=lambda: (2, 1)),
        probing=SimpleNamespace(report={"a": {"loss": 1.0}, "b": {"loss": None}, "c": {}}),
        config=None,
    )
    signs = signs_of(now, {})
    assert (signs.probe_losses, signs.epochs, signs.domains) == ({"a": 1.0}, 1.5, {})
