"""What a grouping leaves of an order: worked by hand, and told before anything is trained by it."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from campus_tune.method.grouping import FEW, HALF, Grouping, order_left
from campus_tune.method.orders import order_rows
from campus_tune.method.stats import ties_within
from campus_tune.preview.check import check
from campus_tune.preview.health import health_record, health_table, score_findings, score_health
from campus_tune.words.types import FloatArray, IntArray


def slow_left(scores: FloatArray, groups: IntArray) -> float:
    """By going through the pairs of the grouped order."""
    told = [
        float(np.sign(scores[later] - scores[sooner]))
        for sooner, later in itertools.combinations(order_rows(scores, seed=0, groups=groups).tolist(), 2)
        if scores[later] != scores[sooner]
    ]
    return sum(told) / len(told)


def stages(n_stages: int, rows: int) -> tuple[FloatArray, IntArray]:
    """Each stage harder than all of the one before."""
    return np.arange(float(n_stages * rows)), np.repeat(np.arange(n_stages), rows)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_share_of_pairs_that_keep_their_sequence_less_the_others(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, groups = rng.integers(0, 12, 40).astype(float), rng.integers(0, 1 + seed, 40)
    assert order_left(scores, groups) == pytest.approx(slow_left(scores, groups))


def test_one_group_leaves_all_and_a_group_for_each_row_leaves_nothing() -> None:
    scores = np.random.default_rng(0).normal(size=4000)
    assert order_left(scores, np.zeros(4000, dtype=np.int64)) == 1.0
    assert order_left(scores, np.arange(4000)) == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("n_stages", [2, 3, 5])
def test_of_stages_the_pairs_inside_them_are_left(n_stages: int) -> None:
    """A → B → C of n rows: n(n − 1)/2 pairs in each of k stages, of kn(kn − 1)/2; the others are a coin toss."""
    scores, groups = stages(n_stages, 400)
    assert order_left(scores, groups) == pytest.approx(399 / (400 * n_stages - 1), abs=0.01)
    assert order_left(scores, groups) < HALF


@pytest.mark.parametrize(("rows", "left"), [(2, 0.33), (3, 0.46), (4, 0.55), (8, 0.69)])
def test_ranks_in_small_groups_say_little(rows: int, left: float) -> None:
    scores = np.random.default_rng(1).normal(size=4800)
    assert order_left(scores, np.arange(4800) // rows) == pytest.approx(left, abs=0.03)


@pytest.mark.parametrize("n_groups", [2, 5, 20])
def test_a_mix_of_alike_domains_keeps_its_order(n_groups: int) -> None:
    rng = np.random.default_rng(2)
    scores, groups = rng.lognormal(size=6000), rng.choice(n_groups, 6000, p=rng.dirichlet(np.full(n_groups, 5)))
    assert order_left(scores, groups) > 0.85


def test_where_no_two_rows_differ_nothing_is_known() -> None:
    assert math.isnan(order_left(np.ones(5), np.arange(5)))
    assert math.isnan(order_left(np.ones(1), np.zeros(1, dtype=np.int64)))


def test_the_typical_group_is_that_of_the_median_row() -> None:
    groups = np.array([0, 0, 0, 0, 0, 1, 1, 2, 3])
    grouping = Grouping.of({"a": np.arange(9.0)}, groups, column="domain", chosen=True)
    assert (grouping.n_groups, grouping.typical) == (4, 5)


def test_ties_are_counted_inside_the_groups() -> None:
    values, groups = np.array([1.0, 1, 2, 1, 3, 3, 4]), np.array([0, 0, 0, 1, 1, 1, 2])
    assert ties_within(values, groups) == (4 / 7, 4 / 7)
    assert ties_within(np.zeros(0), np.zeros(0, dtype=np.int64)) == (0.0, 0.0)
    assert ties_within(np.arange(4.0), np.zeros(4, dtype=np.int64)) == (0.0, 0.0)


# -- findings ----------------------------------------------------------------------------------------------------------


def warnings_of(scores: FloatArray, groups: IntArray, *, chosen: bool = False, **more: FloatArray) -> list[str]:
    health = score_health({"length": scores, **more}, groups=groups, column="domain", chosen=chosen)
    return [str(finding) for finding in score_findings(health)]


@pytest.mark.parametrize("chosen", [False, True])
def test_groups_in_which_nothing_can_be_compared_are_told_however_they_were_named(chosen: bool) -> None:
    [told] = warnings_of(np.arange(400.0), np.arange(400) // 2, chosen=chosen)
    assert (
        "inside the groups of `within: domain`, where hardly any can be compared: half of them are in groups of 2"
        in told
    )
    assert told.startswith("warning")
    assert "Write within: none" in told


def test_groups_that_are_stages_are_told_unless_the_recipe_names_them() -> None:
    [told] = warnings_of(*stages(3, 100))
    assert "the column 'domain', which are themselves easier and harder" in told
    assert "33% by `length`" in told
    assert "within: none to keep the sequence of the groups, or within: domain to say" in told
    assert warnings_of(*stages(3, 100), chosen=True) == []


def test_alike_domains_are_no_trouble() -> None:
    rng = np.random.default_rng(3)
    assert warnings_of(rng.normal(size=600), rng.integers(0, 5, 600)) == []
    assert FEW < 600 / 5


def test_metrics_are_compared_inside_the_groups() -> None:
    """Pooled they agree, for both tell the domains apart; inside the domains one is the reverse of the other."""
    groups = np.repeat(np.arange(2), 50)
    up = np.tile(np.arange(50.0), 2)
    found = warnings_of(100 * groups + up, groups, chosen=True, other=100.0 * groups - up)
    assert any("`length` and `other` order the rows in reverse (rank correlation -1.00)" in text for text in found)


def test_a_score_that_only_tells_the_groups_apart_orders_nothing_inside_them() -> None:
    groups = np.repeat(np.arange(4), 25)
    found = warnings_of(
        np.random.default_rng(0).normal(size=100), groups, chosen=True, domain_like=groups.astype(float)
    )
    assert any(
        "`domain_like` gives 100% of the rows the score that is commonest in their group" in text for text in found
    )


def test_tables_and_records_say_what_is_left() -> None:
    scores, groups = stages(2, 20)
    health = score_health({"length": scores}, groups=groups, column="domain")
    head, line = health_table(health).splitlines()
    assert head.split()[-4:] == ["ties", "within", "order", "left"]
    assert line.split()[-1] == f"{order_left(scores, groups):.2f}"
    within = health_record(health)["within"]
    assert (within["column"], within["n_groups"], within["typical"]) == ("domain", 2, 20)
    assert within["metrics"]["length"]["left"] == round(order_left(scores, groups), 4)
    json.dumps(within)
    assert "within" not in health_record(score_health({"length": scores}, groups=groups))


# -- before training ---------------------------------------------------------------------------------------------------


def checked(folder: Path, domains: list[str], **campus: Any) -> list[str]:
    rows = [{"prompt": "?", "completion": "w " * (i + 1), "domain": name} for i, name in enumerate(domains)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "dataset_name": str(folder / "rows.jsonl"),
        "per_device_train_batch_size": 4,
        "lr_scheduler_type": "constant",
        "campus": {"metrics": ["length"], "selector": "fixed", "stages": 4, **campus},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return [str(finding) for finding in check(folder / "recipe.yaml") if finding.severity == "warning"]


def test_check_warns_of_a_domain_for_each_row_and_its_advice_works(tmp_path: Path) -> None:
    sites = [f"site{i}.org" for i in range(48)]
    [told] = checked(tmp_path, sites)
    assert "groups of 1 or fewer (48 groups)" in told
    assert checked(tmp_path, sites, within="none") == []


def test_check_warns_of_stages_that_the_user_made_and_either_advice_works(tmp_path: Path) -> None:
    staged = ["A"] * 16 + ["B"] * 16 + ["C"] * 16
    [told] = checked(tmp_path, staged)
    assert "which are themselves easier and harder" in told
    assert checked(tmp_path, staged, within="none") == []
    assert checked(tmp_path, staged, within="domain") == []


def test_a_run_says_so_at_its_start(tmp_path: Path) -> None:
    from campus_tune.run.ledger import read_ledger
    from tests.run.tiny_run import tiny_trainer

    rows = [{"prompt": f"{i} ", "completion": "one two " * (1 + i % 11), "domain": f"site{i}.org"} for i in range(24)]
    for within, n_told in ((None, 1), ("none", 0)):
        config = {"metrics": ["length"], "stages": 2, "within": within}
        tiny_trainer(tmp_path / str(within), config=config, train=rows).train()
        events = read_ledger(tmp_path / str(within) / "curriculum" / "ledger.jsonl")
        told = [text for event in events if event["event"] == "warnings" for text in event["warnings"]]
        assert sum("where hardly any can be compared" in text for text in told) == n_told
