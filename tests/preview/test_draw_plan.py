"""Plans under a policy: those of a run, and what they show of rows that never come, cells and chances."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campus_tune.data.domains import Domains
from campus_tune.method.curriculum import Curriculum
from campus_tune.preview.draw_plan import epochs_for_passes, passes_of, plan_findings
from campus_tune.preview.learner import ForgetfulLearner
from campus_tune.preview.plan_table import plan_as_json, plan_as_text
from campus_tune.preview.scene import RowsAtHand, Scene
from campus_tune.preview.simulate import SimulatedRun, simulate
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.policy import policy_of
from campus_tune.words.errors import RecipeError
from tests.strategies import examples

NAMES = ("chat", "code", "math")
ROWS = Domains(np.repeat([0, 1, 2], (800, 150, 50)), list(NAMES))
WORTH = {"name": "column", "column": "worth"}
PHASES = [{"until": 0.5, "shares": {"code": 0.5, "chat": 0.5}}, {"until": 1, "shares": {"chat": 0.9, "math": 0.1}}]


def recipe(**settings: Any) -> CampusConfig:
    return CampusConfig.from_mapping({"metrics": [], "selector": "shuffle", "stages": 10, "seed": 0, **settings})


def plan(config: CampusConfig, *, epochs: float = 2.0, **given: Any) -> SimulatedRun:
    assert ROWS.codes is not None
    return simulate(
        config, n_rows=1000, global_batch=10, epochs=epochs, groups=ROWS.codes, domains=NAMES, keep_plan=True, **given
    )


def found(config: CampusConfig, *, epochs: float = 2.0, **given: Any) -> list[str]:
    run = plan(config, epochs=epochs, **given)
    return [str(finding) for finding in plan_findings(config, run, given.get("scores", {}).keys())]


# -- the plan is a run's -----------------------------------------------------------------------------------------------


def test_the_plan_is_that_of_a_curriculum_under_the_recipes_policy() -> None:
    config = recipe(phases=PHASES)
    curriculum = Curriculum(
        config.schedule(),
        {},
        n_rows=1000,
        global_batch=10,
        total_steps=200,
        groups=ROWS.codes,
        policy=policy_of(config, n_rows=1000, domains=ROWS),
    )
    rows = []
    while not curriculum.finished:
        stage = curriculum.open()
        rows.append(stage.rows)
        for _ in range(stage.n_steps):
            curriculum.advance()
    assert plan(config).plan.tolist() == np.concatenate(rows).tolist()  # type: ignore[union-attr] # it was asked for


def test_shares_per_stage_and_passes_are_told() -> None:
    run = plan(recipe(phases=PHASES))
    assert run.stages[0].domain_shares == (0.5, 0.5, 0.0)
    assert run.stages[-1].domain_shares == (0.9, 0.0, 0.1)
    assert run.drawn["passes"] == pytest.approx({"chat": (500 + 900) / 800, "code": 500 / 150, "math": 100 / 50})
    assert run.drawn["never_trained"] == {"rows": 0, "by_domain": {}}


@examples(40)
@given(
    how=st.sampled_from(["top", "rank", "proportional", "prune"]),
    by=st.sampled_from(["seen_loss", "surprise", "excess", "length", "-length"]),
    review=st.sampled_from([None, {"share": 0.2, "by": "spacing"}, {"share": 0.1, "by": "forgetting"}]),
    domains=st.sampled_from([None, {"least": 0.1}, {"over": "cells", "follow": "seen_loss"}, {"follow": "progress"}]),
    window=st.sampled_from(["prefix", "slice"]),
    seed=st.integers(0, 3),
)
def test_recipes_of_any_parts_are_planned_to_the_end(
    how: str, by: str, review: Any, domains: Any, window: str, seed: int
) -> None:
    if by.startswith("-") and how == "proportional":
        by = "length"
    blocks = {"thin": {"how": how, "by": by}, "review": review, "domains": domains}
    config = recipe(metrics=["length"], selector="fixed", window=window, seed=seed, stages=5, **blocks)
    groups = np.repeat([0, 1, 2], (80, 30, 10))
    run = simulate(config, n_rows=120, global_batch=8, epochs=2, groups=groups, domains=NAMES, keep_plan=True)
    assert run.visits == 240
    assert sum(run.rows_by_choice.values()) + run.drawn["review_rows"] == 240
    assert all(stage.n_rows % 8 == 0 for stage in run.stages)
    assert run.plan is not None
    assert len(np.unique(run.plan)) == run.seen == 120 - run.drawn["never_trained"]["rows"]


def test_rows_that_are_dropped_never_come() -> None:
    dropped = np.arange(1000) < 100
    run = plan(recipe(drop=[{"by": WORTH, "lowest": 0.1}]), dropped=dropped)
    assert run.plan is not None
    assert not dropped[run.plan].any()
    assert run.drawn["dropped"] == 100
    assert run.drawn["never_trained"]["rows"] == 0


def test_candidates_are_measured_by_what_training_has_changed_of_them() -> None:
    """The highest of `before + loss now − loss at the start` are taken: half of what is offered, inside each cell."""
    run = plan(recipe(thin={"how": "top", "by": WORTH, "keep": 0.5, "fresh": True}), epochs=1)
    assert [stage.drawn["offered"] for stage in run.stages] == [200] * 10
    assert {stage.drawn["thin"]["known"] for stage in run.stages} == {200}


# -- as text and as data -----------------------------------------------------------------------------------------------


def test_the_table_shows_what_is_used() -> None:
    config = recipe(phases=PHASES, thin={"how": "top", "by": WORTH}, review={"share": 0.1})
    text = plan_as_text(plan(config), []).splitlines()
    assert text[0].split()[-7:] == ["review", "offered", "passed", "over", "chat", "code", "math"]
    assert any(line.startswith("passes: chat ") and "times at most" in line for line in text)
    assert any(line.startswith("review: ") for line in text)
    assert any(line.startswith("thinned by worth (top) in 20 of 20 stages") for line in text)


def test_a_recipe_without_any_of_it_is_told_as_ever() -> None:
    run = plan(recipe())
    text, data = plan_as_text(run, []), plan_as_json(run, [])
    assert "passes" not in text
    assert "review" not in text
    assert "drawn" not in json.dumps(data)
    assert {"lanes", "offered", "thin"}.isdisjoint(data["stages"][0])
    assert plan_findings(recipe(), run) == []


def test_json_has_the_ledgers_words() -> None:
    data = plan_as_json(plan(recipe(thin={"how": "rank"}, domains={"least": 0.1})), [])
    assert data["passes"].keys() == set(NAMES)
    assert "drawn" not in data["stages"][0]
    assert data["stages"][0]["thin"] == {
        "how": "rank", "by": "seen_loss", "skipped": "nothing is known of the rows offered"
    }  # fmt: skip
    assert data["stages"][-1]["lanes"] == {"offer": 0, "mix": 100, "review": 0}
    json.dumps(data)


# -- what a plan shows, and that the advice helps ----------------------------------------------------------------------


def test_thinning_by_what_training_shows_in_one_epoch_is_an_error_and_two_epochs_are_none() -> None:
    config = recipe(thin={"how": "prune"})
    assert "no row was seen before, there is nothing to go by" in found(config, epochs=1)[0]
    assert not [text for text in found(config, epochs=2) if text.startswith("error")]
    assert not [text for text in found(recipe(thin={"how": "prune", "by": WORTH}), epochs=1) if "error" in text]


def test_rows_that_thinning_never_takes_are_told() -> None:
    config = recipe(thin={"how": "top", "by": WORTH, "keep": 0.5})
    (told,) = [text for text in found(config, epochs=1) if "not trained once" in text]
    assert told.startswith("info: 475 of 1000 rows are not trained once in 1000 visits (chat 383, code 71, math 21)")
    sooner = recipe(thin={"how": "top", "by": WORTH, "keep": 0.5, "until": 0.5})
    assert not any("not trained once" in text for text in found(sooner, epochs=3))


def test_rows_that_shares_never_reach_are_told_and_more_epochs_help() -> None:
    shares = {"chat": 0.1, "code": 0.6, "math": 0.3}
    (told,) = [text for text in found(recipe(domains={"shares": shares}, stages=20)) if "not trained once" in text]
    assert told.startswith("warning: 600 of 1000 rows are not trained once in 2000 visits (chat 600)")
    longer = found(recipe(domains={"shares": shares}, stages=20), epochs=8)
    larger = found(recipe(domains={"shares": {"chat": 0.5, "code": 0.4, "math": 0.1}}, stages=20))
    for helped in (longer, larger):  # as the remedy says
        assert not any("not trained once" in text for text in helped)


def test_rows_that_a_phase_closes_are_told_as_that() -> None:
    phases = [{"until": 0.2}, {"until": 1, "top": {"length": 0.3}}]
    (told,) = [text for text in found(recipe(phases=phases)) if "not trained once" in text]
    assert told.startswith("info: ")
    assert told.endswith("in some phase `top` is closed to them. Raise `top`, if they should come.")
    wider = [phases[0], {"until": 1, "top": {"length": 0.999}}]
    assert not any("not trained once" in text for text in found(recipe(phases=wider), epochs=3))


def test_a_run_that_is_shorter_than_a_pass_is_no_ones_fault() -> None:
    assert not any("not trained once" in text for text in found(recipe(domains={"least": 0.05}), epochs=0.5))


def test_cells_of_hardly_any_rows_are_told_with_how_many_would_do() -> None:
    thin = {"how": "top", "by": WORTH}
    (told,) = [text for text in found(recipe(cells={"bands": 40}, thin=thin)) if "fewer than 3 rows" in text]
    assert told.startswith("warning: 40 of 120 cells have fewer than 3 rows (math · length 1 of 40,")
    assert "cells: {bands: 16}" in told
    assert not any("fewer than 3 rows" in text for text in found(recipe(cells={"bands": 16}, thin=thin)))


def test_few_rows_that_speak_for_all_are_told_and_a_floor_helps() -> None:
    scores = {"worth": np.random.default_rng(0).exponential(1.0, 1000) ** 4, "length": np.arange(1000.0)}
    thin = {"how": "proportional", "by": WORTH, "keep": 0.5, "floor": 0.0}
    told = found(recipe(thin=thin), scores=scores)
    assert any("chances so unequal that they count as" in text and "Raise `floor`" in text for text in told)
    assert not any("so unequal" in text for text in found(recipe(thin={**thin, "floor": 0.3}), scores=scores))


def test_scores_that_are_all_alike_are_told_and_a_gate_helps() -> None:
    scores = {"worth": 1 + np.random.default_rng(0).random(1000) / 10, "length": np.arange(1000.0)}
    thin = {"how": "proportional", "by": WORTH, "keep": 0.5}
    (told,) = [text for text in found(recipe(thin=thin), scores=scores) if "τ" in text]
    assert told.startswith("warning: `worth` is nearly the same in all rows of a cell (τ 1.00 at most)")
    for helped in ({**thin, "gate": 1.1}, {**thin, "how": "rank"}):
        assert not any("τ" in text for text in found(recipe(thin=helped), scores=scores))
    assert not any("nearly the same" in text for text in found(recipe(thin=thin)))  # made-up scores prove nothing


# -- shorter passes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("passes", "saved"), [(2, 0.117), (3, 0.169), (5, 0.210), (8, 0.234)])
def test_what_prune_saves_is_as_worked_out_by_hand(passes: int, saved: float) -> None:
    epochs = epochs_for_passes(passes, begins=0.0, until=0.875, drop=0.5)
    assert 1 - epochs / passes == pytest.approx(saved, abs=5e-4)


@given(
    passes=st.floats(1.0, 10.0),
    begins=st.sampled_from([0.0, 0.2, 0.5, 0.8]),
    until=st.sampled_from([0.85, 0.9, 1.0]),
    drop=st.sampled_from([0.1, 0.5, 0.9]),
    first=st.sampled_from([0.0, 1.0]),
)
def test_so_many_epochs_are_so_many_passes(
    passes: float, begins: float, until: float, drop: float, first: float
) -> None:
    epochs = epochs_for_passes(passes, begins=begins, until=until, drop=drop, first=first)
    known = max(begins, first / epochs)
    assert epochs <= passes
    if known <= until and epochs >= first:
        assert passes_of(epochs, begins=known, until=until, drop=drop) == pytest.approx(passes)


def test_the_epochs_that_keep_as_many_passes_are_told() -> None:
    thin = {"how": "prune", "until": 0.875}
    (told,) = [text for text in found(recipe(thin=thin), epochs=3) if "prune" in text]
    assert told.startswith("info: prune makes passes shorter: 3 epochs of steps go about 3.7 times through the rows.")
    assert "num_train_epochs: 2.49 would be about 3 passes, 17% of the training less." in told
    run = plan(recipe(thin=thin), epochs=2.49)  # as it says; the made-up losses have their own share below the mean
    assert run.drawn["passes"]["chat"] == pytest.approx(3, abs=0.25)


# -- what does not go with the rows ------------------------------------------------------------------------------------


def test_shares_of_domains_that_are_not_there_are_refused() -> None:
    with pytest.raises(RecipeError, match="`domains: shares` must be of the domains chat, code, math, got 'mth'"):
        plan(recipe(domains={"shares": {"mth": 0.5, "chat": 0.5}}))


# -- candidates --------------------------------------------------------------------------------------------------------


def scene(by: Any, **scores: Any) -> Scene:
    config = recipe(thin={"how": "top", "by": by, "fresh": True}).resolved(
        has_probes=True, domain_in_data=False, seed=0
    )
    return Scene(config, RowsAtHand(6, scores))


@pytest.mark.parametrize(("by", "sign"), [("seen_loss", 1), ("-seen_loss", -1), ("loss", 1), ("-loss", -1)])
def test_candidates_of_a_loss_are_measured_as_it_is_now(by: str, sign: int) -> None:
    made = scene(by)
    assert isinstance(made.learner, ForgetfulLearner)
    made.learner.visit(np.array([4, 1], dtype=np.int32))
    rows = np.array([1, 0, 4], dtype=np.int32)
    assert made.candidates(rows) == pytest.approx(sign * made.learner.loss()[rows])


@pytest.mark.parametrize(("name", "sign"), [("rho", 1), ("-rho", -1)])
def test_candidates_by_rho_move_with_the_loss(name: str, sign: int) -> None:
    before = sign * np.arange(6.0)  # a reversed metric's scores are its negatives
    made = scene({"name": name, "holdout": "./model", "label": "worth"}, worth=before)
    assert isinstance(made.learner, ForgetfulLearner)
    made.learner.visit(np.array([4, 1], dtype=np.int32))
    rows = np.array([1, 0, 4], dtype=np.int32)
    changed = made.learner.loss()[rows] - made.learner.start_loss()[rows]
    assert made.candidates(rows) == pytest.approx(sign * (np.array([1.0, 0.0, 4.0]) + changed))


# -- suspects ----------------------------------------------------------------------------------------------------------


def suspects(**entry: Any) -> CampusConfig:
    return recipe(drop=[{"by": "suspects", **entry}])


def test_nobody_is_suspect_in_a_made_up_plan_and_always_drops_rows_at_random_from_where_a_run_would() -> None:
    for act in ("auto", "never"):
        run = plan(suspects(act=act))
        assert (run.acts_at, run.drawn["dropped"]) == (0.5, 0)
    run = plan(suspects(act="always", at_most=0.1))
    assert (run.acts_at, run.drawn["dropped"], run.drawn["never_trained"]["rows"]) == (0.5, 100, 0)
    assert run.plan is not None
    visits = np.bincount(run.plan, minlength=1000)
    assert (visits == 1).sum() == 100
    assert (visits[run.plan[1000:]] >= 2).all()
    assert "left out from progress 0.5 on at the latest: 100 rows" in plan_as_text(run, [])


def test_one_epoch_sees_the_last_row_at_its_end_and_two_help() -> None:
    (told,) = found(suspects(), epochs=1)
    assert told.startswith(
        "warning: `drop: suspects` drops nothing in this run of one epoch: it waits until every row was seen, and the "
        "last of them is seen when it ends. Train for two epochs or more (num_train_epochs: 2), or drop them in the "
    )
    assert found(suspects(), epochs=2) == [
        "info: Which rows look wrong is known when a run has seen them: in this plan nobody is dropped."
    ]


def test_rows_that_are_never_seen_are_waited_for_in_vain() -> None:
    told = [line for line in found(suspects(), epochs=0.5) if "drop: suspects" in line]
    assert len(told) == 1
    assert "500 of 1000 rows are never seen" in told[0]


def test_a_from_that_is_sooner_than_a_pass_is_told_and_a_later_one_helps() -> None:
    early, late = found(suspects(**{"from": 0.2})), found(suspects(**{"from": 0.5, "act": "always"}))
    assert early[0] == (
        "warning: `drop: suspects` waits until progress 0.5 of 2 epochs, for every row is seen once there: from: 0.2 "
        "is sooner. Write from: 0.5, or train for more epochs."
    )
    assert late == [
        "info: Which rows look wrong is known when a run has seen them: in this plan 20% of the rows are, at random."
    ]
    assert not [line for line in found(suspects(**{"from": 0.2}), epochs=6) if "waits" in line]
    waits = [line for line in found(suspects(), epochs=1.5) if "waits until progress 0.67" in line]
    assert waits
    assert waits[0].startswith("info: ")


def test_a_plan_up_to_there_is_that_of_a_recipe_without_it() -> None:
    with_it, nothing = plan(suspects(act="always")), plan(recipe(drop=[{"by": "judged", "path": "rows.jsonl"}]))
    assert with_it.plan is not None
    assert nothing.plan is not None
    assert with_it.plan[:1000].tolist() == nothing.plan[:1000].tolist() != with_it.plan[1000:].tolist()
