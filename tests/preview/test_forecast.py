"""What a policy asks of the rows, before the first step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from campus_tune.data.domains import Domains
from campus_tune.method.policy import Policy
from campus_tune.preview.advice import problems_in_method
from campus_tune.preview.draw_advice import draw_findings
from campus_tune.preview.forecast import expected_passes, forecast_findings, quota_problems, stage_rows
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.policy import cells_of, policy_of

SIZES = (8000, 1500, 500)
ROWS = Domains(np.repeat([0, 1, 2], SIZES), ["chat", "code", "math"])
LENGTHS = np.random.default_rng(0).random(10_000)


def policy(**settings: Any) -> Policy:
    config = CampusConfig.from_mapping({"metrics": ["length"], "seed": 0, **settings})
    cells = cells_of(config, lambda _: LENGTHS, domains=ROWS)
    found = policy_of(config, n_rows=10_000, domains=ROWS, cells=cells, score_of=lambda _: LENGTHS)
    assert found is not None
    return found


# -- passes ------------------------------------------------------------------------------------------------------------


def test_unequal_shares_make_unequal_passes() -> None:
    shares = {"chat": 0.4, "code": 0.3, "math": 0.3}
    assert expected_passes(policy(domains={"shares": shares}), 10_000) == {"chat": 0.5, "code": 2.0, "math": 6.0}


def test_natural_shares_pass_over_all_domains_alike() -> None:
    assert expected_passes(policy(phases=[{"until": 1}]), 20_000) == {"chat": 2.0, "code": 2.0, "math": 2.0}
    assert expected_passes(policy(domains={"over": "cells"}), 20_000) == pytest.approx(
        {"chat": 2, "code": 2, "math": 2}
    )


def test_thinning_offers_more_rows_than_are_trained_and_review_fewer() -> None:
    thin = {"how": "top", "by": "length", "keep": 0.25, "until": 0.5}
    assert expected_passes(policy(thin=thin), 10_000)["chat"] == pytest.approx(0.5 * 4 + 0.5)
    assert expected_passes(policy(thin={"how": "prune", "by": "length"}), 10_000)["chat"] == pytest.approx(1)


def test_phases_are_added_up() -> None:
    phases = [{"until": 0.25, "shares": {"math": 1.0}}, {"until": 1, "shares": {"code": 1.0}}]
    assert expected_passes(policy(phases=phases), 10_000) == pytest.approx({"chat": 0, "code": 5, "math": 5})


# -- quotas ------------------------------------------------------------------------------------------------------------


def test_a_domain_with_fewer_rows_than_a_stage_takes_of_it_is_refused_and_the_advice_helps() -> None:
    shares = {"chat": 0.1, "code": 0.3, "math": 0.6}
    (problem,) = quota_problems(policy(domains={"shares": shares}), 1000)
    assert problem == (
        "`shares` must ask for no more rows of a stage than there are, got math: 0.6 of a stage of 1000 rows is 600, "
        "and it has 500. Lower its share to 0.5, or write more `stages`."
    )
    assert quota_problems(policy(domains={"shares": {**shares, "math": 0.5, "code": 0.4}}), 1000) == []
    assert quota_problems(policy(domains={"shares": shares}), 500) == []
    assert quota_problems(policy(domains={"over": "cells"}), 10_000) == []


def test_the_largest_share_over_the_run_counts() -> None:
    phases = [{"until": 0.5, "shares": {"math": 0.2, "chat": 0.8}}, {"until": 1, "shares": {"math": 1.0}}]
    (problem,) = quota_problems(policy(phases=phases), 600)
    assert "math: 1 of a stage of 600 rows is 600, and it has 500" in problem


def test_the_largest_stage_is_one_of_the_grid_or_a_slice() -> None:
    config = CampusConfig(metrics=["length"], stages=4, seed=0)
    assert stage_rows(config, n_rows=1000, global_batch=10) == 250
    assert stage_rows(config, n_rows=1030, global_batch=10) == 260  # 103 steps in four stages
    pacing = {"name": "linear", "start": 0.7}
    sliced = CampusConfig(metrics=["length"], stages=4, window="slice", pacing=pacing, seed=0)
    assert stage_rows(sliced, n_rows=1000, global_batch=10) == 700


def test_findings_name_numbers() -> None:
    found = forecast_findings(policy(domains={"shares": {"code": 0.3, "math": 0.7}}), rows=600, visits=10_000)
    assert [finding.severity for finding in found] == ["warning", "warning"]
    assert "offered more than 4 times each: math 14.0 times." in found[0].what
    assert "These domains will never be drawn: chat." in found[1].what
    lifted = policy(domains={"shares": {"code": 0.3, "math": 0.7}, "least": 0.02})  # as the remedy says
    assert len(forecast_findings(lifted, rows=600, visits=1000)) == 0
    assert forecast_findings(policy(domains={"shares": {"math": 1.0}}), rows=600, visits=1)[0].severity == "error"


# -- from the settings alone -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "severity", "said"),
    [
        ({"domains": {}}, "info", "domains: {shares: natural} draws as without it"),
        ({"review": {}, "coverage": "revisit"}, "warning", "coverage: revisit lets rows come again anyway"),
        ({"review": {}}, "warning", "review without phases, with the prefix window and a share at random"),
        ({"cells": {}}, "warning", "`cells` are cut and nothing is compared in them"),
        (
            {"thin": {"how": "top", "keep": 0.3}, "window": "slice"},
            "warning",
            "keep: 0.3 with window: slice fills steps",
        ),
        ({"thin": {"how": "top"}, "handover": 0}, "info", "handover: 0 trains no order"),
        (
            {"domains": {"shares": {"a": 1.0}}, "phases": [{"until": 1, "shares": {"a": 1.0}}]},
            "warning",
            "`phases` have shares of their own: `domains: shares` hold only in a phase that has none",
        ),
        (
            {"phases": [{"until": 0.5, "shares": {"a": 0.5, "b": 0.5}}, {"until": 1, "shares": {"b": 1.0}}]},
            "warning",
            "Phase 2 leaves out a, which an earlier one trains: it will be forgotten.",
        ),
    ],
)
def test_what_works_and_is_probably_not_meant_is_said(settings: Any, severity: str, said: str) -> None:
    (finding,) = draw_findings(CampusConfig.from_mapping({"metrics": ["length"], **settings}))
    assert finding.severity == severity
    assert said in finding.what
    assert finding.remedy or severity == "info"


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"review": {}, "window": "slice"},
        {"review": {}, "phases": [{"until": 1}]},
        {"thin": {"how": "top", "keep": 0.3}},
        {"thin": {"how": "top"}, "window": "slice"},
        {"cells": {}, "thin": {"how": "top"}},
        {"phases": [{"until": 0.5, "shares": {"a": 1.0}}, {"until": 1, "shares": {"a": 0.01, "b": 0.99}}]},
        {"phases": [{"until": 0.5, "shares": {"a": 1.0}}, {"until": 1, "shares": {"temperature": 2}}]},
        {"phases": [{"until": 0.5, "shares": {"a": 1.0}}, {"until": 1, "shares": {"b": 1.0}}], "review": {}},
        {
            "phases": [{"until": 0.5, "shares": {"a": 1.0}}, {"until": 1, "shares": {"b": 1.0}}],
            "domains": {"least": 0.1},
        },
    ],
)
def test_nothing_is_said_where_nothing_is_odd(settings: Any) -> None:
    assert draw_findings(CampusConfig.from_mapping({"metrics": ["length"], **settings})) == []


def test_shuffling_is_advised_too_and_a_draw_without_orders_is_no_mistake() -> None:
    shuffled = CampusConfig.from_mapping({"selector": "shuffle", "cells": {}})
    assert "`cells` are cut" in problems_in_method(shuffled)[0].what
    ordered = CampusConfig.from_mapping({"metrics": ["length"], "handover": 0, "thin": {"how": "top", "by": "length"}})
    assert [finding.severity for finding in problems_in_method(ordered)] == ["info"]
