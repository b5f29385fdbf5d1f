"""A run in legs is the run in one: the same rows, the same losses to the last digit, wherever it was left."""

import json
import re
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState
from transformers import TrainingArguments as Args

from campus_tune.compare.arms import Arm
from campus_tune.compare.leg_recorder import LegRecorder
from campus_tune.compare.legs import forget, leg_file, read_leg
from campus_tune.compare.result_file import run_folder
from campus_tune.compare.task import Leg, Task
from campus_tune.compare.training import Bench
from campus_tune.run.ledger import read_ledger
from campus_tune.run.stream.finite import Finite, Update
from campus_tune.words.errors import DataError, DivergedError
from campus_tune.words.types import Json
from tests.compare.tiny_compare import STEPS, bench_of, tiny_recipe

WHOLE = Leg(marks=(1 / 3, 1 / 2))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_recipe(tmp_path_factory.mktemp("recipe"), lr_scheduler_type="constant")


@pytest.fixture(scope="module")
def whole(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Json]:
    bench = bench_of(recipe, tmp_path_factory.mktemp("whole"))
    return bench, bench.make(Task("recipe", 1, leg=WHOLE))


def decisions(bench: Bench, arm: str = "recipe") -> list[Json]:
    events = read_ledger(run_folder(bench.plan.out, arm, 1) / "curriculum" / "ledger.jsonl")
    return [{k: event.get(k) for k in ("step", "chosen", "rows")} for event in events if event["event"] == "decision"]


def legs(bench: Bench, ends: list[int | None], arm: str | Arm = "recipe") -> list[Json]:
    starts = [0, *(end for end in ends if end is not None)]
    return [bench.make(Task(arm, 1, leg=Leg(end, start))) for end, start in zip(ends, starts[: len(ends)], strict=True)]


def test_a_leg_to_the_end_is_measured_at_its_marks(whole: tuple[Bench, Json]) -> None:
    bench, outcome = whole
    assert (outcome["status"], outcome["step"], outcome["steps"], outcome["over"]) == ("finished", STEPS, STEPS, True)
    assert outcome["curve"]["step"] == [2, 3, STEPS]
    loss, test = outcome["curve"]["loss"][-1], outcome["test"]
    assert loss == pytest.approx(sum(test["loss"]) / sum(test["tokens"]))
    assert {key: outcome[key] for key in ("arm", "seed")} == {"arm": "recipe", "seed": 1}
    read = read_leg(bench.plan.out, "recipe", 1, WHOLE)
    assert read is not None
    assert read["test"] == json.loads(json.dumps(outcome["test"]))


@pytest.mark.parametrize("ends", [[2, None], [1, 3, None], [5, None]])
def test_a_run_in_legs_is_the_run_in_one_to_the_last_digit(
    recipe: Path, whole: tuple[Bench, Json], tmp_path: Path, ends: list[int | None]
) -> None:
    bench = bench_of(recipe, tmp_path)
    parts = legs(bench, ends)
    assert [part["status"] for part in parts] == ["finished"] * len(ends)
    assert [part["over"] for part in parts] == [*[False] * (len(ends) - 1), True]
    assert parts[-1]["test"] == whole[1]["test"]
    at = dict(zip(whole[1]["curve"]["step"], whole[1]["curve"]["loss"], strict=True))
    for part in parts:
        for step, loss in zip(part["curve"]["step"], part["curve"]["loss"], strict=True):
            assert loss == at.get(step, loss)
    assert decisions(bench) == decisions(whole[0])
    assert sum(part["tokens"] for part in parts) == whole[1]["tokens"]


def test_it_is_so_where_all_weights_are_trained(tmp_path: Path) -> None:
    """Checkpoints of whole models, whose output layer is the embedding's."""
    recipe = tiny_recipe(tmp_path / "recipe", lr_scheduler_type="constant", lora=False)
    whole = bench_of(recipe, tmp_path / "whole").make(Task("recipe", 1, leg=Leg()))
    assert legs(bench_of(recipe, tmp_path / "parts"), [3, None])[-1]["test"] == whole["test"]


def test_a_run_that_a_rule_ends_is_measured_there(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ends(LegRecorder):
        def on_step_end(self, args: Args, state: TrainerState, control: TrainerControl, **more: object) -> None:
            super().on_step_end(args, state, control, **more)
            control.should_training_stop = state.global_step == 3

    monkeypatch.setattr("campus_tune.compare.leg_recorder.LegRecorder", Ends)
    outcome = bench_of(recipe, tmp_path).make(Task("recipe", 1, leg=Leg(5)))
    assert (outcome["step"], outcome["over"], outcome["curve"]["step"]) == (3, True, [3])
    end = sum(outcome["test"]["loss"]) / sum(outcome["test"]["tokens"])
    assert outcome["curve"]["loss"] == [pytest.approx(end)]


def test_a_leg_whose_checkpoint_is_gone_begins_anew_and_ends_the_same(
    recipe: Path, whole: tuple[Bench, Json], tmp_path: Path
) -> None:
    bench = bench_of(recipe, tmp_path)
    legs(bench, [2])
    assert (run_folder(tmp_path, "recipe", 1) / "checkpoint-2").is_dir()
    forget(tmp_path, "recipe", 1)
    assert not list(run_folder(tmp_path, "recipe", 1).glob("checkpoint-*"))
    assert bench.make(Task("recipe", 1, leg=Leg(None, 2)))["test"] == whole[1]["test"]


def test_a_trial_that_cannot_be_trained_is_a_result_and_none_that_is_kept(recipe: Path, tmp_path: Path) -> None:
    bench = bench_of(recipe, tmp_path)
    arm = Arm("trial", "recipe", {"metrics": [{"name": "column", "column": "nowhere"}]})
    outcome = bench.make(Task(arm, 1, leg=Leg(2)))
    assert outcome["status"] == "failed"
    assert "nowhere" in outcome["message"]
    assert str(run_folder(tmp_path, "trial", 1) / "log.txt") in outcome["message"]
    assert read_leg(tmp_path, "trial", 1, Leg(2)) is None


def test_a_model_that_diverges_is_a_result_that_is_kept(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(self: Finite, update: Update) -> None:
        del self
        if update.step == 3:
            raise DivergedError("the loss was NaN at step 3")

    monkeypatch.setattr(Finite, "before_update", diverges)
    outcome = bench_of(recipe, tmp_path).make(Task("recipe", 1, leg=Leg(4)))
    assert (outcome["status"], outcome["message"]) == ("diverged", "the loss was NaN at step 3")
    assert outcome["over"]
    kept = read_leg(tmp_path, "recipe", 1, Leg(4))
    assert kept is not None
    assert (kept["status"], kept["test"]) == ("diverged", None)


def test_a_damaged_result_is_told(tmp_path: Path) -> None:
    path = leg_file(tmp_path, "trial", 0, Leg(2))
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(DataError, match=re.escape("must be the result of a part of a run")):
        read_leg(tmp_path, "trial", 0, Leg(2))
    path.unlink()
    assert read_leg(tmp_path, "trial", 0, Leg(2)) is None  # the advice
