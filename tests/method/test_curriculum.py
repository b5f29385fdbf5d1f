"""A plan is a function of integers and choices: every row, every stage and every cut of it, for any settings."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from campus_tune.method.curriculum import SHUFFLE, Curriculum, Offer, Schedule, Stage, slice_bounds, stage_grid
from campus_tune.method.pacing import build_pacing, linear, scope_at
from campus_tune.words.arrays import pack
from campus_tune.words.types import Json, RowArray
from tests.strategies import Plan, examples, plans, simple_pacings

Choose = Callable[[Curriculum, Sequence[Offer]], Offer | None]
Stream = list[list[int]]  # the rows of each optimizer step


def run(curriculum: Curriculum, choose: Choose, until: int | None = None) -> tuple[Stream, list[Stage]]:
    """The loop of the module's docstring, one step at a time, from wherever the curriculum stands."""
    stream: Stream = []
    stages: list[Stage] = []
    while not curriculum.finished and (until is None or curriculum.step < until):
        if curriculum.needs_decision:
            stages.append(curriculum.open(choose(curriculum, curriculum.offers())))
        stream.append(curriculum.step_rows().tolist())
        curriculum.advance()
    return stream, stages


def run_with_offers(plan: Plan) -> list[tuple[Curriculum, list[Offer], Offer | None, Stage, dict[str, Any]]]:
    """As `run`; for every stage what was offered, what was chosen, what came of it, and the state before it."""
    curriculum, seen = plan.make(), []
    while not curriculum.finished:
        before = {"step": curriculum.step, "spent": curriculum.passes.spent.copy(), "progress": curriculum.progress}
        before["pointers"] = dict(curriculum.pointers)
        offers = curriculum.offers()
        offer = plan.choose(curriculum, offers)
        stage = curriculum.open(offer)
        seen.append((curriculum, offers, offer, stage, before))
        for _ in range(stage.n_steps):
            curriculum.step_rows()
            curriculum.advance()
    return seen


def epochs(plan: Plan, stream: Stream) -> list[Stream]:
    per_epoch = plan.make().steps_per_epoch
    return [stream[i : i + per_epoch] for i in range(0, len(stream), per_epoch)]


def flat(stream: Stream) -> list[int]:
    return [row for step in stream for row in step]


# -- whole plans --------------------------------------------------------------------------------------------------


@given(plans())
def test_a_run_has_exactly_the_steps_it_was_asked_for(plan: Plan) -> None:
    stream, stages = run(plan.make(), plan.choose)
    assert len(stream) == plan.total_steps == sum(stage.n_steps for stage in stages)
    assert all(1 <= len(step) <= plan.global_batch for step in stream)


@given(plans(coverage="exact", drop_last=False))
def test_exact_coverage_trains_every_row_exactly_once_per_epoch(plan: Plan) -> None:
    stream, _ = run(plan.make(), plan.choose)
    for epoch in epochs(plan, stream):
        if len(epoch) == plan.make().steps_per_epoch:
            assert sorted(flat(epoch)) == list(range(plan.n_rows))
        assert len(flat(epoch)) == len(set(flat(epoch)))


@given(plans(coverage="exact"))
def test_only_the_last_step_of_an_epoch_is_ever_short(plan: Plan) -> None:
    stream, _ = run(plan.make(), plan.choose)
    per_epoch = plan.make().steps_per_epoch
    for i, step in enumerate(stream, 1):
        last = i % per_epoch == 0 and not plan.drop_last
        assert len(step) == ((plan.n_rows - 1) % plan.global_batch + 1 if last else plan.global_batch)


@given(plans(coverage="exact", drop_last=True))
def test_drop_last_leaves_out_less_than_a_step_and_repeats_nothing(plan: Plan) -> None:
    stream, _ = run(plan.make(), plan.choose)
    for epoch in epochs(plan, stream):
        assert len(flat(epoch)) == len(set(flat(epoch))) == len(epoch) * plan.global_batch
    assert plan.n_rows - plan.make().steps_per_epoch * plan.global_batch < plan.global_batch


def test_the_rows_left_over_by_drop_last_are_not_always_the_same() -> None:
    orders = {"a": np.arange(11, dtype=np.int32)}
    schedule = Schedule(linear(start=0.1), stages=5, handover=0.5)
    curriculum = Curriculum(schedule, orders, n_rows=11, global_batch=5, total_steps=40, drop_last=True)
    stream, _ = run(curriculum, lambda _, offers: offers[0] if offers else None)
    left_over = {frozenset(range(11)) - set(flat(stream[i : i + 2])) for i in range(0, 40, 2)}
    assert len(left_over) > 3


@given(plans())
def test_no_stage_crosses_the_handover(plan: Plan) -> None:
    curriculum = plan.make()
    _, stages = run(curriculum, plan.choose)
    edge = round(plan.schedule["handover"] * plan.total_steps) if plan.names else 0
    assert curriculum.handover_step == edge
    for stage in stages:
        assert (stage.chosen == SHUFFLE) == (stage.first_step >= edge)
        assert stage.first_step >= edge or stage.first_step + stage.n_steps <= edge


@given(plans(coverage="exact"))
def test_no_stage_crosses_the_end_of_an_epoch(plan: Plan) -> None:
    per_epoch = plan.make().steps_per_epoch
    for stage in run(plan.make(), plan.choose)[1]:
        assert stage.first_step // per_epoch == (stage.first_step + stage.n_steps - 1) // per_epoch == stage.epoch


@given(plans(window="prefix"))
def test_no_prefix_stage_crosses_the_end_of_an_epoch_whatever_the_coverage(plan: Plan) -> None:
    per_epoch = plan.make().steps_per_epoch
    for stage in run(plan.make(), plan.choose)[1]:
        assert stage.first_step // per_epoch == (stage.first_step + stage.n_steps - 1) // per_epoch


@given(plans(window="prefix"))
def test_prefix_stages_end_on_the_grid_of_equal_stages(plan: Plan) -> None:
    curriculum = plan.make()
    per_epoch = curriculum.steps_per_epoch
    grid = {int(step) for step in stage_grid(plan.schedule["stages"], per_epoch)}
    for stage in run(curriculum, plan.choose)[1]:
        end = stage.first_step + stage.n_steps
        assert end % per_epoch in grid or end in (curriculum.handover_step, plan.total_steps)


@given(plans())
def test_the_same_integers_give_the_same_stream(plan: Plan) -> None:
    assert run(plan.make(), plan.choose)[0] == run(plan.make(), plan.choose)[0]


def test_plans_are_bit_for_bit_those_that_checkpoints_of_earlier_versions_go_on_with() -> None:
    """The number was made by the version that had all of this in one class: sixteen schedules, 640 steps."""
    digest, rows = hashlib.sha256(), np.arange(53, dtype=np.int32)
    orders = {"up": rows, "down": rows[::-1].copy(), "odd first": np.concatenate([rows[1::2], rows[::2]])}
    for window, coverage, mix, handover in product(("prefix", "slice"), ("exact", "revisit"), (0.0, 0.3), (1.0, 0.6)):
        schedule = Schedule(build_pacing("root"), 5, window, coverage, mix, handover, seed=11)  # type: ignore[arg-type]
        curriculum = Curriculum(schedule, orders, n_rows=53, global_batch=4, total_steps=40, groups=rows % 3)
        stream, _ = run(curriculum, lambda made, offers: offers[made.n_stages % len(offers)] if offers else None)
        digest.update(json.dumps([stream, curriculum.state()["rows_by_choice"]]).encode())
    assert digest.hexdigest()[:16] == "4d51b9ead62e0ff8"


def test_without_a_policy_every_state_is_bit_for_bit_that_of_the_versions_before_policies() -> None:
    """Made by the version before: sixteen schedules, an epoch that ends early, the state at each stage."""
    digest, rows = hashlib.sha256(), np.arange(53, dtype=np.int32)
    orders = {"up": rows, "down": rows[::-1].copy(), "odd first": np.concatenate([rows[1::2], rows[::2]])}
    for window, coverage, mix, handover in product(("prefix", "slice"), ("exact", "revisit"), (0.0, 0.3), (1.0, 0.6)):
        schedule = Schedule(build_pacing("root"), 5, window, coverage, mix, handover, seed=12)  # type: ignore[arg-type]
        made = Curriculum(schedule, orders, n_rows=53, global_batch=4, total_steps=40, groups=rows % 3)
        while not made.finished:
            if made.needs_decision:
                offers = made.offers()
                made.open(offers[made.n_stages % len(offers)] if offers else None)
                digest.update(json.dumps(made.state(), sort_keys=True).encode())
            made.advance()
            if made.step == 17:
                made.end_epoch()
        digest.update(json.dumps(made.state(), sort_keys=True).encode())
    assert digest.hexdigest()[:16] == "57ed917788219192"


def test_another_seed_gives_another_stream() -> None:
    def stream(seed: int) -> Stream:
        schedule = Schedule(linear(start=0.5), stages=2, seed=seed)
        orders = {"a": np.arange(40, dtype=np.int32)}
        curriculum = Curriculum(schedule, orders, n_rows=40, global_batch=4, total_steps=10)
        return run(curriculum, lambda _, offers: offers[0])[0]

    assert stream(1) != stream(2)


@given(plans())
def test_coverage_counts_are_those_of_a_slow_count(plan: Plan) -> None:
    curriculum = plan.make()
    stream, stages = run(curriculum, plan.choose)
    planned = Counter(row for stage in stages for row in stage.rows.tolist())
    assert planned == Counter(flat(stream))
    assert curriculum.coverage_counts() == (len(planned), sum(planned.values()) - len(planned))


@given(plans())
def test_every_row_is_booked_under_the_order_or_the_shuffling_that_brought_it(plan: Plan) -> None:
    curriculum = plan.make()
    stream, stages = run(curriculum, plan.choose)
    booked = Counter({SHUFFLE: 0, **dict.fromkeys(plan.names, 0)})
    for stage in stages:
        booked[SHUFFLE] += stage.n_random
        booked[stage.chosen] += len(stage.rows) - stage.n_random
    assert curriculum.rows_by_choice == dict(booked)
    assert sum(booked.values()) == len(flat(stream))


@given(plans())
def test_repeats_are_rows_seen_more_often_than_epochs_have_begun(plan: Plan) -> None:
    seen: Counter[int] = Counter()
    for stage in run(plan.make(), plan.choose)[1]:
        assert stage.n_repeats == sum(seen[row] > stage.epoch for row in stage.rows.tolist())
        assert plan.schedule["coverage"] == "revisit" or stage.n_repeats == 0
        seen.update(stage.rows.tolist())


@given(plans())
def test_a_stage_never_holds_a_row_twice(plan: Plan) -> None:
    for stage in run(plan.make(), plan.choose)[1]:
        assert len(set(stage.rows.tolist())) == len(stage.rows)


@given(plans())
def test_stages_are_numbered_and_follow_each_other(plan: Plan) -> None:
    _, stages = run(plan.make(), plan.choose)
    assert [stage.index for stage in stages] == list(range(len(stages)))
    assert all(a.first_step + a.n_steps == b.first_step for a, b in pairwise(stages))


# -- what is offered ----------------------------------------------------------------------------------------------


@given(plans())
def test_offers_come_in_the_recipes_sequence_and_none_after_the_handover(plan: Plan) -> None:
    for curriculum, offers, _, _, before in run_with_offers(plan):
        names = [offer.name for offer in offers]
        if before["step"] >= curriculum.handover_step:
            assert names == []
        elif plan.schedule["window"] == "slice" and plan.schedule["coverage"] == "revisit":
            assert names == [name for name in plan.names if name in names] != []
        else:
            assert names == list(plan.names)


@given(plans())
def test_asking_for_offers_changes_nothing(plan: Plan) -> None:
    def ask_twice(curriculum: Curriculum, offers: Sequence[Offer]) -> Offer | None:
        again = curriculum.offers()
        assert [(o.name, o.n_rows, o.pool.tolist()) for o in again] == [
            (o.name, o.n_rows, o.pool.tolist()) for o in offers
        ]
        return plan.choose(curriculum, again)

    assert run(plan.make(), ask_twice)[0] == run(plan.make(), plan.choose)[0]


@given(plans())
def test_a_selector_that_measures_nothing_may_ask_for_one_offer_only(plan: Plan) -> None:
    def by_name(curriculum: Curriculum, offers: Sequence[Offer]) -> Offer | None:
        assert curriculum.names() == [offer.name for offer in offers]
        chosen = plan.choose(curriculum, offers)
        return None if chosen is None else curriculum.offer(chosen.name)

    assert run(plan.make(), by_name)[0] == run(plan.make(), plan.choose)[0]


@given(plans())
def test_a_stage_holds_what_its_offer_announced(plan: Plan) -> None:
    for _, _, offer, stage, _ in run_with_offers(plan):
        if offer is not None:
            assert len(stage.rows) == offer.stage_rows
            assert len(stage.rows) - stage.n_random == offer.n_rows >= 1
            assert (stage.chosen, stage.scope, stage.widened) == (offer.name, offer.scope, offer.widened)
            assert len(set(stage.rows.tolist()) & set(offer.pool.tolist())) >= offer.n_rows


@given(plans())
def test_the_share_drawn_at_random_is_the_one_asked_for(plan: Plan) -> None:
    """To half a row, but for stages so small that one row must come from the offer."""
    for _, _, offer, stage, _ in run_with_offers(plan):
        if offer is not None:
            asked = plan.schedule["mix"] * len(stage.rows)
            assert abs(stage.n_random - asked) <= 0.5 or len(stage.rows) - stage.n_random == 1


def test_the_random_share_keeps_the_domains_of_the_rows_left_in_proportion() -> None:
    """With whole slices as offers every other row of the stage is a random one: count its domains."""
    n, groups = 600, np.repeat([0, 1, 2], [300, 200, 100])
    order = np.random.default_rng(0).permutation(n).astype(np.int32)
    schedule = Schedule(linear(start=0.1), stages=10, window="slice", mix=0.4)
    curriculum = Curriculum(schedule, {"a": order}, n_rows=n, global_batch=6, total_steps=100, groups=groups)
    while curriculum.step < 60:
        spent = curriculum.passes.spent.copy()
        offer = curriculum.offers()[0]
        stage = curriculum.open(offer)
        extra = np.setdiff1d(stage.rows, offer.pool)
        others = ~spent
        others[offer.pool] = False
        assert len(extra) == stage.n_random
        for group in range(3):
            share = np.count_nonzero(others & (groups == group)) / np.count_nonzero(others)
            assert abs(np.count_nonzero(groups[extra] == group) - share * len(extra)) < 1
        for _ in range(stage.n_steps):
            curriculum.advance()


@given(plans(window="prefix"))
def test_a_prefix_offer_is_the_open_part_of_its_order_widened_only_as_far_as_needed(plan: Plan) -> None:
    pacing = build_pacing(plan.pacing)
    for curriculum, offers, _, _, before in run_with_offers(plan):
        for offer in offers:
            order = curriculum.orders[offer.name].tolist()
            exact = plan.schedule["coverage"] == "exact"
            free = [not (exact and before["spent"][row]) for row in order]
            n_open = max(1, round(scope_at(pacing, before["progress"]) * plan.n_rows))
            widened = sum(free[:n_open]) < offer.n_rows
            while sum(free[:n_open]) < offer.n_rows:
                n_open += 1
            assert offer.widened == widened
            assert offer.pool.tolist() == [row for row, ok in zip(order[:n_open], free, strict=False) if ok]
            assert offer.scope == (0.0, n_open / plan.n_rows)


@given(plans(window="slice", coverage="revisit", mix=0.0))
def test_revisited_slices_are_the_published_ones(plan: Plan) -> None:
    """Between scopes s(k−1) and s(k) of the order, whatever the other sub-curricula trained."""
    bounds = [0, *slow_bounds(plan)]
    chosen: Counter[str] = Counter()
    for curriculum, offers, offer, stage, _ in run_with_offers(plan):
        assert len(offers) in (0, sum(chosen[name] < len(bounds) - 1 for name in plan.names) or len(plan.names))
        if offer is None:
            continue
        if all(chosen[name] == len(bounds) - 1 for name in plan.names):
            chosen.clear()  # all used up: a new pass
        k = chosen[offer.name]
        part = curriculum.orders[offer.name][bounds[k] : bounds[k + 1]].tolist()
        if stage.first_step + stage.n_steps < curriculum.handover_step:
            assert sorted(stage.rows.tolist()) == sorted(part)
        else:
            assert set(stage.rows.tolist()) <= set(part)
        assert offer.scope == (bounds[k] / plan.n_rows, bounds[k + 1] / plan.n_rows)
        assert offer.slice == k
        chosen[offer.name] += 1


@given(plans(window="slice", coverage="exact", mix=0.0))
def test_an_exact_slice_skips_what_others_trained_and_moves_on_when_less_than_a_step_is_left(plan: Plan) -> None:
    bounds = slow_bounds(plan)
    for curriculum, offers, _, _, before in run_with_offers(plan):
        for offer in offers:
            order = curriculum.orders[offer.name].tolist()
            k = min(before["pointers"][offer.name], len(bounds) - 1)
            free = [row for row in order[: bounds[k]] if not before["spent"][row]]
            while len(free) < plan.global_batch and k < len(bounds) - 1:
                k += 1
                free = [row for row in order[: bounds[k]] if not before["spent"][row]]
            whole = len(free) if k == len(bounds) - 1 else len(free) - len(free) % plan.global_batch
            epoch_end = (before["step"] // curriculum.steps_per_epoch + 1) * curriculum.steps_per_epoch
            room = min(epoch_end, curriculum.handover_step) - before["step"]
            assert offer.pool.tolist() == free[: min(whole, room * plan.global_batch)]
            assert offer.slice == k


@given(plans())
def test_a_pointer_stands_behind_the_slice_chosen_last_and_goes_back_with_a_new_pass(plan: Plan) -> None:
    passing = plan.schedule["coverage"] == "exact"
    pointers, epoch = dict.fromkeys(plan.names, 0), 0
    for curriculum, offers, offer, stage, before in run_with_offers(plan):
        if passing and stage.epoch != epoch:
            pointers, epoch = dict.fromkeys(plan.names, 0), stage.epoch
        if offer is None:
            continue
        if plan.schedule["window"] == "slice" and not passing and len(offers) == len(plan.names):
            if all(pointer == len(slow_bounds(plan)) for pointer in pointers.values()):
                pointers = dict.fromkeys(plan.names, 0)
        else:
            assert before["pointers"] == pointers
        assert offer.slice >= pointers[offer.name] or offer.slice == len(slow_bounds(plan)) - 1
        pointers[offer.name] = offer.slice + 1
        assert curriculum.orders.keys() == pointers.keys()


@given(plans(window="prefix", coverage="revisit"))
def test_with_prefixes_a_pointer_counts_how_often_its_order_was_chosen(plan: Plan) -> None:
    curriculum = plan.make()
    _, stages = run(curriculum, plan.choose)
    chosen = Counter(stage.chosen for stage in stages)
    assert curriculum.pointers == {name: chosen[name] for name in plan.names}


@given(plans())
def test_times_chosen_counts_the_stages_of_the_whole_run(plan: Plan) -> None:
    """A pointer does not: it skips slices that others emptied, and goes back with each pass."""
    curriculum = plan.make()
    _, stages = run(curriculum, plan.choose)
    assert curriculum.times_chosen == {name: sum(stage.chosen == name for stage in stages) for name in plan.names}


@given(plans(), st.integers(1, 4))
def test_the_frontier_is_what_waits_in_the_open_parts_of_the_orders_some_stages_on(plan: Plan, n_stages: int) -> None:
    """Row by row: the end of the slice that a pointer comes to, or the scope of the clock by then."""
    bounds, pacing = slow_bounds(plan), build_pacing(plan.pacing)
    curriculum, visits = plan.make(), Counter[int]()
    while not curriculum.finished:
        stage = curriculum.open(plan.choose(curriculum, curriculum.offers()))
        visits.update(stage.rows.tolist())
        for _ in range(stage.n_steps):
            curriculum.advance()
        if plan.schedule["coverage"] == "exact" and curriculum.steps_in_epoch == 0:
            visits.clear()
        reached: set[int] = set()
        for name, order in curriculum.orders.items():
            steps = curriculum.step + n_stages * max(1, curriculum.steps_per_epoch // plan.schedule["stages"])
            progress = min(1.0, steps / max(1, curriculum.handover_step))
            n_open = max(plan.global_batch, round(scope_at(pacing, progress) * plan.n_rows))
            if plan.schedule["window"] == "slice":
                n_open = bounds[min(curriculum.pointers[name] + n_stages, len(bounds)) - 1]
            reached.update(order[:n_open].tolist())
        assert set(np.flatnonzero(curriculum.frontier(n_stages)).tolist()) == reached - visits.keys()


# -- where slices and stages are cut ------------------------------------------------------------------------------


def slow_bounds(plan: Plan) -> list[int]:
    return slow_slice_bounds(plan.pacing, plan.schedule["stages"], plan.n_rows, plan.global_batch)


def slow_slice_bounds(pacing: Any, stages: int, n_rows: int, global_batch: int) -> list[int]:
    """Scopes in whole steps, each slice a step or more; what does not fill a step goes with the last slice."""
    whole, bounds, steps = max(1, n_rows // global_batch), [], 0
    for k in range(stages):
        scope = scope_at(build_pacing(pacing), k / (stages - 1)) if stages > 1 else 1.0
        steps = max(steps + 1, round(scope * n_rows / global_batch))
        if steps >= whole:
            break
        bounds.append(steps * global_batch)
    return [*bounds, n_rows]


@given(simple_pacings(), st.integers(1, 20), st.integers(1, 500), st.integers(1, 40))
def test_slices_are_cut_at_the_scopes_rounded_to_whole_steps(
    setting: dict[str, Any], stages: int, n_rows: int, global_batch: int
) -> None:
    bounds = slice_bounds(build_pacing(setting), stages, n_rows, global_batch).tolist()
    assert bounds == slow_slice_bounds(setting, stages, n_rows, global_batch)


@given(simple_pacings(), st.integers(1, 20), st.integers(1, 500), st.integers(1, 40))
def test_slices_lose_no_row_and_hold_at_least_a_step(
    setting: dict[str, Any], stages: int, n_rows: int, global_batch: int
) -> None:
    bounds = slice_bounds(build_pacing(setting), stages, n_rows, global_batch)
    sizes = np.diff(bounds, prepend=0)
    assert sizes.sum() == n_rows
    assert (sizes >= min(global_batch, n_rows)).all()
    assert (sizes[:-1] % global_batch == 0).all()
    assert len(sizes) <= stages


def test_worked_slices_of_a_root_pacing() -> None:
    """Scopes 0.1, √(0.25·0.99 + 0.01) = 0.507, 0.711, 0.868, 1 of 100 rows, to steps of 8 rows."""
    bounds = slice_bounds(build_pacing({"name": "root", "start": 0.1}), 5, 100, 8)
    assert bounds.tolist() == [8, 48, 72, 88, 100]


@given(st.integers(1, 40), st.integers(1, 200))
def test_stages_of_the_grid_are_equal_to_a_step(stages: int, steps: int) -> None:
    grid = stage_grid(stages, steps)
    assert (grid[0], grid[-1]) == (0, steps)
    assert len(grid) - 1 == min(stages, steps)
    assert np.ptp(np.diff(grid)) <= 1


# -- shuffling ----------------------------------------------------------------------------------------------------


@given(plans(names=(), coverage="exact", drop_last=False))
def test_without_orders_every_epoch_is_a_permutation(plan: Plan) -> None:
    stream, stages = run(plan.make(), plan.choose)
    rows = flat(stream)
    passes = [rows[i : i + plan.n_rows] for i in range(0, len(rows), plan.n_rows)]
    assert all(len(set(one)) == len(one) for one in passes)
    assert {stage.chosen for stage in stages} == {SHUFFLE}


@given(plans(names=(), coverage="revisit"))
def test_shuffling_under_revisit_takes_no_row_twice_before_all_were_taken(plan: Plan) -> None:
    """There the pass, not the epoch, is what a stage may straddle, so only full steps are trained."""
    counts = np.zeros(plan.n_rows, dtype=int)
    for stage in run(plan.make(), plan.choose)[1]:
        counts[stage.rows] += 1
        assert np.ptp(counts) <= 1


@given(plans(handover=0.0))
def test_a_handover_at_zero_is_shuffling_as_if_there_were_no_orders(plan: Plan) -> None:
    bare = Plan(**{**vars(plan), "names": ()})
    assert run(plan.make(), plan.choose)[0] == run(bare.make(), plan.choose)[0]


def test_plain_shuffling_favours_no_row_and_no_pair() -> None:
    """Over 3000 seeds: which row is trained first, and which pairs share the first step of two."""
    firsts, pairs = Counter[int](), Counter[frozenset[int]]()
    for seed in range(3000):
        schedule = Schedule(linear(), stages=2, seed=seed)
        curriculum = Curriculum(schedule, {}, n_rows=6, global_batch=2, total_steps=3)
        curriculum.open()
        step = curriculum.step_rows().tolist()
        firsts[step[0]] += 1
        pairs[frozenset(step)] += 1
    assert sum((count - 500) ** 2 / 500 for count in firsts.values()) < 20.5  # 5 degrees of freedom, p = 0.001
    assert len(pairs) == 15
    assert sum((count - 200) ** 2 / 200 for count in pairs.values()) < 36.1  # 14 degrees of freedom, p = 0.001


def test_the_rows_of_a_stage_are_shuffled_by_its_seed_epoch_and_number() -> None:
    """One stage per epoch draws all rows, so nothing but `Generator([seed, epoch, stage])` orders them."""
    curriculum = Curriculum(Schedule(linear(), stages=1, seed=5), {}, n_rows=50, global_batch=10, total_steps=15)
    _, stages = run(curriculum, lambda *_: None)
    for number, stage in enumerate(stages):
        assert stage.rows.tolist() == np.random.default_rng([5, number, number]).permutation(50).tolist()
    half = Curriculum(Schedule(linear(), stages=2, seed=5), {}, n_rows=4, global_batch=2, total_steps=4)
    _, stages = run(half, lambda *_: None)
    rest = np.setdiff1d(np.arange(4), stages[2].rows)
    assert stages[3].rows.tolist() == rest[np.random.default_rng([5, 1, 3]).permutation(2)].tolist()


def test_epochs_are_shuffled_differently() -> None:
    schedule = Schedule(linear(), stages=4)
    curriculum = Curriculum(schedule, {}, n_rows=50, global_batch=10, total_steps=10)
    stream, _ = run(curriculum, lambda *_: None)
    assert flat(stream[:5]) != flat(stream[5:])


# -- epochs that are ended early ----------------------------------------------------------------------------------


def run_with_early_ends(curriculum: Curriculum, choose: Choose, ends: int) -> Iterator[tuple[int, list[int]]]:
    """(Epoch, rows) of each step; about every third step is the last one of its epoch, which depends on `ends`."""
    while not curriculum.finished:
        if curriculum.needs_decision:
            curriculum.open(choose(curriculum, curriculum.offers()))
        epoch = curriculum.epoch
        yield epoch, curriculum.step_rows().tolist()
        curriculum.advance()
        if curriculum.epoch == epoch and hash((ends, curriculum.step)) % 3 == 0:
            curriculum.end_epoch()


@given(plans(), st.integers(0, 100))
def test_the_rest_of_an_epoch_that_is_ended_early_is_left_out_and_never_made_up_for(plan: Plan, ends: int) -> None:
    curriculum = plan.make()
    stream = list(run_with_early_ends(curriculum, plan.choose, ends))
    steps = Counter(epoch for epoch, _ in stream)
    n_epochs = -(-plan.total_steps // curriculum.steps_per_epoch)
    assert max(steps.values()) <= curriculum.steps_per_epoch
    assert len(stream) <= plan.total_steps
    if len(stream) < plan.total_steps:
        assert sorted(steps) == list(range(n_epochs))
    visits = Counter(row for _, rows in stream for row in rows)
    assert curriculum.coverage_counts() == (len(visits), sum(visits.values()) - len(visits))
    if plan.schedule["coverage"] == "exact":
        for epoch in steps:
            assert max(Counter(row for at, rows in stream for row in rows if at == epoch).values()) == 1


@given(plans(), st.integers(0, 100), st.integers(0, 10**6))
def test_a_run_cut_after_an_epoch_that_was_ended_early_goes_on_as_if_it_had_not(plan: Plan, ends: int, at: int) -> None:
    whole = list(run_with_early_ends(plan.make(), plan.choose, ends))
    first, second = plan.make(), plan.make()
    steps = run_with_early_ends(first, plan.choose, ends)
    begun = [next(steps) for _ in range(at % len(whole) + 1)]  # the last of them is not advanced over yet
    second.load(through_json(first))
    assert begun[:-1] + list(run_with_early_ends(second, plan.choose, ends)) == whole


def test_an_epoch_may_be_left_out_whole() -> None:
    curriculum = Curriculum(Schedule(linear(), stages=2), {}, n_rows=10, global_batch=5, total_steps=6)
    curriculum.open()
    assert (curriculum.end_epoch(), curriculum.epoch, curriculum.steps_in_epoch, curriculum.last_step) == (2, 1, 0, 4)
    assert curriculum.coverage_counts() == (0, 0)
    assert len(run(curriculum, lambda *_: None)[0]) == 4


# -- resuming -----------------------------------------------------------------------------------------------------


def through_json(curriculum: Curriculum) -> dict[str, Any]:
    state: dict[str, Any] = json.loads(json.dumps(curriculum.state(), allow_nan=False))
    return state


@examples(40)
@given(plans())
def test_a_run_cut_after_any_step_goes_on_as_if_it_had_never_stopped(plan: Plan) -> None:
    """Any step of short runs; of long ones every seventh or so, other ones in other plans."""
    uncut = plan.make()
    whole, _ = run(uncut, plan.choose)
    every = 1 + plan.total_steps // 12
    for cut in range(plan.choices % every, plan.total_steps + 1, every):
        first, second = plan.make(), plan.make()
        begun, _ = run(first, plan.choose, until=cut)
        second.load(through_json(first))
        rest, _ = run(second, plan.choose)
        assert begun + rest == whole
        assert second.state() == uncut.state()


@given(plans(), st.integers(0, 10**6))
def test_a_run_cut_between_the_offers_and_the_choice_is_offered_the_same_again(plan: Plan, at: int) -> None:
    first, second = plan.make(), plan.make()
    run(first, plan.choose, until=at % plan.total_steps)
    assume(first.needs_decision)
    offers = first.offers()
    second.load(through_json(first))
    again = second.offers()
    assert [(o.name, o.pool.tolist(), o.scope, o.slice) for o in again] == [
        (o.name, o.pool.tolist(), o.scope, o.slice) for o in offers
    ]
    assert run(second, plan.choose)[0] == run(first, plan.choose)[0]


@given(plans(), st.integers(0, 10**6))
def test_a_run_cut_right_after_the_choice_keeps_it(plan: Plan, at: int) -> None:
    first, second = plan.make(), plan.make()
    run(first, plan.choose, until=at % plan.total_steps)
    assume(first.needs_decision)
    stage = first.open(plan.choose(first, first.offers()))
    second.load(through_json(first))
    assert second.stage is not None
    assert {**vars(second.stage), "rows": None} == {**vars(stage), "rows": None}
    assert second.stage.rows.tolist() == stage.rows.tolist()
    assert run(second, plan.choose)[0] == run(first, plan.choose)[0]


def test_a_state_from_before_the_first_stage_takes_a_later_stage_back() -> None:
    plan_of = {"n_rows": 10, "global_batch": 5, "total_steps": 4}
    curriculum = Curriculum(Schedule(linear(), stages=2), {}, **plan_of)
    begun = through_json(curriculum)
    first, _ = run(curriculum, lambda *_: None)
    curriculum.load(begun)
    assert curriculum.needs_decision
    assert run(curriculum, lambda *_: None)[0] == first


@pytest.mark.parametrize("change", [{"rows": pack(np.arange(6, 11))}, {"rows": pack(np.arange(0))}, {"first_step": 3}])
def test_a_stage_that_cannot_be_is_not_gone_on_with(change: Json) -> None:
    curriculum = Curriculum(Schedule(linear(), stages=2), {}, n_rows=10, global_batch=5, total_steps=4)
    curriculum.open(None)
    saved = through_json(curriculum)
    curriculum.load(saved)
    with pytest.raises(
        ValueError, match=r"must be one of 10 rows in which step 0 lies, got one of [0-9] rows from step"
    ):
        curriculum.load({**saved, "stage": {**saved["stage"], **change}})
    with pytest.raises(ValueError, match="must be of kind b and length 10"):
        curriculum.load({**saved, "spent": pack(np.zeros(11, dtype=np.bool_))})


def test_an_order_added_for_the_future_starts_at_its_easy_end() -> None:
    order: RowArray = np.arange(20, dtype=np.int32)
    schedule = Schedule(linear(start=0.2), stages=5, window="slice")
    old = Curriculum(schedule, {"a": order}, n_rows=20, global_batch=2, total_steps=10)
    run(old, lambda _, offers: offers[0], until=4)
    new = Curriculum(schedule, {"a": order, "b": order[::-1]}, n_rows=20, global_batch=2, total_steps=10)
    new.load(through_json(old))
    assert new.pointers == {"a": 2, "b": 0}
    assert new.rows_by_choice == {"a": 8, "b": 0, SHUFFLE: 0}


def test_the_state_of_a_hundred_thousand_rows_stays_small() -> None:
    curriculum = Curriculum(Schedule(linear(), stages=20), {}, n_rows=100_000, global_batch=64, total_steps=4000)
    run(curriculum, lambda *_: None, until=100)
    assert len(json.dumps(curriculum.state())) < 100_000


# -- small numbers by hand ----------------------------------------------------------------------------------------


def test_two_sub_curricula_by_hand() -> None:
    """Eight rows, steps of two, slices of one step; `b` is `a` backwards, and a choice of one shortens the other."""
    order = np.arange(8, dtype=np.int32)
    schedule = Schedule(linear(start=0.25), stages=4, window="slice")
    curriculum = Curriculum(schedule, {"a": order, "b": order[::-1]}, n_rows=8, global_batch=2, total_steps=4)
    trained = []
    for choice in ("a", "b", "b", "a"):
        offers = {offer.name: offer for offer in curriculum.offers()}
        trained.append((sorted(curriculum.open(offers[choice]).rows.tolist()), offers[choice].scope))
        curriculum.advance()
    assert trained == [([0, 1], (0.0, 0.25)), ([6, 7], (0.0, 0.25)), ([4, 5], (0.25, 0.5)), ([2, 3], (0.25, 0.5))]
    assert curriculum.pointers == {"a": 0, "b": 0}  # the epoch is over
    assert curriculum.coverage_counts() == (8, 0)


def test_a_single_row_is_trained_again_and_again() -> None:
    schedule = Schedule(linear(), stages=3, window="slice", mix=0.5)
    curriculum = Curriculum(schedule, {"a": np.zeros(1, dtype=np.int32)}, n_rows=1, global_batch=1, total_steps=3)
    assert run(curriculum, lambda _, offers: offers[0])[0] == [[0], [0], [0]]


def test_rows_that_do_not_fill_a_step_make_one_short_step() -> None:
    schedule = Schedule(linear(), stages=3, window="slice")
    order = np.arange(3, dtype=np.int32)
    curriculum = Curriculum(schedule, {"a": order}, n_rows=3, global_batch=8, total_steps=2)
    assert [sorted(step) for step in run(curriculum, lambda _, offers: offers[0])[0]] == [[0, 1, 2], [0, 1, 2]]


def test_progress_is_measured_to_the_handover() -> None:
    schedule = Schedule(linear(), stages=2, handover=0.5)
    order = np.arange(20, dtype=np.int32)
    curriculum = Curriculum(schedule, {"a": order}, n_rows=20, global_batch=2, total_steps=10)
    progress = [curriculum.progress]
    while not curriculum.finished:
        if curriculum.needs_decision:
            curriculum.open(next(iter(curriculum.offers()), None))
        curriculum.advance()
        progress.append(curriculum.progress)
    assert progress == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1, 1, 1])


def test_rows_of_another_step_of_the_stage_can_be_looked_at() -> None:
    curriculum = Curriculum(Schedule(linear(), stages=1), {}, n_rows=6, global_batch=2, total_steps=3)
    stage = curriculum.open()
    assert [curriculum.step_rows(step).tolist() for step in range(3)] == stage.rows.reshape(3, 2).tolist()


def test_rows_are_refused_before_a_stage_is_open_and_outside_of_it() -> None:
    curriculum = Curriculum(Schedule(linear(), stages=3), {}, n_rows=6, global_batch=2, total_steps=3)
    with pytest.raises(AssertionError, match="open\\(\\) a stage before asking for its rows"):
        curriculum.step_rows()
    curriculum.open()
    with pytest.raises(AssertionError, match="step 1 of a stage of 1"):
        curriculum.step_rows(1)
