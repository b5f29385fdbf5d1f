"""Bounds of what probe rows say: against the jackknife and scipy's Student, and by how often they cover the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from campus_tune.method.estimates import UNKNOWN, Estimate, change, quantile, ratio


def test_bounds_of_a_milestone():
    assert Estimate(0.78, 0.03).upper(0.05) == pytest.approx(0.829, abs=5e-4)
    assert Estimate(0.78, 0.01).upper(0.05) == pytest.approx(0.796, abs=5e-4)
    assert Estimate(0.78, 0.03).lower(0.05) == pytest.approx(0.78 - 0.0493, abs=1e-4)


@pytest.mark.parametrize("df", [7, 8, 15, 31, 63, 1000])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.95, 0.975])
def test_the_quantile_is_students(df, p):
    assert quantile(p, df) == pytest.approx(student.ppf(p, df), abs=2e-3)


@pytest.mark.parametrize("p", [0.9, 0.95, 0.99, 0.999])
def test_a_quantile_falls_to_the_normals_with_more_rows(p):
    found = [quantile(p, df) for df in (1, 2, 3, 5, 10, 100, 10_000)] + [quantile(p, 0)]
    assert found == sorted(found, reverse=True)


def jackknife(top, bottom):
    """The slow reference: leave each row out once."""
    n = len(top)
    left = [np.delete(top, i).sum() / np.delete(bottom, i).sum() for i in range(n)]
    return np.sqrt((n - 1) / n * np.sum((left - np.mean(left)) ** 2))


@given(st.integers(0, 2**32 - 1), st.integers(20, 200))
def test_the_error_of_a_ratio_is_the_jackknifes(seed, n):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(5, 50, n)
    nats = tokens * rng.gamma(4, 0.25, n)
    found = ratio(nats, tokens)
    assert found.value == pytest.approx(nats.sum() / tokens.sum())
    assert found.stderr == pytest.approx(jackknife(nats, tokens), rel=0.1)
    assert found.n == n


def test_a_change_is_paired():
    rng = np.random.default_rng(0)
    before = rng.gamma(2, 10, 64)  # rows differ a lot from one another
    after = 1.05 * before + rng.normal(0, 0.1, 64)  # and hardly in how they changed
    found = change(before, after)
    assert found.value == pytest.approx(0.05, abs=0.005)
    assert found.stderr < 0.003
    assert ratio(after, np.ones(64)).stderr / np.mean(before) > 0.05  # unpaired, this would not be seen


@given(st.floats(0.01, 100), st.integers(0, 2**32 - 1))
def test_units_do_not_matter_to_a_change(factor, seed):
    rng = np.random.default_rng(seed)
    before, after = rng.gamma(2, 1, (2, 16))
    assert change(factor * before, factor * after) == pytest.approx(change(before, after), rel=1e-9, abs=1e-12)


def test_one_row_says_nothing_of_its_error():
    alone = ratio(np.array([2.0]), np.array([4]))
    assert (alone.value, alone.stderr, alone.n) == (0.5, UNKNOWN, 1)
    assert alone.lower(0.05) < -1e100 < 1e100 < alone.upper(0.05)


def test_bounds_cover_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    for n in (8, 30):
        tokens = rng.integers(10, 30, (2000, n))
        nats = tokens * rng.normal(1.0, 0.3, (2000, n))
        below = [ratio(y, x).upper(0.05) < 1.0 for y, x in zip(nats, tokens, strict=True)]
        assert 0.03 < np.mean(below) < 0.075


def test_scaling_turns_the_sign_and_keeps_the_error_positive():
    assert Estimate(0.5, 0.1, 9).scaled(-2) == Estimate(-1.0, 0.2, 9)
