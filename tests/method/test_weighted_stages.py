"""A curriculum whose rows have weights: the same rows, weights that travel with them, and draws made up for."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.curriculum import Curriculum, Stage
from campus_tune.method.levels import Groups
from campus_tune.method.policy import Policy
from campus_tune.method.review import Review
from campus_tune.method.stages import REVIEW
from campus_tune.method.thin import THINNERS, Thin
from campus_tune.method.weighting import Entry, Weighting
from campus_tune.method.weights import OwnWeight, build_weight
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray
from tests.method.policies import Life, anything, lived, made_up
from tests.strategies import Plan, examples, plans

COLUMN = OwnWeight()
seeds = st.integers(0, 10**6)


def weighting_of(n_rows: int, batch: int, *names: str, **settings: Any) -> Weighting:
    rng = np.random.default_rng([n_rows, batch])
    given_ = {"columns": {COLUMN: rng.gamma(2, 0.5, n_rows) + 0.01}, "cells": Groups(np.arange(n_rows) % 2, ("a", "b"))}
    entries = [Entry(name, build_weight(name), since=0.0) for name in names]
    return Weighting(entries, **{"tokens": rng.integers(1, 30, n_rows), "global_batch": batch, **given_, **settings})


def weighted(life: Life, *names: str, **settings: Any) -> Life:
    """The same life under weights."""
    made = life.curriculum
    made.weighting = weighting_of(made.n_rows, made.global_batch, *names, **settings)
    return life


ALL = ("column", "unbiased", "superloss", "robust", "self_paced", "focal")


def weights_of(stage: Stage) -> FloatArray:
    assert stage.weights is not None
    assert stage.weights.dtype == np.float32
    assert len(stage.weights) == len(stage.rows)
    return stage.weights.astype(np.float64)


def close(made: Curriculum) -> None:
    """As a run does at a stage's end: what it showed is the level of the next one."""
    if made.weighting is None or made.stage is None or not len(made.stage.rows):
        return
    losses = made_up(made.stage.index, len(made.stage.rows))
    made.weighting.close(made.stage.rows.astype(np.int64), losses.per_row(), losses.tokens)


def live_until(life: Life, step: int) -> None:
    while not life.curriculum.finished and life.curriculum.step < step:
        if life.curriculum.needs_decision:
            close(life.curriculum)
        life.step()


def levels_of(made: Curriculum) -> Any:
    live = made.live
    return [(e.name, e.most, [n.tobytes() for n in e.level]) for e in live.rows + live.tokens], live.mean


# -- the same rows -----------------------------------------------------------------------------------------------------


@examples(30)
@given(seeds)
def test_weights_do_not_change_which_rows_a_policy_draws(seed: int) -> None:
    plain, life = anything(seed), weighted(anything(seed), *ALL)
    live_until(life, life.curriculum.total_steps)
    for one, other in zip(plain.run(), life.stages, strict=True):
        state = other.state()
        assert np.isfinite(weights_of(other)).all()
        assert state.pop("weights")["n"] == len(other.rows)
        assert one.state() == state
    ends = life.curriculum.state()
    assert ends["stage"].pop("weights")
    assert ends.pop("levels")
    assert ends == plain.curriculum.state()


@examples(30)
@given(plans())
def test_weights_do_not_change_which_rows_come_without_a_policy(plan: Plan) -> None:
    plain, made = plan.make(), plan.make()
    made.weighting = weighting_of(made.n_rows, made.global_batch, *ALL)
    while not plain.finished:
        if plain.needs_decision:
            close(made)
            plain.open(plan.choose(plain, plain.offers()))
            weights_of(made.open(plan.choose(made, made.offers())))
        assert plain.step_rows().tolist() == made.step_rows().tolist()
        plain.advance()
        made.advance()


def test_what_is_not_used_is_in_no_state() -> None:
    life = lived(Policy(30))
    life.step()
    assert "levels" not in life.curriculum.state()
    assert "weights" not in life.curriculum.state()["stage"]
    only_live = weighted(lived(Policy(30)), "focal")
    only_live.step()
    assert only_live.curriculum.live
    assert "weights" not in only_live.curriculum.state()["stage"]
    only_planned = weighted(lived(Policy(30)), "column")
    only_planned.step()
    assert not only_planned.curriculum.live
    assert "levels" not in only_planned.curriculum.state()


# -- weights that travel -----------------------------------------------------------------------------------------------


@examples(30)
@given(seeds, st.floats(0, 1))
def test_a_weighted_run_goes_on_from_its_state_to_the_last_bit(seed: int, part: float) -> None:
    life, again = (weighted(anything(seed), *ALL) for _ in range(2))
    total = life.curriculum.total_steps
    live_until(life, round(part * total))
    state, shown, n = json.dumps(life.curriculum.state()), list(life.shown), len(life.stages)
    for stage, rows in shown:
        again.fold(stage, rows)
    again.curriculum.load(json.loads(state))
    assert json.dumps(again.curriculum.state()) == state
    stage, other = life.curriculum.stage, again.curriculum.stage
    if stage is not None and other is not None:
        assert weights_of(stage).tolist() == weights_of(other).tolist()
        assert levels_of(life.curriculum) == levels_of(again.curriculum)
    live_until(life, total)
    live_until(again, total)
    assert [one.state() for one in life.stages[n:]] == [one.state() for one in again.stages]
    assert levels_of(life.curriculum) == levels_of(again.curriculum)
    assert json.dumps(life.curriculum.state()) == json.dumps(again.curriculum.state())


@examples(30)
@given(plans(coverage="exact"), st.integers(1, 30))
def test_a_stage_that_is_cut_keeps_the_weights_of_what_was_trained(plan: Plan, at: int) -> None:
    made = plan.make()
    made.weighting = weighting_of(made.n_rows, made.global_batch, "column")
    while not made.finished and made.step < at:
        if made.needs_decision:
            made.open(plan.choose(made, made.offers()))
        made.advance()
    stage = made.stage
    if made.finished or stage is None:
        return
    before, rows = weights_of(stage), stage.rows
    made.end_epoch()
    assert made.stage is not None
    assert made.stage.rows.tolist() == rows[: len(made.stage.rows)].tolist()
    assert weights_of(made.stage).tolist() == before[: len(made.stage.rows)].tolist()


def test_a_recipe_that_lost_its_weights_goes_on_without_them() -> None:
    life = weighted(lived(Policy(30), steps=20), *ALL)
    live_until(life, 6)
    state = json.loads(json.dumps(life.curriculum.state()))
    plain = lived(Policy(30), steps=20)
    plain.curriculum.load(state)
    assert plain.curriculum.stage is not None
    assert plain.curriculum.stage.weights is None
    assert "levels" not in plain.curriculum.state()
    other = weighted(lived(Policy(30), steps=20), "focal")
    other.curriculum.load(state)
    assert weights_of(other.curriculum.stage).tolist() == weights_of(life.curriculum.stage).tolist()  # type: ignore[arg-type]  # they have one


@pytest.mark.parametrize("with_policy", [True, False])
def test_a_stage_on_the_way_from_or_to_a_policy_keeps_weights_of_its_rows(with_policy: bool) -> None:
    life = weighted(lived(Policy(30), steps=16), "column")
    made = life.curriculum
    settings = {"n_rows": 30, "global_batch": made.global_batch, "total_steps": 16}
    plain = Curriculum(made.schedule, made.orders, **settings, weighting=made.weighting)
    one, other = (made, plain) if with_policy else (plain, made)
    for _ in range(7):
        if one.needs_decision:
            one.open(one.offers()[0] if one.offers() else None)
        one.advance()
    other.load(json.loads(json.dumps(one.state())))
    assert one.stage is not None
    assert other.stage is not None
    kept = dict(zip(one.stage.rows.tolist(), weights_of(one.stage).tolist(), strict=True))
    assert weights_of(other.stage).tolist() == [kept[row] for row in other.stage.rows.tolist()]


def test_a_step_without_any_weight_stops_the_run_at_the_plan_and_the_advice_helps() -> None:
    values = np.ones(40)
    values[:20] = 0

    def run(column: FloatArray, n: int) -> list[Stage]:
        life = lived(Policy(n), n_orders=0, batch=2, steps=n // 2, stages=1)
        return weighted(life, "column", columns={COLUMN: column}).run()

    with pytest.raises(RecipeError, match=r"`weights` must leave something of every optimizer step") as error:
        run(values, 40)
    named = str(error.value).partition("of the first: ")[2].partition(")")[0]
    assert all(values[int(row)] == 0 for row in named.split(", "))
    assert len(run(np.where(values > 0, values, 1e-3), 40)) == 1  # a small weight
    assert len(run(values[values > 0], 20)) == 1  # they are left out


# -- unbiased ----------------------------------------------------------------------------------------------------------

N = 60
CODES = np.arange(N) % 2
LOSSES = np.random.default_rng(4).gamma(2, 1, N) * (1 + CODES)
SHARES = np.array([0.3, 0.7])
THINNED = {
    "proportional": Thin("proportional", "metric", keep=0.4),
    "proportional without a floor": Thin("proportional", "metric", floor=0.0),
    "proportional below its gate": Thin("proportional", "metric", gate=9.0),
    "rank": Thin("rank", "metric", keep=0.5),
    "prune": Thin("prune", "metric", drop=0.6),
}


def first_stage(thin: Thin, seed: int, **settings: Any) -> tuple[Stage, Life]:
    """A stage of 16 rows, drawn by their losses, and the life that it begins."""
    policy = Policy(N, CODES, ("a", "b"), shares=SHARES, thin=thin, scores=lambda _: LOSSES)
    life = lived(policy, batch=8, steps=2, **{"stages": 1, "seed": seed, "n_orders": 1, "mix": 0.0, **settings})
    weighted(life, "unbiased", normalise=False).step()
    return life.stages[0], life


def test_every_thinner_that_can_be_made_up_for_is_tried() -> None:
    assert {thin.how for thin in THINNED.values()} | {"top"} == set(THINNERS.names())  # of top most chances are 0


@pytest.mark.parametrize("lane", ["offer", "mix"])
@pytest.mark.parametrize("name", THINNED)
def test_the_weighted_losses_of_the_taken_rows_are_those_of_all_that_were_offered(name: str, lane: str) -> None:
    """Σ w·ℓ·m/n of what a stratum takes is Σ ℓ of what it offers, on average over draws; and so is Σ w·m/n its m."""
    draws = 160
    off, rows_off, plain = np.zeros((3, draws, 2))
    for seed in range(draws):
        stage, life = first_stage(THINNED[name], seed, n_orders=int(lane == "offer"))
        for stratum in (0, 1):
            mine = CODES[stage.rows] == stratum
            over = life.apart.passed_over[CODES[life.apart.passed_over] == stratum]
            taken, weights, n = stage.rows[mine], weights_of(stage)[mine], int(mine.sum())
            m = n + len(over)
            offered = LOSSES[taken].sum() + LOSSES[over].sum()
            off[seed, stratum] = (weights * LOSSES[taken]).sum() * m / n - offered
            rows_off[seed, stratum] = weights.sum() * m / n - m
            plain[seed, stratum] = LOSSES[taken].sum() * m / n - offered
    for made_up_for in (off, rows_off):
        assert (np.abs(made_up_for.mean(axis=0)) <= 4 * made_up_for.std(axis=0) / math.sqrt(draws) + 1e-5).all()
    if "gate" not in name:  # below it all have the same chance
        assert (np.abs(plain.mean(axis=0)) > 4 * plain.std(axis=0) / math.sqrt(draws)).all()


def test_where_nothing_is_thinned_and_in_the_review_lane_a_row_makes_up_for_none() -> None:
    assert (weights_of(first_stage(Thin("rank", "metric", since=0.5), 0)[0]) == 1).all()
    unknown = Policy(N, thin=Thin("rank", "metric"), scores=lambda _: np.full(N, np.nan))
    life = weighted(lived(unknown, batch=8, steps=2), "unbiased", normalise=False)
    assert all((weights_of(stage) == 1).all() for stage in life.run())
    life = lived(Policy(N), batch=8, steps=9, stages=3)
    policy = Policy(
        N, thin=Thin("rank", "metric"), scores=lambda _: LOSSES, review=Review(0.3, "uniform"), book=life.book
    )
    life = weighted(lived(policy, life.book, batch=8, steps=9, stages=3), "unbiased", normalise=False)
    back, other = [], []
    for stage in life.run():
        assert stage.draw is not None
        in_review = stage.draw.lane == REVIEW
        back += weights_of(stage)[in_review].tolist()
        other += weights_of(stage)[~in_review].tolist()
    assert set(back) == {1.0}
    assert len(set(other)) > 5
