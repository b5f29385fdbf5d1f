"""Test prompts are answered and scored between two steps, and the training does not notice."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.model.compat_answers import LOGS, PromptAnswers
from campus_tune.model.random_states import RandomStates
from campus_tune.words.errors import DataError
from tests.run.prompts.tiny_prompts import passes, prompts, reward_trainer

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # what trl and transformers say to each other
ROWS = [{**row, "prompt": f"quiz: {row['prompt']}"} for row in prompts(10)]
PLACES = [f"row {i}" for i in range(len(ROWS))]


def length(completions: Any, log_extra: Any = None, log_metric: Any = None, **_: Any) -> list[float]:
    """Logs as TRL's own rewards do."""
    for log, value in ((log_extra, ["x"] * len(completions)), (log_metric, 1.0)):
        if log is not None:
            log("seen", value)
    return [0.25] * len(completions)


@pytest.fixture(scope="module", params=["grpo", "rloo"])
def trainer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("answers")
    return reward_trainer(out, request.param, config=False, rewards=[passes, length], reward_weights=[2.0, 1.0])


def test_the_likeliest_answers_are_the_same_every_time(trainer: Any) -> None:
    answers = PromptAnswers(trainer, ROWS, PLACES)
    one, other = answers.measure(), answers.measure()
    assert np.array_equal(one.rewards, other.rewards)
    assert one.tokens == other.tokens
    assert len(ROWS) <= one.tokens <= 2 * len(ROWS)
    assert np.allclose(one.rewards, 2.0 * one.by_function["passes"] + one.by_function["length"])
    assert set(one.by_function["length"].tolist()) == {0.25}


def test_sampled_answers_have_one_seed(trainer: Any) -> None:
    answers = PromptAnswers(trainer, ROWS, PLACES, samples=20)
    one = answers.measure()
    torch.rand(3)
    assert np.array_equal(one.rewards, answers.measure().rewards)
    assert len(set(one.by_function["passes"].tolist())) > 2  # means of twenty
    assert one.tokens >= 20 * len(ROWS)


def test_it_is_the_answer_that_the_model_gives_alone(trainer: Any) -> None:
    tokenizer, model = trainer.processing_class, trainer.model.eval()
    rewards = PromptAnswers(trainer, ROWS, PLACES).measure().by_function["passes"]
    for row, found in zip(ROWS, rewards, strict=True):
        ids = torch.tensor([tokenizer(row["prompt"])["input_ids"]])
        with torch.no_grad():
            first = int(model(input_ids=ids).logits[0, -1].argmax())
        assert passes([[first]], [row["cut"]]) == [found]


def test_modes_random_states_and_logs_are_as_before(trainer: Any) -> None:
    trainer.model.train()
    before, logs = RandomStates.now(), [dict(getattr(trainer, name, {})) for name in ("_pending_extra_logs",)]
    PromptAnswers(trainer, ROWS, PLACES, samples=2).measure()
    assert torch.equal(before.of_torch, RandomStates.now().of_torch)
    assert all(module.training for module in trainer.model.modules())
    assert logs == [dict(getattr(trainer, name, {})) for name in ("_pending_extra_logs",)]
    assert not set(LOGS) & set(vars(trainer))


def test_chats_are_answered_as_chats(tmp_path: Path) -> None:
    seen: list[Any] = []

    def look(completions: Any, **_: Any) -> list[float]:
        seen.extend(completions)
        return [0.0] * len(completions)

    chats = [{**row, "prompt": [{"role": "user", "content": row["prompt"]}]} for row in prompts(16)]
    made = reward_trainer(tmp_path, config=False, rewards=look, train=chats)
    PromptAnswers(made, chats[:3], PLACES[:3]).measure()
    assert [one[0]["role"] for one in seen] == ["assistant"] * 3


@pytest.mark.parametrize(
    ("value", "got"), [(None, "None or NaN of all"), (float("nan"), "None or NaN"), (float("inf"), "an infinite one")]
)
def test_a_prompt_without_a_number_is_named(value: Any, got: str, tmp_path: Path) -> None:
    def some(cut: Any, **_: Any) -> list[Any]:
        return [value if one == 0 else 1.0 for one in cut]

    made = reward_trainer(tmp_path, config=False, rewards=some)
    with pytest.raises(DataError, match=rf"a reward that is a number, got {got}.* for 2 of 10 \(row 0, row 8\)"):
        PromptAnswers(made, ROWS, PLACES).measure()


def test_the_private_name_takes_what_we_hand_it() -> None:
    import trl

    for one in (trl.GRPOTrainer, trl.RLOOTrainer):
        taken = list(inspect.signature(one._calculate_rewards).parameters)
        assert taken == ["self", "inputs", "prompts", "completions", "completion_ids_list"]
