"""Plans that the record steers: what rules see in made-up probes, what they do, and that they do nothing unasked."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.domains import Domains
from campus_tune.method.curriculum import SHUFFLE
from campus_tune.method.decide import Chosen
from campus_tune.method.estimates import change
from campus_tune.method.view import PastStage
from campus_tune.preview import simulate as simulation
from campus_tune.preview.learner import FADES, PROBES, ForgetfulLearner
from campus_tune.preview.made_up_domains import made_up_domains
from campus_tune.preview.made_up_record import MadeUpRecord
from campus_tune.preview.plan_table import plan_as_json, plan_as_text
from campus_tune.preview.simulate import SimulatedRun, simulate
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.types import Json, RowLosses
from tests.strategies import examples

NAMES = ("code", "math")
ROWS = Domains(np.arange(800) % 2, list(NAMES))
HELD_OUT: Json = {"path": ["probes.jsonl"]}
FORGETS: Json = {"phases": [{"until": 0.4, "shares": {"math": 1.0}}, {"until": 1, "shares": {"code": 1.0}}]}
REVIEW: Json = {"review": {"share": 0.2, "from": 0.4}}
LINEAR: Json = {"pacing": {"name": "linear", "start": 0.01}, "coverage": "revisit"}


def recipe(**settings: Any) -> CampusConfig:
    given = {"metrics": ["length", "mtld"], "selector": "round_robin", "stages": 20, "seed": 0, "probes": HELD_OUT}
    return CampusConfig.from_mapping({**given, **settings})


def plan(config: CampusConfig, *, epochs: float = 2.0, **given: Any) -> SimulatedRun:
    return simulate(
        config, n_rows=800, global_batch=8, epochs=epochs, groups=ROWS.codes, domains=NAMES, keep_plan=True, **given
    )


def told(run: SimulatedRun) -> list[tuple[str, str | None, int, tuple[str, ...]]]:
    return [(one.kind, one.probe, one.step, one.actions) for one in run.events]


def bits(run: SimulatedRun) -> tuple[Any, ...]:
    """All of a plan but what is told of it."""
    assert run.plan is not None
    return run.plan.tobytes(), run.stages, run.drawn, dict(run.rows_by_choice)


# -- a planted regression ----------------------------------------------------------------------------------------------


def test_a_domain_that_a_phase_leaves_out_is_seen_to_regress_and_only_that() -> None:
    run = plan(recipe(**FORGETS, **REVIEW))
    assert told(run) == [("regression", "math", 120, ("note",)), ("regression", "math", 130, ("note",))]
    first = run.events[0]
    assert first.value > first.bound > first.against == 0.02
    assert not run.steered


def test_review_brings_it_back_and_a_note_does_not() -> None:
    noted, acted = (plan(recipe(**FORGETS, **REVIEW, when={"regression": then})) for then in ("note", "review"))
    assert [kind for kind, *_ in told(acted)] == ["regression", "regression", "recovered"]
    assert "recovered" not in [kind for kind, *_ in told(noted)]
    at = acted.events[-1].measurement
    assert acted.probe_losses["math"][at] < noted.probe_losses["math"][at] - 0.02
    assert acted.drawn["review_rows"] > 1.2 * noted.drawn["review_rows"]
    assert (acted.steered, noted.steered) == (True, False)


def test_what_was_planned_before_the_first_firing_is_the_same_plan() -> None:
    noted, acted = (plan(recipe(**FORGETS, **REVIEW, when={"regression": then})) for then in ("note", "review"))
    assert noted.plan is not None
    assert acted.plan is not None
    first = acted.events[0].step * 8
    assert np.array_equal(noted.plan[:first], acted.plan[:first])
    assert not np.array_equal(noted.plan, acted.plan)


def test_a_raised_domain_gets_a_larger_share_from_there_on() -> None:
    phases = [{"until": 0.4, "shares": {"math": 1.0}}, {"until": 1, "shares": {"code": 0.9, "math": 0.1}}]
    run = plan(recipe(phases=phases, when={"regression": "raise"}))
    firing = run.events[0]
    shares = [stage.drawn["shares"]["math"] for stage in run.stages]
    assert firing.probe == "math"
    assert np.mean(shares[16 : firing.stage]) == pytest.approx(0.1, abs=0.02)
    assert np.mean(shares[firing.stage :]) > 0.13


# -- the other actions -------------------------------------------------------------------------------------------------


def test_a_milestone_ends_the_phase_that_it_is_met_in() -> None:
    fractions = {"name": "fractions", "probe": "math", "loss": 1.0, "then": "next_phase"}
    run = plan(recipe(**FORGETS, milestones=[fractions]))
    met = run.events[0]
    assert (met.kind, met.name, met.progress < 0.45) == ("milestone", "fractions", True)
    by_share = {stage.domain_shares for stage in run.stages if stage.index >= met.stage}
    assert by_share == {(1.0, 0.0)}
    assert {stage.domain_shares for stage in run.stages if stage.index < met.stage} == {(0.0, 1.0)}


def test_a_rule_hands_over_and_rows_are_shuffled_from_there() -> None:
    early = {"name": "early", "probe": "math", "loss": 1.3, "then": "hand_over"}
    run = plan(recipe(milestones=[early]))
    met = run.events[0]
    assert 0 < met.step < 0.5 * run.total_steps
    assert all((stage.chosen == SHUFFLE) == (stage.index >= met.stage) for stage in run.stages)


def test_a_rule_ends_the_plan_and_nothing_is_measured_behind_it() -> None:
    reached = {"name": "reached", "probe": "math", "loss": 1.0, "then": "stop"}
    run = plan(recipe(milestones=[reached]))
    met = run.events[-1]
    assert run.stopped_at == met.step == sum(stage.n_rows for stage in run.stages) // 8
    assert len(run.stages) == met.stage
    assert {len(past) for past in run.probe_losses.values()} == {met.stage + 1}


@pytest.mark.parametrize(("action", "sign"), [("widen", 1), ("back_off", -1)])
def test_a_rule_opens_the_orders_a_step_further_or_less(action: str, sign: int) -> None:
    met = {"name": "met", "probe": "math", "loss": 1.2, "then": action}
    run, without = (plan(recipe(milestones=[{**met, "then": then}], **LINEAR)) for then in (action, "note"))
    at = run.events[0].stage
    moved = [
        mine.scope[1] - theirs.scope[1]
        for mine, theirs in zip(run.stages, without.stages, strict=True)
        if mine.chosen != SHUFFLE and theirs.scope[1] < 0.9
    ]
    assert moved[:at] == [0] * at
    assert all(sign * by > 0 for by in moved[at:])


def test_a_rollback_takes_the_learner_back_to_its_best(monkeypatch: pytest.MonkeyPatch) -> None:
    gone_back: list[tuple[float, float]] = []
    scenes = simulation.Scene

    class Watched(scenes):  # type: ignore[misc,valid-type]
        def go_back_to(self, learner: ForgetfulLearner) -> None:
            before = sum(rows.nll.sum() for rows in self.probed.probes())
            super().go_back_to(learner)
            gone_back.append((before, sum(rows.nll.sum() for rows in self.probed.probes())))

    monkeypatch.setattr(simulation, "Scene", Watched)
    run = plan(recipe(**FORGETS, when={"regression": ["rollback", "hand_over"]}))
    assert len(gone_back) == len(run.events) == 2
    assert all(best <= now for now, best in gone_back)
    assert run.stages[-1].chosen == SHUFFLE


# -- the clocks --------------------------------------------------------------------------------------------------------


def scopes(run: SimulatedRun) -> list[float]:
    return [stage.scope[1] for stage in run.stages if stage.chosen != SHUFFLE]


def test_the_clock_of_competence_is_half_to_twice_as_fast_as_the_steps() -> None:
    steps = scopes(plan(recipe(**LINEAR)))
    easy, hard = (
        scopes(plan(recipe(**LINEAR, clock={"by": "competence", "target": target}))) for target in (0.26, 0.99)
    )
    twice, half = ([0.01 + factor * (scope - 0.01) for scope in steps] for factor in (2, 0.5))
    assert easy[1:] == pytest.approx([min(1, scope) for scope in twice[1:]], abs=0.01)
    assert hard[1:] == pytest.approx(half[1:], abs=0.01)


def test_the_clock_of_tokens_goes_by_the_tokens_that_were_trained() -> None:
    rng = np.random.default_rng(0)
    tokens = np.where(rng.permutation(800) < 400, 10, 90)
    short_first = {"length": tokens + rng.random(800), "mtld": tokens + rng.random(800)}
    run = plan(recipe(**LINEAR, clock="tokens", mix=0.0), tokens=tokens, scores=short_first)
    assert run.plan is not None
    behind = np.append(0, np.cumsum(tokens[run.plan]))[np.cumsum([0, *(stage.n_rows for stage in run.stages)])]
    expected = [0.01 + 0.99 * trained / (0.6 * 2 * tokens.sum()) for trained in behind[:24]]
    assert scopes(run)[6:] == pytest.approx(expected[6:], abs=0.01)  # before, a stage needs more rows than are open
    assert scopes(run)[-1] < 0.25


def test_where_rows_are_equally_long_tokens_are_steps() -> None:
    assert scopes(plan(recipe(**LINEAR, clock="tokens"))) == pytest.approx(scopes(plan(recipe(**LINEAR))))


# -- bandits and shares ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["exp3s", "ucb", "teacher"])
@pytest.mark.parametrize("reward", ["probes", "own", "norm"])
def test_a_bandit_is_planned_to_the_end_and_twice_alike(name: str, reward: str) -> None:
    config = recipe(selector={"name": name, "reward": reward})
    one, two = plan(config), plan(config)
    assert bits(one) == bits(two)
    assert {stage.chosen for stage in one.stages} == {"length", "mtld", SHUFFLE}


def recorded(monkeypatch: pytest.MonkeyPatch, config: CampusConfig, **given: Any) -> tuple[SimulatedRun, list[Any]]:
    """A plan, and (record of a stage, its rows, what its forwards showed)."""
    found: list[tuple[PastStage, Any, RowLosses | None]] = []
    close = MadeUpRecord.close

    def closed(self: MadeUpRecord, chosen: Chosen, losses: RowLosses | None, before: float | None) -> None:
        close(self, chosen, losses, before)
        found.append((self.stages[-1], chosen.stage.rows, losses))

    monkeypatch.setattr(MadeUpRecord, "close", closed)
    return plan(config, **given), found


def test_a_stage_is_recorded_as_a_run_records_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = 1 + np.arange(800) % 7
    config = recipe(selector={"name": "ucb", "reward": "own"}, domains={"reweight": "odm"})
    run, found = recorded(monkeypatch, config, tokens=tokens)
    seen: set[int] = set()
    assert ROWS.codes is not None
    for (past, rows, losses), stage in zip(found, run.stages, strict=True):
        assert (past.index, past.chosen) == (stage.index, stage.chosen)
        assert past.offered == (() if stage.chosen == SHUFFLE else ("length", "mtld"))
        assert past.tokens == past.lr_tokens == tokens[rows].sum()
        assert past.lr_mass == len(rows) / 8
        assert losses is not None
        assert past.loss == pytest.approx(losses.mean())
        for name, (nats, count) in past.sums.items():
            mine = ROWS.codes[rows] == NAMES.index(name)
            assert (nats, count) == (pytest.approx(losses.nll_sum[mine].sum()), losses.tokens[mine].sum())
        assert past.shares == pytest.approx(stage.drawn["shares"], abs=1e-5)
        again = np.array([row in seen for row in rows.tolist()])
        assert past.again == (losses.top1[again].sum(), losses.tokens[again].sum())
        seen |= set(rows.tolist())
        assert past.own_gain is not None
        assert past.norm_gain is None
        assert past.own_gain > 0
    assert found[-1][0].again[1] > 0


def test_losses_that_are_moved_by_move_the_shares() -> None:
    run, plain = (
        plan(recipe(domains={"reweight": {"name": "odm"}})),
        plan(recipe(domains={"shares": {"code": 0.5, "math": 0.5}})),
    )
    moved = [stage.drawn["shares"]["math"] for stage in run.stages]
    assert max(moved) - min(moved) > 0.02
    assert np.ptp([stage.drawn["shares"]["math"] for stage in plain.stages]) < 0.03
    assert run.steered


# -- it does nothing unasked -------------------------------------------------------------------------------------------

NEVER: Json = {
    "milestones": [
        {"name": "far", "probe": "math", "loss": 0.001, "then": ["rollback", "hand_over"]},
        {"name": "off", "probe": "code", "accuracy": 0.999, "then": ["widen", "stop"]},
    ],
    "when": {
        "regression": {"over": 9.0, "then": ["rollback", "hand_over"]},
        "stagnation": {"least": 1e-9, "then": "widen"},
        "saturated": {"at": 1.0, "then": "stop"},
    },
}


@examples(25)
@given(
    selector=st.sampled_from(["round_robin", "random", "fixed", "lowest_perplexity", "matched", "ucb"]),
    metrics=st.sampled_from([["length", "mtld"], ["loss", "length"]]),
    coverage=st.sampled_from(["exact", "revisit"]),
    mix=st.sampled_from([0.0, 0.3]),
    handover=st.sampled_from([0.4, 1.0]),
    blocks=st.sampled_from(
        [
            {},
            FORGETS,
            REVIEW,
            {"domains": {"shares": {"math": 0.3, "code": 0.7}}},
            {"domains": {"follow": "progress"}},
            {"thin": {"how": "rank", "by": "seen_loss"}},
            {"weights": ["robust"]},
        ]
    ),
    epochs=st.sampled_from([1.0, 2.5]),
)
def test_with_nothing_seen_the_plan_is_that_without_rules(blocks: Json, epochs: float, **settings: Any) -> None:
    if "thin" in blocks:
        epochs = 2.5
    watched = plan(recipe(**blocks, **settings, **NEVER), epochs=epochs)
    without = plan(recipe(**blocks, **settings, when={}), epochs=epochs)
    assert watched.events == ()
    assert bits(watched) == bits(without)


@examples(10)
@given(
    selector=st.sampled_from(["round_robin", "lowest_perplexity", "matched"]),
    window=st.sampled_from(["prefix", "slice"]),
    blocks=st.sampled_from([{}, FORGETS, {**FORGETS, **REVIEW}]),
)
def test_what_is_only_noted_changes_no_row(blocks: Json, **settings: Any) -> None:
    watched, without = (plan(recipe(**blocks, **settings, **more)) for more in ({}, {"when": {}}))
    assert bits(watched) == bits(without)
    assert without.probe_losses == {}


def test_a_plan_of_a_recipe_that_names_no_probes_asks_for_none() -> None:
    config = CampusConfig.from_mapping({"metrics": ["length"], "seed": 0})
    run = plan(config)
    assert (run.events, run.probe_losses, run.steered, run.made_up) == ((), {}, False, True)


def test_rules_that_do_not_judge_leave_what_is_sure_of_a_plan() -> None:
    acting = recipe(**FORGETS, **REVIEW, when={"regression": ["review", "stop"]})
    run = plan(acting, judges=False)
    assert run.events == ()
    assert bits(run) == bits(plan(recipe(**FORGETS, **REVIEW, when={})))


# -- the probes --------------------------------------------------------------------------------------------------------


def test_probes_are_as_the_formula_says_by_a_slow_sum() -> None:
    domains = np.array([0, 0, 0, 1, 1])
    learner = ForgetfulLearner(5, seed=3, domains=domains)
    start = [rows.nll / rows.tokens for rows in learner.probes()]
    paces = learner._probes[1]
    visits = [(at / 5, row) for at, row in enumerate([3, 0, 4, 0, 1, 2])]
    for stage in ([3, 0, 4], [0, 1, 2]):
        learner.visit(np.array(stage, dtype=np.int32))
    for domain, rows in enumerate(learner.probes()):
        rate, size = (0.75, 1.25)[domain], (3, 2)[domain]
        skill = sum(rate / size * np.exp(-FADES * (6 / 5 - at)) for at, row in visits if domains[row] == domain)
        expected = 0.2 + (start[domain] - 0.2) * np.exp(-0.5 * paces[domain] * skill)
        assert rows.nll / rows.tokens == pytest.approx(expected)
        assert rows.ids.tolist() == list(range(PROBES))
        assert (rows.hits <= rows.tokens).all()


def test_probes_change_with_an_error_as_rows_do_and_disturb_nobody() -> None:
    learner, other = (ForgetfulLearner(100, seed=0, domains=np.arange(100) % 2) for _ in range(2))
    before = learner.probes()[0]
    learner.visit(np.arange(100, dtype=np.int32))
    found = change(before.nll, learner.probes()[0].nll)
    assert found.value < 0
    assert 0.001 < found.stderr < 0.05
    other.visit(np.arange(100, dtype=np.int32))
    assert np.array_equal(learner.loss(), other.loss())
    assert np.array_equal(learner.metric(), other.metric())


def test_a_copy_of_the_learner_learns_by_itself() -> None:
    learner = ForgetfulLearner(50, seed=0)
    copied = learner.copied()
    learner.visit(np.arange(50, dtype=np.int32))
    assert copied.loss() == pytest.approx(copied.start_loss())
    copied.visit(np.arange(50, dtype=np.int32))
    assert np.array_equal(copied.loss(), learner.loss())


# -- what a person reads -----------------------------------------------------------------------------------------------


def test_the_table_says_what_was_seen_and_how_far_shares_went() -> None:
    text = plan_as_text(plan(recipe(**FORGETS, **REVIEW, when={"regression": "review"})), [])
    assert "step 120/200 · math regressed: loss " in text
    assert "→ its rows in the review lane × 2 (time 2)" in text
    assert "· math has recovered: loss " in text
    assert "loss of made-up probes: code " in text
    shares = plan_as_text(plan(recipe(domains={"reweight": "odm"})), [])
    assert "shares of new rows: code " in shares


def test_the_table_of_a_plan_that_nothing_steers_is_as_it_was() -> None:
    noted, without = (plan_as_text(plan(recipe(**more)), []) for more in ({}, {"when": {}}))
    assert noted == without
    assert "probes" not in without


def test_the_json_has_events_as_a_ledger_has_them() -> None:
    run = plan(recipe(**FORGETS, **REVIEW, when={"regression": "review"}))
    found = json.loads(json.dumps(plan_as_json(run, [])))
    assert [event["kind"] for event in found["events"]] == ["regression", "regression", "recovered"]
    assert found["events"][0] == json.loads(json.dumps(run.events[0].line()))
    assert set(found["probes"]) == {*NAMES}
    assert found["stopped_at"] is None
    plain = plan_as_json(plan(recipe()), [])
    assert {"events", "probes", "stopped_at"}.isdisjoint(plain)


def test_domains_that_a_milestone_watches_are_there() -> None:
    milestone = {"name": "fractions", "probe": "math", "loss": 0.8}
    assert made_up_domains(recipe(milestones=[milestone]), None, n_rows=50, seed=0).names == ["math"]
    watched = recipe(when={"stagnation": {"probe": "chat"}}, **FORGETS)
    assert made_up_domains(watched, None, n_rows=50, seed=0).names == ["chat", "code", "math"]
