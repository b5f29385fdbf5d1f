"""What steers is a future setting: a checkpoint is continued under another one only when that is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from campus_tune.recipe.config import CampusConfig
from campus_tune.run.identity import Identity
from campus_tune.words.errors import ResumeError

SUMS = {"name": "sums", "probe": "math", "loss": 0.8}
LAGGING = {"name": "lagging", "rate": 2}


def identity(**settings: Any) -> Identity:
    config = CampusConfig.from_mapping({"metrics": ["length"], "selector": "fixed", "within": "none", **settings})
    past, future = ({f"campus: {k}": v for k, v in part().items()} for part in (config.past, config.future))
    return Identity({**past, "dataset": "d", "labels": "l", "global_batch": 4}, future, {}, {})


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ({}, {"when": {}}, "when"),
        ({}, {"when": {"stagnation": "widen"}}, "when"),
        ({"when": {"regression": "raise"}}, {"when": {"regression": "note"}}, "when"),
        ({"when": {"regression": "note"}}, {"when": {"regression": {"then": "note", "times": 3}}}, "when"),
        ({"milestones": [SUMS]}, {}, "milestones"),
        ({"milestones": [SUMS]}, {"milestones": [{**SUMS, "loss": 0.7}]}, "milestones"),
        ({}, {"clock": "tokens"}, "clock"),
        ({"clock": {"by": "competence", "target": 0.8}}, {"clock": {"by": "competence", "target": 0.9}}, "clock"),
        ({"domains": {"reweight": "lagging"}}, {"domains": {"reweight": LAGGING}}, "domains"),
    ],
)
def test_another_one_is_refused_and_taken_on_purpose(before: Any, after: Any, named: str) -> None:
    saved = identity(**before).record()
    with pytest.raises(ResumeError, match=rf"`campus: {named}.*on purpose, write campus: {{resume: changed_future}}"):
        identity(**after).refuse_other(saved, changed_future=False)
    identity(**after).refuse_other(saved, changed_future=True)
    identity(**before).refuse_other(saved, changed_future=False)


@pytest.mark.parametrize(
    ("written", "otherwise"),
    [
        (
            {"when": {"stagnation": "note", "regression": ["widen"]}},
            {"when": {"regression": "widen", "stagnation": {}}},
        ),
        ({"milestones": [SUMS]}, {"milestones": [{**SUMS, "then": ["note"], "hold": 2}]}),
        ({"clock": "tokens"}, {"clock": {"by": "tokens"}}),
    ],
)
def test_the_same_written_otherwise_is_the_same(written: Any, otherwise: Any) -> None:
    identity(**otherwise).refuse_other(identity(**written).record(), changed_future=False)
