"""A stage under a policy: lanes, strata, thinning; by hand, by counting over many seeds, and for any settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.book import Book
from campus_tune.method.curriculum import SHUFFLE, Curriculum, Schedule, Stage
from campus_tune.method.pacing import linear
from campus_tune.method.policy import Period, Policy
from campus_tune.method.review import Review
from campus_tune.method.shares import SharePhase, split
from campus_tune.method.stages import MIX, OFFER, REVIEW, Draw
from campus_tune.method.thin import Thin, exactly
from campus_tune.method.thinning import Thinning, lifted, permuted
from campus_tune.method.walks import Tier, walk
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray, IntArray
from tests.method.policies import Life, anything, lived, measured
from tests.strategies import examples

seeds = st.integers(0, 10**6)


def scored(values: FloatArray) -> Callable[[str], FloatArray]:
    return lambda _: values


def drawn(stage: Stage) -> Draw:
    assert stage.draw is not None
    return stage.draw


def shuffled(policy: Policy, *, steps: int = 1, batch: int = 2, stages: int = 1, seed: int = 0) -> Curriculum:
    """A curriculum without orders: all of its stages are mixed."""
    schedule = Schedule(linear(start=1.0), stages=stages, seed=seed)
    return Curriculum(schedule, {}, n_rows=policy.n_rows, global_batch=batch, total_steps=steps, policy=policy)


# -- whatever is set ---------------------------------------------------------------------------------------------------


@examples(40)
@given(seeds)
def test_every_step_is_full_and_no_stage_holds_a_row_twice_or_a_dropped_one(seed: int) -> None:
    life = anything(seed)
    batch, dropped = life.curriculum.global_batch, life.apart.policy.dropped
    for stage in life.run():
        assert len(stage.rows) == stage.n_steps * batch == len(drawn(stage).lane)
        assert len(set(stage.rows.tolist())) == len(stage.rows)
        assert dropped is None or not dropped[stage.rows].any()
        assert drawn(stage).offered - drawn(stage).passed_over == np.count_nonzero(drawn(stage).lane != REVIEW)
    assert sum(stage.n_steps for stage in life.stages) == life.curriculum.total_steps


@examples(40)
@given(seeds, st.floats(0, 1))
def test_a_run_that_goes_on_from_its_state_draws_the_same_rows(seed: int, part: float) -> None:
    life, again = anything(seed), anything(seed)
    at = round(part * life.curriculum.total_steps)
    while life.curriculum.step < at:
        life.step()
    state, shown, n = json.dumps(life.curriculum.state()), list(life.shown), len(life.stages)
    for stage, rows in shown:
        again.fold(stage, rows)
    again.curriculum.load(json.loads(state))
    assert json.dumps(again.curriculum.state()) == state
    for one, other in zip(life.run()[n:], again.run(), strict=True):
        assert one.state() == other.state()
    assert json.dumps(life.curriculum.state()) == json.dumps(again.curriculum.state())


def without_policy(life: Life) -> Curriculum:
    """The same curriculum at its first step, of a recipe that says nothing of who is drawn."""
    made = life.curriculum
    settings = {"n_rows": made.n_rows, "global_batch": made.global_batch, "total_steps": made.total_steps}
    return Curriculum(made.schedule, made.orders, **settings)


def steps_to(made: Curriculum, at: int) -> list[int]:
    """Train until a step, without a policy; gives the rows."""
    rows: list[int] = []
    while made.step < at and not made.finished:
        if made.needs_decision:
            offers = made.offers()
            made.open(offers[made.n_stages % len(offers)] if offers else None)
        rows += made.step_rows().tolist()
        made.advance()
    return rows


@examples(60)
@given(seeds, st.floats(0, 1))
def test_a_run_whose_recipe_has_no_policy_any_more_fills_the_steps_of_each_epoch(seed: int, part: float) -> None:
    life = anything(seed)
    plain = without_policy(life)
    while life.curriculum.step < round(part * life.curriculum.total_steps):
        life.step()
    plain.load(json.loads(json.dumps(life.curriculum.state())))
    planned = plain.passes.seen.astype(int)
    trained = np.zeros(plain.n_rows, dtype=int)
    while not plain.finished:
        end = min(plain.epoch_end, plain.last_step)
        left = min((end - plain.step) * plain.global_batch, plain.n_rows - plain.steps_in_epoch * plain.global_batch)
        rows = steps_to(plain, end)
        trained += np.bincount(rows, minlength=plain.n_rows)
        if plain.passes.exact:
            assert len(rows) == left
            assert len(set(rows)) == len(rows)
    to_come = sum(planned) - life.curriculum.step * plain.global_batch
    assert trained.sum() >= to_come >= 0
    assert plain.passes.seen.sum() == life.curriculum.step * plain.global_batch + trained.sum()
    assert "apart" not in plain.state()
    assert "draw" not in (plain.state()["stage"] or {})


@examples(60)
@given(seeds, st.floats(0, 1))
def test_a_run_whose_recipe_has_a_policy_now_fills_every_step_from_there_on(seed: int, part: float) -> None:
    life = anything(seed)
    plain, made = without_policy(life), life.curriculum
    before = steps_to(plain, round(part * plain.total_steps))
    made.load(json.loads(json.dumps(plain.state())))
    assert np.array_equal(made.passes.seen, np.bincount(before + to_come(made), minlength=made.n_rows))
    rows: list[int] = []
    while not made.finished:
        if made.needs_decision:
            offers = made.offers()
            life.stages.append(made.open(offers[made.n_stages % len(offers)] if offers else None, life.measure))
        rows += made.step_rows().tolist()
        made.advance()
    assert len(rows) == (made.total_steps - plain.step) * made.global_batch
    assert made.passes.seen.sum() == len(rows) + len(before)


def to_come(made: Curriculum) -> list[int]:
    """Rows of the current stage that are not trained yet."""
    stage = made.stage
    return [] if stage is None else stage.rows[(made.step - stage.first_step) * made.global_batch :].tolist()


def test_an_epoch_that_ends_early_takes_a_stage_back_that_was_opened_before_the_policy() -> None:
    life = lived(Policy(30), steps=16)
    plain = without_policy(life)
    steps_to(plain, 7)
    life.curriculum.load(plain.state())
    life.curriculum.end_epoch()
    assert life.curriculum.passes.seen.sum() == 28 == life.apart.passes.offered.sum()
    assert np.array_equal(life.apart.passes.balance, life.curriculum.passes.seen)
    assert sum(len(stage.rows) for stage in life.run()) == 32


def test_after_a_policy_the_rows_of_this_epoch_are_those_it_has_not_drawn() -> None:
    life = lived(Policy(30), steps=8)
    plain = without_policy(life)
    while life.curriculum.step < 3:
        life.step()
    plain.load(life.curriculum.state())
    drawn_before = {row for stage in life.stages for row in stage.rows[: 4 * (3 - stage.first_step)].tolist()}
    assert drawn_before | set(steps_to(plain, 8)) == set(range(30))
    assert plain.passes.counts(np.zeros(0, dtype=np.int32)) == (30, 0)


@examples(40)
@given(seeds, st.integers(1, 20))
def test_a_stage_that_is_cut_short_gives_back_what_it_will_not_train(seed: int, at: int) -> None:
    life = anything(seed)
    made = life.curriculum
    while not made.finished and made.step < at:
        life.step()
    if made.finished or made.stage is None:
        return
    before = life.apart.state()
    offered, trained = sum(before["offered"].values()), made.step * made.global_batch
    over = life.apart.passed_over
    to_come = made.stage.rows[(made.step - made.stage.first_step) * made.global_batch :]
    lane = drawn(made.stage).lane[len(made.stage.rows) - len(to_come) :]
    made.end_epoch()
    after = sum(life.apart.state()["offered"].values())
    assert offered - after == (np.count_nonzero(lane != REVIEW) + len(over) if len(to_come) else 0)
    assert int(life.apart.passes.seen.sum()) == trained
    life.run()


def test_a_stage_of_which_nothing_was_trained_leaves_no_trace() -> None:
    policy = Policy(12, np.arange(12) % 2, ("a", "b"), shares=np.array([0.8, 0.2]), thin=Thin("top", "x", keep=0.5))
    policy = Policy(**{**vars(policy), "scores": scored(np.arange(12.0))})
    made = shuffled(policy, steps=30, batch=4, stages=2)
    assert made.apart is not None
    for _ in range(3):
        made.open()
        assert made.stage is not None
        for _ in range(made.stage.n_steps):
            made.advance()
    balance, offered = made.apart.passes.balance.copy(), made.apart.passes.offered.copy()
    assert made.apart.begun.tolist() == [1, 0]
    made.open()
    assert made.apart.begun.sum()
    made.end_epoch()
    assert (made.apart.passes.balance == balance).all()
    assert (made.apart.passes.offered == offered).all()


# -- lanes and quotas --------------------------------------------------------------------------------------------------


@examples(40)
@given(seeds)
def test_shares_are_kept_in_whole_rows_wherever_a_stratum_has_enough(seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, 90)
    shares = rng.dirichlet(np.ones(3))
    life = lived(Policy(90, codes, ("a", "b", "c"), shares=shares), batch=5, mix=0.0, stages=9)
    for stage in life.run():
        sizes = np.bincount(codes[stage.rows], minlength=3)
        wanted = split(shares, len(stage.rows), np.bincount(codes, minlength=3))
        assert np.abs(sizes - wanted).max() <= 1
        assert drawn(stage).shares == pytest.approx(tuple(sizes / len(stage.rows)))


@pytest.mark.parametrize("coverage", ["exact", "revisit"])
@pytest.mark.parametrize("fixed", [True, False])
def test_a_stratum_whose_share_is_less_than_a_row_of_a_stage_comes_all_the_same(fixed: bool, coverage: str) -> None:
    codes = np.arange(1000) % 50
    shares = np.full(50, 1 / 50) if fixed else None
    life = lived(Policy(1000, codes, tuple(map(str, range(50))), shares=shares), batch=4, stages=50, coverage=coverage)
    life.run()
    assert max(len(stage.rows) for stage in life.stages) < 50
    drawn_of = np.bincount(codes[np.concatenate([stage.rows for stage in life.stages])], minlength=50)
    assert drawn_of.min() > 0
    assert not fixed or np.abs(drawn_of - drawn_of.mean()).max() < 3  # natural ones are those of what is open


def test_a_natural_draw_keeps_the_strata_in_proportion_to_the_pool() -> None:
    codes = np.repeat([0, 1, 2], [60, 30, 10])
    made = shuffled(Policy(100, codes, ("a", "b", "c")), steps=10, batch=10, stages=10)
    stage = made.open()
    assert np.bincount(codes[stage.rows]).tolist() == [6, 3, 1]
    assert stage.chosen == SHUFFLE


def test_lanes_have_the_rows_that_the_settings_give_them() -> None:
    book = Book(100)
    policy = Policy(100, review=Review(0.25, "uniform"), book=book)
    life = lived(policy, book, batch=10, steps=30, stages=5, mix=0.2)
    first, second, *_ = life.run()
    assert np.bincount(drawn(first).lane, minlength=3).tolist() == [16, 4, 0]  # nothing was trained yet
    assert np.bincount(drawn(second).lane, minlength=3).tolist() == [12, 3, 5]  # ⌊.25 · 20⌋, then .2 of 15
    back = second.rows[drawn(second).lane == REVIEW]
    assert set(back.tolist()) <= set(first.rows.tolist())
    assert (second.n_random, life.apart.review_rows) == (3, sum((drawn(s).lane == 2).sum() for s in life.stages))


def test_rows_that_come_back_are_no_offers() -> None:
    book = Book(40)
    life = lived(Policy(40, review=Review(0.5, "uniform"), book=book), book, batch=4, steps=10, stages=5)
    for stage in life.run():
        assert drawn(stage).offered == np.count_nonzero(drawn(stage).lane != REVIEW)
    fresh = np.concatenate([s.rows[drawn(s).lane != REVIEW] for s in life.stages])
    assert len(set(fresh.tolist())) == len(fresh)
    assert life.apart.passes.by_domain() == {"all rows": len(fresh) / 40}


def test_a_phase_has_its_own_orders_mix_and_best_rows() -> None:
    top = np.arange(60) < 30
    periods = (
        Period(SharePhase(0.5), offer=("b",), mix=0.5),
        Period(SharePhase(0.75), top=top),
        Period(SharePhase(1.0), offer=()),
    )
    life = lived(Policy(60, periods=periods), batch=3, steps=40, stages=5)
    for stage in life.run():
        if stage.first_step < 20:
            assert (stage.chosen, stage.n_random) == ("b", round(0.5 * len(stage.rows)))
        elif stage.first_step < 30:
            assert stage.chosen != SHUFFLE
            assert top[stage.rows].all()
        else:
            assert stage.chosen == SHUFFLE
    assert {20, 30} <= {stage.first_step for stage in life.stages}


def test_shortage_is_helped_by_the_scope_then_by_the_next_pass_then_by_the_others() -> None:
    codes = np.repeat([0, 1], [36, 4])
    orders = {"a": np.arange(40, dtype=np.int32)}

    def shortage(shares: list[float], scope: float, batch: int, opened: int) -> dict[str, str]:
        policy = Policy(40, codes, ("big", "small"), shares=np.array(shares))
        schedule = Schedule(linear(start=scope), stages=40 // batch)
        made = Curriculum(schedule, orders, n_rows=40, global_batch=batch, total_steps=9, policy=policy)
        for _ in range(opened):
            stage = made.open(made.offers()[0])
            for _ in range(stage.n_steps):
                made.advance()
        return dict(drawn(stage).shortage)

    assert shortage([1.0, 0.0], 0.5, 8, 1) == {}
    assert shortage([0.75, 0.25], 0.5, 8, 1) == {"small": "widened"}  # the scope ends before the small domain
    assert shortage([0.625, 0.375], 1.0, 8, 2) == {"small": "next pass"}  # 3 of 4 in the first stage
    assert shortage([0.25, 0.75], 1.0, 8, 1) == {"small": "given to others"}  # 6 of 4


def test_less_than_a_step_of_rows_is_refused() -> None:
    dropped = np.arange(10) < 7
    with pytest.raises(RecipeError, match=r"from progress 0 on must fill a step of 4 rows, got 3 of 10\. Drop fewer"):
        shuffled(Policy(10, dropped=dropped), batch=4)
    shuffled(Policy(10, dropped=dropped), batch=3)
    top = np.arange(10) > 8
    with pytest.raises(RecipeError, match=r"from progress 0\.5 on must fill a step of 2 rows, got 1 of 10"):
        shuffled(Policy(10, periods=(Period(SharePhase(0.5)), Period(SharePhase(1.0), top=top))), batch=2)


# -- thinning ----------------------------------------------------------------------------------------------------------


def taken(thin: Thin, values: list[float], n: int, n_seeds: int) -> tuple[FloatArray, Draw]:
    """How often each row is taken where all rows are offered, and the last draw."""
    policy = Policy(len(values), thin=thin, scores=scored(np.array(values)))
    counts = np.zeros(len(values))
    for seed in range(n_seeds):
        stage = shuffled(policy, batch=n, seed=seed).open()
        counts[stage.rows] += 1
    return counts / n_seeds, drawn(stage)


def test_inclusion_is_that_of_importance_sampling() -> None:
    """POLICIES 5.2: s = 4 1 1 1 1, n = 2; π = 1 .25 without floor, .82 .295 with .3; τ = 1.25."""
    share, draw = taken(Thin("proportional", "x", keep=0.4, floor=0.0), [4.0, 1, 1, 1, 1], 2, 1000)
    assert share == pytest.approx([1.0, 0.25, 0.25, 0.25, 0.25], abs=0.05)
    assert (draw.tau, draw.known, draw.offered, draw.passed_over) == (pytest.approx(1.25), 5, 5, 3)
    share, _ = taken(Thin("proportional", "x", keep=0.4, floor=0.3), [4.0, 1, 1, 1, 1], 2, 1000)
    assert share == pytest.approx([0.82, 0.295, 0.295, 0.295, 0.295], abs=0.05)


def test_below_the_gate_rows_are_drawn_uniformly() -> None:
    share, _ = taken(Thin("proportional", "x", keep=0.4, floor=0.0, gate=1.3), [4.0, 1, 1, 1, 1], 2, 800)
    assert share == pytest.approx(np.full(5, 0.4), abs=0.06)


def test_the_top_are_the_rows_of_the_largest_excess() -> None:
    """POLICIES 5.3: rho 2 .1 .1 .9, keep .5 → rows 0, 3."""
    assert taken(Thin("top", "x", keep=0.5), [2.0, 0.1, 0.1, 0.9], 2, 5)[0].tolist() == [1, 0, 0, 1]


def test_pruning_offers_rows_until_their_chances_fill_the_stage() -> None:
    """POLICIES 5.4: losses .2 .4 .6 1 2.8, mean 1 → π .5 .5 .5 1 1: with n = 3 of Σπ = 3.5 a row's chance is cut."""
    policy = Policy(5, thin=Thin("prune", "x", drop=0.5), scores=scored(np.array([0.2, 0.4, 0.6, 1.0, 2.8])))
    for seed in range(30):
        made = shuffled(policy, batch=3, seed=seed)
        stage = made.open()
        assert len(stage.rows) == 3
        assert drawn(stage).offered in (4, 5)
    share, _ = taken(Thin("prune", "x", drop=0.5), [0.2, 0.4, 0.6, 1.0, 2.8], 3, 1500)
    assert share.sum() == pytest.approx(3)
    assert share[:3] == pytest.approx(share[:3].mean(), abs=0.06)
    assert share[3:] == pytest.approx(share[3:].mean(), abs=0.06)
    assert share[3] > 1.6 * share[0]


def test_pruning_that_would_leave_too_few_rows_prunes_less() -> None:
    """All four are below the mean of the cell but one: Σπ = 4·.1 + 1 = 1.4, and four are needed."""
    share, draw = taken(Thin("prune", "x", drop=0.9), [0.0, 0.0, 0.0, 0.0, 9.0], 4, 400)
    assert share == pytest.approx([0.75, 0.75, 0.75, 0.75, 1.0], abs=0.08)
    assert draw.offered == 5


def test_rows_of_which_nothing_is_known_are_not_thinned() -> None:
    book = Book(40)
    policy = Policy(40, thin=Thin("rank", "seen_loss", keep=0.5), scores=book.score, book=book)
    life = lived(policy, book, batch=4, steps=20, stages=5)
    stages = life.run()
    for stage in stages[:5]:  # the first pass is whole
        assert (drawn(stage).passed_over, drawn(stage).tau) == (0, None)
        assert drawn(stage).skipped == "nothing is known of the rows offered"
    assert (drawn(stages[5]).passed_over, drawn(stages[5]).known, drawn(stages[5]).skipped) == (8, 16, None)
    assert int(life.apart.passes.seen.min()) == 1


def test_what_was_passed_over_had_its_turn_in_this_pass() -> None:
    policy = Policy(40, thin=Thin("top", "x", keep=0.5), scores=scored(np.arange(40.0)))
    life = lived(policy, batch=4, steps=10, stages=5)
    life.run()
    assert life.apart.passes.by_domain() == {"all rows": 2.0}  # 40 rows trained, 80 offered
    assert int(life.apart.passes.seen.min()) == 0


def test_fresh_scores_are_measured_of_the_candidates_and_of_no_others() -> None:
    asked: list[IntArray] = []

    def measure(rows: Any) -> FloatArray:
        asked.append(rows)
        return measured(rows)

    policy = Policy(40, thin=Thin("top", "x", keep=0.5, fresh=True))
    stage = shuffled(policy, batch=8, stages=5).open(measure=measure)
    (rows,) = asked
    best = rows[np.argsort(measured(rows))[8:]]
    assert (len(rows), sorted(stage.rows.tolist())) == (16, sorted(best.tolist()))
    unpaid = shuffled(policy, batch=8, stages=5).open()
    assert (drawn(unpaid).skipped, drawn(unpaid).passed_over) == ("not paid for", 0)


def test_the_control_keeps_the_scores_and_takes_them_from_their_rows() -> None:
    rng, cells = np.random.default_rng(0), np.arange(30, dtype=np.int32) % 3
    scores = np.where(np.arange(30) % 5 == 0, np.nan, np.arange(30.0))
    mixed = permuted(scores, cells, rng)
    assert (np.isnan(mixed) == np.isnan(scores)).all()
    assert not np.array_equal(mixed, scores, equal_nan=True)
    for cell in range(3):
        assert sorted(mixed[cells == cell][~np.isnan(mixed[cells == cell])]) == sorted(
            scores[cells == cell][~np.isnan(scores[cells == cell])]
        )
    plain = {"thin": Thin("top", "x", keep=0.5), "scores": scored(np.arange(40.0))}
    rows = [shuffled(Policy(40, **plain, control=it), batch=20).open().rows.mean() for it in (None, "shuffled_scores")]  # type: ignore[arg-type] # one of each
    assert rows[0] == 29.5
    assert rows[1] < 25


@pytest.mark.parametrize("control", [None, "shuffled_scores"])
def test_rows_that_are_dropped_are_compared_with_nobody_and_their_scores_are_dealt_to_nobody(control: Any) -> None:
    dropped = np.arange(20) < 10
    scores = np.where(dropped, -1000.0, np.arange(20.0))  # with the dropped ones no other row lies below the mean
    policy = Policy(20, thin=Thin("prune", "x", drop=0.5), scores=scored(scores), dropped=dropped, control=control)
    chances = Thinning(policy, policy.thin, [1, 2, 3, 4], None).own  # type: ignore[arg-type] # it has one
    assert chances is not None
    assert (chances[~dropped] == 0.5).sum() == 5


def test_the_draw_is_uniform_without_thinning() -> None:
    counts = np.zeros(20)
    for seed in range(600):
        counts[shuffled(Policy(20, np.arange(20) % 2, ("a", "b")), batch=4, seed=seed, stages=5).open().rows] += 1
    assert ((counts - 120) ** 2 / 120).sum() < 40  # χ² of 19 degrees has 36 at 1 %
    assert counts.sum() == 2400


# -- the parts ---------------------------------------------------------------------------------------------------------


@given(seeds)
def test_a_walk_finds_the_first_rows_of_each_stratum_through_the_tiers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, codes = 40, rng.integers(0, 3, 40).astype(np.int32)
    sequence, ok = rng.permutation(n).astype(np.int32), rng.random(n) < 0.8
    need, weight = rng.integers(0, 9, 3), rng.choice([0.25, 0.5, 1.0], n) if seed % 2 else None
    parts = np.split(sequence, sorted(rng.integers(0, n, 2)))
    found = walk([lambda rows=rows: Tier(rows, ok.take) for rows in parts], codes, need, weight)  # type: ignore[misc] # bound
    expected: list[list[int]] = [[], [], []]
    left = need.astype(np.float64)
    for row in sequence.tolist():
        if ok[row] and left[codes[row]] > 1e-9:
            expected[codes[row]].append(row)
            left[codes[row]] -= 1 if weight is None else weight[row]
    assert found.rows.tolist() == [row for rows in expected for row in rows]
    assert found.sizes.tolist() == [len(rows) for rows in expected]
    assert all(row in parts[tier] for row, tier in zip(found.rows.tolist(), found.tier.tolist(), strict=True))


def test_chances_are_lifted_to_what_is_needed_and_a_count_that_is_off_is_mended() -> None:
    assert lifted(np.array([0.1, 0.1, 1.0]), 2).sum() == pytest.approx(2)
    pi = np.array([0.2, 0.9, 0.5])
    assert exactly(np.array([True, False, False]), pi, 2).tolist() == [True, True, False]
    assert exactly(np.array([True, True, True]), pi, 2).tolist() == [False, True, True]
    assert exactly(np.array([True, True, False]), pi, 2).tolist() == [True, True, False]


def test_the_lanes_have_numbers() -> None:
    assert (OFFER, MIX, REVIEW) == (0, 1, 2)
