"""Plans without a model: the facts that the design is built around, exact sums, and plans at full size in seconds."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.orders import order_rows
from campus_tune.method.selectors import SELECTORS
from campus_tune.method.stats import spearman
from campus_tune.preview.learner import FADES, ForgetfulLearner, Learner
from campus_tune.preview.simulate import SimulatedRun, simulate
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.errors import DataError

FOUR = ["length", "mtld", "compression", "loss"]


def plan(n_rows: int = 10_000, global_batch: int = 16, epochs: float = 1.0, **settings: Any) -> SimulatedRun:
    config = CampusConfig(**{"metrics": FOUR, "handover": 1.0, "seed": 0, **settings})
    return simulate(config, n_rows=n_rows, global_batch=global_batch, epochs=epochs)


def share(run: SimulatedRun, name: str) -> float:
    return run.rows_by_choice[name] / run.visits


# -- the facts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_a_fresh_loss_order_wins_every_stage_of_lowest_perplexity_under_exact_coverage(seed: int) -> None:
    run = plan(selector="lowest_perplexity", window="slice", seed=seed)
    assert {stage.chosen for stage in run.stages[:19]} == {"loss"}  # what follows are leftovers of less than a slice
    assert share(run, "loss") > 0.97
    assert any("`loss` supplies 9" in finding.what for finding in run.findings())


def test_the_same_happens_in_the_prefix_window() -> None:
    run = plan(selector="lowest_perplexity", metrics=["loss", "length", "mtld", "compression"])
    assert [stage.chosen for stage in run.stages] == ["loss"] * 20


@pytest.mark.parametrize("seed", range(3))
def test_as_published_the_choice_alternates_and_an_epoch_sees_about_60_percent_of_the_rows(seed: int) -> None:
    run = plan(selector="lowest_perplexity", window="slice", coverage="revisit", seed=seed)
    assert {stage.chosen for stage in run.stages} == set(FOUR)
    assert run.seen / run.n_rows == pytest.approx(0.58, abs=0.04)
    assert run.repeats / run.visits == pytest.approx(0.43, abs=0.04)
    assert "sees 5" in run.findings()[0].what
    assert run.findings()[0].remedy == "Write coverage: exact to train every row once per epoch."


def test_without_a_loss_order_the_others_share_the_run() -> None:
    run = plan(selector="lowest_perplexity", window="slice", metrics=FOUR[:3])
    assert max(share(run, name) for name in FOUR[:3]) < 0.9
    assert run.findings() == []


# -- what a plan is ------------------------------------------------------------------------------------------------


REPLAYED = {"name": "replayed", "choices": ["loss", "mtld", "loss"]}


@given(
    selector=st.sampled_from([REPLAYED if name == "replayed" else name for name in SELECTORS.names()]),
    window=st.sampled_from(["prefix", "slice"]),
    coverage=st.sampled_from(["exact", "revisit"]),
    mix=st.sampled_from([0.0, 0.3]),
    handover=st.sampled_from([0.0, 0.5, 1.0]),
    n_rows=st.integers(8, 90),
    epochs=st.sampled_from([0.5, 1.0, 2.0]),
)
def test_every_selector_plans_every_schedule_to_the_end(
    selector: Any, n_rows: int, epochs: float, **settings: Any
) -> None:
    config = CampusConfig(metrics=FOUR, selector=selector, stages=5, seed=1, **settings)
    groups = np.arange(n_rows) % 3
    run = simulate(
        config, n_rows=n_rows, global_batch=8, epochs=epochs, groups=groups, domains=("a", "b", "c"), keep_plan=True
    )
    assert run.plan is not None
    assert run.step_of_visit is not None
    assert len(run.plan) == run.visits == sum(run.rows_by_choice.values())
    assert run.step_of_visit.tolist() == sorted(run.step_of_visit)
    assert set(run.step_of_visit) == set(range(run.total_steps))
    assert len(np.unique(run.plan)) == run.seen == run.visits - run.repeats
    assert all(sum(stage.domain_shares) == pytest.approx(1) for stage in run.stages)
    if settings["coverage"] == "exact":
        assert np.bincount(run.plan).max() <= np.ceil(epochs)


def test_the_same_settings_plan_the_same_rows() -> None:
    assert plan(n_rows=500, selector="random") == plan(n_rows=500, selector="random")
    assert plan(n_rows=500, selector="random", seed=1) != plan(n_rows=500, selector="random")


def test_given_scores_are_used_and_not_made_up() -> None:
    scores = {"length": np.arange(100, dtype=np.float64)}
    config = CampusConfig(metrics=["length"], stages=4, handover=1.0, pacing="linear", window="slice")
    run = simulate(config, n_rows=100, global_batch=5, scores=scores, keep_plan=True)
    assert not run.made_up
    assert run.plan is not None
    assert set(run.plan[:5]) == set(range(5))
    assert set(run.plan[-5:]) <= set(range(60, 100))


def test_a_reversed_metric_without_scores_is_made_up_in_reverse() -> None:
    settings: dict[str, Any] = {"window": "slice", "pacing": "linear", "stages": 2, "selector": "fixed"}
    easy = plan(n_rows=100, global_batch=1, metrics=["loss"], **settings)
    hard = plan(n_rows=100, global_batch=1, metrics=["-loss"], **settings)
    assert easy.rows_by_choice == {"loss": 100, "shuffle": 0}
    assert hard.rows_by_choice == {"-loss": 100, "shuffle": 0}


def test_shares_per_domain_are_those_of_the_rows() -> None:
    groups = np.repeat([0, 1], [75, 25])
    config = CampusConfig(metrics=["length"], stages=2, seed=0)
    run = simulate(config, n_rows=100, global_batch=50, groups=groups, domains=("a", "b"))
    total = np.array([np.array(stage.domain_shares) * stage.n_rows for stage in run.stages]).sum(axis=0)
    assert total == pytest.approx([75, 25])
    assert run.stages[0].domain_shares == pytest.approx([0.75, 0.25], abs=0.15)


def test_fewer_rows_than_a_step_are_refused() -> None:
    with pytest.raises(DataError, match="`rows` must be at least the 16 of one optimizer step, got 15"):
        plan(n_rows=15)


def test_a_plan_of_a_million_rows_takes_seconds() -> None:
    rng = np.random.default_rng(0)
    orders = {name: order_rows(rng.standard_normal(1_000_000), seed=0) for name in FOUR}
    config = CampusConfig(metrics=FOUR, selector="round_robin", mix=0.2, seed=0)
    start = time.process_time()
    run = simulate(config, n_rows=1_000_000, global_batch=256, orders=orders)
    assert run.seen == 1_000_000
    assert time.process_time() - start < 10


# -- the learner ---------------------------------------------------------------------------------------------------


def test_the_learners_loss_falls_for_all_rows_and_more_for_trained_ones() -> None:
    learner = Learner(1000, seed=0)
    before = learner.loss()
    learner.train(np.arange(500, dtype=np.int32))
    fallen = 1 - (learner.loss() - 0.2) / (before - 0.2)
    assert fallen[500:] == pytest.approx(1 - np.exp(-0.25))  # half a pass teaches every row
    assert fallen[:500] == pytest.approx(1 - np.exp(-0.25 - 0.7))  # and a visit its own
    assert learner.start_loss() == pytest.approx(before)


def test_the_learners_metrics_are_correlated() -> None:
    learner = Learner(20_000, seed=0)
    assert spearman(learner.metric(), learner.metric()) == pytest.approx(0.25, abs=0.03)
    assert spearman(learner.metric(), learner.loss()) == pytest.approx(0.25, abs=0.03)


# -- the learner that forgets ------------------------------------------------------------------------------------------


def loss_by_hand(learner: ForgetfulLearner, visits: list[tuple[float, int]], now: float, domains: list[int]) -> Any:
    """The formula of its docstring, row by row; `visits` are (passes, row)."""
    n, sizes = len(domains), np.bincount(domains)
    rates = [0.5 + (g + 0.5) / len(sizes) for g in range(len(sizes))]
    losses = []
    for row in range(n):
        memory = sum(np.exp(-FADES * (now - at)) for at, visited in visits if visited == row)
        skill = sum(
            rates[domains[row]] / sizes[domains[row]] * np.exp(-FADES * (now - at))
            for at, visited in visits
            if domains[visited] == domains[row]
        )
        losses.append(0.2 + (learner.start_loss()[row] - 0.2) * np.exp(-0.5 * skill - 0.7 * memory))
    return np.array(losses)


def test_what_a_visit_taught_fades_with_its_age_by_a_second_slow_sum() -> None:
    domains = [0, 0, 0, 1, 1]
    learner = ForgetfulLearner(5, seed=0, domains=np.array(domains))
    visits: list[tuple[float, int]] = []
    for stage in ([3, 0, 4], [0, 1], [2, 0, 1, 3]):
        shown = learner.visit(np.array(stage, dtype=np.int32)).per_row()
        for row, loss in zip(stage, shown, strict=True):  # each sees what the rows before it have taught
            now = len(visits) / 5
            assert loss == pytest.approx(loss_by_hand(learner, visits, now, domains)[row])
            visits.append((now, row))
        assert learner.loss() == pytest.approx(loss_by_hand(learner, visits, len(visits) / 5, domains))


def test_a_domain_that_is_left_out_gets_worse_and_review_keeps_it() -> None:
    left_out, reviewed = (ForgetfulLearner(200, seed=0, domains=np.arange(200) % 2) for _ in range(2))
    for learner in (left_out, reviewed):
        learner.visit(np.arange(200, dtype=np.int32))
    before = left_out.loss()[::2].mean()
    for _ in range(10):
        left_out.visit(np.arange(1, 200, 2, dtype=np.int32))
        reviewed.visit(np.r_[0:20:2, 21:200:2].astype(np.int32))  # a tenth of the rows come back
    assert left_out.loss()[::2].mean() > reviewed.loss()[::2].mean() > before * 0.9
    assert left_out.loss()[::2].mean() > 1.5 * before


def test_surprise_follows_from_the_loss_and_the_tokens() -> None:
    shown = ForgetfulLearner(50, seed=0).visit(np.arange(50, dtype=np.int32))
    assert shown.tokens - shown.sureness == pytest.approx(shown.tokens * (1 - np.exp(-shown.per_row())))
    assert shown.tokens.min() >= 1
    assert shown.accuracy() <= 1
