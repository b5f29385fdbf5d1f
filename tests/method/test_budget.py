"""The bill: what a forward costs by counting operations, and that the parts never promise more than the whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.budget import (
    ALWAYS,
    PRECEDENCE,
    PURPOSES,
    RESTS_ON,
    THINNING,
    WEIGHTS,
    Budget,
    Need,
    Purpose,
    forward_ratio,
    paid_for,
)
from tests.strategies import examples


@pytest.mark.parametrize(
    ("n_parameters", "n_trained", "checkpointing", "ratio"),
    [
        (100, 100, False, 1 / 3),  # forward 2P, backward 4P
        (100, 100, True, 1 / 4),  # the forward once more
        (100, 0, False, 1 / 2),  # as good as no weight gradients: LoRA
        (100, 0, True, 1 / 3),
        (100, 50, False, 200 / 500),
    ],
)
def test_a_forward_costs_its_share_of_the_operations(
    n_parameters: int, n_trained: int, checkpointing: bool, ratio: float
) -> None:
    assert forward_ratio(n_parameters, n_trained, checkpointing=checkpointing) == pytest.approx(ratio)


@given(st.integers(1, 10**12), st.floats(0, 1), st.booleans())
def test_the_ratio_is_two_of_the_operations_per_parameter(n: int, trained: float, checkpointing: bool) -> None:
    n_trained = int(trained * n)
    forward, backward = 2 * n, 2 * n + 2 * n_trained
    again = forward if checkpointing else 0
    ratio = forward_ratio(n, n_trained, checkpointing=checkpointing)
    assert ratio == pytest.approx(forward / (forward + backward + again))


def test_a_twentieth_of_training_buys_a_tenth_of_the_tokens_when_a_forward_costs_half() -> None:
    assert Budget(share=0.05, training_tokens=1000.0, ratio=0.5).total == pytest.approx(100.0)


def test_what_is_charged_is_no_longer_left() -> None:
    budget = Budget(share=0.05, training_tokens=1000.0, ratio=0.5)
    budget.charge("scoring", 30, 1.0)
    budget.charge("probes", 20, 0.5)
    assert budget.left == pytest.approx(50.0)
    budget.charge("selection", 60, 0.5)
    assert budget.left == 0.0
    assert budget.spent == dict.fromkeys(PURPOSES, 0) | {"scoring": 30, "selection": 60, "probes": 20}


def test_shares_are_of_the_whole_runs_training_compute() -> None:
    budget = Budget(share=0.05, training_tokens=200.0, ratio=0.5)
    budget.charge("scoring", 20, 1.0)
    budget.charge("selection", 8, 2.0)
    nothing = dict.fromkeys(PURPOSES, 0.0)
    assert budget.shares() == pytest.approx(nothing | {"scoring": 0.05, "selection": 0.02, "all": 0.07})


def test_spending_all_of_the_budget_is_the_share_that_was_promised() -> None:
    budget = Budget(share=0.05, training_tokens=4000.0, ratio=0.5)
    budget.charge("selection", int(budget.total), 0.0)
    assert budget.shares()["all"] == pytest.approx(0.05)


def test_the_clocks_share_is_seconds_of_measuring_over_seconds_of_training() -> None:
    budget = Budget(share=0.05, training_tokens=1000.0, ratio=0.5)
    assert budget.clock_share() == 0.0
    budget.charge("scoring", 20, 1.0)
    budget.charge("probes", 20, 2.0)
    budget.seconds["training"] += 30.0
    assert budget.clock_share() == pytest.approx(0.1)


# -- more than it pays for --------------------------------------------------------------------------------------------


@st.composite
def needed(draw: st.DrawFn) -> dict[Purpose, Need]:
    """What each of some purposes takes, from all that is usual down to the least that says anything."""
    found: dict[Purpose, Need] = {}
    for purpose in draw(st.sets(st.sampled_from(PRECEDENCE), min_size=1)):
        sizes = sorted(draw(st.lists(st.integers(0, 1000), min_size=4, max_size=4)), reverse=True)
        usual, fewest, least, barest = map(float, sizes)
        found[purpose] = Need(usual, fewest, least, barest if purpose == "probes" else least)
    return found


RESTS = [*RESTS_ON, ("selection", "probes")]


@examples(200)
@given(needed(), st.floats(0, 3000))
def test_what_is_measured_fits_into_every_budget(needs: dict[Purpose, Need], total: float) -> None:
    budget = Budget(total, 1.0, 1.0)
    budget.fit(needs, RESTS)
    if sum(need.usual for need in needs.values()) <= total:
        assert (budget.caps, budget.halved, budget.cut_short) == (None, False, False)
        return
    assert budget.caps is not None
    assert sum(budget.caps.values()) <= total + 1e-6
    assert budget.caps.keys() == needs.keys() - set(budget.unpaid)
    for purpose, cap in budget.caps.items():  # what is measured says something
        assert cap >= needs[purpose].barest - 1e-6
        if not budget.cut_short:
            assert cap >= needs[purpose].least - 1e-6
    for of, on in RESTS:
        if on in needs and on in budget.unpaid and of in needs:
            assert of in budget.unpaid
    enough = sum(need.least for need in needs.values()) <= total
    assert enough != budget.cut_short or (budget.unpaid == () and budget.at_ends is None)
    if budget.at_ends is not None:  # so seldom that no decision goes by it
        assert needs["probes"].barest - 1e-6 <= budget.at_ends < needs["probes"].least
        assert "selection" not in budget.caps


@examples(100)
@given(needed(), st.floats(0, 3000))
def test_nothing_is_left_out_that_what_is_over_would_pay_for(needs: dict[Purpose, Need], total: float) -> None:
    barest = {name: need.barest for name, need in needs.items()}
    paid = paid_for(barest, RESTS_ON, total)
    over = total - sum(barest[name] for name in paid)
    assert over >= 0
    held = {of for of, on in RESTS_ON if on in needs and on not in paid}
    assert all(barest[name] > over for name in needs if name not in paid and name not in held)


def test_orders_come_first_and_what_can_be_had_for_nothing_last() -> None:
    needs: dict[Purpose, Need] = {
        "selection": Need(40, 40, 20, 20),
        "probes": Need(100, 80, 50, 20),
        "scoring": Need(60, 30, 15, 15),
    }
    found = {}
    for total in (200, 150, 85, 84, 60, 34, 14, 0):
        budget = Budget(total, 1.0, 1.0)
        budget.fit(needs, RESTS)
        found[total] = (budget.unpaid, budget.at_ends is not None)
    assert found == {
        200: ((), False),
        150: ((), False),  # all are measured, fewer rows
        85: ((), False),  # half of the fewest
        84: (("selection",), False),  # then the probes can be measured as often as any decision would want
        60: (("selection",), True),  # and now at both ends only
        34: (("selection", "probes"), False),
        14: (("selection", "probes", "scoring"), False),
        0: (("selection", "probes", "scoring"), False),
    }


def test_a_budget_of_nothing_is_whole_where_nothing_is_measured() -> None:
    budget = Budget(0.0, 100.0, 0.5)
    budget.fit({"scoring": Need(0, 0, 0, 0)})
    assert (budget.cut_short, budget.caps, budget.room()) == (False, None, 0.0)


def test_what_turned_out_to_cost_more_is_left_out_with_what_rests_on_it() -> None:
    budget = Budget(0.5, 100.0, 0.5, (*ALWAYS, "rescoring"))
    budget.leave_out("scoring", 120.0)
    assert (budget.unpaid, budget.short, budget.cut_short) == (("scoring", "rescoring"), 120.0, True)


def test_the_measurement_that_ends_a_run_is_kept_free() -> None:
    budget = Budget(0.5, 100.0, 0.5)
    budget.to_end = 30.0
    assert (budget.left, budget.room(), budget.room(80.0)) == (100.0, 70.0, 0.0)


@pytest.mark.parametrize("cut", [True, False])
def test_what_is_left_out_goes_on_from_its_state_and_is_not_there_without(cut: bool) -> None:
    first, second = Budget(0.05, 1000.0, 0.5), Budget(0.05, 1000.0, 0.5)
    if cut:
        first.unpaid, first.at_ends = ("selection",), 12.5
    state = json.loads(json.dumps(first.state()))
    assert ("unpaid" in state) is ("at_ends" in state) is cut
    second.load({**state, "kept": True})  # of a version that could overspend
    assert (second.unpaid, second.at_ends) == (first.unpaid, first.at_ends)


# -- what is spent ----------------------------------------------------------------------------------------------------


@given(st.floats(0, 1), st.floats(0, 1e9), st.sets(st.sampled_from(PURPOSES), min_size=1))
def test_the_parts_of_what_a_run_measures_make_up_the_budget(
    share: float, training_tokens: float, purposes: set[Purpose]
) -> None:
    budget = Budget(share, training_tokens, 0.4, tuple(purposes))
    assert sum(budget.part(purpose) for purpose in purposes) == pytest.approx(budget.total)


def test_a_run_that_neither_rescores_nor_samples_gives_half_to_its_scores_and_three_tenths_to_its_probes() -> None:
    budget = Budget(share=0.1, training_tokens=1000.0, ratio=1.0)
    assert [budget.part(purpose) for purpose in ALWAYS] == pytest.approx([50.0, 20.0, 30.0])
    assert set(WEIGHTS) == set(PURPOSES)


@given(
    st.floats(0, 1),
    st.floats(0, 1e9),
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.integers(0, 10**6), max_size=3),
)
def test_what_keeps_to_its_allowance_keeps_to_the_budget(
    share: float, training_tokens: float, n_probes: int, n_decisions: int, scoring: list[int]
) -> None:
    budget = Budget(share, training_tokens, 0.4, PURPOSES)
    for tokens in scoring:
        budget.charge("scoring", int(min(tokens, budget.part("scoring") / 3)), 0.0)
    for n in range(n_decisions, 0, -1):
        probe = min(budget.per_probe(n_probes), budget.part("probes") / n_decisions)
        for purpose in budget.to_come:
            budget.charge(purpose, int(budget.per_time(purpose, n)), 0.0)
        reserved = probe * n + sum(budget.per_time(purpose, 1) for purpose in budget.to_come)
        budget.charge("selection", int(budget.per_decision(n, reserved)), 0.0)
        budget.charge("probes", int(probe), 0.0)
    assert sum(budget.spent.values()) <= budget.total + 1e-6


def test_a_decision_leaves_what_is_still_to_come_its_part() -> None:
    budget = Budget(share=0.1, training_tokens=1000.0, ratio=1.0)
    assert budget.per_probe(3) == pytest.approx(10.0)
    assert budget.per_decision(7, 30.0) == pytest.approx(10.0)
    assert budget.per_decision(7, 120.0) == 0.0
    assert budget.per_decision(0, 0.0) == pytest.approx(100.0)
    assert budget.per_probe(0) == pytest.approx(30.0)


def test_the_next_of_several_times_gets_its_share_of_what_the_others_left() -> None:
    budget = Budget(share=0.13, training_tokens=1000.0, ratio=1.0, purposes=(*ALWAYS, "rescoring"))
    assert budget.part("rescoring") == pytest.approx(30.0)
    assert budget.per_time("rescoring", 3) == pytest.approx(10.0)
    budget.charge("rescoring", 20, 0.0)
    assert budget.per_time("rescoring", 2) == pytest.approx(5.0)
    budget.charge("rescoring", 20, 0.0)
    assert budget.per_time("rescoring", 1) == 0.0
    assert budget.to_come == ("rescoring",)


def test_what_was_found_is_charged_and_shown_apart() -> None:
    cold, warm = (Budget(share=0.05, training_tokens=1000.0, ratio=0.5) for _ in range(2))
    cold.charge("scoring", 40, 2.0)
    warm.charge("scoring", 40, 0.1, found=30)
    assert cold.left == warm.left  # what is decided does not hang on what lies on a disk
    assert (cold.found_share(), warm.found_share()) == (0.0, pytest.approx(0.015))
    again = Budget(share=0.05, training_tokens=1000.0, ratio=0.5)
    again.load(json.loads(json.dumps(warm.state())))
    assert again.found_share() == warm.found_share()


def test_spending_goes_on_from_its_state_and_leaves_that_alone() -> None:
    first, second = (Budget(share=0.05, training_tokens=1000.0, ratio=0.5) for _ in range(2))
    first.charge("selection", 7, 0.25)
    state = json.loads(json.dumps(first.state()))
    second.load(state)
    assert (second.spent, second.seconds) == (first.spent, first.seconds)
    second.charge("probes", 5, 1.0)
    assert state == first.state()


def test_the_bill_adds_up_to_the_same_bits_whatever_the_sequence_in_the_checkpoint() -> None:
    """JSON written with sorted keys comes back in another sequence, and sums of floats depend on it."""
    first, second = (Budget(share=0.05, training_tokens=7e5, ratio=0.3711) for _ in range(2))
    for purpose, tokens in (("scoring", 101), ("selection", 2003), ("probes", 30011)):
        first.charge(purpose, tokens, 0.1)  # type: ignore[arg-type] # a purpose, but mypy sees str
    second.load(json.loads(json.dumps(first.state(), sort_keys=True)))
    assert list(second.spent) == list(first.spent)
    assert (second.shares(), second.clock_share()) == (first.shares(), first.clock_share())


def test_candidates_are_paid_for_out_of_what_the_others_leave() -> None:
    budget = Budget(0.1, 1000.0, 0.5, (*ALWAYS, THINNING))
    assert budget.weight("scoring") == Budget(0.1, 1000.0, 0.5).weight("scoring")
    budget.charge(THINNING, 50, 1.0)
    assert budget.left == 150
    assert budget.shares() == pytest.approx({**dict.fromkeys(PURPOSES, 0.0), THINNING: 0.025, "all": 0.025})
    assert THINNING not in Budget(0.1, 1000.0, 0.5).shares()


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("now", [True, False])
def test_what_candidates_cost_stays_on_the_bill_of_a_run_that_goes_on_otherwise(*, before: bool, now: bool) -> None:
    old, new = (Budget(0.1, 1000.0, 0.5, (*ALWAYS, *([THINNING] if thins else []))) for thins in (before, now))
    old.charge(THINNING if before else "probes", 50, 1.0)
    new.load(old.state())
    assert new.left == 150
    assert (THINNING in new.shares()) == (before or now)


def test_a_map_is_paid_of_what_is_left_and_forgotten_by_a_run_that_goes_on() -> None:
    budget = Budget(0.5, 100.0, 0.5)
    assert "map" not in budget.shares()
    before = budget.part("scoring")
    budget.charge("map", 20, 1.5)
    assert (budget.left, budget.part("scoring")) == (80.0, before)
    assert (budget.shares()["map"], budget.shares()["all"]) == (0.1, 0.1)
    again = Budget(0.5, 100.0, 0.5)
    again.load(budget.state())
    assert (again.left, "map" in again.spent) == (100.0, False)
