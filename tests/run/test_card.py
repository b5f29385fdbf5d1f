"""The model card's section says what the map of the rows shows, once there is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trl import SFTTrainer

from campus_tune.run.told.card import BEGINS, add_to_card
from tests.run.tiny_run import tiny_trainer

SHUFFLE = {"metrics": [], "selector": "shuffle", "stages": 2, "budget": 0.5}


def test_the_card_of_a_finished_run_has_one_sentence_of_its_rows(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=24, config=SHUFFLE, save_steps=2)
    seen: list[str] = []
    create = trainer.create_model_card
    trainer.create_model_card = lambda *a, **k: (create(*a, **k), seen.append((tmp_path / "README.md").read_text()))[0]
    trainer.train()
    assert seen
    at_once, last = seen[0], seen[-1]
    assert not any("data map" in card or "audit" in card for card in seen)  # of its checkpoints: no verdict yet
    assert "- not over: this is a checkpoint at step 2 of 6\n" in at_once
    assert "- not over: this is a checkpoint at step 6 of 6\n" in last
    card = (tmp_path / "README.md").read_text("utf-8")
    events = [json.loads(line) for line in (tmp_path / "curriculum" / "ledger.jsonl").read_text("utf-8").splitlines()]
    [sentence] = [event["sentence"] for event in events if event["event"] == "map"]
    assert card.count(f"- the data map of its rows: {sentence}\n") == 1
    assert card.count("- order audit: all 6 steps trained the planned rows, tokens and labels\n") == 1
    assert "not over" not in card
    assert "- rows by sub-curriculum: shuffle 100%\n" in card
    assert card.count(BEGINS) == 1
    assert card.split(BEGINS)[0].rstrip() == seen[-1].split(BEGINS)[0].rstrip()
    create()
    assert (tmp_path / "README.md").read_text("utf-8").count("data map") == 1


def test_a_card_that_this_run_has_not_written_is_not_completed(tmp_path: Path) -> None:
    class NoCard(SFTTrainer):
        def create_model_card(self, *args: Any, **kwargs: Any) -> None:
            """Ours is written by hand."""

    mine = f"Mine, of an earlier run.\n\n{BEGINS}\n"
    (tmp_path / "README.md").write_text(mine, "utf-8")
    tiny_trainer(tmp_path, trainer_class=NoCard, n=8, config=SHUFFLE, save_steps=1).train()
    assert (tmp_path / "README.md").read_text("utf-8") == mine


def test_a_trainer_without_cards_has_nothing_to_complete() -> None:
    assert add_to_card(object(), lambda: None) is None  # type: ignore[arg-type]  # stands for one
