"""Pass rates of prompts never tried: the regression, what it is worth, and that what says nothing does not hurt."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize  # type: ignore[import-untyped]  # scipy ships no types
from scipy.stats import betabinom  # type: ignore[import-untyped]  # scipy ships no types

from campus_tune.method.pass_rates import PassRates
from campus_tune.method.stats import spearman
from campus_tune.scores import pass_prediction
from campus_tune.scores.pass_prediction import (
    FEWEST_TRIED,
    FOLDS,
    LEAST_WORTH,
    PENALTIES,
    SURELY,
    WORTHS,
    PassPrediction,
    PromptFeatures,
    predict_pass_rates,
    predict_shares,
)
from campus_tune.words.types import FloatArray, IntArray

N, GROUP = 512, 8
KINDS = np.array([0.0, 0.002, 0.02, 0.1, 0.3, 0.6, 0.95, 1.0])
KIND = np.arange(N) % 8
RATE = KINDS[KIND]


def tried(n: int, seed: int, rate: FloatArray = RATE) -> tuple[IntArray, FloatArray, FloatArray]:
    """`n` prompts at random, rising, with their passes and tries."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(N)[:n])
    return rows, rng.binomial(GROUP, rate[rows]).astype(np.float64), np.full(n, float(GROUP))


def noise(n: int, seed: int) -> dict[str, FloatArray]:
    rng = np.random.default_rng(seed)
    return {f"noise {k}": rng.random(N) for k in range(n)}


def predicted(features: PromptFeatures, n: int, seed: int, rate: FloatArray = RATE) -> PassPrediction:
    rows, passes, tries = tried(n, seed, rate)
    return predict_shares(passes, tries, features, rows=rows)


def error_against_one_rate(found: PassPrediction, n: int, seed: int) -> float:
    """Squared error of the rates of untried prompts, over that of the tried ones' mean."""
    rows, passes, tries = tried(n, seed)
    rest = np.setdiff1d(np.arange(N), rows)
    common = passes.sum() / tries.sum()
    return float(((found.rate[rest] - RATE[rest]) ** 2).mean() / ((common - RATE[rest]) ** 2).mean())


# -- the parts, by slow references -----------------------------------------------------------------------------------


def test_the_regression_is_the_penalised_likelihood_at_its_highest() -> None:
    features = PromptFeatures.of({"level": RATE + noise(1, 5)["noise 0"]}, {}, N)
    rows, passes, tries = tried(60, 1)
    group = pass_prediction._Tried(rows, passes, tries)
    x = features.columns(rows)
    for number, penalty in enumerate(PENALTIES):

        def minus_likelihood(w: FloatArray, penalty: float = penalty) -> float:
            z = x @ w
            told = group.counts * (group.share * z - np.logaddexp(0, z))
            return float(penalty / 2 * (w[1:] ** 2).sum() - told.sum())

        slow = minimize(minus_likelihood, np.zeros(x.shape[1]), method="BFGS", options={"gtol": 1e-7}).x
        np.testing.assert_allclose(group.fit(x, number), slow, atol=2e-3)


def test_the_worth_is_where_the_beta_binomial_says_most_of_what_came() -> None:
    rows, passes, tries = tried(50, 2)
    rate = np.clip(RATE[rows] + 0.1, SURELY, 1 - SURELY)
    told, worth = pass_prediction._Tried(rows, passes, tries)._most_likely(rate)
    slow = [betabinom.logpmf(passes, GROUP, s * rate, s * (1 - rate)).sum() for s in WORTHS]
    assert worth == WORTHS[int(np.argmax(slow))]
    ways = [math.log(math.comb(GROUP, int(k))) for k in passes]
    np.testing.assert_allclose(told + ways, betabinom.logpmf(passes, GROUP, worth * rate, worth * (1 - rate)))


def test_a_prompt_is_predicted_from_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What came of one prompt changes nothing of what is said of it, nor of its fifth; of others it does."""
    monkeypatch.setattr(pass_prediction, "PENALTIES", (3.0,))
    features = PromptFeatures.of({}, {"kind": KIND}, N)
    rows, passes, tries = tried(40, 3)
    changed = passes.copy()
    changed[7] = GROUP - passes[7]
    before, after = (pass_prediction._Tried(rows, each, tries).left_out(features).rate for each in (passes, changed))
    fold = pass_prediction._Tried(rows, passes, tries)._fold
    same_fifth = fold == fold[7]
    assert same_fifth.sum() == 40 // FOLDS
    np.testing.assert_array_equal(before[same_fifth], after[same_fifth])
    assert (before[~same_fifth] != after[~same_fifth]).any()


# -- what it finds ---------------------------------------------------------------------------------------------------


def test_a_column_of_kinds_gives_each_kind_its_rate() -> None:
    found = predicted(PromptFeatures.of({}, {"kind": KIND}, N), 128, 0)
    assert found.used == ("kind",)
    np.testing.assert_allclose(found.rate[:8], KINDS, atol=0.12)  # of 16 prompts of a kind
    assert found.correlation > 0.85
    assert found.worth > 10  # prompts of one kind are alike, so another's tries count as many of one's own


@pytest.mark.parametrize("turns", [FOLDS, 2 * FOLDS])
def test_domains_that_lie_by_turns_are_learnt_from_too(turns: int) -> None:
    domain, rows = np.arange(200) % turns, np.arange(200)
    passes = np.random.default_rng(0).binomial(GROUP, np.linspace(0.05, 0.95, turns)[domain]).astype(np.float64)
    found = predict_shares(
        passes, np.full(200, GROUP, float), PromptFeatures.of({}, {"domain": domain}, 200), rows=rows
    )
    assert found.used == ("domain",)
    assert found.correlation > 0.8


def test_a_number_that_says_little_is_worth_little() -> None:
    rng = np.random.default_rng(4)
    ranks = np.argsort(np.argsort(RATE + 1e-6 * rng.random(N))) / N - 0.5
    vague = 0.6 * ranks * 12**0.5 + 0.8 * rng.normal(size=N)
    sure, unsure = (predicted(PromptFeatures.of({"level": of}, {}, N), 200, 5) for of in (-RATE, vague))
    assert sure.worth > 8 > 2 > unsure.worth
    assert sure.correlation > 0.85
    assert 0.3 < unsure.correlation < 0.7
    assert spearman(unsure.rate, RATE) > 0.45
    assert unsure.gain > 0


@pytest.mark.parametrize("n", [32, 64, 200])
def test_features_that_say_nothing_do_not_hurt(n: int) -> None:
    """Of six columns of noise, alone and beside one that says everything: mean over six draws."""
    alone, beside, without = [], [], []
    for seed in range(6):
        chance = noise(6, 100 + seed)
        alone.append(error_against_one_rate(predicted(PromptFeatures.of(chance, {}, N), n, seed), n, seed))
        kinds = {"kind": KIND}
        without.append(error_against_one_rate(predicted(PromptFeatures.of({}, kinds, N), n, seed), n, seed))
        beside.append(error_against_one_rate(predicted(PromptFeatures.of(chance, kinds, N), n, seed), n, seed))
    assert np.mean(alone) < 1.05
    assert np.mean(beside) < np.mean(without) + 0.05


def test_what_says_nothing_has_no_gain_and_is_not_used() -> None:
    found = predicted(PromptFeatures.of(noise(3, 1), {}, N), 200, 0)
    assert found.used == ()
    assert math.isnan(found.correlation)
    assert set(found.gains) == {"noise 0", "noise 1", "noise 2"}
    assert max(found.gains.values()) < 0.05
    assert np.ptp(found.rate) == 0
    assert found.told()["correlation"] is None


def test_what_was_tried_is_told_apart_from_chance_where_several_tell_a_little_each() -> None:
    rng = np.random.default_rng(8)
    parts = rng.random((4, N))
    rate = 1 / (1 + np.exp(-3 * (parts.sum(axis=0) - 2)))
    features = PromptFeatures.of({f"part {k}": part for k, part in enumerate(parts)}, {}, N)
    found = predicted(features, 300, 0, rate)
    assert len(found.used) >= 3
    assert spearman(found.rate, rate) > 0.8


# -- odd data --------------------------------------------------------------------------------------------------------


def test_few_tried_prompts_give_one_rate_that_is_worth_next_to_nothing() -> None:
    rows = np.arange(FEWEST_TRIED - 1)
    found = predict_shares(np.full(9, 8.0), np.full(9, 8.0), PromptFeatures.of({}, {"kind": KIND}, N), rows=rows)
    assert found.worth == LEAST_WORTH
    assert found.used == ()
    counts = 9 * 8 / 2.4  # eight tries of one prompt count as 8 ÷ (1 + 0.2 · 7) of them
    np.testing.assert_allclose(found.rate, (counts + 1) / (counts + 2))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_prompts_that_all_pass_or_all_fail_say_so_and_no_more(share: float) -> None:
    rows, _, tries = tried(64, 0)
    features = PromptFeatures.of(noise(2, 3), {"kind": KIND}, N)
    found = predict_shares(share * tries, tries, features, rows=rows)
    assert np.ptp(found.rate) < 0.05
    assert abs(found.rate[0] - share) < 0.05
    assert 0 < found.rate.min() <= found.rate.max() < 1


@pytest.mark.parametrize("worth", [1.0, 0.0])
def test_where_all_came_out_alike_no_feature_tells_anything(worth: float) -> None:
    rows = np.arange(24)  # a group each, as chances of a spread count them
    features = PromptFeatures.of(noise(3, 0) | {"row": np.arange(N) * 1.0}, {}, N)
    found = predict_shares(np.full(24, worth), np.ones(24), features, rows=rows)
    assert (found.used, found.gain, set(found.gains.values())) == ((), 0.0, {0.0})
    assert np.ptp(found.rate) == 0
    assert abs(found.rate[0] - worth) < 0.05


def test_one_feature_that_splits_the_prompts_cleanly_is_followed() -> None:
    passed = np.where(np.arange(40) < 20, 8.0, 0.0)
    features = PromptFeatures.of({"level": np.arange(80.0)}, {}, 80)
    found = predict_shares(passed, np.full(40, 8.0), features, rows=np.arange(0, 80, 2))
    assert found.rate[:30].min() > 0.8
    assert found.rate[50:].max() < 0.2


def test_without_a_feature_there_is_one_rate_with_its_worth() -> None:
    found = predicted(PromptFeatures.of({}, {}, N), 100, 0)
    assert np.ptp(found.rate) == 0
    assert found.worth < 2  # half of the kinds never pass, a quarter always does
    assert found.told() == {
        "prompts": 100,
        "worth": found.worth,
        "correlation": None,
        "gain": 0.0,
        "error": 0.0,
        "used": [],
        "gains": {},
    }


def test_features_that_rank_prompts_alike_count_once_and_constants_not_at_all() -> None:
    level = np.arange(6.0)
    features = PromptFeatures.of(
        {"level": level, "-level": -level, "grade": 3 * level + 1, "same": np.zeros(6), "odd": level % 2},
        {"one": np.zeros(6, dtype=np.int64), "two": np.arange(6) % 2},
        6,
    )
    assert features.names == ("level", "odd", "two")
    assert features.columns(np.arange(6)).shape == (6, 1 + 4 + 4 + 2)
    np.testing.assert_allclose(features.ranks["level"], (np.arange(6) + 0.5) / 6 - 0.5)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(10, 60), st.floats(1e-3, 1.0))
def test_whatever_came_a_rate_is_one_and_old_tries_count_less(seed: int, n: int, kept: float) -> None:
    rows, passes, tries = tried(n, seed)
    features = PromptFeatures.of({"level": -RATE}, {"kind": KIND}, N)
    found = predict_shares(kept * passes, kept * tries, features, rows=rows)
    assert found.rate.shape == (N,)
    assert SURELY <= found.rate.min() <= found.rate.max() <= 1 - SURELY
    assert found.worth == LEAST_WORTH or WORTHS[0] <= found.worth <= WORTHS[-1]
    assert found.prompts == n
    again = predict_shares(kept * passes, kept * tries, features, rows=rows)
    np.testing.assert_array_equal(found.rate, again.rate)


# -- from what rewards have shown ------------------------------------------------------------------------------------


def test_prompts_tried_last_are_asked_where_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pass_prediction, "MOST_TRIED", 100)
    rates = PassRates(N, group=GROUP, forget=0.0)
    first, later = np.arange(0, 300), np.arange(300, 400)
    rates.note(first, np.zeros((300, GROUP)), when=0)
    rates.note(later, np.ones((100, GROUP)), when=1)
    found = predict_pass_rates(rates, PromptFeatures.of({}, {"kind": KIND}, N))
    assert found.prompts == 100
    assert found.rate.min() > 0.9


def test_what_is_forgotten_says_less_of_the_others() -> None:
    """A kind that failed long ago and passes now is expected to pass."""
    rates = PassRates(N, group=GROUP, forget=0.05)
    rates.note(np.arange(0, 64), np.zeros((64, GROUP)), when=0)
    rates.note(np.arange(64, 128), np.ones((64, GROUP)), when=60)
    found = predict_pass_rates(rates, PromptFeatures.of({}, {"kind": KIND}, N))
    assert found.rate.mean() > 0.85


def test_an_answer_without_a_reward_was_not_tried() -> None:
    rates = PassRates(N, group=GROUP, forget=0.0)
    rewards = np.full((64, GROUP), np.nan)
    rewards[:32] = 1.0
    rates.note(np.arange(64), rewards, when=0)
    found = predict_pass_rates(rates, PromptFeatures.of({}, {"kind": KIND}, N))
    assert found.prompts == 32
    assert found.rate.min() > 0.9
