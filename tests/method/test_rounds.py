"""Rounds: what begins and ends both with a generation and with an optimizer step."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.rounds import Rounds
from campus_tune.words.errors import TrainerError


def cut(*, micro: int = 8, group: int = 4, world: int = 1, per: int = 2, iterations: int = 1, takes: int = 2) -> Rounds:
    return Rounds(
        prompts=micro * world * per // group,
        group=group,
        micro_rows=micro,
        world=world,
        steps_per_generation=per,
        iterations=iterations,
        accumulation=takes,
    )


# (settings, micro batches of a round, its generations, its optimizer steps, its prompts): worked by hand
HAND: dict[str, tuple[dict[str, Any], tuple[int, int, int, int]]] = {
    "a generation is a step": ({}, (2, 1, 1, 4)),
    "a generation is two steps": ({"per": 4}, (4, 1, 2, 8)),
    "its answers are trained twice": ({"iterations": 2}, (4, 1, 2, 4)),
    "a step is two generations": ({"per": 1}, (2, 2, 1, 4)),
    "a step is two generations, trained twice each": ({"per": 1, "iterations": 2, "takes": 4}, (4, 2, 1, 4)),
    "two ranks": ({"world": 2}, (2, 1, 1, 8)),
}


@pytest.mark.parametrize("case", HAND)
def test_a_round_by_hand(case: str) -> None:
    settings, (micro, generations, steps, prompts) = HAND[case]
    rounds = cut(**settings)
    assert (rounds.micro_batches, rounds.generations, rounds.steps) == (micro, generations, steps)
    assert rounds.global_batch == prompts


@pytest.mark.parametrize(("per", "iterations", "takes"), [(2, 1, 3), (3, 2, 4), (4, 1, 6), (1, 5, 2)])
def test_what_does_not_divide_is_refused_and_both_ways_out_work(per: int, iterations: int, takes: int) -> None:
    lasts = per * iterations
    with pytest.raises(TrainerError, match=f"steps_per_generation {per} × num_iterations {iterations} = {lasts}") as no:
        cut(per=per, iterations=iterations, takes=takes)
    accumulation, generation = map(
        int, re.findall(r"gradient_accumulation_steps=(\d+), or steps_per_generation=(\d+)", str(no.value))[0]
    )
    assert cut(per=per, iterations=iterations, takes=accumulation).steps == 1
    other = cut(per=generation, iterations=iterations, takes=takes)
    assert other.prompts * other.group == other.micro_rows * generation  # trl takes it: whole groups


def test_the_advice_leaves_groups_whole() -> None:
    with pytest.raises(TrainerError, match="or steps_per_generation=6"):  # three micro batches of 2 are no groups of 4
        cut(micro=2, per=2, takes=3)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_ranks_share_a_round_and_each_prompt_comes_as_a_group(
    world: int, per: int, iterations: int, times: int, many_generations: bool
) -> None:
    group, micro = 4, 4 * (1 + world % 2)
    takes = per * iterations * times if many_generations else per * iterations
    rounds = cut(micro=micro, group=group, world=world, per=per, iterations=iterations, takes=takes)
    rows = np.random.default_rng(0).permutation(rounds.global_batch).astype(np.int32)
    answered = []
    for number in range(rounds.generations):
        prompts = rounds.of_generation(rows, 7 * rounds.generations + number)
        assert len(prompts) == rounds.prompts
        answered += [row for rank in range(world) for row in rounds.on_rank(prompts, rank).tolist()]
    assert answered == [row for row in rows.tolist() for _ in range(group)]


def test_its_record_is_json_that_says_how_it_is_cut() -> None:
    assert cut(per=4).record() == {
        "prompts": 8,
        "group": 4,
        "world": 1,
        "micro": 8,
        "steps_per_generation": 4,
        "iterations": 1,
        "accumulation": 2,
    }
