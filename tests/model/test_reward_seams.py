from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import trl

from campus_tune.model import reward_seams
from campus_tune.model.reward_seams import GENERATES, REWARDS, hides_forwards, listen, loss_of_its_own, tokens_of

KINDS = [trl.GRPOTrainer, trl.RLOOTrainer]


@pytest.mark.parametrize("kind", KINDS)
def test_trl_has_the_methods_that_are_listened_to(kind: type) -> None:
    def arguments(name: str) -> list[str]:
        return list(inspect.signature(getattr(kind, name)).parameters)

    assert arguments(GENERATES) == ["self", "inputs"], f"{GENERATES} of this trl has other arguments"
    assert arguments(REWARDS) == ["self", "inputs", "prompts", "completions", "completion_ids_list"]
    assert arguments("_tokenize_prompts") == ["self", "prompts"]
    for name in (*reward_seams.ANSWERING, *reward_seams.LOSS):
        assert hasattr(kind, name), f"{name} is gone from this trl"


@pytest.mark.parametrize("kind", KINDS)
def test_trl_answers_into_a_buffer_and_asks_reward_functions_by_name(kind: type) -> None:
    source = inspect.getsource(kind)
    for words in (
        "self._calculate_rewards(inputs, prompts, completions, completion_ids_list)",
        "self._generate_and_score_completions(generation_batch)",
        "self._buffered_inputs[self._step % self.args.steps_per_generation]",
        "self.reward_funcs, self.reward_processing_classes, self.reward_func_names",
        "gather(rewards_per_func)",
    ):
        assert words in source, words


class Trainer:
    def __init__(self) -> None:
        self.model = torch.nn.Linear(1, 1)

    def answer(self, *given: Any) -> tuple[Any, ...]:
        return given


def test_a_method_is_heard_while_the_model_trains_until_it_ends() -> None:
    trainer: Any = Trainer()
    heard: list[Any] = []

    def around(own: Any, *given: Any) -> Any:
        heard.append(given)
        return own(*given)

    end = listen(trainer, "answer", around)
    assert trainer.answer(1) == (1,)
    trainer.model.eval()
    assert trainer.answer(2) == (2,)
    assert heard == [(1,)]
    end()
    assert "answer" not in vars(trainer)


def test_what_somebody_has_set_or_wrapped_is_left_in_its_place() -> None:
    trainer: Any = Trainer()
    trainer.answer = theirs = lambda *given: ("theirs", *given)
    end = listen(trainer, "answer", lambda own, *given: own(*given))
    assert trainer.answer(1) == ("theirs", 1)
    end()
    assert trainer.answer is theirs
    heard: list[Any] = []
    end = listen(trainer, "answer", lambda own, *given: heard.append(given) or own(*given))
    ours = trainer.answer
    trainer.answer = wrapper = lambda *given: ours(*given)
    end()
    assert trainer.answer is wrapper
    assert trainer.answer(3) == ("theirs", 3)
    assert heard == []


class Polite(trl.GRPOTrainer):
    def _generate(self, prompts: Any) -> Any: ...

    def _compute_loss(self, model: Any, inputs: Any) -> Any: ...


def test_a_class_of_the_users_that_answers_in_its_own_way_has_tokens_of_its_own() -> None:
    for kind, own in ((trl.GRPOTrainer, False), (trl.RLOOTrainer, False), (Polite, True)):
        trainer: Any = object.__new__(kind)
        assert loss_of_its_own(trainer) == own
        if own:
            assert tokens_of(trainer, ["one"]) is None
    trainer.rollout_func = lambda *_: None
    assert tokens_of(trainer, ["one"]) is None


@pytest.mark.parametrize(
    ("given", "hidden"), [({}, False), ({"use_liger_kernel": True}, True), ({"use_liger_loss": 1}, True)]
)
def test_forwards_are_hidden_by_a_loss_that_asks_a_part_of_the_model(given: dict[str, Any], hidden: bool) -> None:
    assert hides_forwards(SimpleNamespace(**given)) == hidden  # type: ignore[arg-type]
