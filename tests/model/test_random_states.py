"""Random states are those that the libraries give, whatever was drawn in between."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.model import random_states
from campus_tune.model.random_states import RandomStates

DRAWS: dict[str, Any] = {
    "nothing": lambda: None,
    "Python": random.random,
    "Python's normal": lambda: random.gauss(0.0, 1.0),
    "numpy": np.random.random,
    "numpy's normal": np.random.standard_normal,
    "torch": lambda: torch.rand(1),
    "seeds": lambda: (random.seed(3), torch.manual_seed(3)),
}


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(a, b, strict=True))


@given(draws=st.lists(st.sampled_from(sorted(DRAWS)), max_size=12))
def test_states_are_those_of_the_moment(draws: list[str]) -> None:
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
    random_states._NUMPY._seen = b""  # the last example has gone back
    try:
        for draw in draws:
            DRAWS[draw]()
            now = RandomStates.now()
            assert now.of_python == random.getstate()
            assert same(now.of_numpy, np.random.get_state())  # noqa: NPY002
            assert torch.equal(now.of_torch, torch.get_rng_state())
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002


def test_a_normal_deviate_that_was_kept_is_there_again_after_going_back() -> None:
    """Drawing it has changed none of the numbers that are looked at."""
    before = RandomStates.now()
    try:
        np.random.seed(0)  # noqa: NPY002
        np.random.standard_normal()  # noqa: NPY002
        keeping = RandomStates.now()
        kept = np.random.standard_normal()  # noqa: NPY002
        RandomStates.now()
        keeping.set()
        RandomStates.now().set()
        assert np.random.standard_normal() == kept  # noqa: NPY002
    finally:
        before.set()


def test_what_is_drawn_after_going_back_is_drawn_again() -> None:
    then = RandomStates.now()
    first = random.random(), random.gauss(0, 1), np.random.standard_normal(), torch.rand(1).item()  # noqa: NPY002
    then.set()
    assert first == (random.random(), random.gauss(0, 1), np.random.standard_normal(), torch.rand(1).item())  # noqa: NPY002


def test_states_are_made_once_as_long_as_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    RandomStates.now()
    asked: list[str] = []
    monkeypatch.setattr(random, "getstate", lambda: asked.append("Python"))
    monkeypatch.setattr(np.random, "get_state", lambda: asked.append("numpy"))
    RandomStates.now()
    assert asked == []


def test_a_generator_whose_memory_says_nothing_is_asked_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_states, "_PYTHON", random_states._Twister(random_states._of_python, lambda: None))
    kept = np.random.get_bit_generator()
    np.random.set_bit_generator(np.random.PCG64(5))
    try:
        first, _ = RandomStates.now(), (random.random(), np.random.random())  # noqa: NPY002
        second = RandomStates.now()
    finally:
        np.random.set_bit_generator(kept)
    assert first.of_python != second.of_python
    assert first.of_numpy != second.of_numpy
