"""Prompts drawn by what rewards show: scores by hand and by counting, stages under any policy that thins by them."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.apart import Apart
from campus_tune.method.cells import Cells
from campus_tune.method.curriculum import Curriculum, Schedule, Stage
from campus_tune.method.pacing import build_pacing
from campus_tune.method.pass_rates import PassRates
from campus_tune.method.policy import Period, Policy
from campus_tune.method.prompt_scores import AGE, PROMPT_SCORES, prompt_score
from campus_tune.method.shares import SharePhase
from campus_tune.method.stages import MIX, OFFER
from campus_tune.method.thin import Thin
from campus_tune.words.types import FloatArray, IntArray, RowArray
from tests.strategies import examples

seeds = st.integers(0, 10**6)
GROUP = 4


def sure(rates: list[float], *, group: int = GROUP, scaled: bool = True) -> PassRates:
    """Prompts whose pass rates are known."""
    known = PassRates(len(rates), group=group, scaled=scaled, forget=0.0)
    known.expect(np.array(rates), worth=1e7)
    return known


def scored(name: str, rates: PassRates, *, when: int = 0, seed: int = 0) -> FloatArray:
    return prompt_score(name, rates, rng=np.random.default_rng(seed), when=when)


@dataclass
class Prompts:
    """A curriculum of prompts, and the rewards that it brings."""

    curriculum: Curriculum
    rates: PassRates
    true: FloatArray
    stages: list[Stage] = field(default_factory=list)

    @property
    def apart(self) -> Apart:
        assert self.curriculum.apart is not None
        return self.curriculum.apart

    def step(self) -> RowArray:
        made = self.curriculum
        if made.needs_decision:
            offers = made.offers()
            self.stages.append(made.open(offers[made.n_stages % len(offers)] if offers else None))
        rows, when = made.step_rows(), made.step
        rng = np.random.default_rng([3, when])
        rewards = (rng.random((len(rows), GROUP)) < self.true[rows, None]).astype(np.float64)
        self.rates.note(rows, rewards, when=when)
        made.advance()
        return rows

    def run(self) -> list[RowArray]:
        steps = []
        while not self.curriculum.finished:
            steps.append(self.step())
        return steps


def prompts_of(
    n: int,
    thin: Thin | None,
    *,
    batch: int = 2,
    steps: int = 20,
    n_orders: int = 0,
    true: FloatArray | None = None,
    rates: PassRates | None = None,
    policy: dict[str, Any] | None = None,
    **schedule: Any,
) -> Prompts:
    rates = rates or PassRates(n, group=GROUP)
    true = np.linspace(0, 1, n) if true is None else true
    orders = {name: np.random.default_rng([n, k]).permutation(n).astype(np.int32) for k, name in enumerate("ab")}
    settings = {"pacing": build_pacing("root"), "stages": 4, **schedule}
    made = Curriculum(
        Schedule(**settings),
        dict(list(orders.items())[:n_orders]),
        n_rows=n,
        global_batch=batch,
        total_steps=steps,
        drop_last=True,
        policy=Policy(n, thin=thin, rates=rates, **(policy or {})),
    )
    return Prompts(made, rates, true)


def anything(seed: int) -> Prompts:
    """Any curriculum that is thinned by what rewards show."""
    rnd, rng = random.Random(seed), np.random.default_rng(seed)
    n = rnd.randint(8, 70)
    batch = rnd.randint(1, n // 3)
    domains = rng.permutation(np.arange(n) % rnd.randint(1, 3))
    names = ("math", "code", "chat")[: int(domains.max()) + 1]
    gone = rng.random(n) < rnd.choice([0, 0.3])
    if np.count_nonzero(~gone) < batch:
        gone[:] = False
    some = np.asarray(rng.dirichlet(np.ones(len(names))), dtype=np.float64)
    cells = Cells.cut(rng.random(n), domains=domains, domain_names=names, bands=2) if n > 4 * len(names) else None
    by = rnd.choice([*PROMPT_SCORES, "-easy_first"])
    how = rnd.choice(["top", "rank", "proportional"] if by[0] != "-" else ["top", "rank"])
    period = Period(SharePhase(0.5, None), mix=rnd.choice([None, 0.4]))
    return prompts_of(
        n,
        Thin(how, by, keep=rnd.choice([0.2, 0.5, 1.0]), since=rnd.choice([0, 0.2]), until=rnd.choice([1, 0.8])),
        batch=batch,
        steps=rnd.randint(1, 6 * n // batch),
        n_orders=rnd.randint(0, 2),
        true=rng.random(n),
        policy={
            "strata": domains,
            "strata_names": names,
            "domains": domains,
            "domain_names": names,
            "cells": rnd.choice([None, cells]),
            "shares": rnd.choice([None, some]),
            "dropped": rnd.choice([None, gone]),
            "control": rnd.choice([None, "shuffled_scores"]),
            "periods": rnd.choice([(), (period, Period(SharePhase(1.0, None)))]),
        },
        stages=rnd.randint(1, 8),
        window=rnd.choice(["prefix", "slice"]),
        coverage=rnd.choice(["exact", "exact", "revisit"]),
        mix=rnd.choice([0.0, 0.3]),
        handover=rnd.choice([1.0, 0.5]),
        seed=seed % 5,
    )


# -- scores ------------------------------------------------------------------------------------------------------------


def test_a_middle_prompt_is_worth_most() -> None:
    scores = scored("middle", sure([0.001, 0.1, 0.5, 0.9, 0.999]))
    np.testing.assert_allclose(scores[1:4], [1 - 0.1**4 - 0.9**4, 1 - 2 / 16, 1 - 0.1**4 - 0.9**4], atol=1e-3)
    assert scores.argmax() == 2
    assert (scores[[0, 4]] < 0.01).all()
    flat = scored("middle", sure([0.1, 0.5], scaled=False))
    np.testing.assert_allclose(flat, [0.36, 1.0], atol=1e-3)


def test_easy_prompts_first_and_hard_ones_with_a_minus() -> None:
    known = sure([0.9, 0.1, 0.5])
    assert np.argsort(-scored("easy_first", known)).tolist() == [0, 2, 1]
    assert np.argsort(-scored("-easy_first", known)).tolist() == [1, 2, 0]


def test_progress_is_what_the_last_answers_show_beyond_those_before() -> None:
    rates = PassRates(3, group=200, forget=0.0)
    rates.expect(np.full(3, 0.5), worth=1.0)
    every = np.arange(3)
    rates.note(every, np.repeat([[0.0], [1.0], [1.0]], 200, axis=1), when=0)
    rates.note(every, np.repeat([[1.0], [0.0], [1.0]], 200, axis=1), when=1)
    scores = scored("learning_progress", rates, when=2)
    assert scores[:2] == pytest.approx([1.0, 1.0], abs=0.1)  # forgotten as well as learned
    assert scores[2] < 0.1


def test_rewards_of_more_values_are_worth_what_their_groups_have_shown() -> None:
    rates = PassRates(2, group=2, forget=0.0)
    for when in range(60):
        rates.note(np.arange(2), np.array([[0.3, 0.7], [0.4, 0.4]]), when=when)
    scores = scored("middle", rates, when=60)
    assert scores[0] > 0.9 > 0.1 > scores[1]


def test_a_prompt_of_which_little_is_known_is_tried_as_often_as_it_may_be_the_best() -> None:
    rates = PassRates(2, group=8, forget=0.0)
    rates.expect(np.array([0.5, 0.1]), worth=1e7)
    rates.expect(np.array([0.2, 0.2]), worth=2.0)
    rates.note(np.array([0]), np.concatenate([np.ones((1, 1)), np.zeros((1, 7))], axis=1), when=0)
    first = [bool(np.argmax(scored("middle", rates, when=1, seed=seed)) == 0) for seed in range(400)]
    a, b = rates.posterior()
    drawn = np.random.default_rng(1).beta(a, b, (20_000, 2))
    told = rates.tells_apart(drawn) + np.array(
        [0.0, AGE * 0.5]
    )  # one prompt of two was drawn since the other's last turn
    assert np.mean(first) == pytest.approx(float((told[:, 0] > told[:, 1]).mean()), abs=0.08)


def test_prompts_that_wait_rise() -> None:
    rates = sure([0.5, 0.5, 0.5, 0.5])
    for when in range(8):
        rates.note(np.array([when % 2, 2]), np.tile([1.0, 0, 1, 0], (2, 1)), when=when)
    scores = scored("middle", rates, when=8)
    ages = np.array([1, 0, 0, 8]) * 2 / 4  # generations since their last turn, 2 of 4 prompts in each
    np.testing.assert_allclose(scores - scores.min(), AGE * ages, atol=1e-3)


# -- stages ------------------------------------------------------------------------------------------------------------


@examples(60)
@given(seeds)
def test_every_step_is_full_and_what_was_not_taken_is_free(seed: int) -> None:
    life = anything(seed)
    made, passes = life.curriculum, life.apart.passes
    dropped = life.apart.policy.dropped
    while not made.finished:
        begins, opened = made.needs_decision, len(life.stages)
        waited = passes.balance <= 0
        life.step()
        if not begins:
            continue
        stage = life.stages[opened]
        assert len(stage.rows) == stage.n_steps * made.global_batch
        assert len(set(stage.rows.tolist())) == len(stage.rows)
        assert dropped is None or not dropped[stage.rows].any()
        assert stage.draw is not None
        assert stage.draw.passed_over == 0
        assert stage.draw.offered == len(stage.rows)
        begun = life.apart.begun.any() or (passes.balance < 0).any()
        if not begun and (passes.exact or stage.chosen == "shuffle"):
            untaken = np.setdiff1d(np.flatnonzero(waited), stage.rows)
            assert (passes.balance[untaken] <= 0).all()


@examples(60)
@given(seeds, st.floats(0, 1))
def test_a_run_that_goes_on_from_its_state_draws_the_same_prompts(seed: int, part: float) -> None:
    life, again = anything(seed), anything(seed)
    for _ in range(round(part * life.curriculum.total_steps)):
        life.step()
    again.curriculum.load(json.loads(json.dumps(life.curriculum.state())))
    again.rates.load(life.rates.state())
    for one, other in zip(life.run(), again.run(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert json.dumps(life.curriculum.state()) == json.dumps(again.curriculum.state())


@examples(40)
@given(seeds)
def test_a_stage_of_which_nothing_was_trained_leaves_every_free_prompt_free(seed: int) -> None:
    life = anything(seed)
    made = life.curriculum
    for _ in range(made.total_steps // 2):
        life.step()
    if made.finished or not made.needs_decision:
        return
    before, offered = life.apart.passes.balance.copy(), life.apart.passes.offered.copy()
    offers = made.offers()
    rows = made.open(offers[0] if offers else None).rows
    made.end_epoch()
    turns, had = np.maximum(life.apart.passes.balance, 0), np.maximum(before, 0)
    assert (turns <= had).all()
    thin = life.apart.policy.thin
    if thin is not None and thin.since == 0 and thin.until == 1:  # else a pass may be over by another part
        assert set(np.flatnonzero(turns != had).tolist()) <= set(rows[had[rows] > 0].tolist())  # these are free again
    np.testing.assert_array_equal(life.apart.passes.offered, offered)


def test_the_highest_of_all_free_prompts_are_taken() -> None:
    life = prompts_of(24, Thin("top", "middle", keep=0.5), batch=3, steps=30, stages=4)
    made, passes = life.curriculum, life.apart.passes
    while not made.finished:
        if made.needs_decision:
            free, known, at = passes.balance <= 0, life.rates.state(), (made.epoch, made.n_stages)
            life.step()
            stage, then = life.stages[-1], PassRates(24, group=GROUP)
            then.load(known)
            rng = np.random.default_rng([0, *at, 3, 1])
            scores = prompt_score("middle", then, rng=rng, when=then.now + 1)
            wanted = np.flatnonzero(free)[np.argsort(-scores[free])][: len(stage.rows)]
            assert sorted(stage.rows.tolist()) == sorted(wanted.tolist())
        else:
            life.step()


@pytest.mark.parametrize("keep", [0.25, 0.5, 1.0])
def test_a_pass_is_over_when_its_part_was_trained(keep: float) -> None:
    life = prompts_of(40, Thin("top", "middle", keep=keep), batch=2, steps=60, stages=20)
    steps = life.run()
    in_pass = round(keep * 40)
    rows = np.concatenate(steps)
    for begin in range(0, len(rows) - in_pass + 1, in_pass):
        assert len(set(rows[begin : begin + in_pass].tolist())) == in_pass  # none twice in a pass
    assert life.apart.passes.by_domain()["all rows"] == 120 / 40


def test_prompts_of_the_middle_come_more_often_and_none_starves() -> None:
    true = np.repeat([0.0, 0.5, 1.0], 20)
    visits = np.zeros(60)
    for seed in range(4):
        life = prompts_of(60, Thin("top", "middle", keep=0.3), batch=4, steps=150, true=true, seed=seed)
        life.run()
        visits += life.rates.visits
    by_kind = visits.reshape(3, 20).sum(axis=1) / visits.sum()
    assert by_kind[1] > 0.45 > 0.2 > 0.05 < by_kind[0]
    assert visits.min() > 0


def test_the_control_draws_as_many_and_no_more_of_the_middle() -> None:
    true = np.repeat([0.0, 0.5, 1.0], 20)
    thin = Thin("top", "middle", keep=0.3)
    visits = np.zeros(60)
    for seed in range(4):
        life = prompts_of(60, thin, batch=4, steps=150, true=true, seed=seed, policy={"control": "shuffled_scores"})
        life.run()
        visits += life.rates.visits
    assert visits.reshape(3, 20).sum(axis=1) / visits.sum() == pytest.approx([1 / 3] * 3, abs=0.05)


def shares_drawn(life: Prompts, domains: IntArray) -> FloatArray:
    rows = np.concatenate(life.run())
    return np.bincount(domains[rows], minlength=2) / len(rows)


def test_domains_are_drawn_by_what_their_prompts_tell_unless_they_have_shares() -> None:
    domains = np.repeat([0, 1], 30)
    strata = {"strata": domains, "strata_names": ("hopeless", "good"), "domains": domains}
    strata["domain_names"] = strata["strata_names"]
    rates = sure([0.001] * 30 + [0.5] * 30)
    true = np.repeat([0.0, 0.5], 30)
    thin = Thin("top", "middle", keep=0.4)
    free = prompts_of(60, thin, batch=4, steps=45, true=true, rates=rates, policy=strata)
    assert shares_drawn(free, domains)[1] > 0.95
    rates = sure([0.001] * 30 + [0.5] * 30)
    shares = {**strata, "shares": np.array([0.5, 0.5])}
    kept = prompts_of(60, thin, batch=4, steps=45, true=true, rates=rates, policy=shares)
    assert shares_drawn(kept, domains) == pytest.approx([0.5, 0.5], abs=0.02)


def test_what_is_mixed_in_is_drawn_at_random() -> None:
    true = np.repeat([0.0, 0.5], 30)
    rates = sure([0.001] * 30 + [0.5] * 30)
    life = prompts_of(60, Thin("top", "middle", keep=0.5), batch=10, steps=30, true=true, rates=rates, mix=0.4)
    hopeless = np.mean([(rows < 30).mean() for rows in life.run()])
    assert hopeless == pytest.approx(0.2, abs=0.07)
    assert all(stage.draw is not None and (stage.draw.lane == MIX).all() for stage in life.stages)


def test_inside_of_an_order_only_what_is_open_is_offered() -> None:
    life = prompts_of(
        40, Thin("top", "middle", keep=0.5), batch=2, steps=20, n_orders=1, stages=5, mix=0.25,
        pacing=build_pacing({"name": "linear", "start": 0.3}),
    )  # fmt: skip
    life.run()
    for stage in life.stages:
        assert stage.draw is not None
        opened = life.curriculum.orders["a"][: round(stage.scope[1] * 40)]
        assert set(stage.rows[stage.draw.lane == OFFER].tolist()) <= set(opened.tolist())
        assert np.count_nonzero(stage.draw.lane == MIX) == round(0.25 * len(stage.rows))


def test_before_and_behind_its_span_prompts_are_drawn_at_random_and_none_twice() -> None:
    life = prompts_of(40, Thin("top", "middle", keep=0.5, since=0.5), batch=2, steps=40, stages=5)
    rows = np.concatenate(life.run())
    assert len(set(rows[:40].tolist())) == 40
    assert life.stages[0].draw is not None
    assert life.stages[0].draw.known is None
    assert life.stages[-1].draw is not None
    assert life.stages[-1].draw.known is not None
