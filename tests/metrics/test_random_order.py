"""The metric that is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.orders import order_rows
from campus_tune.metrics.base import METRICS, CpuMetric, parse_metric
from campus_tune.metrics.random_order import Random
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import RowTexts


def rows(n: int) -> RowTexts:
    return RowTexts(["x"] * n, np.ones(n, dtype=np.int64), np.ones(n, dtype=np.int64), {})


def splitmix(z: int) -> int:
    """The finaliser of splitmix64 in Python's whole numbers."""
    mask = (1 << 64) - 1
    z = (z + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_scores_are_those_of_a_second_implementation() -> None:
    expected = [splitmix((place * 0x9E3779B97F4A7C15 + splitmix(7)) % 2**64) / 2**64 for place in range(20)]
    assert Random(seed=7).scores(rows(20)).tolist() == expected


@given(n=st.integers(1, 200), seed=st.integers(0, 10**6))
def test_scores_lie_in_the_unit_interval_and_come_again(n: int, seed: int) -> None:
    scores = Random(seed=seed).scores(rows(n))
    assert scores.shape == (n,)
    assert ((scores >= 0) & (scores < 1)).all()
    np.testing.assert_array_equal(scores, Random(seed=seed).scores(rows(n), num_proc=2, progress=False))


def test_a_row_keeps_its_score_when_rows_are_added() -> None:
    np.testing.assert_array_equal(Random(seed=3).scores(rows(50)), Random(seed=3).scores(rows(80))[:50])


def test_orders_are_uniform_and_seeds_have_nothing_to_do_with_one_another() -> None:
    n = 4000
    drawn = np.array([Random(seed=seed).scores(rows(n)) for seed in (0, 1, 2, 1000, 1001, 2000)])
    assert np.abs(drawn.mean(1) - 0.5).max() < 4 * np.sqrt(1 / 12 / n)
    counts = [np.histogram(one, bins=10, range=(0, 1))[0] for one in drawn]
    chi2 = [((count - n / 10) ** 2 / (n / 10)).sum() for count in counts]
    assert max(chi2) < 35  # chi² of 9 degrees of freedom is above it once in 20 000
    correlation = np.corrcoef(np.vstack([drawn, np.arange(n)]))
    assert np.abs(correlation - np.eye(len(correlation))).max() < 4.5 / np.sqrt(n)


def test_the_minus_turns_the_same_order_around() -> None:
    scores = Random(seed=1).scores(rows(30))
    np.testing.assert_array_equal(order_rows(scores, seed=0), order_rows(-scores, seed=0)[::-1])


def test_it_is_known_by_name_and_asks_no_model() -> None:
    assert parse_metric({"name": "random", "seed": 3}).label == "random"
    assert isinstance(METRICS.build("random", {}), CpuMetric)
    assert not Random.cached  # by place, not by text: a cache would mix rows up


@pytest.mark.parametrize("seed", [-1, True, 0.5, "1", None])
def test_a_wrong_seed_is_refused(seed: object) -> None:
    with pytest.raises(RecipeError, match="`random: seed` must be a whole number of at least 0"):
        Random(seed=seed)  # type: ignore[arg-type]  # what is tested
