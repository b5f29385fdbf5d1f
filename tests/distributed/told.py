"""What a job's ranks and files tell, in forms that can be compared."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from campus_tune.model.peers import Peers
from campus_tune.run.checkpoints import last_complete
from campus_tune.run.ledger import comparable, read_ledger
from campus_tune.words.types import Json
from tests.distributed.ranks import Report

# of a decision's line: what is a choice and not a measurement
CHOSEN = (
    "stage",
    "step",
    "epoch",
    "chosen",
    "outcome",
    "scope",
    "steps",
    "rows",
    "random_rows",
    "tokens",
    "rows_digest",
)
KEPT = ("rows_by_choice", "repeated_rows", "widened")


def steps_of(*lives: Report) -> dict[int, list[int]]:
    """Optimizer step → rows that all ranks trained in it, sorted; a later life's steps replace an earlier one's."""
    found: dict[int, list[int]] = {}
    for life in lives:
        by_rank = [result["rows"] for result in life.results]
        first = life.results[0]["first"]
        for place, parts in enumerate(zip(*by_rank, strict=True)):
            found[first + place] = sorted(row for part in parts for row in part)
    return found


def ledger(out: str) -> list[Json]:
    """All lines."""
    return read_ledger(Path(out) / "curriculum" / "ledger.jsonl")


def lines(out: str, event: str) -> list[Json]:
    """The lines of one kind."""
    return [line for line in ledger(out) if line["event"] == event]


def choices(out: str) -> list[Json]:
    """What was decided, without what was measured for it."""
    return [{name: line[name] for name in (*CHOSEN, *KEPT)} for line in lines(out, "decision")]


def history(report: Report, *names: str) -> list[list[float]]:
    """These numbers of every logged step, from rank 0's log."""
    return [[line[name] for name in names] for line in report.results[0]["history"] if "loss" in line]


def outcome(out: str, last: Report) -> Json:
    """All that must not depend on whether a run was stopped: part → value."""
    losses = sorted((Path(out) / "curriculum" / "training_losses").glob("*.parquet"))
    return {
        "ledger": comparable(ledger(out)),
        "history": last.results[0]["history"],
        "training losses": [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in losses],
        "weights": [result["weights"] for result in last.results],
    }


def first_difference(ours: Json, calm: Json) -> str | None:
    """Where two outcomes differ first, in words; None where they do not."""
    for what, expected in calm.items():
        found = ours[what]
        for place, (a, b) in enumerate(zip(found, expected, strict=False)):
            if a != b:
                return f"{what}, entry {place}: {_parts(a, b)} instead of {_parts(b, a)}"
        if len(found) != len(expected):
            return f"{what}: {len(found)} entries instead of {len(expected)}"
    return None


def _parts(one: Any, other: Any) -> str:
    """What `one` has otherwise, cut to a readable length."""
    if isinstance(one, dict) and isinstance(other, dict):
        one = {name: value for name, value in one.items() if other.get(name) != value}
    return str(one)[:300]


def last_step(out: str) -> str | None:
    """The name of the checkpoint that a resume would take; None if there is none."""
    found = last_complete(Path(out), Path(out) / "curriculum", Peers())
    return None if found is None else found.path.name
