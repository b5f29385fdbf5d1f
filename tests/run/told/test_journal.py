"""Every event goes through one door: first into the ledger, then to each teller that takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from campus_tune.model.peers import Peers
from campus_tune.run.ledger import read_ledger
from campus_tune.run.told.console import CUT, batching_line
from campus_tune.run.told.events import (
    OTHER_WORLD,
    Decided,
    EpochEnded,
    Event,
    Probed,
    Resumed,
    Scored,
    Started,
    Warned,
)
from campus_tune.run.told.journal import LEFT, Journal
from campus_tune.run.told.last_lines import map_line
from campus_tune.words.errors import StorageError

DECISION = {"stage": 0, "step": 0, "chosen": "length", "outcome": "not measured", "scope": [0.0, 0.5], "rows": 8}
PROBES = {"math": {"competence": 0.25, "loss": 1.5}}
OF_STAGE = "length (not measured), 8 rows of scope 0.00–0.50 · competence math 0.250"
BATCHING = {"is": "step", "cut": "even", "why": "the attention takes rows padded"}
EVENTS: list[tuple[Event, dict[str, Any]]] = [
    (Started({"past": {"n_rows": 8}, "future": {}}, {"math": 8}, BATCHING),
     {"event": "run", "past": {"n_rows": 8}, "future": {}, "rows_by_domain": {"math": 8},
      "batching": BATCHING}),
    (Warned(["too small"]), {"event": "warnings", "warnings": ["too small"]}),
    (Scored("length", [0.0, 1.0], {"rows_measured": 8}),
     {"event": "scores", "metric": "length", "quantiles": [0.0, 1.0], "rows_measured": 8}),
    (Probed(0, PROBES), {"event": "probes", "step": 0, "domains": PROBES}),
    (Decided(DECISION, PROBES, 0.125), {"event": "decision", **DECISION}),
    (EpochEnded(3, 0, 5), {"event": "epoch_ended", "step": 3, "epoch": 0, "steps_left_out": 5}),
    (Resumed(3, 1, before=2, now=2), {"event": "resumed", "step": 3, "world": {"before": 2, "now": 2}}),
    (Resumed(3, 1, before=2, now=2, cuts=("equal", "even")),
     {"event": "resumed", "step": 3, "world": {"before": 2, "now": 2}, "cut": {"before": "equal", "now": "even"},
      "differs": OTHER_WORLD}),
]  # fmt: skip


def made(folder: Path, rank: int = 0) -> Journal:
    journal = Journal(folder, Peers(rank, 2), 12)
    journal.put_aside()
    return journal


def test_each_event_is_one_line_of_the_ledger_with_its_keys_in_this_sequence(tmp_path: Path) -> None:
    journal = made(tmp_path)
    for event, _ in EVENTS:
        journal.take(event)
    lines = read_ledger(tmp_path / "ledger.jsonl")
    assert [list(line.items()) for line in lines] == [list(line.items()) for _, line in EVENTS]


def test_the_trainers_log_carries_scalars_of_what_it_takes_and_nothing_of_the_rest(tmp_path: Path) -> None:
    journal = made(tmp_path)
    for event, _ in EVENTS:
        journal.take(event)
    assert journal.state()["pending"] == {
        "campus/competence/math": 0.25,
        "campus/probe_loss/math": 1.5,
        "campus/stage": 0,
        "campus/scope": 0.5,
        "campus/cost_share": 0.125,
    }


def test_only_the_leader_speaks_and_writes_and_all_ranks_remember_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said, states = [], []
    for rank in range(2):
        journal = made(tmp_path / str(rank), rank)
        for event, _ in EVENTS:
            journal.take(event)
        said.append(capsys.readouterr().out.splitlines())
        states.append(journal.state())
    assert said == [
        [
            f"campus: {batching_line(BATCHING)}",
            "campus: warning: too small",
            f"campus: step 0/12 · stage 0 · {OF_STAGE} · cost 12.5%",
            "campus: step 3/12 · epoch 0 was ended by a callback, 5 steps are left out",
            "campus: resumed at step 3 of 12, inside stage 1",
            "campus: resumed at step 3 of 12, inside stage 1",
            f"campus: a step is cut {CUT['even']}, before the checkpoint {CUT['equal']}: {OTHER_WORLD}",
        ],
        [],
    ]
    assert states[0] == states[1]
    assert not (tmp_path / "1" / "ledger.jsonl").exists()


def test_what_an_earlier_run_left_is_kept_beside_its_ledger(tmp_path: Path) -> None:
    made(tmp_path)
    for name in LEFT:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    made(tmp_path)
    kept = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert kept == {
        "ledger.jsonl",
        "ledger.1.jsonl",
        "training_losses.1",
        "prompt_examples.1.jsonl",
        "prompt_map.1.parquet",
        "prompt_rewards.1",
        "book.1.parquet",
        "book/map.1.parquet",
        "book/likeliest.1.jsonl",
        "book/shown.1.jsonl",
        "dropped.1.jsonl",
        "shares.1.yaml",
        "value.1",
    }


MAP: dict[str, Any] = {"step": 12, "basis": "training", "rows": 8, "suspects": 2, "sentence": "2 of 8 rows look wrong"}


def test_what_a_map_shows_is_said_at_the_end_and_that_there_is_none_comes_last() -> None:
    assert map_line(MAP) == "data map · 2 of 8 rows look wrong; campus-tune suspects shows them"
    assert map_line({**MAP, "suspects": 0, "sentence": "nothing"}) == "data map · nothing"
    assert map_line({"basis": "none", "why": "no row was trained."}) == "no data map: no row was trained."


def test_what_cannot_be_written_is_not_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = made(tmp_path)
    journal.ledger.path = tmp_path / "gone" / "ledger.jsonl"
    with pytest.raises(StorageError, match="must be writable"):
        journal.take(Warned(["too small"]))
    assert capsys.readouterr().out == ""


def test_a_person_is_told_what_batching_became_and_why() -> None:
    assert batching_line(BATCHING) == (
        "batching: step: the attention takes rows padded. So rows are padded, and a step is cut by length into equal "
        "costs"
    )
    assert batching_line({"is": "flat", "cut": "packed", "why": "the attention takes rows of any lengths"}) == (
        "batching: flat: the attention takes rows of any lengths. So rows lie flat, without padding, and a step is cut "
        "into equal tokens"
    )
