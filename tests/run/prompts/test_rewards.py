from __future__ import annotations

import asyncio
import atexit
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from trl.trainer.utils import shutdown_event_loop_in_daemon

from campus_tune.model.reward_trainers import names_of_rewards
from campus_tune.run.prompts.rewards import RewardWatch, spreads, weighted_rewards
from campus_tune.words.errors import RewardError
from tests.run.prompts.planned_loader import PlannedRun
from tests.run.prompts.tiny_prompts import GROUP, passes, reward_trainer
from tests.run.tiny_run import tokenizer

NAN = math.nan


def brief(completion_ids: list[list[int]], **_: Any) -> list[float | None]:
    """What an answer's tokens are worth; answers of few even tokens are not judged."""
    return [None if sum(ids) % 5 == 0 else sum(ids) % 7 / 4 for ids in completion_ids]


async def later(completion_ids: list[list[int]], **_: Any) -> list[float]:
    await asyncio.sleep(0)
    return [float(len(ids)) for ids in completion_ids]


class Judge(torch.nn.Module):
    """A reward model: of each text the number of its first token, times a weight."""

    config = SimpleNamespace(_name_or_path="home/judge")

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.weight * input_ids[:, :1].float() / 100)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A GRPOTrainer with four rewards of every kind."""
    made = reward_trainer(
        tmp_path_factory.mktemp("rewards"),
        config=False,
        rewards=[passes, brief, later, Judge()],
        trainer_args={"reward_processing_classes": [None, None, None, tokenizer()]},
        reward_weights=[0.9, 0.1, 0.0, 0.2],
    )
    yield made
    made.async_loop.call_soon_threadsafe(made.async_loop.stop)  # trl would stop it at exit, and never close it
    made.async_loop_thread.join()
    made.async_loop.close()
    atexit.unregister(shutdown_event_loop_in_daemon)


@pytest.fixture
def rewards(trainer: Any) -> Any:
    """Where the trainer's reward functions may be exchanged for one test."""
    before = list(trainer.reward_funcs)
    yield trainer.reward_funcs
    trainer.reward_funcs[:] = before


def test_every_generation_is_heard_as_the_trainer_has_it(trainer: Any) -> None:
    gathered: list[Any] = []
    own = trainer._calculate_rewards

    def spy(*args: Any) -> Any:
        gathered.append((args, own(*args)))
        return gathered[-1][1]

    trainer._calculate_rewards = spy
    try:
        run = PlannedRun(trainer, 3).train()
    finally:
        del trainer._calculate_rewards
    assert [heard.generation for heard in run.heard] == [0, 1, 2]
    logged = [line["frac_reward_zero_std"] for line in trainer.state.log_history if "frac_reward_zero_std" in line]
    for heard, ((inputs, prompts, _, ids), told), zero, rows in zip(run.heard, gathered, logged, run.rows, strict=True):
        assert heard.rows.tolist() == rows.tolist()
        assert heard.inputs is inputs
        assert heard.prompts is prompts
        np.testing.assert_array_equal(heard.rewards, told.double().numpy())
        assert heard.completion_tokens.tolist() == np.array([len(each) for each in ids]).reshape(-1, GROUP).tolist()
        assert [row["level"] for row in inputs[::GROUP]] == [trainer.train_dataset[int(row)]["level"] for row in rows]
        assert 1 - heard.tells_apart.mean() == zero
        assert list(heard.by_function) == ["passes", "brief", "later", "judge"]
        for k, name in enumerate(heard.by_function):
            np.testing.assert_array_equal(heard.by_function[name].reshape(-1), heard.rewards[:, k])
        one, two, _, four = heard.rewards.T
        expected = 0.9 * one + np.where(np.isnan(two), 0, 0.1 * two) + 0.2 * four
        np.testing.assert_allclose(heard.weighted.reshape(-1), expected, rtol=1e-6)
    assert any(np.isnan(heard.rewards[:, 1]).any() for heard in run.heard)


def test_nothing_of_the_trainer_is_changed_when_it_ends(trainer: Any) -> None:
    before = dict(vars(trainer))
    functions = list(trainer.reward_funcs)
    watch = RewardWatch.on(trainer, lambda _: None, lambda _: np.zeros(4, dtype=np.int32))
    assert "_calculate_rewards" in vars(trainer)
    watch.close()
    watch.close()
    assert vars(trainer).keys() == before.keys()
    assert trainer.reward_funcs == functions


def test_rewards_are_the_same_as_without_being_heard(trainer: Any) -> None:
    def rewards_of(run: PlannedRun) -> list[Any]:
        torch.manual_seed(1)
        run.train()
        return [line["reward"] for line in trainer.state.log_history if "reward" in line]

    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    heard = rewards_of(PlannedRun(trainer))
    trainer.model.load_state_dict(weights)
    alone = PlannedRun(trainer)
    alone.watch.close()
    assert rewards_of(alone) == heard
    assert alone.heard == []


def test_what_is_asked_while_evaluating_is_none_of_its_business(trainer: Any, rewards: Any) -> None:
    run = PlannedRun(trainer)
    rewards[0] = lambda completions, **_: [NAN] * len(completions)
    trainer.model.eval()
    with torch.no_grad():
        told = trainer._calculate_rewards([{"prompt": "new"}] * 2, ["new"] * 2, [" 1", " 2"], [[7], [8]])
    run.watch.close()
    run.audit.close()
    assert told[:, 0].isnan().all()
    assert run.heard == []


def test_a_function_that_gives_nan_stops_the_run_before_a_step_with_the_row_and_its_prompt(
    trainer: Any, rewards: Any
) -> None:
    rewards[1] = lambda prompts, **_: [NAN if "task 1 " in prompt else 0.0 for prompt in prompts]
    said = (
        r"'brief' must give a finite number or None, got nan for row 1 \(prompt 'task 1 of kind 1: please answer', ans"
    )
    run = PlannedRun(trainer, 8)
    with pytest.raises(RewardError, match=said):
        run.train()
    assert trainer.state.global_step == 7
    assert "_calculate_rewards" not in vars(trainer)


async def _late(prompts: list[str], level: list[int], **_: Any) -> list[float]:
    return [1 / (2 if "task 31 " not in prompt else 0 * hard) for prompt, hard in zip(prompts, level, strict=True)]


@pytest.mark.parametrize(
    ("place", "function", "said"),
    [
        (0, lambda completions, **_: [float("inf")] * len(completions), "'passes' must give a finite number .* row 4"),
        (1, lambda completions, **_: [1.0] * (len(completions) - 1), "'brief' must give one reward .* 16 .* got 15"),
        (2, _late, r"'later' must give .* got ZeroDivisionError: .* for row 31 \(prompt 'task 31 of kind 7"),
    ],
)
def test_bad_rewards_stop_the_run(trainer: Any, rewards: Any, place: int, function: Any, said: str) -> None:
    rewards[place] = function
    run = PlannedRun(trainer, 8 if place == 2 else 1)
    run.rows = run.rows[::-1]
    with pytest.raises(RewardError, match=said):
        run.train()


@pytest.mark.parametrize("weight", [NAN, math.inf])
def test_a_reward_model_that_gives_no_number_stops_the_run(trainer: Any, weight: float) -> None:
    judge = trainer.reward_funcs[3]
    judge.weight.data.fill_(weight)
    try:
        with pytest.raises(
            RewardError, match=r"the reward 'judge' must be finite, got (nan|inf) .* row 8 in generation 0"
        ):
            PlannedRun(trainer).train()
    finally:
        judge.weight.data.fill_(0.5)


def test_an_infinite_reward_of_a_class_that_scores_in_its_own_way_stops_the_run(trainer: Any) -> None:
    trainer._calculate_rewards = lambda inputs, *_: torch.full((len(inputs), 4), math.inf)
    try:
        with pytest.raises(
            RewardError, match=r"'passes' must be finite, got inf for an answer to row 8 .*Give None instead"
        ):
            PlannedRun(trainer).train()
    finally:
        del trainer._calculate_rewards


def test_three_generations_without_any_reward_stop_the_run(trainer: Any, rewards: Any) -> None:
    del rewards[1:]
    names, weights, processors = trainer.reward_func_names, trainer.reward_weights, trainer.reward_processing_classes
    trainer.reward_func_names, trainer.reward_weights = names[:1], weights[:1]
    trainer.reward_processing_classes = processors[:1]
    rewards[0] = lambda prompts, **_: [None if "task 2 " not in prompt else 1.0 for prompt in prompts]
    run = PlannedRun(trainer, 8)
    run.rows[:] = [[5, 6, 7, 8], [5, 6, 7, 8], [1, 2, 3, 4], *[[9, 10, 11, 12]] * 5]
    try:
        with pytest.raises(
            RewardError, match=r"in 3 generations must get a reward, got None .* rows \[9, 10, 11, 12\] and"
        ):
            run.train()
    finally:
        trainer.reward_func_names, trainer.reward_weights = names, weights
        trainer.reward_processing_classes = processors
    assert [np.isnan(heard.weighted).all() for heard in run.heard] == [True, True, False, True, True]
    assert [heard.tells_apart.any() for heard in run.heard] == [False] * 5


def test_one_answer_with_two_rewards_contradicts_itself(trainer: Any, rewards: Any) -> None:
    count = iter(range(10**6))
    rewards[0] = lambda prompts, **_: [float(next(count) % 2) if "task 3 " in prompt else 1.0 for prompt in prompts]
    rewards[1] = rewards[2] = lambda prompts, **_: [None] * len(prompts)
    own, same = trainer._generate, [9, 8]

    def generate(prompts: Any) -> Any:
        ids, answers, *rest = own(prompts)
        return ids, [same] * len(answers), *rest

    trainer._generate = generate
    run = PlannedRun(trainer, 1)
    try:
        run.train()
    finally:
        del trainer._generate
    assert run.heard[0].rows.tolist() == [4, 3, 2, 1]
    assert run.heard[0].contradicting.tolist() == [False, True, False, False]
    assert run.heard[0].completion_tokens.tolist() == [[2] * GROUP] * 4


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
@pytest.mark.parametrize(
    "given", [{}, {"steps_per_generation": 4}, {"num_iterations": 2}, {"steps_per_generation": 1}], ids=repr
)
def test_what_is_heard_agrees_with_the_trainers_own_log(tmp_path: Path, kind: str, given: dict[str, int]) -> None:
    trainer = reward_trainer(tmp_path, kind, config=False, **given)
    run = PlannedRun(trainer, 4).train()
    lines = [line for line in trainer.state.log_history if "reward" in line]
    per_line = len(run.heard) // len(lines)
    assert len(run.heard) == 4
    for k, line in enumerate(lines):
        heard = run.heard[k * per_line : (k + 1) * per_line]
        assert np.mean([each.weighted.mean() for each in heard]) == pytest.approx(line["reward"])
        assert np.mean([1 - each.tells_apart.mean() for each in heard]) == pytest.approx(line["frac_reward_zero_std"])


# -- the arithmetic ----------------------------------------------------------------------------------------------------


def made_up(weights: list[float], **settings: Any) -> Any:
    return SimpleNamespace(reward_weights=torch.tensor(weights), **settings)


def test_a_weighted_reward_is_the_sum_over_the_functions_that_judged() -> None:
    rewards = np.array([[1.0, 2.0], [NAN, 2.0], [1.0, NAN], [NAN, NAN]])
    np.testing.assert_array_equal(weighted_rewards(made_up([0.5, 2.0]), rewards), [4.5, 4.0, 0.5, NAN])


@pytest.mark.parametrize("weights", [[0.1, 0.9], [0.7, 0.3], [1 / 3, 2 / 3], [0.2, 0.3, 0.5], [0.1] * 10])
def test_weights_that_make_one_make_one_of_single_precision(weights: list[float]) -> None:
    assert weighted_rewards(made_up(weights), np.ones((1, len(weights)))).tolist() == [1.0]


def test_rloo_cuts_rewards_before_it_compares_them() -> None:
    rewards = np.array([[3.0], [2.0], [-7.0], [NAN]])
    cut = weighted_rewards(made_up([1.0], reward_clip_range=(-1.0, 1.0)), rewards)
    np.testing.assert_array_equal(cut, [1.0, 1.0, -1.0, NAN])


def test_groups_spread_where_two_known_rewards_differ() -> None:
    groups = np.array([[0.0, 1.0, NAN], [1.0, 1.0, NAN], [NAN, NAN, 3.0], [NAN, NAN, NAN], [2.0, 2.0, 2.0]])
    assert spreads(groups).tolist() == [True, False, False, False, False]


def test_functions_that_are_called_alike_are_numbered() -> None:
    assert names_of_rewards(made_up([], reward_func_names=["a", "b", "a", "a"])) == ("a", "b", "a (2)", "a (3)")


@pytest.mark.parametrize(("way", "expected"), [("sum_then_normalize", False), ("normalize_then_sum", True)])
def test_rewards_that_cancel_tell_apart_only_where_each_is_brought_to_scale(
    tmp_path: Path, way: str, expected: bool
) -> None:
    def there(completion_ids: Any, **_: Any) -> list[float]:
        return [float(k % 2) for k in range(len(completion_ids))]

    def back(completion_ids: Any, **_: Any) -> list[float]:
        return [1.0 - k % 2 for k in range(len(completion_ids))]

    trainer = reward_trainer(
        tmp_path, config=False, rewards=[there, back], multi_objective_aggregation=way, reward_weights=[1.0, 1.0]
    )
    run = PlannedRun(trainer, 1).train()
    assert run.heard[0].weighted.tolist() == [[1.0] * GROUP] * 4
    assert run.heard[0].tells_apart.tolist() == [expected] * 4
