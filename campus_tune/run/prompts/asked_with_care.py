"""Reward functions asked with care: what one of them may not say stops the run, with the row and its prompt.

A reward is a number, or None where a function does not judge an answer. TRL takes NaN for None without a word, lets inf
make every weight NaN, and of a function that fails it says only that it did. A function that fails here is asked again
for halves of its answers, until the one is found that it fails on.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from campus_tune.words.errors import RewardError
from campus_tune.words.types import RowArray
from campus_tune.words.wording import shown

LARGEST = float(torch.finfo(torch.float32).max)  # what the trainer keeps rewards in
Search: TypeAlias = Generator[dict[str, Any], bool, int | None]


@dataclass(frozen=True, eq=False)
class Answers:
    """What one rank's reward functions are asked, for their errors.

    Args:
        rows: of the plan, shape (n,).
        prompts: n of them, texts or chats.
        completions: n of them.
    """

    rows: RowArray
    prompts: Sequence[Any]
    completions: Sequence[Any]

    def __len__(self) -> int:
        return len(self.rows)  # a function may empty the lists it is given

    def named(self, place: int) -> str:
        """One of them, for a message."""
        prompt, answer = (shown(last_turn(each[place])) for each in (self.prompts, self.completions))
        return f"row {self.rows[place]} (prompt {prompt}, answer {answer})"


def last_turn(text: Any) -> Any:
    """A text as it is; of a chat what its last turn says."""
    return text[-1].get("content") if isinstance(text, list) and text and isinstance(text[-1], Mapping) else text


@contextmanager
def asked_with_care(trainer: Any, names: Sequence[str], answers: Answers) -> Iterator[None]:
    """Inside, a trainer's reward functions give what is a reward, or raise; reward models are left alone.

    Args:
        trainer: with `reward_funcs`.
        names: of them.
        answers: that they are asked about.

    Raises:
        RewardError: a function fails, or gives too few or too many, or what is no finite number and not None.
    """
    functions = trainer.reward_funcs
    trainer.reward_funcs = [
        function if isinstance(function, torch.nn.Module) else _careful(function, name, answers)
        for function, name in zip(functions, names, strict=True)
    ]
    try:
        yield
    finally:
        trainer.reward_funcs = functions


def _careful(function: Callable[..., Any], name: str, answers: Answers) -> Callable[..., Any]:
    """A reward function that gives a list of rewards, or says where it fails; one that is awaited stays so."""

    async def fails_later(given: Mapping[str, Any]) -> bool:
        try:
            await function(**given)
        except Exception:
            return True
        return False

    def fails(given: Mapping[str, Any]) -> bool:
        try:
            function(**given)
        except Exception:
            return True
        return False

    async def awaited(**given: Any) -> list[Any]:
        _refuse_missing(function, name, given)
        try:
            said = await function(**given)
        except Exception as error:
            search = _halves(given, len(answers))
            raise _failure(name, answers, await _found_later(search, fails_later), error) from error
        return rewards_in(said, name, answers)

    def asked(**given: Any) -> list[Any]:
        _refuse_missing(function, name, given)
        try:
            said = function(**given)
        except Exception as error:
            raise _failure(name, answers, _found(_halves(given, len(answers)), fails), error) from error
        return rewards_in(said, name, answers)

    return awaited if _is_awaited(function) else asked


def _refuse_missing(function: Callable[..., Any], name: str, given: Mapping[str, Any]) -> None:
    """A function is asked with the columns that there are; it may ask for more, and would fail on every row.

    Raises:
        RewardError: it does.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of some that are not written in Python nobody knows
        return
    named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    missing = [one.name for one in named if one.default is one.empty and one.name not in given]
    if missing:
        raise RewardError(
            f"the reward function {name!r} must ask for columns that the prompts have, got {', '.join(missing)}, and "
            f"what there is is {', '.join(given)}. Rename the column in the data or the parameter in the function, and "
            "keep remove_unused_columns off: it takes out all columns but the prompt."
        )


def rewards_in(said: Any, name: str, answers: Answers) -> list[Any]:
    """What a reward function gave, once it is known to be rewards.

    Args:
        said: by it; a tensor or an array is as good as a list.
        name: of it.
        answers: that it was asked about.

    Raises:
        RewardError: too few or too many, or one that is no finite number and not None.
    """
    given = said.tolist() if hasattr(said, "tolist") else said
    if not isinstance(given, Sequence) or len(given) != len(answers):
        got = f"{len(given)} rewards" if isinstance(given, Sequence) else shown(said)
        raise RewardError(
            f"the reward function {name!r} must give one reward for each of {len(answers)} answers, got {got}. Give a "
            "list as long as `completions`, with None for an answer that it cannot judge."
        )
    for place, reward in enumerate(given):
        if reward is not None and not _is_finite(reward):
            raise RewardError(
                f"the reward function {name!r} must give a finite number or None, got {shown(reward)} for "
                f"{answers.named(place)}. Give None for an answer that it cannot judge."
            )
    return list(given)


def _is_finite(reward: Any) -> bool:
    try:
        return not isinstance(reward, str) and abs(float(reward)) <= LARGEST  # NaN is not
    except (TypeError, ValueError, OverflowError):
        return False


def _is_awaited(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(function.__call__)


def _failure(name: str, answers: Answers, place: int | None, error: Exception) -> RewardError:
    """A reward function failed on one answer, or, where no place is known, on all of them together only."""
    said = f"{type(error).__name__}: {str(error).strip() or 'it says no more'}"
    if place is None:
        return RewardError(
            f"the reward function {name!r} must give a reward for each of {len(answers)} answers, got {said}; asked "
            "again for either half of them it did not fail. What it needs may come and go (a server, memory): let it "
            "try again itself, then resume from the last checkpoint."
        )
    return RewardError(
        f"the reward function {name!r} must give a reward or None for each answer, got {said} for "
        f"{answers.named(place)}. Let it give None there, then resume from the last checkpoint."
    )


def _halves(given: Mapping[str, Any], n: int) -> Search:
    """Which of n answers a function fails on: yields what to ask it, is sent whether it failed, and gives the place.

    None where it fails on all of them together only. Costs at most 2 · n answers.
    """
    low, high = 0, n
    while high - low > 1:
        middle = (low + high) // 2
        for begin, end in ((low, middle), (middle, high)):
            if (yield _part(given, begin, end, n)):
                low, high = begin, end
                break
        else:
            return None
    return low


def _part(given: Mapping[str, Any], begin: int, end: int, n: int) -> dict[str, Any]:
    """Some answers of what a function was given: lists have an entry for each of n."""
    return {
        name: value[begin:end] if isinstance(value, list) and len(value) == n else value
        for name, value in given.items()
    }


def _found(search: Search, fails: Callable[[Mapping[str, Any]], bool]) -> int | None:
    try:
        part = next(search)
        while True:
            part = search.send(fails(part))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # what the search gives


async def _found_later(search: Search, fails: Callable[[Mapping[str, Any]], Awaitable[bool]]) -> int | None:
    try:
        part = next(search)
        while True:
            part = search.send(await fails(part))
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]  # what the search gives
