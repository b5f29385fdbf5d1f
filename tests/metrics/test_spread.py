"""Self-paced learning with diversity: by hand, against its own objective, and what it asks of a recipe."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.orders import order_rows
from campus_tune.metrics.base import MetricSpec, build_metric, parse_metric
from campus_tune.metrics.spread import Spread
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.errors import MetricError, RecipeError
from campus_tune.words.types import FloatArray, IntArray, RowTexts
from tests.strategies import examples

LOSSES = np.array([0.1, 0.2, 0.3, 0.25, 0.5])  # A, A, A, B, B: quartiles .2 and .3
GROUPS = np.array([0, 0, 0, 1, 1])


def spread(losses: FloatArray, groups: IntArray | None, gamma: float) -> FloatArray:
    return Spread(gamma=gamma).combine({"loss": losses}, groups)


def test_the_first_of_each_group_come_before_the_second_of_the_easiest() -> None:
    adjusted = spread(LOSSES, GROUPS, 2.0)  # γ = 2 · 0.1 nats
    assert adjusted.round(4).tolist() == [-0.1, 0.1172, 0.2364, 0.05, 0.4172]
    assert np.flatnonzero(adjusted < 0.2).tolist() == [0, 1, 3]
    assert np.flatnonzero(LOSSES < 0.2).tolist() == [0]
    assert order_rows(adjusted, seed=0).tolist() == [0, 3, 1, 2, 4]
    assert order_rows(LOSSES, seed=0).tolist() == [0, 1, 3, 2, 4]


# losses without ties, so that there is one solution; each with its group
ROWS = st.lists(st.tuples(st.integers(1, 400), st.integers(0, 3)), min_size=1, max_size=8, unique_by=lambda row: row[0])


def arrays(rows: list[tuple[int, int]]) -> tuple[FloatArray, IntArray]:
    losses, groups = zip(*rows, strict=True)
    return np.array(losses) / 100, np.array(groups)


def objective(taken: FloatArray, losses: FloatArray, groups: IntArray, level: float, gamma: float) -> float:
    """SPLD's own, E(v) = Σ vℓ − λ Σ v − γ Σ_groups ‖v‖₂."""
    diversity = sum(math.sqrt(float((taken[groups == group] ** 2).sum())) for group in set(groups.tolist()))
    return float((taken * losses).sum()) - level * float(taken.sum()) - gamma * diversity


@examples(60)
@given(ROWS, st.floats(0, 5), st.floats(-1, 5))
def test_rows_below_a_level_are_the_least_of_spld_s_objective_for_it(
    rows: list[tuple[int, int]], gamma: float, level: float
) -> None:
    losses, groups = arrays(rows)
    nats = gamma * float(np.subtract(*np.quantile(losses, [0.75, 0.25])))
    mine = (spread(losses, groups, gamma) < level).astype(float)
    best = min(
        objective(np.array(taken), losses, groups, level, nats)
        for taken in itertools.product((0.0, 1.0), repeat=len(losses))
    )
    assert objective(mine, losses, groups, level, nats) == pytest.approx(best, abs=1e-9)


@given(ROWS, st.floats(0, 5))
def test_any_prefix_is_what_spld_s_own_algorithm_takes_at_some_level(rows: list[tuple[int, int]], gamma: float) -> None:
    losses, groups = arrays(rows)
    nats = gamma * float(np.subtract(*np.quantile(losses, [0.75, 0.25])))
    adjusted = spread(losses, groups, gamma)
    order = np.argsort(adjusted, kind="stable")
    for n in range(1, len(order)):
        low, high = adjusted[order[n - 1]], adjusted[order[n]]
        if high - low < 1e-9:
            continue
        level = (low + high) / 2
        taken = set()  # Algorithm 2 of the paper: group by group, from the easiest row on
        for group in set(groups.tolist()):
            members = sorted(np.flatnonzero(groups == group).tolist(), key=lambda row: losses[row])
            for i, row in enumerate(members, 1):
                if losses[row] < level + nats / (math.sqrt(i) + math.sqrt(i - 1)):
                    taken.add(row)
        assert taken == set(order[:n].tolist())


@given(ROWS)
def test_inside_a_group_and_without_diversity_it_is_the_metric_s_own_order(rows: list[tuple[int, int]]) -> None:
    losses, groups = arrays(rows)
    assert spread(losses, groups, 0.0).tolist() == losses.tolist()
    for one in (None, np.zeros(len(losses), dtype=np.int64)):
        assert np.argsort(spread(losses, one, 3.0)).tolist() == np.argsort(losses).tolist()
    adjusted = spread(losses, groups, 3.0)
    for group in set(groups.tolist()):
        own = np.flatnonzero(groups == group)
        assert np.argsort(adjusted[own]).tolist() == np.argsort(losses[own]).tolist()


@given(ROWS, st.floats(0.1, 5), st.sampled_from([0.5, 4.0, 1024.0]), st.integers(-3, 3))
def test_gamma_is_in_units_of_the_scores_own_spread(
    rows: list[tuple[int, int]], gamma: float, scale: float, shift: int
) -> None:
    losses, groups = arrays(rows)
    scaled = spread(losses * scale + shift, groups, gamma)
    assert scaled == pytest.approx(spread(losses, groups, gamma) * scale + shift, abs=1e-6)


def test_equal_rows_of_a_group_gain_by_turns_so_that_groups_take_turns_too() -> None:
    lengths = np.array([5.0] * 50 + [5.0] * 50 + [9.0] * 100)
    groups = np.array([0] * 50 + [1] * 50 + [0] * 100)
    adjusted = Spread(of="length", gamma=1.0).combine({"length": lengths}, groups)
    front = order_rows(adjusted, seed=3)[:20]
    assert abs(int((groups[front] == 0).sum()) - 10) <= 1
    assert front.tolist() != sorted(front.tolist())  # by no place in the file


def test_its_groups_are_a_column_of_the_training_set() -> None:
    ones = np.ones(3, dtype=np.int64)
    texts = RowTexts(["a", "b", "c"], ones, ones, {"topic": ["sums", "words", "sums"]})
    assert Spread(groups="topic").groups_of(texts, None).tolist() == [0, 1, 0]
    with pytest.raises(MetricError, match=r"`spread: groups` must be a column of the training set \(topic\), got 'top"):
        Spread(groups="topi").groups_of(texts, None)
    bare = RowTexts(["a"], ones[:1], ones[:1], {})
    with pytest.raises(MetricError, match=r"training set \(which has none\), got 'domain'\. Name one of these, or add"):
        Spread().groups_of(bare, None)


def test_a_recipe_names_it_as_any_metric() -> None:
    entry: dict[str, Any] = {"name": "spread", "of": {"name": "loss", "reduce": "sum", "label": "answers"}}
    spec = parse_metric({**entry, "groups": "topic"})
    metric = build_metric(spec)
    assert (spec.label, metric.kind) == ("spread", "ensemble")
    assert metric.members == (MetricSpec("answers", "loss", False, {"reduce": "sum"}),)
    written = entry["of"]
    written["reduce"] = "mean"
    assert metric.members[0].options == {"reduce": "sum"}  # nobody changes it later


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"of": 3}, r"`of` must be a metric, got 3\. Write for example of: loss"),
        ({"of": ["loss"]}, r"`of` must be a metric, got \['loss'\]\. Write for example of: loss"),
        ({"of": "lss"}, r"`of`: `metric` must be one of .*, got 'lss'\. Did you mean 'loss'"),
        ({"of": "spread"}, r"`spread: of` must be a metric that is not made of others, got spread\. Name one of its m"),
        ({"of": {"name": "rank_mean", "of": ["length", "mtld"]}}, r"must be .* not made of others, got rank_mean"),
        ({"groups": ""}, r"`groups` must be the name of a column, got ''\. Write for example groups: domain"),
        ({"gamma": -0.1}, r"`gamma` must be a number in \[0, 1000\], got -0\.1"),
    ],
)
def test_what_cannot_be_spread_is_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(RecipeError, match=match):
        parse_metric({"name": "spread", **options})


@pytest.mark.parametrize("within", [None, "domain", "topic"])
def test_it_is_refused_where_rows_are_ranked_inside_groups(within: str | None) -> None:
    block = {"metrics": ["spread"], "within": within}
    with pytest.raises(RecipeError, match=r"`within` must be none with the metric spread, got .* Write within: none\."):
        CampusConfig.from_mapping(block)
    config = CampusConfig.from_mapping({**block, "within": "none"})
    assert config.resolved(has_probes=False, domain_in_data=True, seed=0).within == "none"


def test_a_draw_that_goes_by_it_asks_for_the_same() -> None:
    block = {"metrics": ["length"], "thin": {"how": "top", "by": {"name": "spread", "of": "length"}}}
    with pytest.raises(RecipeError, match="`within` must be none with the metric spread, got null"):
        CampusConfig.from_mapping(block)
    assert CampusConfig.from_mapping({**block, "within": "none"}).no_orders == ("spread",)
