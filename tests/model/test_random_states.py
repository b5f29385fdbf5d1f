"""Random states are those that the libraries give, whatever was drawn in between."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.model.random_states import RandomStates

DRAWS: dict[str, Any] = {
    "nothing": lambda: None,
    "Python": random.random,
    "Python's normal": lambda: random.gauss(0.0, 1.0),
    "numpy": np.random.random,
    "numpy's normal": np.random.standard_normal,
    "torch": lambda: torch.rand(1),
    "seeds": lambda: (random.seed(3), np.random.seed(3), torch.manual_seed(3)),  # noqa: NPY002
}


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(a, b, strict=True))


@given(draws=st.lists(st.sampled_from(sorted(DRAWS)), max_size=12))
def test_states_are_those_of_the_moment(draws: list[str]) -> None:
    before = random.getstate(), np.random.get_state()  # noqa: NPY002
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
    """Numpy keeps every second one beside the numbers that it is made of."""
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
