"""Steering: what each action makes of a plan, as a function of the firings alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.clock import Clock
from campus_tune.method.curriculum import Curriculum
from campus_tune.method.firing import Firing
from campus_tune.method.pacing import build_pacing
from campus_tune.method.policy import Period, Policy
from campus_tune.method.shares import SharePhase
from campus_tune.method.stages import Schedule
from campus_tune.method.steering import MOST_RAISED, Steering
from campus_tune.method.view import History, PastStage


def fired(*actions, probe=None, at=0.3, step=30, kind="regression"):
    return Firing(kind, kind, probe, 3, 3, step, at, 0.0, 0.0, 0.0, tuple(actions))


def steering(*firings, **settings):
    made = Steering(**settings)
    made.look(History(firings=list(firings)))
    return made


def curriculum(steering=None, *, handover=0.8, n=400, policy=None, stages=10, window="prefix"):
    schedule = Schedule(build_pacing("linear"), stages, window=window, handover=handover, seed=3)
    return Curriculum(
        schedule,
        {"length": np.arange(n, dtype=np.int32)},
        n_rows=n,
        global_batch=4,
        total_steps=100,
        policy=policy,
        steering=steering,
    )


def train(made, until=None):
    """Plan stages with the first offer; gives them."""
    stages = []
    while not made.finished and (until is None or made.step < until):
        offers = made.offers()
        stages.append(made.open(offers[0] if offers else None))
        for _ in range(stages[-1].n_steps):
            made.advance()
    return stages


# -- how far the orders are open ---------------------------------------------------------------------------------------


def test_widen_and_back_off_move_the_scope_by_a_pacing_step():
    plain, wide, back, twice = (
        curriculum(steering(*[fired(action)] * n, n_stages=8))
        for action, n in (("note", 1), ("widen", 1), ("back_off", 1), ("widen", 2))
    )
    for made in (plain, wide, back, twice):
        made.open(made.offers()[0])
        for _ in range(10):
            made.advance()
    assert [made.progress for made in (back, plain, wide, twice)] == pytest.approx([0.0, 1 / 8, 2 / 8, 3 / 8])
    scopes = [made.offers()[0].scope[1] for made in (plain, wide, twice)]
    assert scopes == pytest.approx([0.2, 0.2575, 0.38125], abs=0.01)
    assert not twice.offers()[0].widened  # a rule did it, and not a pool that was too small


def test_hand_over_shuffles_from_its_step_on():
    made = curriculum(steering(fired("hand_over", step=30)))
    assert made.handover_step == 30
    stages = train(made)
    assert [stage.chosen for stage in stages] == ["length"] * 3 + ["shuffle"] * 7
    assert sorted(np.concatenate([stage.rows for stage in stages])) == list(range(400))


def test_a_handover_that_comes_first_stays():
    assert curriculum(steering(fired("hand_over", step=90))).handover_step == 80


@given(st.sampled_from(["prefix", "slice"]), st.floats(0, 1), st.integers(1, 20))
def test_a_steering_to_which_nothing_happened_changes_nothing(window, handover, stages):
    plain = train(curriculum(handover=handover, window=window, stages=stages))
    steered = train(curriculum(Steering(n_stages=7), handover=handover, window=window, stages=stages))
    assert [(a.chosen, a.scope, a.rows.tolist()) for a in plain] == [
        (b.chosen, b.scope, b.rows.tolist()) for b in steered
    ]


def test_notes_change_nothing():
    plain = train(curriculum())
    noted = train(curriculum(steering(fired("note"), fired("rollback", "stop", probe="math"))))
    assert [a.rows.tolist() for a in plain] == [b.rows.tolist() for b in noted]


def test_the_clock_of_tokens_counts_what_was_trained():
    made = Steering(clock=Clock("tokens"), handover_tokens=1000.0)
    made.look(History([PastStage(0, "length", 10, tokens=100), PastStage(1, "length", 20, tokens=150)]))
    assert made.progress(0.5, 0.0) == 0.25
    assert made.progress(0.6, 0.1) == 0.35  # what lies ahead is counted by steps


def test_the_clock_of_competence_is_a_mean_over_domains():
    made = Steering(clock=Clock("competence", 0.6))
    made.look(History(probes={"math": [0.1, 0.3], "code": [0.3, 0.5]}))
    assert made.competence() == pytest.approx([0.2, 0.4])
    assert made.progress(0.4, 0.0) == pytest.approx(0.5)


def test_a_domain_whose_probes_came_later_counts_from_there_on():
    made = Steering()
    made.look(History(probes={"math": [0.1, 0.3, 0.5], "code": [0.7]}))
    assert made.competence() == pytest.approx([0.6])


# -- phases ------------------------------------------------------------------------------------------------------------


def test_next_phase_ends_the_phase_of_the_moment():
    untils = [0.4, 0.7, 1.0]
    assert steering(fired("next_phase", at=0.2)).ends(untils) == [0.2, 0.7, 1.0]
    assert steering(fired("next_phase", at=0.2), fired("next_phase", at=0.5)).ends(untils) == [0.2, 0.5, 1.0]
    assert steering(fired("next_phase", at=0.8)).ends(untils) == untils  # nothing follows the last one
    assert steering(fired("next_phase", at=0.4)).ends(untils) == [0.4, 0.4, 1.0]  # the second began there


def test_a_phase_that_was_ended_is_not_faded():
    phases = [SharePhase(0.4, np.array([1.0, 0.0]), 0.2), SharePhase(1.0, np.array([0.0, 1.0]))]
    moved = steering(fired("next_phase", at=0.2)).phases(phases)
    assert [(phase.until, phase.overlap) for phase in moved] == [(0.2, 0.0), (1.0, 0.0)]
    assert [(phase.until, phase.overlap) for phase in steering().phases(phases)] == [(0.4, 0.2), (1.0, 0.0)]


def phased(steering=None, review=None, book=None):
    half = np.repeat([0, 1], 200)
    shares = [np.array([1.0, 0.0]), np.array([0.0, 1.0])]
    periods = tuple(Period(SharePhase(until, share)) for until, share in zip([0.5, 1.0], shares, strict=True))
    names = ("code", "math")
    return Policy(
        400, strata=half, strata_names=names, domains=half, domain_names=names, periods=periods, steering=steering,
        review=review, book=book,
    )  # fmt: skip


def test_a_phase_ends_earlier_in_the_plan():
    told = steering(fired("next_phase", at=0.3, step=30))
    stages = train(curriculum(told, policy=phased(told), handover=0.0))
    of_math = [float(np.mean(stage.rows >= 200)) for stage in stages]
    starts = [stage.first_step for stage in stages]
    assert [of for of, start in zip(of_math, starts, strict=True) if start < 30] == [0.0] * 3
    assert all(of == 1.0 for of, start in zip(of_math, starts, strict=True) if start >= 30)
    assert 30 in starts  # no stage crosses it


# -- shares and review -------------------------------------------------------------------------------------------------


def test_raise_gives_a_domain_half_as_much_again_each_time():
    base = np.array([0.5, 0.5])
    names = ("code", "math")
    once = steering(fired("raise", probe="math"), names=names).shares(base)
    assert once == pytest.approx([1 / 2.5, 1.5 / 2.5])
    often = steering(*[fired("raise", probe="math")] * 9, names=names).shares(base)
    assert often == pytest.approx([1 / (1 + MOST_RAISED), MOST_RAISED / (1 + MOST_RAISED)])


def test_raise_reaches_the_cells_of_its_domain():
    names = ("math short", "math long", "code")
    domain_of = {"math short": "math", "math long": "math"}
    found = steering(fired("raise", probe="math"), names=names, domain_of=domain_of).shares(np.full(3, 1 / 3))
    assert found == pytest.approx([1.5 / 4, 1.5 / 4, 1 / 4])


def test_shares_are_moved_by_the_record_alone():
    assert not steering(fired("review", probe="math")).moves_shares
    assert steering(fired("raise", probe="math"), names=("math",)).moves_shares


def test_review_doubles_until_the_domain_has_recovered():
    regressed, recovered = fired("review", probe="math"), fired("note", probe="math", kind="recovered")
    assert steering(regressed).reviewed() == {"math": 2.0}
    assert steering(regressed, regressed).reviewed() == {"math": 4.0}
    assert steering(regressed, recovered).reviewed() == {}
    assert steering(regressed, recovered, regressed).reviewed() == {"math": 2.0}
    assert steering(fired("review", probe=None)).reviewed() == {}


def test_a_firing_goes_through_json_unchanged():
    firing = fired("rollback", "hand_over", probe="math")
    assert Firing.of(firing.line()) == firing
