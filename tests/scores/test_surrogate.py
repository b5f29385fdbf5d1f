import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.stats import average_ranks, spearman
from campus_tune.scores.surrogate import FOLDS, RIDGE, predict


def scene(
    n: int = 400, m: int = 120, noise: float = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, dict, np.ndarray]:
    rng = np.random.default_rng(seed)
    length, other = rng.lognormal(3, 1, n), rng.normal(size=n)
    groups = rng.integers(0, 3, n)
    truth = average_ranks(length) / n + 0.3 * groups + noise * rng.normal(size=n)
    measured = np.sort(rng.permutation(n)[:m])
    return measured, truth, {"length": length, "other": other}, groups


def test_measured_rows_keep_their_score() -> None:
    measured, truth, features, groups = scene()
    scores, *_ = predict(measured, truth[measured], features, groups)
    np.testing.assert_array_equal(scores[measured], truth[measured])


def test_what_the_features_explain_is_predicted_in_order() -> None:
    measured, truth, features, groups = scene()
    scores, correlation, _ = predict(measured, truth[measured], features, groups)
    others = np.setdiff1d(np.arange(len(truth)), measured)
    assert spearman(scores[others], truth[others]) > 0.95
    assert correlation > 0.95


def test_the_reported_correlation_is_what_unseen_rows_get() -> None:
    gaps = []
    for seed in range(20):
        measured, truth, features, groups = scene(noise=0.5, seed=seed)
        scores, promised, _ = predict(measured, truth[measured], features, groups)
        others = np.setdiff1d(np.arange(len(truth)), measured)
        gaps.append(promised - spearman(scores[others], truth[others]))
    assert abs(np.mean(gaps)) < 0.06


def test_noise_is_admitted() -> None:
    measured, _, features, groups = scene()
    values = np.random.default_rng(1).normal(size=len(measured))
    _, correlation, _ = predict(measured, values, features, groups)
    assert abs(correlation) < 0.3


def test_a_slow_cross_validation_agrees() -> None:
    measured, truth, features, _ = scene(noise=0.5)
    _, correlation, _ = predict(measured, truth[measured], features, None)
    n = len(truth)
    x = np.array([[1.0, *(average_ranks(f)[row] / n - 0.5 for f in features.values())] for row in range(n)])
    y = average_ranks(truth[measured]) / len(measured)
    held_out = []
    for i, row in enumerate(measured):
        train = [j for j in range(len(measured)) if j % FOLDS != i % FOLDS]
        a, b = np.zeros((3, 3)), np.zeros(3)
        for j in train:
            a += np.outer(x[measured[j]], x[measured[j]])
            b += x[measured[j]] * y[j]
        a[1, 1] += RIDGE
        a[2, 2] += RIDGE
        held_out.append(x[row] @ np.linalg.inv(a) @ b)
    assert correlation == pytest.approx(spearman(np.array(held_out), truth[measured]), abs=1e-9)


@given(st.integers(0, 1000))
def test_predictions_stay_among_the_measured_values(seed: int) -> None:
    measured, truth, features, groups = scene(n=60, m=20, noise=1.0, seed=seed)
    scores, *_ = predict(measured, truth[measured], features, groups)
    assert scores.min() >= truth[measured].min()
    assert scores.max() <= truth[measured].max()
    assert np.isfinite(scores).all()


def test_the_stability_is_how_alike_two_predictions_from_half_of_the_rows_are() -> None:
    rng = np.random.default_rng(3)
    n, measured = 400, np.arange(0, 400, 4)
    length = rng.normal(size=n)
    features = {"length": length, "nothing": rng.normal(size=n)}
    clear = predict(measured, length[measured], features, None)
    noise = [predict(measured, rng.normal(size=len(measured)), features, None).stability for _ in range(20)]
    assert clear.stability > 0.95
    assert abs(np.mean(noise)) < 0.5
