"""The reward functions that a YAML names."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from campus_tune.demo.sums import right_sum
from campus_tune.model.reward_functions import PLAIN, PUNISHMENT, load_reward, load_rewards, missing_columns
from campus_tune.words.errors import RecipeError


def script(*names: str, model: str | None = None) -> Any:
    return SimpleNamespace(reward_funcs=list(names) or None, reward_model_name_or_path=model)


@pytest.mark.parametrize("name", [*PLAIN, PUNISHMENT])
def test_those_of_trl_are_known_by_name(name: str) -> None:
    assert callable(load_reward(name))


def test_the_names_are_those_that_trl_knows() -> None:
    import trl.scripts.grpo
    import trl.scripts.rloo

    for one in (trl.scripts.grpo, trl.scripts.rloo):
        said = Path(str(one.__file__)).read_text("utf-8")
        assert all(f'"{name}"' in said for name in (*PLAIN, PUNISHMENT))


def test_a_function_of_ours_and_a_model_come_as_they_are() -> None:
    assert load_rewards(script("campus_tune.demo.sums.right_sum", model="./judge")) == ["./judge", right_sum]


def test_a_module_of_the_present_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rewards_of_mine.py").write_text("def longest(completions, **_): return [0.0]\nSIZE = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load_reward("rewards_of_mine.longest")(["a"]) == [0.0]
    with pytest.raises(RecipeError, match=r"must be a function of rewards_of_mine, got none .* mean 'longest'"):
        load_reward("rewards_of_mine.longst")
    with pytest.raises(RecipeError, match=r"must be a function of rewards_of_mine, got int"):
        load_reward("rewards_of_mine.SIZE")


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        load_rewards(script("accuracy_rewrd", "no_such_module.reward"))
    first, second = caught.value.problems
    assert "or have a dot, as my_rewards.is_right, got 'accuracy_rewrd'. Did you mean 'accuracy_reward'?" in first
    assert "must be in a module that Python can import, got: No module named 'no_such_module'" in second


def test_no_reward_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"`reward_funcs` must name a reward, got none"):
        load_rewards(script())


def test_a_package_that_a_reward_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("campus_tune.model.reward_functions.find_spec", lambda _: None)
    with pytest.raises(RecipeError, match=r"must have math-verify, got none. Run: pip install math-verify"):
        load_reward("accuracy_reward")


def test_columns_that_a_function_reads_are_looked_for() -> None:
    def reads(completions: Any, solution: Any, hint: Any = None, *, level: Any, **_: Any) -> None: ...

    assert missing_columns([reads], ["prompt", "solution", "level"]) == []
    (one, other) = missing_columns([reads, "a-model"], ["prompt"])
    assert "must find the column 'solution' in the rows, got prompt. Add or rename it." in one
    assert "'level'" in other
    assert missing_columns([int, min], []) == []
