"""The scorer's arithmetic: a convex problem with one answer, and an accuracy that means what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from campus_tune.metrics import build_metric, parse_metric
from campus_tune.metrics.scorer import FEWEST_PAIRS, FLOOR, RIDGE, Heads, Scorer, fit, fit_heads, held_out_accuracy
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray
from tests.strategies import examples


def objective(w: FloatArray, differences: FloatArray) -> float:
    """The loss in the docstring, pair by pair."""
    losses = [np.log1p(np.exp(-float(np.dot(d, w)))) for d in differences]
    return float(np.mean(losses) + RIDGE / 2 * np.dot(w, w))


def test_the_head_is_the_minimum_that_another_solver_finds() -> None:
    differences = np.random.default_rng(0).normal(0.3, 1.0, (40, 6))
    slow = minimize(objective, np.zeros(6), args=(differences,), tol=1e-12)
    np.testing.assert_allclose(fit(differences), slow.x, atol=1e-4)


def test_one_pair_is_fitted_as_by_hand() -> None:
    # log(1 + exp(−w)) + λ/2 w² has its minimum where σ(−w) = λ w
    w = fit(np.array([[1.0]]))[0]
    assert 1 / (1 + np.exp(w)) == pytest.approx(RIDGE * w, rel=1e-5)


def test_no_pairs_give_no_head() -> None:
    assert fit(np.zeros((0, 3))).tolist() == [0.0, 0.0, 0.0]


def planted(n: int, gap: float, seed: int = 0, width: int = 30) -> tuple[FloatArray, FloatArray]:
    """References that stand out by `gap` along one direction, and samples that do not."""
    rng = np.random.default_rng(seed)
    sampled = rng.normal(size=(n, width))
    reference = rng.normal(size=(n, width))
    reference[:, 3] += gap
    return reference, sampled


def test_answers_that_stand_out_are_told_apart_and_scored_by_how_far_they_do() -> None:
    reference, sampled = planted(200, 4.0)
    heads = fit_heads(reference, sampled, seed=1)
    assert heads.accuracy > 0.95
    assert heads.tells_apart
    assert heads.n_pairs == 200
    ladder = np.zeros((5, 30))
    ladder[:, 3] = [0, 1, 2, 3, 4]
    assert (np.diff(heads.scores(ladder)[:, 0]) > 0).all()


def test_answers_like_the_models_own_are_a_coin_toss_and_it_says_so() -> None:
    accuracies = [fit_heads(*planted(64, 0.0, seed), seed=seed).accuracy for seed in range(20)]
    assert 0.4 < np.mean(accuracies) < 0.6  # held out: a fit to noise does not look like knowledge
    assert not Heads(np.zeros(1), np.ones(1), np.zeros((3, 1)), FLOOR - 0.01, 64).tells_apart


def test_the_accuracy_is_that_of_heads_fitted_without_the_pair() -> None:
    reference, sampled = planted(12, 1.0)
    differences, fold = reference - sampled, np.arange(12) % 5
    right = 0.0
    for i, d in enumerate(differences):
        margin = float(d @ fit(differences[fold != fold[i]]))
        right += 1.0 if margin > 0 else 0.5 if margin == 0 else 0.0
    assert held_out_accuracy(differences, fold) == pytest.approx(right / 12)


def test_pairs_that_are_the_same_are_half_right() -> None:
    assert held_out_accuracy(np.zeros((10, 2)), np.arange(10) % 5) == 0.5


@examples(6)
@given(st.integers(0, 99), st.floats(0.1, 10.0), st.floats(-5, 5))
def test_scores_do_not_hang_on_the_scale_or_the_origin_of_the_features(seed: int, scale: float, shift: float) -> None:
    reference, sampled = planted(32, 1.0, seed, width=8)
    heads = fit_heads(reference, sampled, seed=seed)
    moved = fit_heads(reference * scale + shift, sampled * scale + shift, seed=seed)
    assert moved.accuracy == pytest.approx(heads.accuracy)
    np.testing.assert_allclose(moved.scores(reference * scale + shift), heads.scores(reference), atol=1e-3)


def test_a_feature_that_never_changes_does_no_harm() -> None:
    reference, sampled = planted(40, 3.0, width=5)
    with_constant = [np.column_stack([part, np.full(40, 7.0)]) for part in (reference, sampled)]
    heads = fit_heads(*with_constant, seed=0)
    assert np.isfinite(heads.scores(with_constant[0])).all()
    assert heads.accuracy > 0.8


def test_the_halves_agree_on_what_is_there_and_not_on_noise() -> None:
    rows = np.random.default_rng(5).normal(size=(300, 30))

    def agreement(gap: float) -> float:
        scores = fit_heads(*planted(200, gap), seed=0).scores(rows)
        return float(np.corrcoef(scores[:, 1], scores[:, 2])[0, 1])

    assert agreement(4.0) > 0.6 > 0.4 > agreement(0.0)


def test_a_recipe_names_it_with_its_settings() -> None:
    metric = build_metric(parse_metric({"name": "scorer", "pairs": 48, "new_tokens": 16}))
    assert metric == Scorer(pairs=48, new_tokens=16)
    assert metric.kind == "model"


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"pairs": FEWEST_PAIRS - 1}, f"`pairs` must be a whole number of at least {FEWEST_PAIRS}, got 31"),
        ({"pairs": True}, "`pairs` must be a whole number of at least 32, got true, which is not a number"),
        ({"new_tokens": 0}, "`new_tokens` must be a whole number of at least 1, got 0"),
        ({"model": 3}, "`model` must be a folder or a hub id, got 3"),
        ({"pair": 64}, "`metric: scorer` takes pairs, new_tokens, model, got 'pair'. Did you mean 'pairs'"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, Any], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        parse_metric({"name": "scorer", **setting})
