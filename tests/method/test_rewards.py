"""Rewards: the fall of a loss per learning rate and token, known when it was measured, scaled once."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.rewards import FEWEST_REWARDS, RewardKind, rewards_of, scale
from campus_tune.method.stages import SHUFFLE
from campus_tune.method.view import History, PastStage
from tests.method.rewarded import earning, measured, past, rolled_back

TENTHS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


def values(history: History, kind: RewardKind = "probes") -> list[float | None]:
    return [one.value for one in rewards_of(history, kind)]


# -- what a stage gained --------------------------------------------------------------------------------------------


def test_a_stages_reward_is_the_fall_over_it_per_learning_rate_and_token() -> None:
    losses = {0: 9.0, 1: 8.0, 2: 5.0, 3: 4.0, 4: 4.5}
    history = History(past("abca", lr_tokens=[1.0, 1.0, 4.0, 0.5]), measured=measured(losses))
    found = rewards_of(history, "probes")
    assert [(one.stage, one.chosen, one.value, one.known_at) for one in found] == [
        (0, "a", None, None),  # the first two are ignored
        (1, "b", None, None),
        (2, "c", 0.25, 3),
        (3, "a", -1.0, 4),
    ]
    assert {one.offered for one in found} == {("a", "b", "c")}


def test_a_decaying_rate_does_not_make_late_choices_look_bad() -> None:
    """A loss that falls with the learning rate: each stage is worth the same."""
    rates = [2.0**-i for i in range(8)]
    losses = {0: 4.0} | {i + 1: 4.0 - sum(rates[: i + 1]) for i in range(8)}
    history = History(past("abababab", lr_tokens=[100 * rate for rate in rates]), measured=measured(losses))
    assert values(history)[2:] == pytest.approx([0.01] * 6)


def test_domains_count_alike() -> None:
    losses = {i: {"math": 3.0 - i, "code": 5.0 - 0.5 * i} for i in range(4)}
    assert values(History(past("abc"), measured=measured(losses)))[2] == 0.75


def test_a_domain_that_is_measured_otherwise_from_there_on_does_not_count() -> None:
    """A changed recipe measures other domains, or more rows of one."""
    before, after = (measured({2: {"math": 3.0, "code": 5.0}}), measured({3: {"math": 2.0, "chat": 1.0}}))
    history = History(past("abc"), measured=replace(before, measurements=[before.last, after.last]))
    assert values(history)[2] == 1.0
    for other in (measured({3: {"chat": 1.0}}), measured({3: {"math": 2.0, "code": 4.0}}, rows=31)):
        history = History(past("abc"), measured=replace(before, measurements=[before.last, other.last]))
        assert values(history)[2] is None


def test_stages_between_two_measurements_share_the_fall() -> None:
    losses = {0: 9.0, 2: 8.0, 5: 2.0}
    history = History(past("ababcc", lr_tokens=[1, 1, 1, 3, 2, 7]), measured=measured(losses))
    found = rewards_of(history, "probes")
    assert [one.value for one in found] == [None, None, 1.0, 1.0, 1.0, None]
    assert [one.known_at for one in found] == [None, None, 5, 5, 5, None]


def test_a_shuffled_stage_is_no_arm_and_still_has_its_part_of_the_fall() -> None:
    history = History(past(["a", "b", "c", SHUFFLE, "a"]), measured=measured({2: 8.0, 4: 7.0, 5: 6.5}))
    assert [(one.stage, one.value) for one in rewards_of(history, "probes")] == [
        (0, None),
        (1, None),
        (2, 0.5),
        (4, 0.5),
    ]


def test_weights_that_a_rollback_has_put_back_are_nobodys_reward() -> None:
    history = History(past("abcab"), measured=measured({2: 3.0, 3: 8.0, 4: 2.9, 5: 2.8}), firings=[rolled_back(1)])
    assert values(history)[2:] == [-5.0, None, pytest.approx(0.1)]
    again = measured({2: 3.0, 3: 8.0}).measurements[1:] + measured({3: 3.1, 4: 2.9}).measurements  # type: ignore[operator]
    history = History(past("abcab"), measured=replace(measured({}), measurements=again), firings=[rolled_back(0)])
    assert values(history)[3] == pytest.approx(0.2)  # measured anew once they were back


@pytest.mark.parametrize("kind", ["own", "norm"])
def test_a_stages_own_gains_are_its_reward(kind: RewardKind) -> None:
    gains = {"own_gain": [1.0, 1.0, 3.0, None], "norm_gain": [2.0, 2.0, 6.0, None]}
    history = History(past("abca", lr_tokens=[1.0, 1.0, 2.0, 1.0], **gains))
    found = rewards_of(history, kind)
    assert [one.value for one in found] == [None, None, 1.5 if kind == "own" else 3.0, None]
    assert found[2].known_at == 3


@pytest.mark.parametrize("kind", ["probes", "own", "norm"])
def test_a_stage_without_learning_rate_has_none(kind: RewardKind) -> None:
    gains = {"own_gain": [1.0] * 3, "norm_gain": [1.0] * 3, "lr_tokens": [0.0] * 3}
    assert values(History(past("abc", **gains), measured=measured({2: 3.0, 3: 2.0})), kind) == [None] * 3


@pytest.mark.parametrize("kind", ["probes", "own", "norm"])
def test_an_empty_record_has_none(kind: RewardKind) -> None:
    assert rewards_of(History(), kind) == []
    assert values(History(past("abc"), measured=measured({})), kind) == [None] * 3


def test_a_stage_that_had_no_choice_is_no_arm() -> None:
    assert rewards_of(History([PastStage(4, "a", 10, own_gain=1.0, lr_tokens=1.0)]), "own") == []


# -- the scale ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "scaled"), [(0.15, -1.0), (0.28, -1.0), (0.55, 0.0), (0.7, 0.5556), (0.82, 1.0), (0.95, 1.0)]
)
def test_a_reward_is_scaled_by_the_quantiles_of_those_so_far(value: float, scaled: float) -> None:
    assert scale(TENTHS, value) == pytest.approx(scaled, abs=5e-5)


def test_below_five_rewards_and_where_all_are_one_the_scale_says_nothing() -> None:
    gains = [1.0, 1.0, 3.0, 5.0, 1.0, 4.0, 9.0]
    assert [one.scaled for one in rewards_of(earning(gains, "abcabca"), "own")] == [None, None, 0, 0, 0, 0, 1.0]
    assert [one.scaled for one in rewards_of(earning([2.0] * 9, "abcabcabc"), "own")][2:] == [0.0] * 7


def by_numpy(known: list[float]) -> list[float]:
    """The scale, slowly: each reward among those up to it."""
    found = []
    for i, value in enumerate(known):
        low, high = np.quantile(known[: i + 1], [0.2, 0.8])
        blind = i + 1 < 5 or high == low
        found.append(0.0 if blind else float(np.clip(2 * (value - low) / (high - low) - 1, -1, 1)))
    return found


gains = st.lists(st.integers(-40, 40).map(lambda n: n / 8) | st.none(), max_size=25)


@given(gains)
def test_the_scale_is_that_of_a_slow_reference(own: list[float | None]) -> None:
    found = rewards_of(earning(own, "a" * len(own)), "own")
    known = [value for value in own[2:] if value is not None]
    assert [one.scaled for one in found if one.scaled is not None] == pytest.approx(by_numpy(known), abs=1e-12)


@given(gains, st.integers(0, 25), st.sampled_from([1, 3]))
def test_what_comes_later_changes_no_reward_that_was_known(own: list[float | None], cut: int, every: int) -> None:
    losses = {i: 5.0 + (own[i] or 0.0) for i in range(0, len(own), every)}

    def shown(n: int) -> History:
        stages = earning(own[:n], ("ab" * n)[:n]).stages
        return History(stages, measured=measured({i: one for i, one in losses.items() if i <= n}))

    for kind in ("own", "probes"):
        known_then = [one for one in rewards_of(shown(min(cut, len(own))), kind) if one.value is not None]
        known_later = [one for one in rewards_of(shown(len(own)), kind) if one.value is not None]
        assert known_later[: len(known_then)] == known_then
        assert all(one.known_at is not None and one.known_at > one.stage for one in known_later)
        assert all(-1 <= (one.scaled or 0) <= 1 for one in known_later)


@given(gains, st.sampled_from([1e-9, 8.0, 1e6]))
def test_the_unit_of_a_reward_does_not_matter(own: list[float | None], unit: float) -> None:
    scaled: list[Any] = []
    for factor in (1.0, unit):
        history = earning([None if one is None else one * factor for one in own], "a" * len(own))
        scaled.append([one.scaled for one in rewards_of(history, "own") if one.scaled is not None])
    assert scaled[0] == pytest.approx(scaled[1], abs=1e-6)


def test_what_is_no_number_is_no_reward() -> None:
    gains = [0.1, 0.2, 0.3, math.nan, 0.5, math.inf, 0.4]
    known = [one.value for one in rewards_of(earning(gains, "abcabca"), "own")]
    assert known == [None, None, 0.3, None, 0.5, None, 0.4]


def test_five_rewards_are_enough() -> None:
    assert FEWEST_REWARDS == 5
    assert scale([1.0, 2.0, 3.0, 4.0], 4.0) == 0.0
    assert scale([1.0, 2.0, 3.0, 4.0, 5.0], 5.0) == 1.0
