"""The learning rate that each difficulty decile meets: by hand, by a slow loop, and what is said when it is gone."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.preview.lr_mass import deciles_of, lr_by_decile, lr_findings


def test_rows_in_order_under_a_falling_rate_meet_ever_less() -> None:
    rates = np.linspace(1.0, 0.0, 100)
    deciles = lr_by_decile(deciles_of(np.arange(100.0)), np.arange(100), rates)
    assert deciles == pytest.approx(rates.reshape(10, 10).mean(axis=1))


@given(st.integers(1, 60), st.integers(0, 9))
def test_deciles_are_those_of_a_slow_loop(n_rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, rows, rates = rng.permutation(n_rows).astype(float), rng.integers(0, n_rows, 20), rng.random(20)
    visits = list(zip(rows.tolist(), rates.tolist(), strict=True))
    slow = [
        np.mean([rate for row, rate in visits if int(scores[row]) * 10 // n_rows == k] or [np.nan]) for k in range(10)
    ]
    assert lr_by_decile(deciles_of(scores), rows, rates) == pytest.approx(slow, nan_ok=True)


def test_a_plan_that_leaves_the_hardest_rows_out_has_tenths_of_what_it_trains() -> None:
    scores = np.arange(40.0)
    planned = np.arange(20, dtype=np.int32)[::-1]
    assert deciles_of(scores, planned=planned)[:20].tolist() == [row // 2 for row in range(20)]
    assert deciles_of(scores)[:20].tolist() == [row // 4 for row in range(20)]


def test_visits_by_hand() -> None:
    scores = np.arange(20.0)[::-1].copy()  # row 19 is the easiest
    met = lr_by_decile(deciles_of(scores), np.array([19, 19, 0]), np.array([1.0, 2.0, 1.0]))
    assert met == pytest.approx([1.5, *[np.nan] * 8, 1.0], nan_ok=True)


def test_a_starved_hardest_decile_is_told_with_the_way_out() -> None:
    [finding] = lr_findings(np.linspace(1.0, 0.1, 10), "length")
    assert "The hardest tenth of the rows by `length` is trained at 18% of the mean learning rate (0.1 of 0.55)" in (
        finding.what
    )
    assert "constant_with_warmup" in finding.remedy
    assert "`handover`" in finding.remedy


def test_half_of_the_mean_rate_is_enough() -> None:
    assert lr_findings(np.array([1.1] * 9 + [0.6]), "length") == []


def test_an_untrained_hardest_decile_says_nothing_of_rates() -> None:
    assert lr_findings(np.array([1.0] * 9 + [np.nan]), "length") == []


def test_a_million_rows_take_seconds() -> None:
    rng = np.random.default_rng(0)
    start = time.process_time()
    lr_by_decile(deciles_of(rng.random(1_000_000)), rng.permutation(1_000_000), rng.random(1_000_000))
    assert time.process_time() - start < 5
