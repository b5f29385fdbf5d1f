"""Weights in what is told before a run: the simulated plan, the findings, the rows that `check` reads."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from campus_tune.data.domains import Domains
from campus_tune.method.weighed import rows_of_half
from campus_tune.method.weights import OwnWeight, effective_share
from campus_tune.preview.advice import problems_in_method
from campus_tune.preview.draw_plan import plan_findings
from campus_tune.preview.draw_rows import drawn_rows
from campus_tune.preview.plan_table import plan_as_json, plan_as_text
from campus_tune.preview.simulate import SimulatedRun, simulate
from campus_tune.preview.weight_advice import router_findings
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.errors import DataError, RecipeError
from campus_tune.words.types import RowTexts

NAMES = ("chat", "code", "math")
ROWS = Domains(np.repeat([0, 1, 2], (800, 150, 50)), list(NAMES))
TOKENS = np.random.default_rng(0).integers(1, 50, 1000)
OWN = np.random.default_rng(1).exponential(size=1000)


def recipe(**settings: Any) -> CampusConfig:
    return CampusConfig.from_mapping({"metrics": [], "selector": "shuffle", "stages": 10, "seed": 0, **settings})


def plan(config: CampusConfig, **given: Any) -> SimulatedRun:
    sized = {"n_rows": 1000, "global_batch": 50, "epochs": 2.0, "groups": ROWS.codes, "domains": NAMES, **given}
    return simulate(config, keep_plan=True, **sized)


def told(config: CampusConfig, **given: Any) -> str:
    return "\n".join(str(finding) for finding in plan_findings(config, plan(config, **given)))


# -- the plan ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights",
    [
        ["column", "superloss", "robust", "self_paced"],
        [{"name": "column", "from": 0.5, "limit": 2}],
        [{"name": "column", "normalise": "none"}],
    ],
)
@pytest.mark.parametrize("more", [{}, {"metrics": ["length"], "selector": "fixed"}])
def test_a_weighted_plan_has_the_rows_of_one_without_weights(weights: Any, more: dict[str, Any]) -> None:
    weighted, plain = plan(recipe(weights=weights, **more), columns={OwnWeight(): OWN}), plan(recipe(**more))
    assert weighted.plan is not None
    assert plain.plan is not None
    assert weighted.plan.tolist() == plain.plan.tolist()
    assert [bool(stage.weights) for stage in plain.stages] == [False] * len(plain.stages)


def test_a_stage_says_what_its_planned_weights_come_to() -> None:
    run = plan(recipe(weights=["column"]), columns={OwnWeight(): OWN}, tokens=TOKENS)
    assert run.plan is not None
    rows = run.plan[: run.stages[0].n_rows]
    parts = np.split(rows, range(50, len(rows), 50))  # the rows of each step, whose weights have the mean 1
    weights = np.concatenate([OWN[part] * TOKENS[part].sum() / (OWN[part] * TOKENS[part]).sum() for part in parts])
    assert run.stages[0].weights == pytest.approx(
        {
            "mean": 1.0,
            "min": weights.min(),
            "max": weights.max(),
            "ess": effective_share(weights, TOKENS[rows]),
            "half": rows_of_half(weights, TOKENS[rows]),
        },
        abs=2e-6,
    )


def test_the_plan_prints_the_weights_that_are_planned_and_nothing_without() -> None:
    run = plan(recipe(weights=["focal", {"name": "column", "from": 0.5}]), columns={OwnWeight(): OWN})
    assert "\nweights planned in 10 of 20 stages: mean 1.00, 0.00 to " in plan_as_text(run, [])
    stages = plan_as_json(run, [])["stages"]
    assert [("weights" in stage) for stage in stages] == [False] * 10 + [True] * 10
    json.dumps(stages)
    for silent in (recipe(), recipe(weights=["focal", "linupper"])):
        run = plan(silent)
        assert "weights" not in plan_as_text(run, [])
        assert "weights" not in json.dumps(plan_as_json(run, []))


def test_a_column_that_is_not_at_hand_is_simulated_as_alike_and_the_plan_says_so() -> None:
    run, said = plan(recipe(weights=["column"])), "your own weights (column) are the same for all rows here; check "
    assert {stage.weights["ess"] for stage in run.stages} == {1.0}
    assert said in plan_as_text(run, [])
    assert said not in plan_as_text(plan(recipe(weights=["column"]), columns={OwnWeight(): OWN}), [])


def test_shares_that_count_are_simulated_with_a_book_where_they_follow_training() -> None:
    by_shares = plan(recipe(domains={"by": "weights", "shares": {"chat": 0.4, "code": 0.3, "math": 0.3}}))
    assert by_shares.policy is None
    assert all(0.3 < stage.weights["ess"] < 1 for stage in by_shares.stages)
    follows = plan(recipe(domains={"by": "weights", "follow": "seen_loss"}))
    assert follows.stages[0].weights["ess"] == 1  # nothing is known yet
    assert follows.stages[-1].weights["ess"] < 1


def test_unbiased_weights_of_a_thinned_plan_are_planned() -> None:
    config = recipe(thin={"how": "proportional", "by": "seen_loss"}, weights=["unbiased"])
    run = plan(config)
    assert run.stages[0].weights["ess"] == 1
    assert run.stages[-1].weights["ess"] < 1


def test_a_step_without_any_weight_stops_the_plan() -> None:
    nothing = {OwnWeight(): np.where(np.arange(1000) < 3, 1.0, 0.0)}
    with pytest.raises(RecipeError, match=r"`weights` must leave something of every optimizer step"):
        plan(recipe(weights=["column"]), columns=nothing)


# -- what is said of it ------------------------------------------------------------------------------------------------


def test_few_rows_that_carry_the_gradient_are_warned_of_and_a_limit_helps() -> None:
    wild = {OwnWeight(): np.where(np.arange(1000) % 25 == 0, 100.0, 1.0)}
    found = told(recipe(weights=["column"]), columns=wild)
    assert "Planned weights are so unequal that " in found
    assert "of the rows carry half of the gradient in some stage: it counts as " in found
    limited = recipe(weights=[{"name": "column", "limit": 5}])
    assert "so unequal" not in told(limited, columns=wild)
    assert told(limited, columns={OwnWeight(): OWN}) == ""


def test_a_weight_that_compares_is_an_error_in_a_run_of_one_stage() -> None:
    found = told(recipe(weights=["superloss"], stages=1), epochs=1.0)
    assert "`weights: superloss` must have the losses of a stage before" in found
    assert told(recipe(weights=["superloss"], stages=2), epochs=1.0) == ""


@pytest.mark.parametrize(
    ("settings", "severity", "what"),
    [
        ({"weights": ["focal"]}, "info", "For instruction tuning the evidence is mixed"),
        ({"weights": ["robust"]}, "info", "costs where all are right (held-out loss 1.00 to 1.18 of shuffling's)"),
        (
            {"weights": [{"name": "self_paced", "floor": 0, "until": 1}]},
            "warning",
            "self_paced with floor: 0 until the end of the run",
        ),
        (
            {"weights": [{"name": "self_paced", "floor": 0}], "handover": 1},
            "warning",
            "teach nothing, and so stay hard",
        ),
        ({"metrics": ["length"], "selector": "fixed", "handover": 0, "weights": ["column"]}, "info", "no order"),
    ],
)
def test_what_a_weight_does_that_its_name_does_not_say(settings: dict[str, Any], severity: str, what: str) -> None:
    (finding,) = [one for one in problems_in_method(recipe(**settings)) if what in one.what]
    assert finding.severity == severity


def test_a_floor_or_an_end_is_what_self_pacing_is_told_to_have() -> None:
    for weight in ({"floor": 0}, {"floor": 0.1, "until": 1}, {"floor": 0, "until": 0.9}):
        assert problems_in_method(recipe(weights=[{"name": "self_paced", **weight}])) == []


def test_routers_losses_stay_what_they_are() -> None:
    (finding,) = router_findings(recipe(weights=["focal"]), routed=True)
    assert "The auxiliary loss of the model's routers stays unweighted" in finding.what
    assert [*router_findings(recipe(weights=["focal"]), routed=False), *router_findings(recipe(), routed=True)] == []


# -- the rows ----------------------------------------------------------------------------------------------------------


def texts(**columns: Any) -> RowTexts:
    return RowTexts(["a"] * 4, np.array([1, 2, 3, 4]), np.ones(4, dtype=np.int64), columns)


def test_own_weights_are_read_in_units_of_their_mean() -> None:
    drawn = drawn_rows(recipe(weights=["column"]), texts(weight=[4, 3, 2, 1]))
    assert drawn.weights[OwnWeight()] == pytest.approx(np.array([4, 3, 2, 1]) / 2)  # Σ w·T = 20 over 10 tokens
    assert drawn.findings == ()
    assert drawn_rows(recipe(), texts(weight=["x"] * 4)).weights == {}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"votes": [1, 2, 3, 4]}, r"a column of the training set \(votes\), got a name that is not there"),
        ({"weight": ["a", "b", "c", "d"]}, r"`weights: column: weight` must "),
        ({"weight": [1, None, 1, 1]}, r"`weights: column: weight` must "),
        ({"weight": [1, -1, 1, 1]}, r"finite weights of at least 0, got -1 in row 1"),
        ({"weight": [0, 0, 0, 0]}, r"a weight above 0 somewhere, got 0 everywhere"),
    ],
)
def test_what_is_no_weight_is_refused_before_the_run(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        drawn_rows(recipe(weights=["column"]), texts(**columns))


def test_weights_that_change_nothing_are_warned_of_and_those_of_messages_wait() -> None:
    (same,) = drawn_rows(recipe(weights=["column"]), texts(weight=[2, 2, 2, 2])).findings
    assert (same.severity, "must differ between rows to change anything" in same.what) == ("warning", True)
    of_messages = recipe(weights=[{"name": "column", "of": "message"}])
    (later,) = drawn_rows(of_messages, texts(messages=[[]] * 4)).findings
    assert later.what == "`weights: weight` of messages is read in the run."


def test_domains_that_weights_go_by_must_have_names() -> None:
    nameless = texts(domain=["a", "", "b", "b"])
    drawn_rows(recipe(weights=["focal"]), nameless)
    with pytest.raises(DataError, match=r"`domain` must name a group in every row, for `weights` goes by it"):
        drawn_rows(recipe(weights=["superloss"]), nameless)
    with pytest.raises(DataError, match=r"for `domains` goes by it"):
        drawn_rows(recipe(domains={"by": "weights", "shares": {"a": 1}}), nameless)


# -- weights that do nothing -------------------------------------------------------------------------------------------


WAITS = "lets each cell be until 20 of its rows were trained"


def test_cells_too_small_for_a_weight_are_warned_of_and_fewer_bands_help() -> None:
    robust = {"weights": ["robust"]}
    lengths = {"scores": {"length": np.arange(1000.0)}, "drawn_by": ROWS, "epochs": 1.0}
    assert WAITS not in told(recipe(**robust), **lengths)  # 160, 30 and 10 rows in a cell: four fifths are compared
    many = told(recipe(**robust, cells={"bands": 40}), **lengths)
    assert f"{WAITS}, which are all but 0% of this run's rows: there are 120 cells for 1000 visits." in many
    assert WAITS not in told(recipe(**robust, cells={"bands": 1}), **lengths)
    assert WAITS not in told(recipe(weights=["superloss"], cells={"bands": 40}), **lengths)
