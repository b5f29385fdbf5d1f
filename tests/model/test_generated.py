from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from trl import GRPOTrainer, RLOOTrainer

from campus_tune.demo.tiny import tiny_model
from campus_tune.model.generated import Generated, not_kept, reference_of
from tests.run.prompts import tiny_prompts


def reward_trainer(out: Path, kind: str = "grpo", **settings: Any) -> Any:
    """Without a curriculum."""
    return tiny_prompts.reward_trainer(out, kind, config=False, gradient_accumulation_steps=1, **settings)


@pytest.mark.parametrize("trainer_class", [GRPOTrainer, RLOOTrainer])
def test_trl_still_counts_and_keeps_a_generation_under_these_names(trainer_class: Any) -> None:
    prepare = inspect.getsource(trainer_class._prepare_inputs)
    assert "generate_every = self.args.steps_per_generation * self.num_iterations" in prepare
    assert "if self._step % generate_every == 0 or self._buffered_inputs is None" in prepare
    assert "self._buffered_inputs[self._step % self.args.steps_per_generation]" in prepare
    assert "self._step += 1" in inspect.getsource(trainer_class.training_step)
    assert "_buffered_inputs" not in inspect.getsource(trainer_class._save_checkpoint)  # else ours is not needed


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_what_is_taken_from_one_trainer_is_put_into_another(tmp_path: Path, kind: str) -> None:
    one = reward_trainer(tmp_path, kind, max_steps=1, steps_per_generation=4)
    one.train()
    held = Generated.of(one)
    assert held.micro_step == 1
    assert held.inputs is one._buffered_inputs
    assert len(held.inputs or []) == 4
    assert len(held.log["prompt"]) == len(held.log["completion"]) == len(held.log["advantages"]) == 32
    assert list(held.rewards) == ["passes"]
    other = reward_trainer(tmp_path, kind, max_steps=1, steps_per_generation=4)
    held.put(other)
    assert Generated.of(other) == held
    assert other._logs["prompt"].maxlen == one._logs["prompt"].maxlen == 32


def test_a_reference_model_that_follows_is_told_from_one_that_stays(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "model")
    model = str(tmp_path / "model")  # trl loads a reference from where the model came from
    stays = reward_trainer(tmp_path, model=model, beta=0.1)
    assert stays.ref_model is not None
    assert reference_of(stays) is None
    follows = reward_trainer(tmp_path, model=model, beta=0.1, sync_ref_model=True)
    assert isinstance(reference_of(follows), torch.nn.Module)
    follows.is_fsdp_enabled = True
    assert reference_of(follows) is None
    assert "sharded, so no checkpoint holds it" in not_kept(follows)[0]


def test_who_draws_the_answers_is_said(tmp_path: Path) -> None:
    trainer = reward_trainer(tmp_path)
    assert not_kept(trainer) == []
    trainer.args.use_vllm, trainer.args.vllm_mode = True, "server"
    assert "sampled by vLLM (server)" in not_kept(trainer)[0]


def test_what_adapts_the_entropy_bonus_goes_on_too(tmp_path: Path) -> None:
    one, other = reward_trainer(tmp_path), reward_trainer(tmp_path)
    one.use_adaptive_entropy = other.use_adaptive_entropy = True  # a setting that trl's first versions have not
    one.entropy_coef, one._last_world_entropy = 0.25, float("inf")
    Generated.of(one).put(other)
    assert (other.entropy_coef, other._last_world_entropy) == (0.25, float("inf"))
