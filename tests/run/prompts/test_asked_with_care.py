from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from campus_tune.run.prompts.asked_with_care import Answers, asked_with_care, last_turn
from campus_tune.words.errors import RewardError

N = 6
ANSWERS = Answers(
    np.array([7, 7, 7, 3, 3, 3], dtype=np.int32),
    [f"prompt {k // 3}" for k in range(N)],
    [f"answer {k}" for k in range(N)],
)


def ask(function: Any, answers: Answers = ANSWERS, **columns: Any) -> Any:
    """What a careful trainer gets of one reward function."""
    trainer = SimpleNamespace(reward_funcs=[function])
    given = {"prompts": list(answers.prompts), "completions": list(answers.completions), **columns}
    with asked_with_care(trainer, ["judge"], answers):
        said = trainer.reward_funcs[0](**given)
        said = asyncio.run(said) if asyncio.iscoroutine(said) else said
    assert trainer.reward_funcs == [function]
    return said


def gives(rewards: Any) -> Callable[..., Any]:
    return lambda **_: rewards


@pytest.mark.parametrize(
    "rewards",
    [
        [1, 0.5, True, -2.0, None, np.float32(3)],
        np.arange(6.0),
        torch.arange(6.0),
        (0, 1, 0, 1, 0, 1),
        [None] * N,
    ],
)
def test_numbers_and_none_are_rewards(rewards: Any) -> None:
    assert ask(gives(rewards)) == list(rewards)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e39, "1.0", [1.0], 10**400])
def test_what_is_no_finite_number_is_refused_with_its_row(bad: Any) -> None:
    said = (
        r"'judge' must give a finite number or None, got .* for row 3 \(prompt 'prompt 1', answer 'answer 4'\)\. Give"
    )
    with pytest.raises(RewardError, match=said):
        ask(gives([1.0, None, 0.0, 1.0, bad, 1.0]))


@pytest.mark.parametrize(
    ("rewards", "got"), [([1.0] * 5, "5 rewards"), ([], "0 rewards"), (1.0, r"1\.0"), (None, "None")]
)
def test_too_few_rewards_are_refused(rewards: Any, got: str) -> None:
    with pytest.raises(RewardError, match=f"'judge' must give one reward for each of 6 answers, got {got}"):
        ask(gives(rewards))


def fails_on(*bad: str) -> Callable[..., list[float]]:
    def judge(completions: list[str], length: list[int], **_: Any) -> list[float]:
        assert len(length) == len(completions)
        for one in completions:
            if one in bad:
                raise ZeroDivisionError("division by zero")
        return [1.0] * len(completions)

    return judge


@pytest.mark.parametrize("place", range(N))
def test_a_function_that_fails_on_one_answer_is_asked_again_until_it_is_found(place: int) -> None:
    row, prompt = (7, 0) if place < 3 else (3, 1)
    said = rf"'judge' .* got ZeroDivisionError: division by zero for row {row} \(prompt 'prompt {prompt}', answer "
    with pytest.raises(RewardError, match=rf"{said}'answer {place}'\)\. Let it give None there") as raised:
        ask(fails_on(f"answer {place}"), length=list(range(N)))
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_of_several_that_fail_one_is_named() -> None:
    with pytest.raises(RewardError, match="'answer 2'"):
        ask(fails_on("answer 2", "answer 5"), length=list(range(N)))


def test_finding_it_asks_for_no_more_than_twice_the_answers() -> None:
    asked: list[int] = []

    def judge(completions: list[str], **_: Any) -> list[float]:
        asked.append(len(completions))
        raise ValueError

    with pytest.raises(RewardError, match="got ValueError: it says no more for row 7"):
        ask(judge)
    assert sum(asked[1:]) <= 2 * N


def test_a_failure_of_all_answers_together_names_no_row() -> None:
    def judge(completions: list[str], **_: Any) -> list[float]:
        if len(completions) == N:
            raise MemoryError("out of memory")
        return [0.0] * len(completions)

    with pytest.raises(RewardError, match="out of memory; asked again for either half of them it did not fail"):
        ask(judge)


def test_a_function_that_is_awaited_is_asked_with_the_same_care() -> None:
    async def judge(completions: list[str], **_: Any) -> list[float]:
        await asyncio.sleep(0)
        return [float(len(one)) / (one != "answer 4") for one in completions]

    class Judge:
        async def __call__(self, **given: Any) -> list[float]:
            return await judge(**given)

    for function in (judge, functools.partial(judge, unused=1), Judge()):
        with pytest.raises(
            RewardError, match=r"ZeroDivisionError: .* for row 3 \(prompt 'prompt 1', answer 'answer 4'"
        ):
            ask(function)

    async def good(**_: Any) -> list[Any]:
        return [1.0, None] * 3

    async def short(**_: Any) -> list[Any]:
        return [1.0]

    assert ask(good) == [1.0, None] * 3
    with pytest.raises(RewardError, match="got 1 rewards"):
        ask(short)

    async def together(completions: list[str], **_: Any) -> list[float]:
        if len(completions) == N:
            raise TimeoutError("no answer from the server")
        return [0.0] * len(completions)

    with pytest.raises(RewardError, match="no answer from the server; asked again"):
        ask(together)


def test_a_column_that_is_not_there_is_said_before_a_function_is_asked() -> None:
    def judge(completions: list[str], solution: list[str], strict: bool = True, **_: Any) -> list[float]:
        del strict
        return [float(one in answer) for one, answer in zip(solution, completions, strict=True)]

    async def awaited(completions: list[str], *, solution: list[str]) -> list[float]:
        return [float(len(completions)) for _ in solution]

    for function in (judge, awaited, functools.partial(judge, strict=False)):
        with pytest.raises(
            RewardError, match=r"got solution, and what there is is prompts, completions, answer\. Rename"
        ):
            ask(function, answer=["1"] * N)
    assert ask(judge, solution=["4"] * N) == [0.0, 0.0, 0.0, 0.0, 1.0, 0.0]  # the advice
    with pytest.raises(RewardError, match="must give one reward for each of 6 answers, got"):
        ask(dict)  # whose parameters nobody can read


def test_a_function_may_empty_what_it_is_given() -> None:
    prompts = list(ANSWERS.prompts)

    def judge(prompts: list[str], **_: Any) -> list[float]:
        prompts.clear()
        return [1.0] * N

    trainer = SimpleNamespace(reward_funcs=[judge])
    with asked_with_care(trainer, ["judge"], Answers(ANSWERS.rows, prompts, ANSWERS.completions)):
        assert trainer.reward_funcs[0](prompts=prompts) == [1.0] * N


def test_an_interrupt_is_no_failure() -> None:
    def judge(**_: Any) -> list[float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(judge)


def test_a_reward_model_is_left_alone() -> None:
    model = torch.nn.Linear(1, 1)
    trainer = SimpleNamespace(reward_funcs=[model])
    with asked_with_care(trainer, ["judge"], ANSWERS):
        assert trainer.reward_funcs[0] is model


def test_of_a_chat_the_last_turn_is_told() -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    assert last_turn(chat) == "1+1?"
    assert last_turn("1+1?") == "1+1?"
    with pytest.raises(RewardError, match=r"for row 5 \(prompt '1\+1\?', answer '2'\)"):
        ask(
            gives([float("nan")]),
            Answers(np.array([5], dtype=np.int32), [chat], [[{"role": "assistant", "content": "2"}]]),
        )
