"""The model card's section says what the map of the rows shows, once there is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trl import SFTTrainer

from campus_tune.run.told.card import BEGINS, add_to_card, map_sentences
from tests.run.tiny_run import tiny_trainer

SHUFFLE = {"metrics": [], "selector": "shuffle", "stages": 2, "budget": 0.5}


def write(folder: Path, *events: Any) -> Path:
    (folder / "book").mkdir(parents=True)
    (folder / "book" / "map.parquet").write_bytes(b"")
    (folder / "ledger.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), "utf-8")
    return folder


def test_the_last_map_of_the_ledger_speaks(tmp_path: Path) -> None:
    said = [{"event": "map", "sentence": text} for text in ("3 of 8 rows look wrong", "nothing\n## to see")]
    folder = write(tmp_path / "run", {"event": "run"}, *said, {"event": "map", "basis": "none", "why": "no losses"})
    assert map_sentences(folder) == ["3 of 8 rows look wrong", "nothing ## to see"]
    (folder / "book" / "map.parquet").unlink()
    assert map_sentences(folder) == []


def test_the_card_of_a_finished_run_has_one_sentence_of_its_rows(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, n=24, config=SHUFFLE, save_steps=2)
    seen: list[str] = []
    create = trainer.create_model_card
    trainer.create_model_card = lambda *a, **k: (create(*a, **k), seen.append((tmp_path / "README.md").read_text()))[0]
    trainer.train()
    assert seen
    assert not any("data map" in card for card in seen)  # of its checkpoints
    card = (tmp_path / "README.md").read_text("utf-8")
    events = [json.loads(line) for line in (tmp_path / "curriculum" / "ledger.jsonl").read_text("utf-8").splitlines()]
    [sentence] = [event["sentence"] for event in events if event["event"] == "map"]
    assert card.count(f"- data map of the training rows: {sentence}\n") == 1
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
