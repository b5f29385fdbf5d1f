"""The reward functions that a YAML names: those of TRL by their names, others by where Python finds them.

As in `trl grpo` a name with a dot is imported, with the present folder among the places where Python looks: the code of
a recipe's rewards is run. Nothing of the `campus:` block is.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Collection, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from campus_tune.words.errors import RecipeError
from campus_tune.words.registry import nearest
from campus_tune.words.wording import shown

if TYPE_CHECKING:
    from trl import GRPOConfig
    from trl.scripts.grpo import GRPOScriptArguments

HANDED = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric", "environments")
VERIFIED = ("accuracy_reward", "reasoning_accuracy_reward")  # by a package that TRL does not ask for
PLAIN = (*VERIFIED, "think_format_reward")
PUNISHMENT = "get_soft_overlong_punishment"
LENGTHS = {"max_completion_len": 1280, "soft_punish_cache": 256}  # as `trl grpo` sets them


def load_rewards(script: GRPOScriptArguments) -> list[Any]:
    """What a trainer by reward is given as `reward_funcs`: a reward model by its name, then the functions.

    Args:
        script: TRL's, of GRPO or RLOO.

    Raises:
        RecipeError: no reward is named, or some that cannot be had; each is named.
    """
    asked: str | list[str] = script.reward_funcs or []
    names = [asked] if isinstance(asked, str) else list(asked)  # a YAML may name a single one without brackets
    models = [script.reward_model_name_or_path] if script.reward_model_name_or_path else []
    if not names and not models:
        raise RecipeError(
            f"`reward_funcs` must name a reward, got none. Write reward_funcs: [{PLAIN[0]}], or where Python finds one "
            "of yours: [my_rewards.is_right]."
        )
    found, problems = [], []
    for name in names:
        try:
            found.append(load_reward(name))
        except RecipeError as error:
            problems += error.problems
    if problems:
        raise RecipeError(problems)
    return [*models, *found]


def weight_problems(training: GRPOConfig, rewards: Sequence[Any]) -> list[str]:
    """What is wrong with `reward_weights`: there is one for each reward, if there are any.

    Args:
        training: `trl.GRPOConfig` or `trl.RLOOConfig`.
        rewards: of `load_rewards`.
    """
    weights = training.reward_weights
    if weights is None or len(weights) == len(rewards):
        return []
    expected = f"one number for each of {len(rewards)} rewards"
    return [f"`reward_weights` must have {expected}, got {len(weights)}. Write as many, a reward model's first."]


def load_reward(name: str) -> Callable[..., Any]:
    """One reward function.

    Args:
        name: TRL's, or `package.module.function`.

    Raises:
        RecipeError: there is none of this name, or it needs a package that is not installed.
    """
    known = [*PLAIN, PUNISHMENT]
    if name in known:
        from trl import rewards

        if name in VERIFIED and find_spec("math_verify") is None:
            raise RecipeError(f"`reward_funcs: {name}` must have math-verify, got none. Run: pip install math-verify")
        made: Callable[..., Any] = getattr(rewards, name)
        named: Callable[..., Any] = made(**LENGTHS) if name == PUNISHMENT else made
        return named
    module, dot, function = name.rpartition(".")
    if not dot:
        raise RecipeError(
            f"`reward_funcs` must be of TRL's ({', '.join(known)}) or have a dot, as my_rewards.is_right, got "
            f"{shown(name)}.{nearest(name, known)}"
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        content = importlib.import_module(module)
    except Exception as error:  # of the user's own code
        why = " ".join((str(error) or type(error).__name__).split()).rstrip(". ")
        raise RecipeError(
            f"`reward_funcs: {name}` must be in a module that Python can import, got: {why}. Start the command in the "
            "folder of that module, or install it."
        ) from error
    reward: Callable[..., Any] | None = getattr(content, function, None)
    if not callable(reward):
        there = [one for one in vars(content) if not one.startswith("_") and callable(vars(content)[one])]
        got = "none of this name" if reward is None else type(reward).__name__
        raise RecipeError(
            f"`reward_funcs: {name}` must be a function of {module}, got {got}.{nearest(function, there)} Correct it."
        )
    return reward


def missing_columns(rewards: Sequence[Any], columns: Collection[str]) -> list[str]:
    """What is wrong with functions that read a column which the rows do not have: they would fail at the first answers.

    >>> def is_right(completions, answer, **_): ...
    >>> missing_columns([is_right], ["prompt", "solution"])
    ["`reward_funcs: is_right` must find the column 'answer' in the rows, got prompt, solution. Add or rename it."]

    Args:
        rewards: of `load_rewards`.
        columns: of the rows.
    """
    problems = []
    for reward in rewards:
        if not callable(reward) or isinstance(reward, type):
            continue
        try:
            read = inspect.signature(reward).parameters.values()
        except (TypeError, ValueError):  # of a function that is not written in Python
            continue
        asked = [
            one.name
            for one in read
            if one.default is one.empty and one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)
        ]
        problems += [
            f"`reward_funcs: {getattr(reward, '__name__', reward)}` must find the column {name!r} in the rows, got "
            f"{', '.join(columns)}. Add or rename it."
            for name in asked
            if name not in {*HANDED, *columns}
        ]
    return problems
