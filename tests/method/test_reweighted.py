"""Shares that follow a record: what steering makes of one, when they change, what is told, and weights made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.method.firing import Firing
from campus_tune.method.levels import Groups
from campus_tune.method.policy import Policy
from campus_tune.method.probe_history import ProbeHistory, ProbeRows
from campus_tune.method.reweight import build_reweight
from campus_tune.method.reweighted import IN_A_ROW, at_most_five, held_back, mean_shares
from campus_tune.method.steering import Steering
from campus_tune.method.view import History, PastStage
from campus_tune.method.weighting import ShareWeight
from campus_tune.method.weights import Planning
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray
from tests.method.policies import lived
from tests.strategies import examples

NAMES = ("code", "math")
HALF = np.array([0.5, 0.5])
BEHIND = [{"code": 1.0, "math": 1.0}, {"code": 0.5, "math": 1.0}]  # losses relative to the first
EVERY = ("lagging", "doremi", "odm", "skill_graph")
TARGETS = {"code": 1.0, "math": 1.0}
GRAPH = {"code": {"code": 1.0}, "math": {"math": 1.0}}


def steering(name: str = "lagging", *, of: dict[str, Any] | None = None, **options: Any) -> Steering:
    given: dict[str, Any] = {"doremi": {"targets": TARGETS}, "skill_graph": {"graph": GRAPH}}.get(name, {})
    return Steering(reweight=build_reweight({"name": name, **given, **options}), names=NAMES, **(of or {}))


def record(*levels: dict[str, float], n_stages: int | None = None) -> History:
    """A measurement before each stage, whose losses in nats per token are twice these; and the stages between."""
    measured, stages = ProbeHistory(), []
    for k, level in enumerate(levels):
        rows = {
            name: ProbeRows(np.arange(40), np.full(40, 20 * x), np.full(40, 10), np.zeros(40, int))
            for name, x in level.items()
        }
        measured = measured.taken(rows, stage=k, step=10 * k, progress=0.0, mass=0.0, tokens=0)
    for k in range(len(levels) - 1 if n_stages is None else n_stages):
        sums = {name: (2 * x * 100, 100) for name, x in levels[min(k, len(levels) - 1)].items()}
        stages.append(PastStage(k, "shuffle", 10 * (k + 1), sums=sums, shares=dict(zip(NAMES, HALF, strict=True))))
    return History(stages, measured=measured)


def looking(history: History, name: str = "lagging", *, of: dict[str, Any] | None = None, **options: Any) -> Steering:
    made = steering(name, of=of, **options)
    made.look(history)
    return made


# -- what they follow --------------------------------------------------------------------------------------------------


def test_over_domains_the_probes_say_who_is_behind() -> None:
    made = looking(record(*BEHIND))
    expected = 0.95 * np.exp([-0.25, 0.25]) / np.exp([-0.25, 0.25]).sum() + 0.05 * HALF
    assert made.shares(HALF) == pytest.approx(expected)


def test_odm_goes_by_training_without_any_probes() -> None:
    history = record(*BEHIND, n_stages=2)
    made = looking(History(history.stages), "odm")
    assert made.losses().loss.tolist() == [[2.0, 2.0], [1.0, 2.0]]
    assert made.shares(HALF)[1] > 0.5
    assert looking(History(measured=history.measured), "odm").shares(HALF).tolist() == HALF.tolist()


@pytest.mark.parametrize("name", EVERY)
def test_over_cells_all_go_by_training(name: str) -> None:
    cells = {"domain_of": {"code": "all", "math": "all"}}
    levels = [{"code": 1.0, "math": 1.0}, {"code": 0.8, "math": 1.0}, {"code": 0.4, "math": 1.0}] * 2
    history = History(record(*levels, n_stages=6).stages)
    assert looking(history, name, of=cells).shares(HALF)[1] > 0.505


def test_a_domain_without_probes_stays_at_its_prior() -> None:
    prior = np.array([0.3, 0.2, 0.5])
    made = Steering(reweight=build_reweight("lagging"), names=(*NAMES, "text"))
    made.look(record(*BEHIND))
    shares = made.shares(prior)
    assert shares[2] == 0.5
    assert shares[1] > 0.22
    assert shares.sum() == pytest.approx(1)


def test_no_share_falls_below_the_least() -> None:
    levels = [{"code": 1.0, "math": 1.0}, {"code": 0.01, "math": 1.0}]
    prior = np.array([0.5, 0.5])
    free = looking(record(*levels), rate=10.0).shares(prior)
    held = looking(record(*levels), of={"least": 0.4}, rate=10.0).shares(prior)
    assert free == pytest.approx([1 / 6, 5 / 6])
    assert held == pytest.approx([0.4, 0.6])


def test_an_unknown_name_is_refused_when_the_run_begins() -> None:
    with pytest.raises(RecipeError, match=r"`reweight` must name the domains .*code, math.*got 'maths'. Did you"):
        steering("lagging", targets={"maths": 1.0})


def test_a_raise_comes_on_top() -> None:
    firing = Firing("regression", "regression", "math", 1, 1, 10, 0.1, 0.1, 0.1, 0.0, ("raise",))
    history = record(*BEHIND)
    both = looking(History(history.stages, measured=history.measured, firings=[firing])).shares(HALF)
    alone = looking(history).shares(HALF)
    assert both == pytest.approx(alone * [1, 1.5] / (alone * [1, 1.5]).sum())


# -- when they change --------------------------------------------------------------------------------------------------

levels_drawn = st.lists(
    st.fixed_dictionaries({"code": st.floats(0.1, 1.2), "math": st.floats(0.1, 1.2)}), min_size=1, max_size=9
)


@examples(40)
@given(st.sampled_from(EVERY), levels_drawn, st.integers(1, 4))
def test_between_two_changes_shares_stay(name: str, levels: list[dict[str, float]], every: int) -> None:
    for n in range(len(levels) + 1):
        now = looking(record(*levels[:n], n_stages=n), name, every=every).shares(HALF)
        cut = n // every * every
        then = looking(record(*levels[:cut], n_stages=cut), name).shares(HALF)
        assert now.tolist() == then.tolist()


@examples(40)
@given(st.sampled_from(EVERY), levels_drawn)
def test_as_it_was_is_what_it_said_then(name: str, levels: list[dict[str, float]]) -> None:
    whole = looking(record(*levels), name)
    for k in range(len(levels)):
        then = looking(record(*levels[: k + 1]), name)
        assert whole.at_stage(k).shares(HALF).tolist() == then.shares(HALF).tolist()


def test_what_moved_is_recorded() -> None:
    made = looking(record(*BEHIND))
    told = made.shares_record(HALF)
    assert (told["stage"], told["step"]) == (1, 10)
    assert told["before"] == {"code": 0.5, "math": 0.5}
    assert list(told["after"].values()) == pytest.approx(made.shares(HALF).tolist(), abs=1e-9)
    assert told["signal"] == pytest.approx({"code": -0.25, "math": 0.25})


@pytest.mark.parametrize("name", ["lagging", "odm", "skill_graph"])
def test_what_did_not_move_is_the_same_number(name: str) -> None:
    """At the start, and where all are alike: no line of the ledger says that 0.2 has become 0.2."""
    prior = np.array([0.3, 0.7]) if name == "lagging" else HALF
    for history in (History(), record(*BEHIND[:1]), record(*BEHIND[:1] * 3)):
        told = looking(history, name).shares_record(prior)
        assert told["before"] == told["after"] == dict(zip(NAMES, prior, strict=True))


def test_a_raise_alone_is_recorded_too() -> None:
    firing = Firing("regression", "regression", "math", 1, 1, 10, 0.1, 0.1, 0.1, 0.0, ("raise",))
    made = Steering(names=NAMES)
    made.look(History(record(*BEHIND).stages, firings=[firing]))
    told = made.shares_record(HALF)
    assert (told["before"]["math"], told["after"]["math"], told["signal"]) == (0.5, 0.6, {})


# -- at their bound ----------------------------------------------------------------------------------------------------


def test_a_share_at_its_bound_five_times_is_told_once() -> None:
    far = [{"code": 1.0, "math": 1.0}] + [{"code": 0.1, "math": 1.0}] * 9
    said = [at_most_five(looking(record(*far[:n]), rate=9.0, most=1.5), HALF) for n in range(1, len(far) + 1)]
    assert [one is not None for one in said] == [n == IN_A_ROW + 1 for n in range(1, len(far) + 1)]
    assert said[IN_A_ROW] == (
        "`reweight` gave math the most that `most: 1.5` lets it have, 5 times in a row. Look at the rows: if they are "
        "right, write a larger share under `domains: shares`, or raise `most`."
    )


def test_its_advice_helps() -> None:
    far = [{"code": 1.0, "math": 1.0}] + [{"code": 0.1, "math": 1.0}] * 9
    made = looking(record(*far[: IN_A_ROW + 1]), rate=2.0, most=1.5)
    assert at_most_five(made, HALF) is not None
    assert at_most_five(looking(record(*far[: IN_A_ROW + 1]), rate=2.0, most=9.0), HALF) is None


def test_one_change_off_its_bound_begins_anew() -> None:
    behind, even = {"code": 0.1, "math": 1.0}, {"code": 1.0, "math": 1.0}
    levels = [even, *[behind] * 4, even, *[behind] * 4]
    made = looking(record(*levels), rate=9.0, most=1.5)
    assert held_back(made, HALF) == []
    assert held_back(looking(record(*levels, behind), rate=9.0, most=1.5), HALF) == ["math"]


def test_changes_are_counted_and_not_measurements() -> None:
    far = [{"code": 1.0, "math": 1.0}] + [{"code": 0.1, "math": 1.0}] * 12
    told = [bool(held_back(looking(record(*far[:n]), rate=9.0, most=1.5, every=2), HALF)) for n in range(14)]
    assert told.index(True) == 2 * IN_A_ROW


def test_nothing_is_held_back_where_nothing_is_reweighted() -> None:
    made = Steering(names=NAMES)
    made.look(record(*BEHIND * 4))
    assert held_back(made, HALF) == []
    assert at_most_five(made, HALF) is None


# -- the average -------------------------------------------------------------------------------------------------------


def test_the_average_is_by_steps() -> None:
    history = record({"code": 1.5, "math": 1.0}, {"code": 1.0, "math": 1.5}, {"code": 1.0, "math": 1.0})
    uneven = [PastStage(0, "shuffle", 10), PastStage(1, "shuffle", 40)]
    made = looking(History(uneven, measured=history.measured), "doremi")
    first = looking(record({"code": 1.5, "math": 1.0}), "doremi").shares(HALF)
    second = looking(record({"code": 1.5, "math": 1.0}, {"code": 1.0, "math": 1.5}), "doremi").shares(HALF)
    assert mean_shares(made, lambda _: HALF) == pytest.approx(0.25 * first + 0.75 * second)
    assert mean_shares(steering("doremi"), lambda _: HALF).tolist() == HALF.tolist()


def test_each_stage_counts_with_what_its_phase_would_have_drawn() -> None:
    history = record({"code": 1.5, "math": 1.0}, {"code": 1.0, "math": 1.5}, {"code": 1.0, "math": 1.0})
    made = looking(
        History([PastStage(0, "shuffle", 10), PastStage(1, "shuffle", 40)], measured=history.measured), "doremi"
    )
    phases = {0: np.array([0.9, 0.1]), 10: np.array([0.2, 0.8]), 40: np.array([1.0, 0.0])}  # after the last, no stage
    drawn = [made.at_stage(k).shares(phases[step]) for k, step in enumerate((0, 10))]
    assert mean_shares(made, phases.__getitem__) == pytest.approx(0.25 * drawn[0] + 0.75 * drawn[1])


# -- in a plan ---------------------------------------------------------------------------------------------------------


def policy(made: Steering, **settings: Any) -> Policy:
    codes = np.repeat([0, 1], [60, 20])
    return Policy(80, codes, NAMES, codes, NAMES, steering=made, **settings)


def test_rows_are_drawn_by_the_shares() -> None:
    made = looking(record({"code": 1.0, "math": 1.0}, {"code": 0.2, "math": 1.0}), rate=3.0)
    shares = made.shares(np.array([0.75, 0.25]))
    stage = lived(policy(made), steps=20, batch=8, stages=5).run()[0]
    assert shares[1] > 0.5
    assert stage.draw is not None
    assert np.array(stage.draw.shares) == pytest.approx(shares, abs=1 / len(stage.rows))


def test_what_a_stratum_cannot_give_is_given_by_the_others() -> None:
    """Shares grow beyond the rows there are: the stage stays full, and the ledger says who helped."""
    made = looking(record({"code": 1.0, "math": 1.0}, {"code": 0.2, "math": 1.0}), rate=3.0)
    stage = lived(policy(made), steps=20, batch=8, stages=1).run()[0]
    assert stage.draw is not None
    assert stage.draw.shortage == {"math": "given to others"}
    assert np.count_nonzero(stage.rows >= 60) == 20
    assert len(stage.rows) == 80


def weights(made: Steering, **settings: Any) -> FloatArray:
    made_of = policy(made, **settings)
    part = ShareWeight(Groups(made_of.codes, NAMES), made_of.natural, made_of.shares_at)
    return part.planned(Planning(np.array([0, 70]), np.ones(2), 0.5, {}))


def test_as_weights_they_are_share_over_natural_share() -> None:
    made = looking(record(*BEHIND))
    natural = np.array([0.75, 0.25])
    assert weights(made) == pytest.approx(made.shares(natural) / natural)
    fixed = weights(made, shares=HALF)
    assert fixed == pytest.approx(made.shares(HALF) / natural)
    assert weights(steering()).tolist() == [1.0, 1.0]
