"""Score health: each trouble is found, named with its numbers and given a remedy; healthy scores are silent."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from campus_tune.preview.health import health_record, health_table, known_level, score_findings, score_health
from campus_tune.words.errors import DataError
from campus_tune.words.findings import Finding

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


# -- reverses, noise -----------------------------------------------------------------------------------------------


def near(rho: float) -> tuple[np.ndarray, np.ndarray]:
    """Two scores of 2000 rows whose rank correlation is about rho."""
    rng = np.random.default_rng(1)
    a = rng.standard_normal(2000)
    return a, rho * a + np.sqrt(1 - rho**2) * rng.standard_normal(2000)


def test_an_almost_reversed_metric_is_noted_and_both_are_named() -> None:
    a, b = near(-0.95)
    [finding] = found({"a": a, "b": b})
    assert finding.severity == "info"
    assert finding.what.startswith("`a` and `b` order the rows almost in reverse (rank correlation -0.9")


@pytest.mark.parametrize("rho", [-0.85, 0.95])
def test_what_is_neither_alike_nor_reversed_passes(rho: float) -> None:
    a, b = near(rho)
    assert found({"a": a, "b": b}) == []


def test_the_reverse_of_a_length_that_nobody_orders_by_is_no_trouble() -> None:
    assert found({"-words": -FINE}, lengths=FINE) == []


def test_an_order_that_is_mostly_noise_is_told() -> None:
    health = score_health({"a": FINE, "b": FINE**2}, stability={"a": 0.31, "b": 0.5})
    [finding] = score_findings(health)
    assert finding.severity == "warning"
    assert "`a` does not rank the rows the same way twice (rank correlation 0.31" in finding.what
    assert finding.remedy == "Measure more (a larger budget), or drop it."


# -- a known level -------------------------------------------------------------------------------------------------

LEVELS = np.array([0.0, 0.0, 1.0, 1.0, 2.0, np.nan])


def test_metrics_are_compared_with_the_level_of_the_labelled_rows() -> None:
    rising, falling = np.array([1.0, 1, 2, 2, 3, 0]), np.array([9.0, 9, 8, 8, 7, 99])
    health = score_health({"up": rising, "down": falling}, level=LEVELS)
    assert health.with_level == pytest.approx({"up": 1.0, "down": -1.0})
    assert health.with_level_within == {}


def test_a_metric_that_only_tells_domains_apart_follows_the_level_in_none() -> None:
    level, groups = np.array([0.0, 1, 2, 4, 5, 6]), np.array([0, 0, 0, 1, 1, 1])
    scores = np.array([1.0, 1, 1, 2, 2, 2]) + 0.01 * np.array([0, 1, 0, 0, 1, 0])
    health = score_health({"a": scores}, level=level, groups=groups)
    assert health.with_level["a"] > 0.75
    assert health.with_level_within["a"] == pytest.approx(0.0)


def test_the_mean_within_groups_is_over_their_rows_and_leaves_out_constant_ones() -> None:
    level = np.array([0.0, 1, 2, 0, 1, 5, 5, 5])
    scores = np.array([0.0, 1, 2, 1, 0, 1, 2, 3])  # ρ = 1 over three rows, −1 over two, none where the level is 5
    health = score_health({"a": scores}, level=level, groups=np.array([0, 0, 0, 1, 1, 2, 2, 2]))
    assert health.with_level_within["a"] == pytest.approx((3 * 1 - 2 * 1) / 5)


@pytest.mark.parametrize(
    ("columns", "name", "expected"),
    [
        ({"level": [2, 0, 1]}, None, [2.0, 0.0, 1.0]),
        ({"grade": [2.5, None, -1, float("nan"), float("inf"), 0]}, "grade", [2.5, *[np.nan] * 4, 0.0]),
        ({"level": ["easy", "hard"]}, None, None),
        ({"level": [1, 1, 1, -1]}, None, None),
        ({"level": [1, 1]}, "level", None),
        ({"level": []}, None, None),
        ({"grade": [1, 2]}, None, None),
    ],
)
def test_a_level_is_a_column_of_numbers_where_negative_is_unlabelled(
    columns: dict[str, list[object]], name: str | None, expected: list[float] | None
) -> None:
    level = known_level(columns, name)
    assert (level is None) == (expected is None)
    if level is not None:
        assert level.tolist() == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        (
            {"level": [1, 2]},
            r"must be a column of the training set \(level\), got 'levl'. Did you mean 'level'",
        ),
        ({"levl": [1, "two"]}, "`level` must be a column of numbers, got 'two' in 'levl'"),
    ],
)
def test_a_named_level_that_is_none_is_an_error(columns: dict[str, list[object]], match: str) -> None:
    with pytest.raises(DataError, match=match):
        known_level(columns, "levl")


# -- as tables and as data -----------------------------------------------------------------------------------------


def test_the_table_has_a_line_per_metric_and_a_triangle_of_correlations() -> None:
    scores = {"length": np.array([1.0, 2, 3, 4, 4]), "-mtld": np.array([-5000.0, -4, -3, -2, -1]), "x": np.ones(5)}
    health = score_health(scores, level=np.array([0.0, 0, 1, 1, 1]), stability={"-mtld": 0.9}, measured={"-mtld": 3})
    assert health_table(health).splitlines() == [
        "metric    rows    5 %  median  95 %  ties  ρ length  ρ level  stability",
        "length       5    1.2       3     4   40%      1.00     0.89          -",
        "-mtld   3 of 5  -4001      -3  -1.2    0%      0.97     0.87       0.90",
        "x            5      1       1     1  100%         -        -          -",
        "",
        "rank correlation  length  -mtld",
        "-mtld               0.97",
        "x                      -      -",
    ]


def test_a_single_metric_has_no_correlations_and_empty_columns_are_left_out() -> None:
    shown = health_table(score_health({"a": np.array([-1e-9, 1e-3, 2e6])}))
    assert shown.splitlines()[0] == "metric  rows     5 %  median     95 %  ties"
    assert len(shown.splitlines()) == 2
    assert "nan" not in health_table(score_health({"a": np.full(3, np.nan)}))


def test_a_correlation_of_nothing_has_no_sign() -> None:
    a, b = np.array([1.0, 2, 3, 4] * 500), np.tile([1.0, 2, 2, 1], 500)
    b[0] = 2.0
    assert "-0.00" not in health_table(score_health({"a": a, "b": b}))


def test_the_record_is_plain_json_with_four_decimals_and_null_for_nan() -> None:
    scores = {"a": np.array([1.0, 2, 3, 10]) / 3, "b": np.array([1.0, np.nan, 3, 4])}
    health = score_health(scores, lengths=np.array([1.0, 3, 2, 4]), stability={"a": 1 / 3}, measured={"a": 2})
    record = json.loads(json.dumps(health_record(health), allow_nan=False))
    assert record["metrics"]["a"] == {
        "rows": 2, "bad": 0, "ties": 0.0, "largest_tie": 0.25,
        "quantiles": [0.383333, 0.583333, 0.833333, 1.58333, 2.98333],
        "with_length": 0.8, "with_level": None, "with_level_within": None, "stability": 0.3333,
    }  # fmt: skip
    assert record["metrics"]["b"]["bad"] == 1
    assert record["metrics"]["b"]["with_length"] is None
    assert record["names"] == ["a", "b", "length"]
    assert record["correlation"] == [[1.0, None, 0.8], [None, None, None], [0.8, None, 1.0]]


def test_no_scores_make_an_empty_record() -> None:
    assert health_record(score_health({})) == {"n_rows": 0, "metrics": {}, "names": [], "correlation": []}


def test_a_million_rows_take_seconds() -> None:
    rng = np.random.default_rng(0)
    scores = {"length": rng.integers(1, 500, 1_000_000).astype(float), "loss": rng.standard_normal(1_000_000)}
    level, groups = rng.integers(0, 5, 1_000_000).astype(float), rng.integers(0, 1000, 1_000_000)
    start = time.process_time()
    score_findings(score_health(scores, level=level, groups=groups))
    assert time.process_time() - start < 10


def test_levels_of_any_kind_of_number_count_and_what_no_float_can_be_is_named() -> None:
    columns: dict[str, Any] = {"level": [Decimal(1), 2**70, None]}
    assert known_level(columns, None).tolist()[:2] == [1.0, 2.0**70]
    assert known_level({"level": [1, 2**2000]}, None) is None
    with pytest.raises(DataError, match=r"must be a column of numbers, got \d+"):
        known_level({"level": [1, 2**2000]}, "level")
