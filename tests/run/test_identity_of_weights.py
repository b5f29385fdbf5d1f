"""Weights in a run's identity: which of them a checkpoint may go on without, and which never."""

from __future__ import annotations

from typing import Any

import pytest

from campus_tune.recipe.config import CampusConfig
from campus_tune.run.identity import Identity
from campus_tune.words.errors import ResumeError

SHARES = {"shares": {"a": 0.5, "b": 0.5}}


def identity(**settings: Any) -> Identity:
    config = CampusConfig.from_mapping({"metrics": [], "selector": "shuffle", "seed": 0, **settings})
    past, future = ({f"campus: {k}": v for k, v in part().items()} for part in (config.past, config.future))
    batch = {"micro": 4, "world": 1, "accumulation": 1}
    return Identity({**past, "dataset": "d", "labels": "l", "global_batch": 4}, future, batch, {})


@pytest.mark.parametrize(("before", "after"), [("sampling", "weights"), ("weights", "sampling")])
def test_shares_by_which_rows_were_drawn_never_become_weights_nor_these_shares(before: str, after: str) -> None:
    saved = identity(domains={**SHARES, "by": before}).record()
    for changed_future in (False, True):
        with pytest.raises(ResumeError, match=f"`campus: domains: by`: '{before}' in the checkpoint, '{after}' now"):
            identity(domains={**SHARES, "by": after}).refuse_other(saved, changed_future=changed_future)
        with pytest.raises(ResumeError) as caught:
            identity(domains={"by": after}).refuse_other(saved, changed_future=changed_future)
        assert "changed_future}" not in str(caught.value)  # that would not help


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"weights": ["focal"]}),
        ({"weights": ["focal"]}, {}),
        ({"weights": ["focal"]}, {"weights": [{"name": "focal", "gamma": 2}]}),
        ({"weights": ["superloss"]}, {"weights": ["robust"]}),
        ({}, {"domains": {**SHARES, "by": "weights"}}),
        ({"domains": {**SHARES, "by": "weights"}}, {"domains": {"least": 0.1, "by": "weights"}}),
        ({"weights": ["focal"]}, {"weights": ["focal"], "control": "shuffled_weights"}),
    ],
)
def test_everything_else_of_weights_may_change_on_purpose(before: dict[str, Any], after: dict[str, Any]) -> None:
    saved = identity(**before).record()
    with pytest.raises(ResumeError, match=r"on purpose, write campus: \{resume: changed_future\}"):
        identity(**after).refuse_other(saved, changed_future=False)
    identity(**after).refuse_other(saved, changed_future=True)
    identity(**before).refuse_other(saved, changed_future=False)
