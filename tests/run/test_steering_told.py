"""A steered run tells the same in every place that tells of runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from campus_tune.read.finished import read_finished
from campus_tune.read.same_stream import compare_runs
from campus_tune.report.run_facts import read_run
from campus_tune.report.run_page import how_far
from campus_tune.report.steer_page import steer_section
from campus_tune.run.ledger import read_ledger
from campus_tune.words.types import Json
from tests.run.tiny_run import tiny_trainer

STOP = {"name": "second words", "probe": "text", "loss": 6.21, "hold": 1, "then": ["rollback", "stop"]}
RECIPE: Json = {
    "metrics": ["length", "mtld"],
    "selector": {"name": "exp3s", "reward": "probes"},
    "stages": 8,
    "budget": 9,
    "milestones": [{"name": "first words", "probe": "code", "loss": 6.2, "hold": 1}, STOP],
    "domains": {"reweight": "lagging"},
}


@dataclass(frozen=True)
class Told:
    """What one run has told."""

    out: Path
    said: str
    log: list[Json]

    def events(self, kind: str) -> list[Json]:
        return [event for event in read_ledger(self.out / "curriculum/ledger.jsonl") if event["event"] == kind]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    out = tmp_path_factory.mktemp("told")
    trainer = tiny_trainer(out, n=40, config=RECIPE, probes=20, num_train_epochs=2, save_steps=100)
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("campus_tune.words.progress.say", said.append)
        trainer.train()
    return Told(out, "\n".join(said), trainer.state.log_history)


def test_rules_that_fired_stand_in_the_ledger_and_end_the_run(told: Told) -> None:
    events = told.events("event")
    assert [(event["name"], event["actions"]) for event in events] == [
        ("first words", ["note"]),
        ("second words", ["rollback", "stop"]),
    ]
    assert events[1]["done"]["rollback"]["step"] <= events[1]["step"]
    assert told.events("end")[0]["step"] == events[1]["step"] < 20


def test_the_console_the_card_and_the_page_say_that_it_was_stopped(told: Told) -> None:
    last = told.events("event")[-1]
    said = last["done"]["stop"]["said"]
    assert f"step {last['step']}/20 · milestone second words met: loss of text" in told.said
    assert f"are back, then {said}" in told.said
    card = (told.out / "README.md").read_text("utf-8")
    assert "- training was stopped early, because milestone second words met" in card
    assert said in card
    page = read_run(told.out)
    assert page.steer is not None
    assert said in steer_section(page.steer, []).sentences[-1]
    assert how_far(page) == "of 20, stopped early"


def test_trackers_get_what_the_ledger_says(told: Told) -> None:
    carried = {key: value for line in told.log for key, value in line.items() if key.startswith("campus/")}
    assert carried["campus/event/milestone"] == 1
    probes, decision = told.events("probes")[-1], told.events("decision")[-1]
    assert {f"campus/ece/{name}" for name in probes["domains"]} <= set(carried)
    assert {key for key in carried if key.startswith("campus/pi/")} == {f"campus/pi/{name}" for name in decision["pi"]}
    moved = told.events("shares")
    assert moved
    assert {f"campus/target_share/{name}" for name in moved[-1]["after"]} <= set(carried)


def test_what_is_read_back_is_what_was_written(told: Told) -> None:
    found, page, moved = read_finished(told.out), read_run(told.out).steer, told.events("shares")
    assert page is not None
    assert [event["step"] for event in found.events] == [one.step for one in page.firings]
    assert [line["after"] for line in found.moved] == [share for one in moved for share in one["after"].values()]
    assert found.calibration["text"].tolist() == [one["domains"]["text"]["ece"] for one in told.events("probes")]
    assert set(found.pi) == {"length", "mtld"}
    same = compare_runs(told.out, told.out)
    assert same.same
    assert same.largest["share that was moved"] == same.largest["calibration error"] == 0.0
