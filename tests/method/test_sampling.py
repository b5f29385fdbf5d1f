"""Draws in proportion: quotas against fractions, draws against counting."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.sampling import draw, quotas

sizes_and_n = st.lists(st.integers(0, 1000), min_size=1, max_size=8).flatmap(
    lambda sizes: st.tuples(st.just(sizes), st.integers(0, sum(sizes)))
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(sizes_and_n)
def test_quotas_add_up_and_are_rounded_by_largest_remainder(case: tuple[list[int], int]) -> None:
    sizes, n = case
    given_out = quotas(np.array(sizes), n).tolist()
    assert sum(given_out) == n
    exact = [Fraction(size * n, sum(sizes) or 1) for size in sizes]
    extra = [quota - part.__floor__() for quota, part in zip(given_out, exact, strict=True)]
    assert set(extra) <= {0, 1}
    remainders = [part - part.__floor__() for part in exact]
    got = [r for r, e in zip(remainders, extra, strict=True) if e]
    passed_over = [r for r, e in zip(remainders, extra, strict=True) if not e]
    assert min(got, default=Fraction(1)) >= max(passed_over, default=Fraction(0))


@given(sizes_and_n)
def test_no_group_gives_more_than_it_has(case: tuple[list[int], int]) -> None:
    sizes, n = case
    assert (quotas(np.array(sizes), n) <= sizes).all()


@pytest.mark.parametrize(
    ("sizes", "n", "quota"),
    [
        ([60, 30, 10], 10, [6, 3, 1]),
        ([5, 3, 2], 3, [1, 1, 1]),  # 1.5, 0.9, 0.6: the remainders 0.9 and 0.6 go before 0.5
        ([1, 1, 1], 2, [1, 1, 0]),  # equal remainders go by number
        ([0, 4], 2, [0, 2]),
        ([3, 3], 0, [0, 0]),
        ([0, 0], 0, [0, 0]),
    ],
)
def test_worked_quotas(sizes: list[int], n: int, quota: list[int]) -> None:
    assert quotas(np.array(sizes), n).tolist() == quota


pools = st.integers(0, 80).flatmap(
    lambda n: st.tuples(
        st.permutations(range(n)), st.lists(st.integers(0, 3), min_size=n, max_size=n), st.integers(0, n + 3)
    )
)


@given(pools, st.booleans(), st.integers(0, 99))
def test_a_draw_takes_different_rows_of_the_pool(
    case: tuple[list[int], list[int], int], strata: bool, seed: int
) -> None:
    pool, groups, n = case
    drawn = draw(rng(seed), np.array(pool, dtype=np.int32), n, np.array(groups, dtype=np.int64) if strata else None)
    assert len(drawn) == len(set(drawn.tolist())) == min(n, len(pool))
    assert set(drawn.tolist()) <= set(pool)


@given(pools, st.integers(0, 99))
def test_a_draw_holds_the_domains_in_proportion_to_the_pool(case: tuple[list[int], list[int], int], seed: int) -> None:
    pool, groups, n = case
    n = min(n, len(pool))
    codes = np.array(groups, dtype=np.int64)
    half = np.array(pool[: len(pool) // 2 + 1], dtype=np.int32)  # the pool is not the whole set
    n = min(n, len(half))
    drawn = draw(rng(seed), half, n, codes)
    for group in range(4):
        share = n * np.count_nonzero(codes[half] == group) / max(1, len(half))
        assert abs(np.count_nonzero(codes[drawn] == group) - share) < 1


def test_a_draw_of_everything_is_the_pool_in_its_own_sequence() -> None:
    pool = np.array([4, 2, 9], dtype=np.int32)
    assert draw(rng(), pool, 3).tolist() == draw(rng(), pool, 5).tolist() == [4, 2, 9]


@pytest.mark.parametrize("strata", [False, True])
def test_every_row_is_as_likely_as_any_other(strata: bool) -> None:
    """4000 draws of 3 out of 12; chi-square of the counts over 11 degrees of freedom, scaled for the fixed total."""
    groups = np.repeat([0, 1, 2], 4) if strata else None
    generator, pool = rng(1), np.arange(12, dtype=np.int32)
    counts = np.bincount(np.concatenate([draw(generator, pool, 3, groups) for _ in range(4000)]), minlength=12)
    assert ((counts - 1000.0) ** 2 / (1000.0 * 0.75)).sum() < 31.3  # p = 0.001


def test_the_same_generator_draws_the_same_rows() -> None:
    pool = np.arange(100, dtype=np.int32)
    assert draw(rng(5), pool, 10).tolist() == draw(rng(5), pool, 10).tolist() != draw(rng(6), pool, 10).tolist()
