"""What a ledger's fields say is told for every field that runs of different kinds have written."""

from __future__ import annotations

from pathlib import Path

import pytest

from campus_tune.run.ledger import read_ledger
from campus_tune.run.ledger_fields import FIELDS
from campus_tune.words.types import Json
from tests.run.tiny_run import tiny_trainer

LOSS: Json = {"metrics": ["loss", "length"], "stages": 6, "rescore": 2, "budget": 5.0, "mix": 0.2, "handover": 0.9}
DRAWN: Json = {
    "metrics": ["length"],
    "stages": 4,
    "budget": 1.0,
    "thin": {"how": "rank", "keep": 0.6},
    "review": {"share": 0.1},
    "domains": {"reweight": "odm", "least": 0.01},
    "weights": [{"name": "focal", "gamma": 1}],
    "when": {"stagnation": {"then": "note", "least": 0.2}, "regression": "note"},
}
BANDIT: Json = {
    "metrics": ["length", "mtld", "scorer", "compression"],
    "stages": 6,
    "budget": 5.0,
    "selector": {"name": "ucb", "reward": "probes"},
}


def told(path: Path) -> list[str]:
    """Fields that a run has written and nobody tells of."""
    return [
        f"{event['event']}.{name}"
        for event in read_ledger(path / "curriculum" / "ledger.jsonl")
        for name in event
        if name != "event" and name not in FIELDS[event["event"]]
    ]


@pytest.mark.parametrize("recipe", [{}, LOSS, DRAWN, BANDIT], ids=["default", "loss", "drawn", "bandit"])
def test_every_field_that_a_run_writes_is_told(recipe: Json, tmp_path: Path) -> None:
    probes = 40 if recipe else None
    tiny_trainer(tmp_path, config=recipe, n=60, probes=probes, lora=recipe is LOSS, num_train_epochs=2).train()
    assert sorted(set(told(tmp_path))) == []
