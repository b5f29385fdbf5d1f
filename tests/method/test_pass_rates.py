"""What rewards have shown of each prompt: by hand, against a slow count of everything, and for any rewards."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.pass_rates import FADING, PassRates
from campus_tune.method.prompt_scores import prompt_score
from campus_tune.words.types import FloatArray, IntArray
from tests.strategies import examples

seeds = st.integers(0, 10**6)
U_SHAPED = (0.0, 0.02, 0.1, 0.3, 0.6, 0.9, 0.97, 1.0)


Noted: TypeAlias = tuple[int, IntArray, FloatArray]  # when, rows, rewards


def heard(
    seed: int, *, n_rows: int = 12, group: int = 4, steps: int = 6, kind: str = "two"
) -> tuple[PassRates, list[Noted]]:
    """Some generations of made-up rewards, and what was noted of each."""
    rng = np.random.default_rng(seed)
    rates = PassRates(n_rows, group=group, at=1.0, forget=float(rng.choice([0.0, 0.1])))
    told, when = [], -1
    for _ in range(steps):
        when += int(rng.integers(1, 4))
        rows = rng.choice(n_rows, 5, replace=False)
        rewards = rng.choice([0.0, 1.0] if kind == "two" else [0.0, 0.2, 1.0, 1.2], (5, group))
        rewards[rng.random((5, group)) < 0.2] = np.nan
        rates.note(rows, rewards, when=when)
        told.append((when, rows, rewards))
    return rates, told


def shuffled_run(rates: FloatArray, *, seed: int, group: int = 8, generations: int = 24) -> tuple[PassRates, float]:
    """Pass rates after some generations of prompts drawn at random, and the share of groups without a gradient."""
    rng = np.random.default_rng(seed)
    noted, flat = PassRates(len(rates), group=group, forget=0.0), []
    order = rng.permutation(len(rates))
    for when in range(generations):
        rows = order[8 * when : 8 * when + 8]
        rewards = (rng.random((8, group)) < rates[rows, None]).astype(np.float64)
        noted.note(rows, rewards, when=when)
        flat.append(float((rewards.max(axis=1) == rewards.min(axis=1)).mean()))
    return noted, float(np.mean(flat))


# -- counting ----------------------------------------------------------------------------------------------------------


def test_counts_fade_by_the_generation() -> None:
    rates = PassRates(2, group=2, at=0.5, forget=0.5)
    rates.note(np.array([0]), np.array([[1.0, 0.25]]), when=0)
    assert (rates.tries[0], rates.passes[0], rates.total[0], rates.squares[0]) == (2, 1, 1.25, 1.0625)
    rates.note(np.array([0]), np.array([[1.0, 1.0]]), when=2)  # two generations later a quarter is left
    assert (rates.tries[0], rates.passes[0], rates.groups[0], rates.spreads[0]) == (2.5, 2.25, 1.25, 0.25)
    assert (rates.last_tries[0], rates.last_total[0]) == (2, 2)
    assert rates.visits.tolist() == [2, 0]
    assert rates.last.tolist() == [2, -1]
    assert rates.pass_rate[0] == pytest.approx(0.9)
    assert rates.mean_reward[0] == pytest.approx((2 + 1.25 / 4) / 2.5)
    assert math.isnan(rates.pass_rate[1])


def test_a_generation_that_is_made_again_counts_beside_the_one_that_was_broken_off() -> None:
    rates = PassRates(2, group=2, forget=0.5)
    rates.note(np.array([0]), np.array([[1.0, 0.0]]), when=3)
    rates.note(np.array([1]), np.array([[1.0, 1.0]]), when=3)
    assert rates.tries.tolist() == [2, 2]
    assert rates.last.tolist() == [3, 3]


def test_an_answer_without_a_reward_is_none_that_was_tried() -> None:
    rates = PassRates(3, group=3)
    rates.note(np.array([2, 0]), np.array([[np.nan, np.nan, np.nan], [1.0, np.nan, np.nan]]), when=0)
    assert rates.tries.tolist() == [1, 0, 0]
    assert rates.groups.tolist() == [0, 0, 0]  # one answer has nothing to differ from
    assert rates.visits.tolist() == [1, 0, 1]
    assert rates.last.tolist() == [0, -1, 0]


@examples(40)
@given(seeds, st.sampled_from(["two", "more"]))
def test_counts_are_those_of_a_slow_loop(seed: int, kind: str) -> None:
    rates, told = heard(seed, kind=kind)
    slow = {name: np.zeros(rates.n_rows) for name in FADING}
    for when, rows, rewards in told:
        kept = (1 - rates.forget) ** (rates.now - when)
        for row, given_ in zip(rows.tolist(), rewards.tolist(), strict=True):
            some = [one for one in given_ if not math.isnan(one)]
            own = {
                "tries": len(some),
                "passes": sum(one >= 1.0 for one in some),
                "total": sum(some),
                "squares": sum(one**2 for one in some),
                "groups": len(some) > 1,
                "spreads": len(set(some)) > 1,
            }
            for name, value in own.items():
                slow[name][row] += kept * value
            slow["last_tries"][row], slow["last_total"][row] = kept * len(some), kept * sum(some)
    for name, values in slow.items():
        np.testing.assert_allclose(vars(rates)[name], values, atol=1e-12)
    assert rates.per_generation == pytest.approx(5 * len(told) / (rates.now + 1))


def test_rewards_are_of_two_values_until_they_are_not() -> None:
    rates = PassRates(1, group=2, at=1.0)
    assert rates.two_valued
    for when, (rewards, two) in enumerate(
        [([-1.0, 1.0], True), ([1.0, 1.0 + 1e-9], True), ([np.nan, -1.0], True), ([0.0, 1.0], False), ([1, 1], False)]
    ):
        rates.note(np.array([0]), np.array([rewards], dtype=np.float64), when=when)
        assert rates.two_valued == two
    half = PassRates(1, group=2, at=1.0)
    half.note(np.array([0]), np.array([[0.0, 0.5]]), when=0)
    assert not half.two_valued  # both fail, and differ all the same


# -- what they say -----------------------------------------------------------------------------------------------------


def test_a_posterior_is_what_was_expected_and_what_was_seen() -> None:
    rates = PassRates(2, group=4, forget=0.0)
    rates.expect(np.array([0.25, 1.0]), worth=8.0)
    rates.note(np.array([0]), np.array([[1.0, 1.0, 1.0, 0.0]]), when=0)
    a, b = rates.posterior()
    assert (a[0], b[0]) == (2 + 3, 6 + 1)
    assert (a[1], b[1]) == pytest.approx((8 * 0.999, 8 * 0.001))  # nothing is ever sure


def test_what_a_group_would_tell_is_as_the_trainer_scales_rewards() -> None:
    rate = np.array([0.0, 0.25, 0.5, 1.0])
    chance = PassRates(1, group=2, scaled=True).tells_apart(rate)
    assert chance.tolist() == [0, 1 - 0.0625 - 0.5625, 0.5, 0]
    assert PassRates(1, group=8, scaled=False).tells_apart(rate).tolist() == [0, 0.1875, 0.25, 0]


def test_the_chance_of_no_gradient_is_that_of_many_draws_from_the_posterior() -> None:
    rates = PassRates(3, group=8)
    rates.expect(np.array([0.1, 0.5, 0.9]), worth=3.0)
    a, b = rates.posterior()
    drawn = np.random.default_rng(0).beta(a, b, (200_000, 3))
    np.testing.assert_allclose(rates.flat_chance(), (drawn**8 + (1 - drawn) ** 8).mean(axis=0), atol=4e-3)
    assert rates.shuffled_share() == pytest.approx(float(rates.flat_chance().mean()))
    assert rates.shuffled_share(np.array([True, False, True])) == pytest.approx(
        float(rates.flat_chance()[[0, 2]].mean())
    )


@pytest.mark.parametrize(
    "shape", [U_SHAPED, (0.0, 1.0), tuple(np.linspace(0, 1, 11)), (0.5,), (0.3, 0.5, 0.7), (0.0,), (0.05, 0.05, 0.5)]
)
@pytest.mark.parametrize("group", [4, 8])
def test_what_shuffling_would_have_is_what_a_shuffled_run_has(shape: tuple[float, ...], group: int) -> None:
    seen, said = [], []
    for seed in range(6):
        rates, flat = shuffled_run(np.resize(shape, 256), seed=seed, group=group)
        seen.append(flat)
        said.append(rates.shuffled_share())
    assert np.mean(said) == pytest.approx(np.mean(seen), abs=0.06)


@pytest.mark.parametrize("by_rewards", [False, True])
def test_what_shuffling_would_have_is_told_of_the_model_as_it_is_now(by_rewards: bool) -> None:
    rng, n, group = np.random.default_rng(0), 256, 8
    rates, ability = PassRates(n, group=group), rng.normal(-3, 3, n)
    seen, true, lagging = [], [], []
    for when in range(256):
        score = prompt_score("middle", rates, rng=rng, when=when) if by_rewards else rng.random(n)
        rows = np.argsort(-score)[:8]
        passing = 1 / (1 + np.exp(-ability))
        rewards = (rng.random((8, group)) < passing[rows, None]).astype(np.float64)
        rates.note(rows, rewards, when=when)
        if when >= 192:
            seen.append((rewards.min(axis=1) == rewards.max(axis=1)).mean())
            true.append((passing**group + (1 - passing) ** group).mean() - rates.shuffled_share())
            lagging.append(rates.flat_chance().mean())
        ability += 6 / 256  # the model learns, whatever it is asked
    assert abs(np.mean(true)) < 0.1
    if not by_rewards:
        assert np.mean(seen) - np.mean(lagging) > 0.15  # what was known of each prompt is old
        assert abs(np.mean(true)) < 0.04


def test_what_was_wrong_lately_is_added_to_what_is_expected_of_all_prompts() -> None:
    rates = PassRates(4, group=2, forget=0.0)
    rates.expect(np.full(4, 0.5), worth=1e6)  # of two answers, half are the same
    rates.note(np.array([0, 1]), np.array([[1.0, 1.0], [0.0, np.nan]]), when=0)  # the second says nothing of a spread
    assert rates.flat_chance().mean() == pytest.approx(0.5, abs=1e-4)
    assert rates.shuffled_share() == pytest.approx(0.5 + (1 - 0.5) / 32, abs=1e-4)  # one group of few: a part of it
    for when in range(1, 400):
        rates.note(np.array([2, 3]), np.ones((2, 2)), when=when)
    assert rates.shuffled_share() == pytest.approx(1.0)
    rates.expect(None)  # another expectation, which may be wrong otherwise
    assert rates.shuffled_share() == pytest.approx(float(rates.flat_chance().mean()))


def test_nothing_is_wrong_with_what_nobody_expected() -> None:
    rates = PassRates(64, group=4)
    rates.note(np.arange(9), np.ones((9, 4)), when=0)
    assert rates.compared == 0  # fewer than ten were tried: nothing was known of how prompts differ
    rates.note(np.arange(9, 12), np.ones((3, 4)), when=1)
    rates.note(np.arange(12, 16), np.ones((4, 4)), when=2)
    assert rates.compared == 4


def test_what_prompts_are_worth_for_one_another_hangs_on_how_much_they_differ() -> None:
    alike, _ = shuffled_run(np.full(256, 0.5), seed=0)
    apart, _ = shuffled_run(np.resize((0.0, 1.0), 256), seed=0)
    usual, _ = shuffled_run(np.linspace(0, 1, 256), seed=0)
    assert alike.prior()[1] > 20 > 3 > usual.prior()[1] > 1 > 0.1 > apart.prior()[1]
    few, _ = shuffled_run(np.linspace(0, 1, 256), seed=0, generations=1)
    assert (few.prior()[0][0], few.prior()[1]) == (0.5, 2.0)
    few.expect(np.full(256, 0.25), worth=7.0)
    assert (few.prior()[0][0], few.prior()[1]) == (0.25, 7.0)
    few.expect(None)
    assert few.prior()[0][0] == 0.5


def test_rewards_of_more_values_go_by_the_groups_that_had_a_spread() -> None:
    rates = PassRates(4, group=2, at=5.0, forget=0.0, pools=np.array([0, 0, 1, 1]))
    rates.note(np.array([0, 2]), np.array([[0.1, 0.2], [0.3, 0.3]]), when=0)
    every = (1 + 1) / (2 + 2)
    of_pools = [(1 + 2 * every) / 3, (0 + 2 * every) / 3]
    a, b = rates.spread_posterior()
    np.testing.assert_allclose(a, [2 * of_pools[0] + 1, 2 * of_pools[0], 2 * of_pools[1], 2 * of_pools[1]])
    np.testing.assert_allclose(a + b, [3, 2, 3, 2])
    np.testing.assert_allclose(rates.flat_chance(), b / (a + b))
    rates.expect_spread(np.array([0.5, 0.5, 0.5, 0.9]), worth=4.0)
    a, b = rates.spread_posterior()
    np.testing.assert_allclose(a, [3, 2, 2, 3.6])
    np.testing.assert_allclose(b, [2, 2, 3, 0.4])


def test_how_well_a_prompt_is_answered_counts_parts_of_a_reward() -> None:
    rates = PassRates(2, group=2, at=2.0, forget=0.0)
    rates.note(np.array([0, 1]), np.array([[0.0, 1.0], [2.0, 2.0]]), when=0)
    rates.note(np.array([0]), np.array([[1.0, 1.0]]), when=1)
    mean = (1 + 2 + 4) / 6 / 2  # of all rewards, between 0 and 2
    a, b = rates.level_posterior()
    np.testing.assert_allclose(a, [2 * mean + 1.5, 2 * mean + 2])
    np.testing.assert_allclose(a + b, [6, 4])
    now, before = rates.level_posterior(only_last=True)[0], rates.level_posterior(without_last=True)[0]
    np.testing.assert_allclose(now, [2 * mean + 1, 2 * mean + 2])
    np.testing.assert_allclose(before, [2 * mean + 0.5, 2 * mean])


@pytest.mark.parametrize(("reward", "good"), [(1.0, 2.0), (0.0, 0.0)])
def test_while_all_rewards_are_one_value_passes_say_how_well_a_prompt_is_answered(reward: float, good: float) -> None:
    rates = PassRates(1, group=2, forget=0.0)
    rates.note(np.array([0]), np.full((1, 2), reward), when=0)
    assert rates.level_posterior()[0][0] == 1 + good


# -- state -------------------------------------------------------------------------------------------------------------


@examples(20)
@given(seeds, st.sampled_from(["two", "more"]))
def test_pass_rates_go_on_from_their_state_to_the_last_bit(seed: int, kind: str) -> None:
    rates, told = heard(seed, kind=kind)
    rng = np.random.default_rng(seed)
    if rng.random() < 0.5:
        rates.expect(rng.random(rates.n_rows), worth=3.0)
        rates.expect_spread(rng.random(rates.n_rows), worth=2.5)
    again = PassRates(rates.n_rows, group=rates.group, at=rates.at, forget=rates.forget)
    again.load(rates.state())
    for one in (rates, again):
        one.note(told[0][1], told[0][2], when=rates.now + 2 if one is rates else again.now + 2)
    assert rates.state().keys() == again.state().keys()
    for name, values in rates.state().items():
        np.testing.assert_array_equal(values, again.state()[name])
    assert all(values.ndim == 1 for values in rates.state().values())


def test_a_state_of_other_prompts_is_refused() -> None:
    rates = PassRates(4, group=2)
    with pytest.raises(ValueError, match="pass rates must be of 4 prompts, got those of 5"):
        rates.load(PassRates(5, group=2).state())
    state = rates.state()
    del state["visits"]
    with pytest.raises(ValueError, match="pass rates must be of 4 prompts, got none of visits"):
        rates.load(state)
