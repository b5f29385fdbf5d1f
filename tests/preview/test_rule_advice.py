"""What `check` says of rules: exactly where it is so, and no longer once its advice is followed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from campus_tune.method.rules import smallest_rise
from campus_tune.preview.advice import problems_in_method
from campus_tune.preview.rule_advice import (
    TYPICAL_SPREAD,
    power_findings,
    probe_findings,
    rule_findings,
    stop_findings,
)
from campus_tune.recipe.config import CampusConfig

SUMS = {"name": "sums", "probe": "math", "loss": 0.8}
HALVES = [{"until": 0.5}, {"until": 1}]
CONSTANT, LINEAR = np.ones(100), np.linspace(1, 0, 100)


def config(**settings: Any) -> CampusConfig:
    return CampusConfig.from_mapping({"metrics": ["length"], **settings})


def said(**settings: Any) -> list[str]:
    return [str(finding) for finding in rule_findings(config(**settings))]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"when": {}},
        {"when": {"stagnation": "note", "regression": "note", "saturated": "note"}},
        {"milestones": [SUMS]},
        {"milestones": [SUMS], "when": {"stagnation": ["rollback", "hand_over"], "regression": ["rollback", "stop"]}},
        {"when": {"stagnation": "rollback"}, "selector": "shuffle"},  # no order that it could hand over
        {"when": {"stagnation": "rollback"}, "handover": 0},
        {"phases": HALVES},
    ],
)
def test_of_what_is_meant_nothing_is_said(settings: Any) -> None:
    assert said(**settings) == []


def test_a_rollback_that_repeats_itself_is_warned_of_and_a_handover_ends_it() -> None:
    milestone = {**SUMS, "then": "rollback"}
    assert said(milestones=[milestone], when={"stagnation": ["rollback", "widen"]}) == [
        (
            "warning: `milestones: sums` rolls back and trains on as before: what led there comes again. Write then: "
            "[rollback, hand_over]."
        ),
        (
            "warning: `when: stagnation` rolls back and trains on as before: what led there comes again. Write then: "
            "[rollback, hand_over]."
        ),
    ]
    assert any("rolls back" in str(finding) for finding in problems_in_method(config(milestones=[milestone])))


def test_what_a_phase_that_is_ended_early_does_to_the_next_is_told() -> None:
    (found,) = said(phases=HALVES, milestones=[{**SUMS, "then": "next_phase"}])
    assert found == (
        "info: `milestones: sums` can end a phase before its `until`, then without its overlap; the phases behind it "
        "keep theirs: the next one is longer by what was left."
    )


def test_an_early_end_under_a_rate_that_falls_is_warned_of() -> None:
    stops = config(when={"saturated": "stop"})
    (found,) = stop_findings(stops, LINEAR)
    assert str(found) == (
        "warning: `when: saturated` can stop the run before its learning rate has fallen, which ends at a worse loss "
        "than a schedule that is finished there: compare it with selector: shuffle and as many steps (max_steps). "
        "Write lr_scheduler_type: constant_with_warmup, or then: note."
    )
    assert list(stop_findings(stops, CONSTANT)) == []
    assert list(stop_findings(config(when={"saturated": "note"}), LINEAR)) == []
    assert list(stop_findings(stops, np.zeros(0))) == []
    assert list(stop_findings(stops, np.linspace(1, 0.5, 100))) == []


ROWS = {"math": 12, "code": 30, "chat": 29}


@pytest.mark.parametrize(
    ("settings", "few"),
    [
        ({"when": {"regression": "stop"}}, {"when: regression": "math: 12, chat: 29"}),
        ({"when": {"stagnation": "stop"}}, {"when: stagnation": "math: 12, chat: 29"}),
        ({"when": {"stagnation": {"then": "stop", "probe": "chat"}}}, {"when: stagnation": "chat: 29"}),
        ({"when": {"stagnation": {"then": "stop", "probe": "code"}}}, {}),
        ({"milestones": [{**SUMS, "then": ["note", "stop"]}]}, {"milestones: sums": "math: 12"}),
        ({"milestones": [SUMS]}, {}),
        ({"when": {"regression": "note"}}, {}),
        ({"when": {"saturated": "stop"}}, {}),  # which training shows
        ({}, {}),
        ({"clock": {"by": "competence", "target": 0.9}}, {"clock: competence": "math: 12, chat: 29"}),
        ({"clock": "tokens"}, {}),
    ],
)
def test_probes_of_too_few_rows_to_act_on_are_counted(settings: Any, few: dict[str, str]) -> None:
    found = [str(finding) for finding in probe_findings(config(**settings), ROWS)]
    assert found == [
        f"warning: `{setting}` acts on probes of fewer than 30 rows ({rows}): so few show hardly anything but chance. "
        f"Hold out more rows, or write {'clock: steps' if 'clock' in setting else 'then: note'}."
        for setting, rows in few.items()
    ]
    assert list(probe_findings(config(**settings), dict.fromkeys(ROWS, 30))) == []


# -- power -------------------------------------------------------------------------------------------------------------


def power(rows: dict[str, int], **settings: Any) -> list[str]:
    return [str(finding) for finding in power_findings(config(**settings), rows)]


def test_what_the_probes_can_show_is_said_with_its_assumption() -> None:
    (said_of_all,) = power({"math": 64, "code": 8})
    assert said_of_all.startswith(
        "info: The smallest rises of a loss that the probes can show, where single rows change"
    )
    for name, n in (("math", 64), ("code", 8)):
        rise = smallest_rise(n, TYPICAL_SPREAD, over=0.02, level=0.05 / 2, hold=2)
        assert f"{name} {rise:.0%} ({n} rows)" in said_of_all


def test_more_rows_show_less() -> None:
    rises = [smallest_rise(n, TYPICAL_SPREAD) for n in (8, 32, 128, 512)]
    assert rises == sorted(rises, reverse=True)


def test_nothing_is_said_where_nobody_watches() -> None:
    assert power({"math": 64}, when={}) == []
    assert power({}) == []
