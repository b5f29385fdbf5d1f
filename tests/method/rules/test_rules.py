"""Rules on made-up histories: exact event lists by hand, what never holds, and how often they are wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from campus_tune.method.estimates import Estimate, weighed_sum
from campus_tune.method.firing import Firing
from campus_tune.method.probe_history import Measurement, ProbeHistory, ProbeRows
from campus_tune.method.rules import (
    RULES,
    Milestone,
    Regression,
    Rule,
    Saturated,
    Shown,
    Stagnation,
    already_met,
    build_rule,
    judged,
    power_line,
    smallest_rise,
)
from campus_tune.method.rules.stagnation import gain_of
from campus_tune.method.view import History, PastStage
from campus_tune.words.errors import RecipeError
from campus_tune.words.types import FloatArray
from tests.strategies import examples

TOKENS = np.array([4, 8, 6, 10])
EVEN = np.ones(4)
Rows = Mapping[str, Sequence[FloatArray]]


def walked(
    rules: Sequence[Rule], rows: Rows, masses: Sequence[float] | None = None, **shown: Any
) -> tuple[list[Firing], ProbeHistory]:
    """The firings of a run whose probes have these nats a token, row by row, at each measurement; ten steps apart."""
    measured, firings, n = ProbeHistory(), list[Firing](), len(next(iter(rows.values())))
    for i in range(n):
        mass = i / max(1, n - 1) if masses is None else masses[i]
        now = {name: taken(all_of[i]) for name, all_of in rows.items()}
        measured = measured.taken(now, stage=i, step=10 * i, progress=i / max(1, n - 1), mass=mass, tokens=100 * i)
        history = History(measured=measured, firings=tuple(firings))
        shares = shown.get("shares", {name: 1 / len(rows) for name in rows})
        firings += judged(rules, Shown(history, shares, 10 * max(1, n - 1)))
    return firings, measured


def taken(level: FloatArray) -> ProbeRows:
    tokens = np.resize(TOKENS, len(level))
    return ProbeRows(np.arange(len(level)), level * tokens, tokens, np.round(tokens * np.exp(-level)).astype(int))


def flat(*levels: float) -> list[FloatArray]:
    """Measurements without any noise between rows: all bounds are the values."""
    return [level * EVEN for level in levels]


def told(firings: Sequence[Firing]) -> list[tuple[str, str | None, int, int]]:
    return [(one.kind, one.probe, one.measurement, one.times) for one in firings]


# -- milestones --------------------------------------------------------------------------------------------------------


def of_loss(value: float, stderr: float, name: str = "math") -> Measurement:
    return Measurement(0, 0, 0.0, 0.0, 0, {name: Estimate(value, stderr)}, {name: Estimate(1 - value / 2, stderr)})


@pytest.mark.parametrize(("stderr", "bound", "met"), [(0.03, 0.829, False), (0.01, 0.796, True)])
def test_a_milestone_is_met_by_the_bound_and_not_by_the_mean(stderr: float, bound: float, met: bool) -> None:
    rule = Milestone("fractions", "math", loss=0.80)
    seen = rule.reading(of_loss(0.78, stderr))
    assert seen is not None
    assert round(seen.bound, 3) == bound
    assert (seen.value, seen.against) == (0.78, 0.80)
    assert already_met(rule, of_loss(0.78, stderr)) is met
    assert already_met(Milestone("fractions", "math", competence=math.exp(-0.80)), of_loss(0.78, stderr)) is met


def test_an_accuracy_is_met_from_above() -> None:
    rule = Milestone("right", "math", accuracy=0.60)
    assert already_met(rule, of_loss(0.78, 0.005))  # .61 ± .005: .6018
    assert not already_met(rule, of_loss(0.78, 0.007))  # .5985


def test_a_probe_that_is_not_there_meets_nothing() -> None:
    assert not already_met(Milestone("fractions", "maths", loss=9.0), of_loss(0.1, 0.0))
    assert walked([Milestone("fractions", "maths", loss=9.0)], {"math": flat(1, 1, 1)})[0] == []


def test_a_milestone_fires_once_when_it_held() -> None:
    firings, _ = walked([Milestone("low", "math", loss=0.8)], {"math": flat(1, 0.7, 0.9, 0.8, 0.7, 0.6, 0.5)})
    assert told(firings) == [("milestone", "math", 4, 1)]
    assert firings[0].name == "low"
    assert (firings[0].stage, firings[0].step, firings[0].progress) == (4, 40, 4 / 6)
    assert firings[0].value == pytest.approx(0.7)


def test_another_firing_comes_when_all_was_measured_anew() -> None:
    rule = Milestone("low", "math", loss=0.8, hold=3, times=2)
    firings, _ = walked([rule], {"math": flat(*[0.5] * 12)})
    assert told(firings) == [("milestone", "math", 2, 1), ("milestone", "math", 5, 2)]


def test_two_milestones_of_a_probe_count_apart() -> None:
    rules = [Milestone("a", "math", loss=0.9), Milestone("b", "math", loss=0.6)]
    firings, _ = walked(rules, {"math": flat(1, 0.8, 0.8, 0.5, 0.5)})
    assert [(one.name, one.measurement) for one in firings] == [("a", 2), ("b", 4)]


# -- saturated ---------------------------------------------------------------------------------------------------------


def stages(*again: tuple[int, int]) -> History:
    return History([PastStage(i, "all", 10 * (i + 1), again=one) for i, one in enumerate(again)])


@pytest.mark.parametrize(
    ("again", "fires"),
    [
        ([(1000, 1000), (1000, 1000)], True),
        ([(1000, 1000)], False),
        ([(1000, 1000), (0, 0)], False),
        ([(1000, 1000), (980, 1000)], False),
        ([(267, 267), (267, 267)], False),
        ([(268, 268), (268, 268)], True),
        ([(980, 1000), (1000, 1000), (1000, 1000)], True),
    ],
)
def test_rows_that_come_again_are_known_in_two_stages(again: list[tuple[int, int]], fires: bool) -> None:
    found = Saturated().judge(Shown(stages(*again), total_steps=100))
    assert bool(found) is fires
    if fires:
        n = len(again)
        assert (found[0].probe, found[0].measurement, found[0].stage, found[0].step) == (None, -1, n, 10 * n)
        assert found[0].progress == n / 10


def test_saturation_rests_by_stages() -> None:
    rule, history = Saturated(times=3), stages(*[(1000, 1000)] * 5)
    first = rule.judge(Shown(replace(history, stages=history.stages[:2]), total_steps=100))
    for n, times in ((3, []), (4, [2]), (5, [2])):
        shown = Shown(replace(history, stages=history.stages[:n], firings=first), total_steps=100)
        assert [one.times for one in rule.judge(shown)] == times


# -- stagnation --------------------------------------------------------------------------------------------------------


def test_stagnation_fires_a_window_apart_and_falls_silent_at_the_end() -> None:
    firings, _ = walked([Stagnation(window=2, times=9)], {"math": flat(*[1.0] * 11)})
    assert told(firings) == [("stagnation", None, i, i // 2) for i in (2, 4, 6, 8)]  # at 9, a tenth is left
    assert told(walked([Stagnation(window=2)], {"math": flat(*[1.0] * 11)})[0]) == told(firings[:2])


def test_a_gain_is_no_stagnation() -> None:
    steady = flat(*(0.9**i for i in range(12)))
    assert walked([Stagnation()], {"math": steady})[0] == []
    assert told(walked([Stagnation(probe="code")], {"math": steady, "code": flat(*[1.0] * 12)})[0])[0] == (
        "stagnation",
        "code",
        4,
        1,
    )


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_gain_is_counted_per_mass(schedule: str) -> None:
    x = np.arange(21) / 20
    mass = {"constant": x, "linear": 2 * x - x**2, "cosine": x + np.sin(np.pi * x) / np.pi}[schedule]
    for per_run, fires in ((0.05, False), (0.01, True)):  # a window of four is a fifth: 1 % and 0.2 %
        levels = flat(*np.exp(-per_run * mass))
        firings, measured = walked([Stagnation()], {"math": levels}, masses=mass)
        assert bool(firings) is fires
        gain = gain_of(measured, {"math": 1.0}, 4, 200)
        assert gain is not None
        assert gain.value == pytest.approx(per_run / 5, rel=0.03)


def test_nothing_is_said_of_what_was_not_trained_or_not_measured() -> None:
    standing = [0.2] * 6
    assert walked([Stagnation()], {"math": flat(*[1.0] * 6)}, masses=standing)[0] == []
    _, measured = walked([], {"math": flat(1, 1, 1, 1, 1)})
    assert gain_of(measured, {"math": 0.5, "code": 0.5}, 4, 40) is None
    assert gain_of(measured, {}, 4, 40) is None
    assert gain_of(measured, {"math": 1.0, "code": 0.0}, 4, 40) is not None


def test_falls_of_domains_are_averaged_by_shares_with_their_errors() -> None:
    parts = [(0.25, Estimate(0.1, 0.02, 11)), (0.75, Estimate(0.2, 0.04, 21))]
    found = weighed_sum(parts)
    assert found.value == pytest.approx(0.175)
    assert found.stderr == pytest.approx(math.sqrt(0.005**2 + 0.03**2))
    df = found.stderr**4 / (0.005**4 / 10 + 0.03**4 / 20)
    assert found.n == int(df) + 1
    assert weighed_sum([(1.0, Estimate(1.0, math.inf, 1))]).upper(0.05) == math.inf
    assert weighed_sum([(1.0, Estimate(1.0, 0.1))]) == Estimate(1.0, 0.1, 0)


# -- regression --------------------------------------------------------------------------------------------------------


def test_a_regression_is_found_told_again_and_over() -> None:
    math_ = flat(1, 1, 1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.01, 1.0)
    firings, _ = walked([Regression(then=("review",))], {"math": math_, "code": flat(*[1.0] * 11)})
    assert told(firings) == [
        ("regression", "math", 4, 1),
        ("regression", "math", 6, 2),
        ("recovered", "math", 9, 1),
    ]
    assert firings[0].actions == ("review",)
    assert firings[0].value == pytest.approx(0.1)
    assert firings[0].against == 0.02
    assert firings[2].actions == ("note",)
    assert firings[2].value == pytest.approx(0.01)


def test_a_short_rise_is_let_be() -> None:
    assert walked([Regression()], {"math": flat(1, 1, 1, 1.1, 1, 1.1, 1, 1.019, 1.019, 1.019)})[0] == []


def test_what_came_before_a_best_level_is_no_regression() -> None:
    assert walked([Regression()], {"math": flat(1, 1.5, 2)})[0] == []


def test_a_domain_that_is_back_has_recovered_whatever_the_error() -> None:
    noisy = (
        [np.array([0.9, 1.1, 1.0, 1.0])] * 3 + [np.array([1.9, 2.1, 2.0, 2.0])] * 2 + [np.array([0.6, 1.1, 1.2, 1.0])]
    )
    firings, measured = walked([Regression(times=1)], {"math": noisy})
    assert told(firings) == [("regression", "math", 4, 1), ("recovered", "math", 5, 1)]
    assert measured.last.rise["math"].value <= 0
    assert firings[1].bound > 0.02


def test_each_domain_has_its_own_times() -> None:
    up = flat(1, 1, 1, *[1.2] * 8)
    firings, _ = walked([Regression(times=2)], {"b": up, "a": up})
    assert told(firings) == [
        (k, p, m, t) for m, t in ((4, 1), (6, 2)) for k, p in (("regression", "a"), ("regression", "b"))
    ]


# -- what a setting may be ---------------------------------------------------------------------------------------------


def test_an_action_may_be_a_word_or_a_list() -> None:
    assert build_rule("stagnation") == Stagnation()
    assert build_rule({"name": "regression", "then": "review"}).then == ("review",)
    assert build_rule({"name": "stagnation", "then": ["rollback", "hand_over"]}).then == ("rollback", "hand_over")
    assert RULES.build("milestone", {"name": "f", "probe": "math", "loss": 1}) == Milestone("f", "math", loss=1)
    assert RULES.names() == ["milestone", "regression", "saturated", "stagnation"]


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("stagnation", {"then": "reviw"}, "got 'reviw'. Did you mean 'review'?"),
        ("stagnation", {"then": []}, r"got \[\]. Choose one of them."),
        ("stagnation", {"then": 5}, "got 5. Choose one of them."),
        ("stagnation", {"then": "raise"}, "no one domain, got raise.* name a `probe`"),
        ("saturated", {"then": ["note", "review"]}, "no one domain, got review"),
        ("stagnation", {"window": 8}, "at least 1 and at most 7, got 8. Lower it."),
        ("stagnation", {"least": 0}, r"`least` must be a number in \(0, 1\), got 0"),
        ("regression", {"over": -1}, r"`over` must be a number in \[0, 10\), got -1"),
        ("regression", {"times": 0}, "`times` must be a whole number of at least 1"),
        ("saturated", {"at": 99}, r"`at` must be a number in \(0, 1\], got 99"),
        ("milestone", {"name": "f", "probe": "m"}, "exactly one of loss, competence, accuracy, got none of them"),
        ("milestone", {"name": "f", "probe": "m", "loss": 1, "accuracy": 0.5}, "got loss and accuracy. Write"),
        ("milestone", {"name": "f", "probe": "m", "competence": 1}, r"`competence` must be a number in \(0, 1\)"),
    ],
)
def test_a_setting_that_is_wrong_is_named(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        RULES.build(name, options)


def test_the_advice_of_a_domain_that_is_missing_is_followed() -> None:
    assert build_rule({"name": "stagnation", "then": "raise", "probe": "math"}).then == ("raise",)


# -- properties --------------------------------------------------------------------------------------------------------

levels = st.lists(
    st.lists(st.sampled_from([0.5, 0.7, 1.0, 1.02, 1.1, 1.5, 2.0]), min_size=4, max_size=4), min_size=1, max_size=16
)
some_rules = st.lists(
    st.one_of(
        st.builds(Regression, over=st.sampled_from([0.0, 0.02, 0.2]), hold=st.integers(1, 3), times=st.integers(1, 3)),
        st.builds(Stagnation, window=st.integers(1, 5), least=st.sampled_from([0.005, 0.5]), times=st.integers(1, 3)),
    ),
    max_size=2,
    unique_by=lambda rule: rule.kind,
)


def as_rows(drawn: list[list[float]]) -> list[FloatArray]:
    return [np.array(one) for one in drawn]


@examples(60)
@given(some_rules, levels)
def test_no_rule_fires_more_often_or_sooner_than_it_may(rules: list[Rule], drawn: list[list[float]]) -> None:
    firings, _ = walked(rules, {"math": as_rows(drawn)})
    for rule in rules:
        own = [one for one in firings if one.kind == rule.kind]
        assert [one.times for one in own] == list(range(1, len(own) + 1))
        assert len(own) <= rule.times
        assert all(b.measurement - a.measurement >= rule.apart for a, b in pairwise(own))
    of_a_kind = {kind: [one.measurement for one in firings if one.kind == kind] for kind in ("regression", "recovered")}
    assert all(any(r < m for r in of_a_kind["regression"]) for m in of_a_kind["recovered"])


@examples(40)
@given(some_rules, levels, st.sampled_from([0.25, 2.0, 8.0]), st.permutations(range(4)))
def test_units_and_sequence_of_rows_and_domains_change_nothing(
    rules: list[Rule], drawn: list[list[float]], factor: float, order: list[int]
) -> None:
    rows = as_rows(drawn)
    plain, _ = walked(rules, {"a": rows, "b": rows[::-1]})
    measured_otherwise, _ = walked(
        rules, {"b": [factor * one for one in rows[::-1]], "a": [factor * one for one in rows]}
    )
    assert told(measured_otherwise) == told(plain)
    firings, measured, n = list[Firing](), ProbeHistory(), len(rows)
    for i in range(n):  # the same rows in another sequence
        now = {name: taken(all_of[i]) for name, all_of in (("a", rows), ("b", rows[::-1]))}
        now = {
            name: ProbeRows(one.ids[order], one.nll[order], one.tokens[order], one.hits[order])
            for name, one in now.items()
        }
        measured = measured.taken(
            now, stage=i, step=10 * i, progress=i / max(1, n - 1), mass=i / max(1, n - 1), tokens=100 * i
        )
        firings += judged(
            rules, Shown(History(measured=measured, firings=firings), {"a": 0.5, "b": 0.5}, 10 * max(1, n - 1))
        )
    assert told(firings) == told(plain)


# -- how often they are wrong, and what they find ----------------------------------------------------------------------


def made_up(
    rng: np.random.Generator, n: int, jitter: float, truth: FloatArray, spread: float = 0.3
) -> dict[str, list[FloatArray]]:
    """A domain whose rows differ by `spread` and jitter by themselves around a true level."""
    rows = np.exp(spread * rng.standard_normal(n) - spread**2 / 2)
    return {"math": [rows * level * np.exp(jitter * rng.standard_normal(n) - jitter**2 / 2) for level in truth]}


@pytest.mark.parametrize(("n", "jitter"), [(8, 0.3), (64, 0.1)])
def test_flat_histories_show_no_regression(n: int, jitter: float) -> None:
    rng = np.random.default_rng(n)
    wrong = sum(bool(walked([Regression()], made_up(rng, n, jitter, np.ones(30)))[0]) for _ in range(200))
    assert wrong <= 10


def test_a_loss_at_its_milestone_does_not_meet_it() -> None:
    rng = np.random.default_rng(1)
    rule = Milestone("m", "math", loss=1.0)
    wrong = sum(bool(walked([rule], made_up(rng, 64, 0.1, np.ones(30)))[0]) for _ in range(200))
    assert wrong <= 10


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_a_run_that_still_gains_does_not_stagnate(schedule: str) -> None:
    rng = np.random.default_rng(2)
    x = np.arange(30) / 29
    mass = {"constant": x, "linear": 2 * x - x**2, "cosine": x + np.sin(np.pi * x) / np.pi}[schedule]
    truth = np.exp(-0.005 * 29 / 4 * mass)  # exactly `least` in a window, at the mean rate
    wrong = sum(bool(walked([Stagnation()], made_up(rng, 64, 0.02, truth), masses=mass)[0]) for _ in range(200))
    assert wrong <= 10


def test_the_smallest_rise_is_found_in_eighty_of_a_hundred() -> None:
    rng = np.random.default_rng(3)
    n, jitter, looks = 64, 0.1, 12
    rise = smallest_rise(n, jitter * math.sqrt(4 / 3), looks=looks)
    truth = np.array([1.0] * (looks - 2) + [1 + rise] * 2)
    found = sum(bool(walked([Regression()], made_up(rng, n, jitter, truth))[0]) for _ in range(200))
    assert 0.75 <= found / 200 <= 0.97  # the luck of the best level adds to what is found


def test_a_smallest_rise_by_another_way() -> None:
    one_look = smallest_rise(64, 0.16, over=0.02, level=0.05, hold=1, looks=1)
    assert one_look == pytest.approx(0.02 + 0.02 * (stats.t.ppf(0.95, 63) + stats.norm.ppf(0.8)), abs=1e-4)
    assert smallest_rise(64, 0.16, looks=1, hold=2) > one_look
    assert smallest_rise(64, 0.16, looks=20, hold=2) > smallest_rise(64, 0.16, looks=1, hold=2)
    assert smallest_rise(256, 0.16) < smallest_rise(64, 0.16)
    assert smallest_rise(1, 0.16) == math.inf


def test_a_run_says_what_its_probes_can_show() -> None:
    rng = np.random.default_rng(4)
    _, measured = walked([], made_up(rng, 64, 0.1, np.ones(2)))
    assert power_line(ProbeHistory()) == {}
    assert power_line(ProbeHistory(measured.measurements[:1], measured.recent[:1])) == {}
    second = power_line(measured)
    assert second["math"] == pytest.approx(smallest_rise(64, 0.1 * math.sqrt(4 / 3), looks=2), rel=0.3)
    _, later = walked([], made_up(rng, 64, 0.1, np.ones(5)))
    rise = later.last.rise["math"]
    assert power_line(later)["math"] == pytest.approx(smallest_rise(64, rise.stderr * 8, looks=5))
