"""What may still be drawn: under exact coverage a row once in a pass, under revisit once in a pass of shuffling."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.passes import OwnPasses, Passes, resorted
from campus_tune.method.policy import Policy
from campus_tune.words.types import RowArray
from tests.method.policies import anything, lived
from tests.strategies import examples


def rows(*numbers: int) -> RowArray:
    return np.array(numbers, dtype=np.int32)


def test_a_planned_row_is_not_free_again_before_the_epoch_ends_under_exact_coverage() -> None:
    passes = Passes(6, "exact")
    passes.plan(rows(4, 1))
    assert passes.free(rows(5, 4, 3, 2, 1, 0)).tolist() == [5, 3, 2, 0]
    assert (passes.n_free, passes.reach(rows(4, 1, 0, 2, 3, 5), 2)) == (4, 4)
    passes.begin_epoch()
    assert passes.free(rows(4, 1)).tolist() == [4, 1]
    assert passes.waiting.all()


def test_under_revisit_every_row_stays_free_and_waits_until_it_was_seen() -> None:
    passes = Passes(6, "revisit")
    passes.plan(rows(4, 1))
    passes.begin_epoch()
    assert passes.free(rows(5, 4, 1)).tolist() == [5, 4, 1]
    assert (passes.n_free, passes.reach(rows(4, 1, 0, 2, 3, 5), 2)) == (6, 2)
    assert np.flatnonzero(passes.waiting).tolist() == [0, 2, 3, 5]


@pytest.mark.parametrize("coverage", ["exact", "revisit"])
def test_what_was_planned_and_not_trained_counts_as_never_planned(coverage: str) -> None:
    passes = Passes(6, coverage)  # type: ignore[arg-type] # parametrised
    drawn = passes.draw_shuffled(np.random.default_rng(0), 4)
    passes.plan(drawn)
    assert passes.counts(to_come=drawn[1:]) == (1, 0)
    passes.take_back(drawn[1:], shuffled=True)
    assert passes.counts(to_come=rows()) == (1, 0)
    rest = passes.draw_shuffled(np.random.default_rng(1), 5)
    assert sorted([*rest.tolist(), int(drawn[0])]) == list(range(6))


def test_a_row_that_was_planned_300_times_is_counted_as_255() -> None:
    passes = Passes(2, "revisit")
    for _ in range(300):
        passes.plan(rows(1))
    assert passes.counts(to_come=rows()) == (1, 254)
    assert passes.n_repeats(rows(0, 1), epoch=254) == 1


@examples(40)
@given(st.integers(0, 10**6), st.booleans())
def test_what_is_remembered_of_an_order_is_what_would_be_found_anew(seed: int, alone: bool) -> None:
    """Whatever a run does: plans, begins passes, opens and shuts rows, leaves out the rest of an epoch, goes on."""
    life, rng = anything(seed), np.random.default_rng(seed)
    made = life.curriculum
    order = rng.permutation(made.n_rows).astype(np.int32)
    while not made.finished:
        life.step()
        if alone and rng.random() < 0.2 and made.steps_in_epoch:
            made.end_epoch()
        if rng.random() < 0.2:
            made.load(json.loads(json.dumps(made.state())))
        passes, policy = life.apart.passes, life.apart.policy
        waits = passes.open_rows & (passes.balance <= 0)
        free = waits if passes.exact else passes.open_rows
        for n_open in sorted(rng.integers(1, made.n_rows + 1, 3).tolist(), reverse=bool(rng.integers(2))):
            first = order[:n_open]
            assert passes.free_to("another", order, n_open).tolist() == first[free[first]].tolist()
        start, n = (int(x) for x in rng.integers(1, made.n_rows, 2))
        behind = np.flatnonzero(free[order[start:]])
        assert passes.reach(order, n, start) == (start + behind[n - 1] + 1 if n <= len(behind) else made.n_rows)
        assert passes.left.tolist() == np.bincount(policy.codes[waits], minlength=len(policy.strata_names)).tolist()


@given(st.lists(st.sampled_from(["plan", "epoch", "take back", "go on", "another order"]), max_size=12), st.data())
def test_without_a_policy_too(events: list[str], data: st.DataObject) -> None:
    n = 12
    passes, order = Passes(n, "exact"), np.arange(n, dtype=np.int32)[::-1].copy()
    some = st.sets(st.integers(0, n - 1)).map(lambda found: rows(*sorted(found)))
    for event in events:
        if event == "plan":
            passes.plan(data.draw(some))
        elif event == "epoch":
            passes.begin_epoch()
        elif event == "take back":
            passes.take_back(np.flatnonzero(passes.spent)[:2].astype(np.int32), shuffled=data.draw(st.booleans()))
        elif event == "go on":
            passes.go_on(np.isin(np.arange(n), data.draw(some)))
        else:
            order = np.array(data.draw(st.permutations(range(n))), dtype=np.int32)
        n_open = data.draw(st.integers(0, n))
        first = order[:n_open]
        assert passes.free_to("an order", order, n_open).tolist() == first[~passes.spent[first]].tolist()


def test_a_stage_looks_only_at_rows_that_were_free_before_or_are_opened_now(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    passes, order = Passes(100, "exact"), np.arange(100, dtype=np.int32)
    free = passes.free
    monkeypatch.setattr(passes, "free", lambda some: looked_at.append(len(some)) or free(some))
    passes.free_to("a", order, 50)
    passes.plan(order[:40])
    passes.free_to("a", order, 60)
    passes.free_to("a", order, 60)
    assert looked_at == [0, 50, 50, 10, 20, 0]


def test_rows_at_other_places_keep_them() -> None:
    order, places = rows(3, 0, 2, 1), np.array([True, False, True, False])
    assert resorted(order, places, rows(0, 1, 2, 3)).tolist() == [2, 0, 3, 1]
    assert order.tolist() == [3, 0, 2, 1]


# -- each stratum in a pass of its own ---------------------------------------------------------------------------------


@examples(40)
@given(st.integers(0, 10**6), st.booleans())
def test_visits_inside_a_stratum_differ_by_one_at_most_without_thinning(seed: int, many: bool) -> None:
    life = anything(seed, thin=None, review=None, periods=())
    made, policy = life.curriculum, life.apart.policy
    if made.schedule.coverage == "revisit" and made.orders:
        return  # rows may come again as they please
    while not made.finished and (many or made.step < made.steps_per_epoch):
        life.step()
        if made.stage is not None and made.step == made.stage.first_step + made.stage.n_steps:
            for stratum in range(len(policy.strata_names)):
                visits = life.apart.passes.seen[(policy.codes == stratum) & ~gone(policy)]
                assert not len(visits) or int(visits.max()) - int(visits.min()) <= 1
                assert set(life.apart.passes.balance[policy.codes == stratum].tolist()) <= {0, 1}


@examples(40)
@given(st.integers(0, 10**6))
def test_passes_are_what_was_offered_of_a_domain(seed: int) -> None:
    life = anything(seed, thin=None, periods=())
    stages, policy = life.run(), life.apart.policy
    offered = np.zeros(len(policy.domain_names))
    for stage in stages:
        assert stage.draw is not None
        np.add.at(offered, policy.domain_codes[stage.rows[stage.draw.lane < 2]], 1)
    sizes = policy.sizes(policy.domain_codes, len(offered))
    expected = dict(zip(policy.domain_names, (offered / np.maximum(1, sizes)).tolist(), strict=True))
    assert life.apart.passes.by_domain() == pytest.approx(expected)
    never = set(np.flatnonzero(~gone(policy)).tolist()) - {row for stage in stages for row in stage.rows.tolist()}
    assert set(np.flatnonzero((life.apart.passes.seen == 0) & ~gone(policy)).tolist()) == never


def gone(policy: Policy) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.zeros(policy.n_rows, dtype=np.bool_) if policy.dropped is None else policy.dropped


def test_shares_make_domains_run_different_numbers_of_passes() -> None:
    """POLICIES 1: shares .4 .3 .3 over 8000, 1500 and 500 rows and 10 000 visits: 0.5, 2 and 6 passes."""
    codes = np.repeat([0, 1, 2], [800, 150, 50])
    shares = np.array([0.4, 0.3, 0.3])
    policy = Policy(1000, codes, ("a", "b", "c"), codes, ("a", "b", "c"), shares=shares)
    life = lived(policy, batch=10, steps=100, stages=10)
    life.run()
    assert life.apart.passes.by_domain() == {"a": 0.5, "b": 2.0, "c": 6.0}


def test_natural_shares_end_the_passes_of_all_strata_together() -> None:
    codes = np.repeat([0, 1], [57, 3])
    life = lived(Policy(60, codes, ("big", "small"), codes, ("big", "small")), batch=7, steps=60, stages=4)
    life.run()
    for domain, passes in life.apart.passes.by_domain().items():
        assert passes == pytest.approx(7.0, abs=0.4 if domain == "small" else 0.05)


def test_a_pass_that_began_in_the_stage_is_taken_back_with_it() -> None:
    passes = OwnPasses(4, "exact", Policy(4))
    passes.offer(rows(0, 1, 2), marks=True)
    passes.offer(rows(3), marks=True)
    assert passes.begin_where_over(np.array([False]), together=False).tolist() == [True]
    passes.offer(rows(0), marks=True)
    assert passes.balance.tolist() == [1, 0, 0, 0]
    passes.withdraw(rows(3, 0), np.array([1]), marked=True)
    assert passes.balance.tolist() == [1, 1, 1, 0]
    assert (passes.waiting.tolist(), passes.offered.tolist()) == ([False] * 3 + [True], [3])


def test_dropped_and_shut_rows_wait_for_nothing() -> None:
    dropped = np.array([True, False, False, False])
    passes = OwnPasses(4, "exact", Policy(4, dropped=dropped))
    assert passes.free(rows(3, 2, 1, 0)).tolist() == [3, 2, 1]
    assert passes.reach(rows(0, 1, 2, 3), 2) == 3
    assert passes.reach(rows(0, 1, 2, 3), 4) == 4
    passes.shut = np.array([True, True, False, False])
    assert passes.unoffered.tolist() == [False, False, True, True]
    passes.begin(np.array([True]))
    assert passes.balance.tolist() == [0, 0, -1, -1]
    assert passes.waiting.tolist() == [False, True, True, True]
