"""Whole runs in which a rule rolls the weights back, or stops training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from campus_tune.model.peers import Peers
from campus_tune.run import best_weights
from campus_tune.run.checkpoints import last_complete, saved_curriculum
from campus_tune.run.ledger import read_ledger
from campus_tune.words.errors import TrainerError
from campus_tune.words.types import Json
from tests.run.test_resume import SaveAt, StopAfter, StoppedError, assert_same, outcome
from tests.run.tiny_run import saved_state, tiny_trainer

STEERED: Json = {
    "metrics": ["length", "mtld"],
    "stages": 12,
    "handover": 1.0,
    "mix": 0.0,
    "budget": 4.0,
    "when": {"regression": {"then": ["rollback", "hand_over"], "over": 0.02, "hold": 1}},
}
RUN: Json = {"config": STEERED, "n": 96, "probes": 50, "lr_scheduler_type": "cosine"}  # 24 steps, probed at 0, 4, 8, …
GOOD = 12  # steps: of the best measurement …
SPOILT, BACK, AGAIN = (15, 19), 16, 20  # … behind which weights are spoilt, … whose measurements show it


class Spoils(TrainerCallback):
    """Behind two steps the weights become worse, each time by the same numbers."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, control
        if state.global_step in SPOILT:
            generator = torch.Generator().manual_seed(1)
            with torch.no_grad():
                for parameter in kwargs["model"].parameters():
                    if parameter.requires_grad:
                        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def life(out: Path, *callbacks: Any, resume: bool | str = False, **settings: Any) -> Any:
    trainer = tiny_trainer(out, callbacks=[Spoils(), *callbacks], **{**RUN, **settings})
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def lines(out: Path, event: str) -> list[Json]:
    return [line for line in read_ledger(out / "curriculum" / "ledger.jsonl") if line["event"] == event]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Json]:
    """A run that nothing stops, and all that it came to."""
    out = tmp_path_factory.mktemp("calm") / "run"
    trainer = life(out, SaveAt(10, BACK), save_steps=1000)
    return out, outcome(trainer)


def test_a_regression_rolls_back_and_the_run_goes_on(calm: tuple[Path, Json]) -> None:
    out, _ = calm
    fired = [line for line in lines(out, "event") if line["kind"] == "regression"]
    assert {line["step"] for line in fired} == {BACK, AGAIN}
    assert all(line["done"]["rollback"]["step"] == GOOD for line in fired)
    assert {line["chosen"] for line in lines(out, "decision") if line["step"] >= BACK} == {"shuffle"}
    end = lines(out, "end")[0]
    assert end["audit"] == {"checked": 24, "passed": 24, "labels": True}
    loss = {line["step"]: line["domains"]["code"]["loss"] for line in lines(out, "probes")}
    assert min(loss[BACK], loss[AGAIN]) > loss[0] > loss[GOOD] > loss[24]


def test_the_checkpoint_of_that_step_holds_what_was_gone_back_to(calm: tuple[Path, Json]) -> None:
    out, _ = calm
    weights, moments = (
        load_file(out / "curriculum" / "best" / f"measurement-00003{end}.safetensors") for end in ("", "-optimizer")
    )
    saved = load_file(out / f"checkpoint-{BACK}" / "model.safetensors")
    for name, value in saved.items():
        assert torch.equal(value, weights[name]), name
    optimizer = torch.load(out / f"checkpoint-{BACK}" / "optimizer.pt", weights_only=True)
    steps = {float(value["step"]) for value in optimizer["state"].values()}
    assert steps == {float(moments[name]) for name in moments if name.endswith("/step")} == {float(GOOD)}
    ours = sorted(float(value.double().sum()) for name, value in moments.items() if name.endswith("/exp_avg"))
    assert sorted(float(value["exp_avg"].double().sum()) for value in optimizer["state"].values()) == ours


def test_files_are_those_that_a_checkpoint_or_the_run_may_need(calm: tuple[Path, Json]) -> None:
    out, _ = calm
    there = {path.name[12:17] for path in (out / "curriculum" / "best").iterdir()}
    needed = {f"{saved_curriculum(saved_state(path))['best']['measurement']:05d}" for path in out.glob("checkpoint-*")}
    assert there == needed == {"00002", "00003", "00006"}  # at 10, 16 and 24


def test_a_run_stopped_again_and_again_around_a_rollback_ends_as_if_it_never_was(
    calm: tuple[Path, Json], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    saves = {"save_steps": 1000, "save_total_limit": 1}
    # behind 13 and 15 a better measurement was written after the checkpoint; behind 16 there is that of the rollback,
    # from which the second one, behind 20, goes back to what was the best before
    for step in (13, 15, BACK, 17, 22):
        with pytest.raises(StoppedError):
            life(out, SaveAt(10, BACK), StopAfter(step), resume=step > 13, **saves)
    trainer = life(out, SaveAt(10, BACK), resume=True, **saves)
    assert_same(outcome(trainer), calm[1])
    assert {path.name[12:17] for path in (out / "curriculum" / "best").iterdir()} == {"00006"}


def test_a_run_goes_on_in_another_folder_with_what_it_may_go_back_to(calm: tuple[Path, Json], tmp_path: Path) -> None:
    out, expected = calm
    source = tmp_path / "source"  # as it was when checkpoint-16 was saved, but for later lines and files
    source.mkdir()
    shutil.copytree(out / "curriculum", source / "curriculum")
    shutil.copytree(out / "checkpoint-10", source / "checkpoint-10")
    trainer = life(tmp_path / "other", resume=str(source / "checkpoint-10"))
    ours = outcome(trainer)
    for what in ("weights", "training losses"):
        assert ours[what] == expected[what]


@pytest.mark.parametrize("recipe", [{"when": {"regression": "note"}}, {"when": {}}, {"when": None}])
def test_without_a_rollback_nothing_is_kept(tmp_path: Path, recipe: Json) -> None:
    out = tmp_path / "run"
    life(out, config={**STEERED, **recipe}, save_steps=1000, n=16)
    assert not (out / "curriculum" / "best").exists()
    assert "best" not in saved_curriculum(saved_state(out / "checkpoint-4"))


def test_a_disk_without_room_is_said_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_weights.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2, 1, 1))
    with pytest.raises(TrainerError, match="must have room for 2 times the weights and moments that `rollback` keeps"):
        life(tmp_path / "run")
    assert not (tmp_path / "run" / "curriculum" / "ledger.jsonl").exists()


# -- early stop ----------------------------------------------------------------------------------------------------

STOPS: Json = {
    **{key: value for key, value in STEERED.items() if key != "when"},
    "milestones": [{"name": "enough", "probe": "lists", "loss": 5.7, "hold": 1, "then": "stop"}],
}


def test_a_stop_saves_a_checkpoint_that_is_whole_and_from_which_one_can_go_on(
    tiny_trainer: Callable[..., Any], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    trainer = tiny_trainer(**{**RUN, "config": STOPS})  # its own strategy would save none
    trainer.train()
    fired = lines(out, "event")[-1]
    step = fired["step"]
    assert 0 < step < 24
    assert trainer.state.global_step == step
    assert fired["done"]["stop"]["said"].startswith(f"stopped at step {step} of 24; ")
    assert fired["done"]["stop"]["said"].endswith(f"the fair control is `random` with max_steps: {step}")
    assert 0.2 < fired["done"]["stop"]["mass_left"] < 0.95
    assert lines(out, "end")[0]["step"] == step
    found = last_complete(out, out / "curriculum", Peers())
    assert found is not None
    assert found.path.name == f"checkpoint-{step}"

    longer = tiny_trainer(**{**RUN, "config": STOPS})
    longer.train(resume_from_checkpoint=True)
    assert longer.state.global_step == 24
    assert [line["step"] for line in lines(out, "event") if line.get("done")] == [step]


class StopsAtTheStart(TrainerCallback):
    """As if a rule had said so before the first step."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, state
        helm = kwargs["train_dataloader"].run.situation.helm
        helm.stops = control.should_training_stop = control.should_save = True


def test_a_stop_before_a_step_saves_behind_it(tiny_trainer: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "run"
    trainer = tiny_trainer(callbacks=[StopsAtTheStart()])
    trainer.train()
    assert trainer.state.global_step == 1  # the trainer looks behind a step
    found = last_complete(out, out / "curriculum", Peers())
    assert found is not None
    assert found.path.name == "checkpoint-1"
