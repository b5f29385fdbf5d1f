"""Which trainers are driven by reward, and the places of theirs that we go by: a version that moves them fails here."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import datasets
import pytest
import trl

import campus_tune
from campus_tune.model.other_tasks import refuse_other_prompts, refuse_other_task
from campus_tune.model.reward_trainers import (
    PATH_OF_PROMPTS,
    answers_of,
    divides_by_spread,
    is_driven_by_reward,
    micro_step,
    names_of_rewards,
    of_trl,
    sizes_of,
    stand_at,
)
from campus_tune.run.attach import refuse
from campus_tune.run.overrides import refuse_own_data_path
from campus_tune.words.errors import TrainerError
from tests.run.prompts.tiny_prompts import passes, prompts, reward_trainer

KINDS = {"grpo": trl.GRPOTrainer, "rloo": trl.RLOOTrainer}


@pytest.mark.parametrize("kind", KINDS)
def test_trls_own_and_classes_made_of_them_are_driven_by_reward(kind: str) -> None:
    trls = KINDS[kind]
    assert of_trl(trls)
    for each in (trls, type("Mine", (trls,), {"compute_loss": lambda *_: None})):
        assert is_driven_by_reward(object.__new__(each))
        refuse_other_task_of(each)
    assert not is_driven_by_reward(object.__new__(trl.SFTTrainer))


def refuse_other_task_of(kind: Any) -> None:
    """Only its class is asked."""
    trainer = object.__new__(kind)
    trainer.model, trainer.data_collator = None, None
    refuse_other_task(trainer)


def experimental() -> dict[str, Any]:
    """Trainers of trl.experimental that are made of GRPO, or called so."""
    found = {}
    for path in ("gmpo.GMPOTrainer", "async_grpo.AsyncGRPOTrainer", "online_dpo.OnlineDPOTrainer"):
        module, name = path.split(".")
        try:
            found[name] = getattr(importlib.import_module(f"trl.experimental.{module}"), name)
        except (ImportError, AttributeError):  # not in this version, or it needs what is not installed
            continue
    return found


def test_experimental_trainers_stay_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    kinds = experimental()
    assert kinds
    for name, kind in kinds.items():
        assert not is_driven_by_reward(object.__new__(kind))
        with pytest.raises(TrainerError, match=f"got {name}.*its GRPOTrainer or RLOOTrainer where a reward says"):
            refuse_other_task(object.__new__(kind))


def test_what_we_go_by_is_where_it_was() -> None:
    for kind in KINDS.values():
        source = inspect.getsource(kind)
        assert "self._step % generate_every == 0 or self._buffered_inputs is None" in source
        assert "self._buffered_inputs[self._step % self.args.steps_per_generation]" in source
        assert "self._step += 1" in inspect.getsource(kind.training_step)
        assert "self.args.steps_per_generation * self.num_iterations" in source
        assert "self._train_batch_size * self.args.steps_per_generation" in inspect.getsource(kind.get_train_dataloader)


def test_sizes_and_places_of_a_trainer(tmp_path: Path) -> None:
    trainer = reward_trainer(tmp_path, config=False, steps_per_generation=4, num_iterations=2)
    assert sizes_of(trainer) == {
        "prompts": 8, "group": 4, "micro_rows": 8, "world": 1, "steps_per_generation": 4, "iterations": 2,
        "accumulation": 2,
    }  # fmt: skip
    assert (micro_step(trainer), answers_of(trainer)) == (0, None)
    assert names_of_rewards(trainer) == ("passes",)
    trainer._buffered_inputs = [{}]
    assert answers_of(trainer) == [{}]
    stand_at(trainer, 16)
    assert (micro_step(trainer), answers_of(trainer)) == (16, None)
    assert divides_by_spread(trainer)
    assert not divides_by_spread(reward_trainer(tmp_path, "rloo", config=False))
    assert not divides_by_spread(reward_trainer(tmp_path, config=False, scale_rewards="none"))


def own(*_: Any, **__: Any) -> None:
    """A method of the user's."""


@pytest.mark.parametrize("method", PATH_OF_PROMPTS)
def test_a_class_that_chooses_prompts_itself_is_refused(method: str, tmp_path: Path) -> None:
    mine: Any = type("Mine", (trl.GRPOTrainer,), {method: own})
    with pytest.raises(TrainerError, match=f"`{method}` must be trl's own with a curriculum, got the one of Mine"):
        reward_trainer(tmp_path, trainer_class=mine)


def test_a_method_that_is_set_on_the_trainer_is_refused_too(tmp_path: Path) -> None:
    trainer = reward_trainer(tmp_path, config=False)
    refuse_own_data_path(trainer)
    trainer._get_train_sampler = own
    with pytest.raises(
        TrainerError, match=r"`_get_train_sampler` must be trl's own .* one that was set on this trainer"
    ):
        campus_tune.attach(trainer)


def test_a_class_of_ones_own_that_leaves_the_prompts_alone_trains(tmp_path: Path) -> None:
    class Mine(trl.GRPOTrainer):
        def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
            return super()._calculate_rewards(*args, **kwargs)

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            return super().compute_loss(*args, **kwargs)

    assert reward_trainer(tmp_path, trainer_class=Mine, max_steps=2).train().global_step == 2


def test_probes_have_no_place_where_a_model_is_trained_by_reward(tmp_path: Path) -> None:
    trainer = reward_trainer(tmp_path, config=False)
    with pytest.raises(TrainerError, match=r"`probes` must be left out .*Give the trainer an eval_dataset"):
        campus_tune.attach(trainer, probes="probes.jsonl")
    assert reward_trainer(tmp_path, trainer_args={"eval_dataset": trainer.train_dataset}, max_steps=2).train()


def test_prompts_that_are_seen_are_refused(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list([{**row, "image": "cat.png"} for row in prompts(8)])
    with pytest.raises(TrainerError, match=r"prompts must be text, got image columns \['image'\]"):
        reward_trainer(tmp_path, train=rows)
    assert reward_trainer(tmp_path, train=rows.remove_columns("image"), max_steps=2).train().global_step == 2


def test_prompts_that_are_a_stream_are_refused(tmp_path: Path) -> None:
    trainer = reward_trainer(tmp_path, config=False)
    trainer.train_dataset = trainer.train_dataset.to_iterable_dataset()
    with pytest.raises(TrainerError, match="`train_dataset` must have a length and rows by position"):
        campus_tune.attach(trainer)


def test_an_environment_that_owns_the_prompts_is_refused(tmp_path: Path) -> None:
    trainer = reward_trainer(tmp_path, config=False)
    refuse_other_prompts(trainer)
    trainer.environment_factories = {"game": object}
    with pytest.raises(TrainerError, match="got prompt, cut, level, domain, and environments that make them"):
        refuse(trainer)
    trainer.environment_factories = None
    trainer.train_dataset = trainer.train_dataset.rename_column("prompt", "question")
    with pytest.raises(TrainerError, match="must have a column prompt, which says what is asked, got question, cut"):
        refuse(trainer)


def test_a_reward_is_asked_as_before(tmp_path: Path) -> None:
    asked: list[int] = []

    def counts(completion_ids: Any, **columns: Any) -> list[float]:
        asked.append(len(completion_ids))
        return passes(completion_ids, **columns)

    reward_trainer(tmp_path, rewards=counts, max_steps=2).train()
    assert asked == [16, 16]
