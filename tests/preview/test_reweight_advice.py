"""What shares that follow losses may come to, said before the first step; the advice helps."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from campus_tune.data.domains import Domains
from campus_tune.method.loss_series import Losses
from campus_tune.method.policy import Policy
from campus_tune.method.reweight import bounded, build_reweight
from campus_tune.preview.forecast import quota_problems
from campus_tune.preview.reweight_advice import (
    ceilings,
    growth_findings,
    probed_findings,
    reweight_findings,
    reweight_of,
)
from campus_tune.recipe.config import CampusConfig
from campus_tune.recipe.policy import policy_of, steering_of
from campus_tune.words.findings import Finding

SIZES = (8000, 1500, 500)
ROWS = Domains(np.repeat([0, 1, 2], SIZES), ["chat", "code", "math"])
LAGGING = {"reweight": "lagging"}
MANY = dict.fromkeys(ROWS.names, 100)


def recipe(**domains: Any) -> CampusConfig:
    probes = {"path": "probes.jsonl"}
    return CampusConfig.from_mapping({"selector": "shuffle", "seed": 0, "probes": probes, "domains": domains})


def grown(config: CampusConfig, *, rows: int, visits: int) -> list[Finding]:
    policy = policy_of(config, n_rows=10_000, domains=ROWS)
    return [] if policy is None else list(growth_findings(config, policy, rows=rows, visits=visits))


def most_advised(finding: Finding) -> float:
    found = re.search(r"most: (\d+(\.\d+)?)", finding.remedy)
    assert found is not None
    return float(found.group(1))


# -- from the settings -------------------------------------------------------------------------------------------------


def test_odm_says_what_it_runs_after() -> None:
    (found,) = reweight_findings(recipe(reweight="odm"))
    assert found.severity == "info"
    assert "a high loss" in found.what
    assert list(reweight_findings(recipe(**LAGGING))) == []
    assert list(reweight_findings(CampusConfig(selector="shuffle"))) == []
    assert reweight_of(CampusConfig(selector="shuffle")) is None


def test_one_name_alone_moves_nothing() -> None:
    alone = {"name": "lagging", "targets": {"math": 1.0}}
    (found,) = reweight_findings(recipe(reweight=alone))
    assert found.severity == "warning"
    assert "names math alone" in found.what
    assert list(reweight_findings(recipe(reweight={**alone, "targets": {"math": 1.0, "code": 1.0}}))) == []


# -- from the probes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probed", "said"),
    [
        ({"chat": 100, "code": 100}, "No probe is of math: `domains: reweight` leaves their shares as they are."),
        ({**MANY, "math": 29}, "Probes of fewer than 30 rows move shares (math 29 rows)"),
        ({"chat": 100}, "probes show those of 1 of 3: no share moves."),
        ({}, "probes show those of 0 of 3: no share moves."),
    ],
)
def test_probes_that_move_nothing_or_by_chance(probed: dict[str, int], said: str) -> None:
    for domains in (LAGGING, {"reweight": {"name": "doremi", "targets": {"math": 1.0}}}):
        (found,) = probed_findings(recipe(**domains), ROWS.names, probed)
        assert found.severity == "warning"
        assert said in found.what


def test_a_domain_of_few_rows_that_is_not_trained_moves_no_share() -> None:
    assert list(probed_findings(recipe(**LAGGING), ROWS.names, {**MANY, "law": 3})) == []


@pytest.mark.parametrize("domains", [{"reweight": "odm"}, {**LAGGING, "over": "cells"}, {}])
def test_probes_do_not_matter_to_what_goes_by_training(domains: dict[str, Any]) -> None:
    assert list(probed_findings(recipe(**domains), ROWS.names, {"chat": 3})) == []


# -- from the rows -----------------------------------------------------------------------------------------------------


def test_a_ceiling_is_the_most_that_a_share_can_get() -> None:
    shares = np.array([0.5, 0.3, 0.2])
    for most in (1.0, 1.5, 3.0, 10.0):
        for i, highest in enumerate(ceilings(shares, most)):
            assert bounded(np.eye(3)[i], shares, most)[i] == pytest.approx(highest)


def test_passes_at_the_most_are_named_and_the_advice_helps() -> None:
    (found,) = grown(recipe(**LAGGING), rows=100, visits=20_000)
    assert found.severity == "warning"
    # natural shares: .05 of the rows, three times, over 20 000 visits, is 3000 visits of 500 rows; chat can get .93
    assert "code 6.0, math 6.0." in found.what
    most = most_advised(found)
    assert most == 2.0
    assert grown(recipe(reweight={"name": "lagging", "most": most}), rows=100, visits=20_000) == []
    assert grown(recipe(**LAGGING), rows=100, visits=13_000) == []  # fewer epochs


def test_what_is_too_often_anyway_is_said_elsewhere() -> None:
    assert grown(recipe(**LAGGING), rows=100, visits=41_000) == []


def test_a_stage_that_a_domain_could_not_fill_is_a_warning_and_no_refusal() -> None:
    config = recipe(**LAGGING, shares={"chat": 0.6, "code": 0.2, "math": 0.2})
    (found,) = grown(config, rows=1000, visits=1000)
    assert found.severity == "warning"
    assert "A stage of 1000 rows has each once, and `reweight` may ask for more than there are: math 600 of 500." in (
        found.what
    )
    most = most_advised(found)
    assert most == 2.5
    lowered = recipe(shares={"chat": 0.6, "code": 0.2, "math": 0.2}, reweight={"name": "lagging", "most": most})
    assert grown(lowered, rows=1000, visits=1000) == []
    assert grown(config, rows=800, visits=1000) == []  # more stages
    steering = steering_of(config, has_probes=True, domains=ROWS)
    policy = policy_of(config, n_rows=10_000, domains=ROWS, steering=steering)
    assert policy is not None
    assert quota_problems(policy, 1000) == []  # the run begins


def test_shares_as_weights_draw_no_more_rows() -> None:
    assert grown(recipe(**LAGGING, by="weights"), rows=1000, visits=20_000) == []


def test_nothing_grows_where_nothing_is_reweighted() -> None:
    shares = {"chat": 0.6, "code": 0.2, "math": 0.2}
    plain = recipe(shares=shares)
    policy: Policy | None = policy_of(plain, n_rows=10_000, domains=ROWS)
    assert policy is not None
    assert list(growth_findings(plain, policy, rows=1000, visits=20_000)) == []


def test_odm_that_would_explore_for_half_of_the_run_is_named_and_the_advice_helps() -> None:
    """Three shares are alike until stage 3 · ln 3 = 3.3: by the formula, and by what is said."""
    for t in range(1, 6):
        losses = Losses.unpaired("abc", np.tile([1.0, 2.0, 3.0], (t - 1, 1)), np.zeros((t - 1, 3)))
        alike = len(set(build_reweight("odm").moved(np.full(3, 1 / 3), losses).round(9))) == 1
        assert alike == (t <= 3)
    (found,) = grown(recipe(reweight="odm"), rows=250, visits=1000)
    assert "alike until stage 3 of about 4." in found.what
    assert "Write stages: 30," in found.remedy  # of 20 stages
    assert grown(recipe(reweight="odm"), rows=250 * 20 // 30, visits=1000) == []
