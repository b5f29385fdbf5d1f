"""What there is to say of who was drawn and which: the parts of a ledger's lines that only a policy's run has.

>>> from campus_tune.method.pacing import build_pacing
>>> from campus_tune.method.stages import Schedule
>>> policy = Policy(4, domains=np.array([0, 0, 1, 1]), domain_names=("code", "math"))
>>> schedule = Schedule(build_pacing("linear"), stages=2)
>>> curriculum = Curriculum(schedule, {}, n_rows=4, global_batch=2, total_steps=2, policy=policy)
>>> said = of_stage(curriculum, curriculum.open())
>>> said["lanes"], said["passes"], said["shares"]
({'offer': 0, 'mix': 2, 'review': 0}, {'code': 0.5, 'math': 0.5}, {'all rows': 1.0})
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from campus_tune.method.curriculum import Curriculum
from campus_tune.method.policy import Policy
from campus_tune.method.stages import LANES, Stage
from campus_tune.words.types import Json

_DIGITS = 6


def of_start(policy: Policy | None, dropped: Mapping[str, int]) -> Json:
    """Rows of each cell, and rows that are left out for each reason.

    Args:
        policy: of the run; None without one.
        dropped: reason → rows.
    """
    if policy is None:
        return {}
    cells = policy.cells
    names, sizes = ((), ()) if cells is None else (cells.names, cells.sizes.tolist())
    return {"cells": dict(zip(names, sizes, strict=True)), "dropped": dict(dropped)}


def of_stage(curriculum: Curriculum, stage: Stage) -> Json:
    """How a stage was drawn; {} without a policy."""
    apart, draw = curriculum.apart, stage.draw
    if apart is None or draw is None:
        return {}
    policy, counts = apart.policy, np.bincount(draw.lane, minlength=len(LANES))
    said: Json = {
        "lanes": dict(zip(LANES, counts.tolist(), strict=True)),
        "shares": {name: round(share, _DIGITS) for name, share in zip(policy.strata_names, draw.shares, strict=True)},
        "offered": draw.offered,
        "passed_over": draw.passed_over,
        "passes": _rounded(apart.passes.by_domain()),
        "shortage": dict(draw.shortage),
    }
    if policy.thin is not None and (draw.known is not None or draw.skipped is not None):
        thin: Json = {"how": policy.thin.how, "by": policy.thin.by}
        if draw.skipped is not None:
            said["thin"] = {**thin, "skipped": draw.skipped}
        else:
            said["thin"] = {**thin, "tau": draw.tau, "known": draw.known, "ess": draw.ess}
    return said


def of_end(curriculum: Curriculum) -> Json:
    """What the run has come to; {} without a policy. Of the current stage only what was trained counts."""
    apart, stage = curriculum.apart, curriculum.stage
    if apart is None:
        return {}
    policy, visits = apart.policy, apart.passes.seen.copy()
    if stage is not None:
        to_come = stage.rows[(curriculum.step - stage.first_step) * curriculum.global_batch :]
        visits[to_come] -= visits[to_come] > 0
    never = visits == 0
    if policy.dropped is not None:
        never &= ~policy.dropped
    by_domain = np.bincount(policy.domain_codes[never], minlength=len(policy.domain_names))
    return {
        "passes": _rounded(apart.passes.by_domain()),
        "never_trained": {
            "rows": int(by_domain.sum()),
            "by_domain": {name: n for name, n in zip(policy.domain_names, by_domain.tolist(), strict=True) if n},
        },
        "dropped": 0 if policy.dropped is None else int(np.count_nonzero(policy.dropped)),
        "visits_most": int(visits.max(initial=0)),
        "review_rows": apart.review_rows,
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, _DIGITS) for name, value in values.items()}
