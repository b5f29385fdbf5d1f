"""What goes wrong on a run's way from its plan to the rewards, seen from outside: which words stop it, and where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from campus_tune.words.errors import AuditError, RewardError
from tests.run.prompts.tiny_prompts import GROUP, passes, prompts, reward_trainer
from tests.run.tiny_run import dataset
from tests.run.witness import events

ORDERED = {"metrics": ["length"], "stages": 4, "within": "none"}


def wrap_loader(trainer: Any, change: Callable[[int, list[Any]], list[Any]]) -> None:
    """Let something of the user's stand between the trainer and its loader."""
    make = trainer.get_train_dataloader

    class Wrapped:
        def __init__(self) -> None:
            self.inner = make()

        def __len__(self) -> int:
            return len(self.inner)

        def __iter__(self) -> Iterator[list[Any]]:
            return (change(micro, batch) for micro, batch in enumerate(self.inner))

    trainer.get_train_dataloader = Wrapped


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda batch: batch[GROUP:] + batch[:GROUP], "were planned in this sequence, got another"),
        (lambda batch: [*batch[:-1], {**batch[-1], "cut": 7}], r"its `cut` came otherwise: 7 in place of"),
        (lambda batch: [{**batch[0], "prompt": "stranger"}, *batch[1:]], "its `prompt` came otherwise: 'stranger'"),
    ],
    ids=["reordered", "another column", "another prompt"],
)
def test_what_stands_between_plan_and_model_is_found(tmp_path: Path, change: Any, said: str) -> None:
    trainer = reward_trainer(tmp_path, config=ORDERED)
    wrap_loader(trainer, lambda micro, batch: change(batch) if micro == 2 else batch)
    with pytest.raises(AuditError, match=f"prompt audit of generation 1: .*{said}"):
        trainer.train()
    assert trainer.state.global_step == 1
    assert not trainer.model._forward_hooks
    assert "_calculate_rewards" not in vars(trainer)
    assert not events(tmp_path, "end")


def test_a_reward_function_that_fails_is_mended_and_the_run_goes_on(tmp_path: Path) -> None:
    def fails(completion_ids: Any, cut: Any, level: Any, **_: Any) -> Any:
        if broken and max(level) == 8 and trainer.state.global_step:
            raise KeyError("answer")
        return passes(completion_ids, cut)

    calm = reward_trainer(tmp_path / "calm", config=ORDERED, rewards=passes, max_steps=3)
    calm.train()
    broken, trainer = True, reward_trainer(tmp_path / "run", config=ORDERED, rewards=fails, save_steps=1, max_steps=3)
    trainer.reward_func_names[0] = "passes"
    said = r"reward function 'passes' .* got KeyError: 'answer' for row \d+ \(prompt 'task \d+ of kind 0: .* None there"
    with pytest.raises(RewardError, match=said):
        trainer.train()
    done = trainer.state.global_step
    assert done in (1, 2)
    broken, trainer = False, reward_trainer(tmp_path / "run", config=ORDERED, rewards=passes, save_steps=1, max_steps=3)
    trainer.train(resume_from_checkpoint=True)
    for ours, theirs in zip(trainer.model.parameters(), calm.model.parameters(), strict=True):
        assert bool((ours == theirs).all())
    assert events(tmp_path / "run", "end")[0]["audit"]["checked"] == 3


def test_prompts_that_are_not_judged_are_not_tried(tmp_path: Path) -> None:
    def judge(completion_ids: Any, cut: Any, domain: Any, **_: Any) -> list[float | None]:
        told = passes(completion_ids, cut)
        return [None if where == "b" else reward for where, reward in zip(domain, told, strict=True)]

    trainer = reward_trainer(tmp_path, config={**ORDERED, "within": "none"}, rewards=judge)
    trainer.train()
    (end,) = events(tmp_path, "end")
    drawn = end["groups"]["n"]
    assert 0 < end["groups"]["untried"] < drawn
    assert events(tmp_path, "stage_end")[0]["rewards"]["judge"]["mean"] is not None


def test_an_evaluation_between_steps_is_heard_by_nobody_and_changes_no_plan(tmp_path: Path) -> None:
    def stages(name: str, **given: Any) -> list[Any]:
        trainer = reward_trainer(tmp_path / name, config=ORDERED, steps_per_generation=4, **given)
        trainer.train()
        assert bool(given) == any("eval_reward" in line for line in trainer.state.log_history)
        return [
            (line["stage"], line["chosen"], line["groups"]["n"], line["audit"])
            for line in events(tmp_path / name, "stage_end")
        ]

    strange = dataset([{**row, "prompt": f"strange {row['prompt']}"} for row in prompts(4)])
    evaluated = {"eval_strategy": "steps", "eval_steps": 1, "trainer_args": {"eval_dataset": strange}}
    assert stages("evaluated", **evaluated) == stages("alone")
