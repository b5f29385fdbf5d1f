"""The mean of ranks: by hand, inside groups, and what cannot be averaged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.metrics.base import MetricSpec, build_metric, leaves, parse_metric
from campus_tune.metrics.rank_mean import RankMean
from campus_tune.words.errors import RecipeError

TWO = {"name": "rank_mean", "of": ["length", "-mtld"]}


def test_a_row_scores_the_mean_of_its_ranks() -> None:
    scores = {"length": np.array([10.0, 40.0, 30.0, 20.0]), "-mtld": np.array([-4.0, -3.0, -2.0, -1.0])}
    expected = [(1 + 1) / 8, (4 + 2) / 8, (3 + 3) / 8, (2 + 4) / 8]
    assert RankMean(of=["length", "-mtld"]).combine(scores, None).tolist() == expected


def test_equal_scores_share_their_ranks() -> None:
    scores = {"length": np.array([5.0, 5.0, 9.0]), "mtld": np.array([1.0, 2.0, 3.0])}
    expected = [(1.5 + 1) / 6, (1.5 + 2) / 6, (3 + 3) / 6]
    assert RankMean(of=["length", "mtld"]).combine(scores, None) == pytest.approx(expected)


def test_ranks_are_taken_inside_the_domains() -> None:
    scores = {"length": np.array([1.0, 2.0, 900.0, 800.0]), "mtld": np.array([1.0, 2.0, 900.0, 800.0])}
    combined = RankMean(of=["length", "mtld"]).combine(scores, np.array([1, 1, 0, 0]))
    assert combined.tolist() == [0.5, 1.0, 1.0, 0.5]


VALUES = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 2)), min_size=1, max_size=30)


@given(VALUES)
def test_it_is_a_slow_count_of_smaller_and_equal_rows(rows: list[tuple[int, int, int]]) -> None:
    a, b, groups = (np.array(column) for column in zip(*rows, strict=True))
    metric = RankMean(of=["length", "mtld"])
    fast = metric.combine({"length": a.astype(float), "mtld": b.astype(float)}, groups)

    def rank(values: np.ndarray, row: int) -> float:
        peers = values[groups == groups[row]]
        return (np.sum(peers < values[row]) + (np.sum(peers == values[row]) + 1) / 2) / len(peers)

    assert fast == pytest.approx([(rank(a, row) + rank(b, row)) / 2 for row in range(len(rows))])
    assert (fast > 0).all()
    assert (fast <= 1).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20, unique=True))
def test_a_metric_and_its_reverse_cancel_out(values: list[float]) -> None:
    scores = {"length": np.array(values), "-length": -np.array(values)}
    combined = RankMean(of=["length", "-length"]).combine(scores, None)
    assert combined == pytest.approx(np.full(len(values), (len(values) + 1) / (2 * len(values))))


def test_members_are_read_with_labels_and_options() -> None:
    metric = RankMean(of=["-mtld", {"name": "length", "of": "both", "label": "tokens"}])
    assert metric.members == (
        MetricSpec("-mtld", "mtld", True, {}),
        MetricSpec("tokens", "length", False, {"of": "both"}),
    )


def test_a_recipe_names_it_as_any_metric() -> None:
    spec = parse_metric(TWO)
    assert spec.label == "rank_mean"
    metric = build_metric(spec)
    assert isinstance(metric, RankMean)
    assert metric.kind == "ensemble"
    assert parse_metric({**TWO, "name": "-rank_mean"}).reverse


def test_a_recipe_changed_later_changes_no_settings() -> None:
    member: dict[str, Any] = {"name": "length", "of": "both"}
    metric = RankMean(of=["mtld", member])
    member["of"] = "prompt"
    assert metric.members[1].options == {"of": "both"}


def test_members_are_scored_once_wherever_they_stand() -> None:
    specs = [parse_metric(entry) for entry in ("mtld", TWO, {"name": "rank_mean", "of": ["mtld", "-mtld"]})]
    assert [spec.label for spec in leaves(specs)] == ["mtld", "length", "-mtld"]


@pytest.mark.parametrize(
    ("of", "match"),
    [
        ([], "`of` must be a list of two or more metrics, got "),
        (["length"], r"`of` must be a list of two or more metrics, got \['length'\]. Write for example"),
        ("length", "`of` must be a list of two or more metrics, got 'length'"),
        ({"name": "length"}, "`of` must be a list of two or more metrics, got "),
        (3, "`of` must be a list of two or more metrics, got 3"),
        (["length", "lenth"], "`rank_mean: of`: `metric` must be one of .* got 'lenth'. Did you mean 'length'?"),
        (["length", TWO], "`rank_mean: of` must not have a rank_mean in it, got .* Name its members instead."),
        (["length", "length"], "must have different labels, got 'length' 2 times"),
    ],
)
def test_what_cannot_be_averaged_is_refused(of: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        RankMean(of=of)
    with pytest.raises(RecipeError, match=match):
        parse_metric({"name": "rank_mean", "of": of})


def test_all_wrong_members_are_named_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        RankMean(of=["lenth", "mtdl", "length"])
    assert len(caught.value.problems) == 2
