"""The learning rate that each difficulty decile meets: by hand, by a slow loop, and what is said when it is gone."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.preview.lr_mass import deciles_of, lr_by_decile, lr_by_phase, lr_findings, phase_findings
from campus_tune.recipe.training_yaml import learning_rates


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


# -- phases ------------------------------------------------------------------------------------------------------------


def test_each_phase_has_its_part_of_the_steps_and_of_the_rates_by_hand() -> None:
    parts = lr_by_phase([0.4, 0.8, 1.0], np.array([4.0, 3.0, 2.0, 1.0, 0.0]))
    assert np.array(parts) == pytest.approx(np.array([(0.4, 0.7), (0.4, 0.3), (0.2, 0.0)]))
    assert lr_by_phase([0.5, 1.0], np.array([0.0, 0.0])) == [(0.5, 0.0), (0.5, 0.0)]  # a rate of 0 is no division


def test_a_phase_under_a_spent_rate_is_warned_of_with_the_way_out() -> None:
    note, warning = phase_findings([0.8, 1.0], np.linspace(1.0, 0.0, 100))
    assert note.what == "Of the steps, and of the learning rates added up, phase 1 has 80% and 96%, 2 has 20% and 4%."
    assert warning.what.startswith("Phase 2 has 20% of the steps and 3.8% of the learning rates added up")
    assert "warmup_stable_decay with its decay inside the last phase" in warning.remedy


@pytest.mark.parametrize(
    "settings",
    [
        {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 10},
        {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 10}},
    ],
)
def test_the_schedules_that_are_advised_starve_no_phase(settings: dict[str, Any]) -> None:
    rates = learning_rates({"learning_rate": 1e-4, **settings}, 100)
    assert [finding.severity for finding in phase_findings([0.8, 1.0], rates)] == ["info"]


def test_a_short_phase_at_the_full_rate_is_none_and_one_phase_says_nothing() -> None:
    assert [finding.severity for finding in phase_findings([0.95, 1.0], np.ones(100))] == ["info"]
    assert phase_findings([1.0], np.ones(100)) == []
    assert phase_findings([], np.ones(100)) == []
