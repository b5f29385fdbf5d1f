"""Bandits in real tiny runs: what the ledger says of rewards is what the stages did, killed or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from campus_tune.method.view import PastStage
from campus_tune.run.checkpoints import saved_curriculum
from campus_tune.words.types import Json
from tests.run.tiny_run import RECIPE, history_of, ledger_of, saved_state, tiny_trainer, weights_of
from tests.run.witness import events

STEPS = 12  # two in each of six stages


class StopAt(TrainerCallback):
    """Saves after a step in the middle of a stage, and ends training there."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        del args, kwargs
        if state.global_step == 7:
            control.should_save = control.should_training_stop = True


def run(out: Path, selector: Json, *callbacks: Any, resume: Path | None = None) -> Any:
    recipe = {**RECIPE, "selector": selector, "stages": 6, "budget": 10.0, "scores": "none"}
    trainer = tiny_trainer(
        out, config=recipe, n=4 * STEPS, probes=25, callbacks=callbacks, lora=True, save_strategy="no"
    )
    trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    return trainer


def outcome(trainer: Any) -> Json:
    out = Path(trainer.args.output_dir)
    return {"ledger": ledger_of(out), "history": history_of(trainer), "weights": weights_of(trainer)}


@pytest.mark.parametrize(
    "selector",
    [
        {"name": "exp3s", "reward": "probes"},
        {"name": "ucb", "reward": "own"},
        {"name": "teacher", "reward": "norm", "epsilon": 0.5},
    ],
    ids=lambda selector: selector["reward"],
)
def test_rewards_are_what_stages_did_and_a_kill_inside_of_one_changes_nothing(tmp_path: Path, selector: Json) -> None:
    whole = outcome(run(tmp_path / "whole", selector))
    decisions = [event for event in whole["ledger"] if event["event"] == "decision"]
    assert decisions[-1]["outcome"] == "only one offer"  # what is left is the same in every order
    assert "pi" not in decisions.pop()
    assert [decision["reward"] and decision["reward"]["stage"] for decision in decisions] == [None, None, None, 2, 3]
    for decision in decisions:
        assert sum(decision["pi"].values()) == pytest.approx(1)
        assert decision["pi"][decision["chosen"]] > 0
    if selector["reward"] == "probes":
        losses = [
            sum(domain["loss"] for domain in event["domains"].values()) / len(event["domains"])
            for event in events(tmp_path / "whole", "probes")
        ]
        falls = [losses[stage] - losses[stage + 1] for stage in (2, 3)]
        told = [decision["reward"]["value"] for decision in decisions[3:]]
        assert all(value * fall > 0 for value, fall in zip(told, falls, strict=True))
    stopped = run(tmp_path / "killed", selector, StopAt())
    assert stopped.state.global_step == 7
    resumed = run(tmp_path / "killed", selector, resume=tmp_path / "killed" / "checkpoint-7")
    again = outcome(resumed)
    assert [event for event in again["ledger"] if event["event"] == "decision"][:-1] == decisions
    for name, values in whole["weights"].items():
        assert again["weights"][name].equal(values), name


@pytest.mark.parametrize("reward", ["own", "norm"])
def test_a_checkpoint_inside_of_a_stage_has_what_was_measured_before_it(tmp_path: Path, reward: str) -> None:
    run(tmp_path, {"name": "ucb", "reward": reward}, StopAt())
    state = saved_curriculum(saved_state(tmp_path / "checkpoint-7"))
    stage, before = state["curriculum"]["stage"], state["rewards"]
    assert stage["first_step"] < state["curriculum"]["step"] == 7 < stage["first_step"] + stage["n_steps"]
    assert (before["own"] is None) == (reward == "norm")
    assert (before["rows"] is None) == (reward == "norm")
    assert (before["norm"] is None) == (reward == "own")
    past = [PastStage.of(stage) for stage in state["training_losses"]["past"]]
    gains = [stage.own_gain if reward == "own" else stage.norm_gain for stage in past]
    assert len(gains) == 3
    assert all(gains)
    assert all(stage.lr_tokens > 0 for stage in past)


def test_own_samples_are_on_the_bill_of_the_selection(tmp_path: Path) -> None:
    run(tmp_path, {"name": "ucb", "reward": "own"})
    [end] = events(tmp_path, "end")
    assert end["cost"]["selection"] > 0


def test_a_run_that_asks_for_neither_remembers_nothing_of_it(tiny_trainer: Callable[..., Any], tmp_path: Path) -> None:
    trainer = tiny_trainer(n=16, config={**RECIPE, "selector": "round_robin"}, save_steps=2)
    trainer.train()
    assert "rewards" not in saved_curriculum(saved_state(tmp_path / "run" / "checkpoint-2"))
    assert all("pi" not in event and "reward" not in event for event in events(tmp_path / "run", "decision"))
