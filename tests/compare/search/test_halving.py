"""How far each trial is trained: a function of the losses alone, and only where a learning rate stands still."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.compare.search.halving import Ladder, finalists, flat_steps, make_ladder, next_legs, promoted
from campus_tune.words.types import Json

WSD = {"lr_scheduler_type": "warmup_stable_decay", "warmup_steps": 20}
LOSSES = st.dictionaries(st.integers(0, 40), st.sampled_from([1.0, 1.5, 2.0, 2.5, math.inf]) | st.floats(1, 9))


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"lr_scheduler_type": "constant"}, (100, 300, 900)),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 99}, (100, 300, 900)),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 100}, (300, 900)),  # still at the first third
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 400}, (900,)),
        ({**WSD, "lr_scheduler_kwargs": {"num_decay_steps": 300}}, (100, 300, 900)),
        ({**WSD, "lr_scheduler_kwargs": {"num_decay_steps": 700}}, (100, 900)),  # 300 is in the decay
        ({**WSD, "lr_scheduler_kwargs": {"num_decay_steps": 850}}, (900,)),
        ({}, (900,)),  # the trainer's default is linear
        ({"lr_scheduler_type": "linear"}, (900,)),
        ({"lr_scheduler_type": "cosine", "warmup_steps": 20}, (900,)),
        ({"lr_scheduler_type": "cosine_with_restarts"}, (900,)),
        ({"lr_scheduler_type": "polynomial"}, (900,)),
        ({"lr_scheduler_type": "inverse_sqrt"}, (900,)),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, (900,)),
        ({"lr_scheduler_type": "warmup_stable_decay"}, (900,)),  # without its decay steps: no schedule
        ({"lr_scheduler_type": "constant", "learning_rate": "much"}, (900,)),
    ],
)
def test_trials_are_stopped_early_only_where_the_rate_stands_still(settings: Json, steps: tuple[int, ...]) -> None:
    assert make_ladder(settings, 900).steps == steps


def test_a_schedule_may_be_given_as_transformers_names_it() -> None:
    from transformers import SchedulerType

    assert make_ladder({"lr_scheduler_type": SchedulerType.CONSTANT}, 9).steps == (1, 3, 9)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"lr_scheduler_type": "cosine"},
            "lr_scheduler_type: cosine moves all along, so a loss on the way says little",
        ),
        ({"lr_scheduler_type": "constant"}, "one trial in 3 goes on behind step 100 and 300 of 900"),
        ({**WSD, "lr_scheduler_kwargs": {"num_decay_steps": 700}}, "behind step 100 of 900, where the rate stands"),
        ({"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 400}, "no third of the steps lies where"),
    ],
)
def test_it_is_said_why(settings: Json, says: str) -> None:
    assert says in make_ladder(settings, 900).why


def test_the_advice_of_the_refusal_is_one_that_works() -> None:
    why = make_ladder({}, 900).why
    assert "constant_with_warmup" in why
    assert make_ladder({"lr_scheduler_type": "constant_with_warmup"}, 900).steps == (100, 300, 900)


@pytest.mark.parametrize("total", [1, 2, 3, 4, 5])
def test_short_runs_have_the_rungs_that_there_is_room_for(total: int) -> None:
    steps = make_ladder({"lr_scheduler_type": "constant"}, total).steps
    assert list(steps) == sorted(set(steps))
    assert steps[-1] == total


def test_very_long_runs_are_not_gone_through_step_by_step() -> None:
    assert make_ladder({"lr_scheduler_type": "constant"}, 300_001).steps == (300_001,)


@given(rates=st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=12).filter(any))
def test_the_flat_part_is_one_stretch_at_the_highest_rate(rates: list[float]) -> None:
    found = flat_steps(np.array(rates))
    top = [i for i, rate in enumerate(rates) if rate == max(rates)]
    if found is None:
        assert len(top) == 1 or top != list(range(top[0], top[-1] + 1))
    else:
        assert list(range(*found)) == top


def test_27_trials_cost_what_three_rungs_of_nine_runs_do() -> None:
    ladder = Ladder((1, 3, 9), "")
    assert ladder.cost(27) == pytest.approx(27 / 9 + 9 * 2 / 9 + 3 * 6 / 9)
    assert Ladder((9,), "").cost(27) == 27


@given(losses=LOSSES)
def test_the_better_third_goes_on_and_who_diverged_does_not(losses: dict[int, float]) -> None:
    on = promoted(losses)
    dropped = [losses[trial] for trial in losses if trial not in on]
    finite = [loss for loss in losses.values() if math.isfinite(loss)]
    assert all(math.isfinite(losses[trial]) for trial in on)
    assert all(loss > max(losses[trial] for trial in on) for loss in dropped if on)
    assert len(on) >= min(len(finite), math.ceil(len(losses) / 3))
    worst = max((losses[trial] for trial in on), default=0.0)
    assert sum(losses[trial] < worst for trial in on) < math.ceil(len(losses) / 3) or not on  # more only by ties


def reference(curves: Mapping[int, list[float]], n_rungs: int) -> tuple[set[tuple[int, int]], dict[int, float]]:
    """Halving once more, slowly: rung by rung, by sorting; no ties."""
    made, going = set(), sorted(curves)
    for rung in range(n_rungs):
        made |= {(trial, rung) for trial in going}
        if rung + 1 < n_rungs:
            ranked = sorted((curves[trial][rung], trial) for trial in going if math.isfinite(curves[trial][rung]))
            going = [trial for _, trial in ranked[: -(-len(going) // 3)]]
    last = n_rungs - 1
    return made, {trial: curves[trial][last] for trial in going if math.isfinite(curves[trial][last])}


@given(
    curves=st.lists(st.lists(st.floats(1, 9) | st.just(math.inf), min_size=3, max_size=3), min_size=1, max_size=30),
    n_rungs=st.integers(1, 3),
    data=st.data(),
)
def test_what_is_trained_hangs_on_the_losses_and_on_no_sequence(
    curves: list[list[float]], n_rungs: int, data: st.DataObject
) -> None:
    """One leg after the other, in any sequence, some of a batch only: the same legs as the slow one makes."""
    taken: set[float] = set()
    for curve in curves:  # a diverged trial stays diverged, and no two are equal
        for rung, loss in enumerate(curve):
            if rung and curve[rung - 1] == math.inf:
                curve[rung] = math.inf
            elif math.isfinite(loss):
                while curve[rung] in taken:
                    curve[rung] += 0.001
                taken.add(curve[rung])
    losses: dict[tuple[int, int], float] = {}
    trials = range(len(curves))
    while legs := next_legs(losses, trials, n_rungs):
        assert not set(legs) & losses.keys()
        batch = data.draw(st.lists(st.sampled_from(legs), min_size=1, unique=True))
        losses |= {(trial, rung): curves[trial][rung] for trial, rung in batch}
    made, last = reference(dict(enumerate(curves)), n_rungs)
    assert losses.keys() == made
    assert finalists(losses, trials, n_rungs) == last


def test_trials_that_differ_only_later_go_on_together() -> None:
    losses = {(trial, 0): 2.0 for trial in range(9)}
    assert next_legs(losses, range(9), 3) == [(trial, 1) for trial in range(9)]


def test_a_search_that_grows_keeps_what_was_trained_and_trains_what_is_new() -> None:
    losses = {(0, 0): 3.0, (1, 0): 1.0, (2, 0): 2.0, (1, 1): 1.0}
    assert next_legs(losses, range(3), 2) == []
    assert next_legs(losses, range(6), 2) == [(3, 0), (4, 0), (5, 0)]
    losses |= {(3, 0): 0.5, (4, 0): 4.0, (5, 0): 5.0}
    assert next_legs(losses, range(6), 2) == [(3, 1)]
    losses |= {(3, 1): 0.5}
    assert finalists(losses, range(6), 2) == {1: 1.0, 3: 0.5}


def test_where_all_have_diverged_there_is_nothing_left_to_train() -> None:
    losses = {(0, 0): math.inf, (1, 0): math.inf}
    assert next_legs(losses, range(2), 3) == []
    assert finalists(losses, range(2), 3) == {}
