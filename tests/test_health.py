"""Health findings: each trouble is found, named with its numbers and given a remedy; healthy scores are silent."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.health import Finding, lr_by_decile, lr_findings, score_findings, score_health

RNG = np.random.default_rng(0)
FINE = RNG.standard_normal(200)


def found(scores: dict[str, list[float] | np.ndarray], lengths: np.ndarray | None = None) -> list[Finding]:
    arrays = {name: np.asarray(values, dtype=np.float64) for name, values in scores.items()}
    return score_findings(score_health(arrays, lengths=lengths))


def test_independent_scores_without_ties_are_healthy() -> None:
    assert found({"a": FINE, "b": RNG.standard_normal(200)}, lengths=RNG.standard_normal(200)) == []


def test_bad_values_are_counted() -> None:
    [finding] = found({"a": [1.0, float("nan"), 3.0, float("inf")]})
    assert str(finding) == ("error: `a` is NaN or infinite in 2 of 4 rows. Drop these rows, or correct their values.")


def test_one_score_for_most_rows_is_a_coin_toss() -> None:
    [finding] = found({"a": [0.0] * 6 + [1.0, 2.0, 3.0, 4.0]})
    assert finding.severity == "warning"
    assert "`a` gives 60% of the rows one and the same score (90 % lie between 0 and 3.55)" in finding.what


def test_a_few_levels_are_no_trouble() -> None:
    assert found({"level": list(range(5)) * 4}) == []


@pytest.mark.parametrize(
    ("sign", "how"), [(1, "alike (rank correlation 1.00)"), (-1, "in reverse (rank correlation -1.00)")]
)
def test_two_names_for_one_order_are_found(sign: int, how: str) -> None:
    [finding] = found({"a": FINE, "b": sign * FINE**3})
    assert finding.what == f"`a` and `b` order the rows {how}."


def test_a_metric_that_is_length_under_another_name_is_found() -> None:
    [finding] = found({"words": FINE}, lengths=2 * FINE)
    assert "`words` and `length` order the rows alike" in finding.what


def test_length_is_not_compared_with_itself() -> None:
    assert found({"length": FINE}, lengths=FINE) == []


def test_the_spread_and_the_ties_are_told() -> None:
    health = score_health({"a": np.array([0.0, 0.0, 1.0, 2.0, 3.0])})
    assert (health.n_rows, health.ties["a"], health.largest_tie["a"]) == (5, 0.4, 0.4)
    assert health.quantiles["a"] == pytest.approx([0.0, 0.0, 1.0, 2.0, 2.8])


def test_scores_that_are_all_bad_have_no_spread() -> None:
    assert np.isnan(score_health({"a": np.full(3, np.nan)}).quantiles["a"]).all()


# -- learning rates ------------------------------------------------------------------------------------------------


def test_rows_in_order_under_a_falling_rate_meet_ever_less() -> None:
    rates = np.linspace(1.0, 0.0, 100)
    deciles = lr_by_decile(np.arange(100), np.arange(100), rates)
    assert deciles == pytest.approx(rates.reshape(10, 10).mean(axis=1))


@given(st.integers(1, 60), st.integers(0, 9))
def test_deciles_are_those_of_a_slow_loop(n_rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    steps, ranks, rates = rng.integers(-1, 20, n_rows), rng.permutation(n_rows), rng.random(20)
    slow = [
        np.mean([rates[steps[i]] for i in range(n_rows) if steps[i] >= 0 and ranks[i] * 10 // n_rows == k] or [np.nan])
        for k in range(10)
    ]
    assert lr_by_decile(steps, ranks, rates) == pytest.approx(slow, nan_ok=True)


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
    scores = {"length": rng.integers(1, 500, 1_000_000).astype(float), "loss": rng.standard_normal(1_000_000)}
    start = time.process_time()
    score_findings(score_health(scores))
    lr_by_decile(rng.integers(0, 1000, 1_000_000), rng.permutation(1_000_000), rng.random(1000))
    assert time.process_time() - start < 10
