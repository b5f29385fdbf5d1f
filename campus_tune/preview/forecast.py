"""What a policy will ask of the rows, before the first step: passes of each domain, and what no stage can hold.

>>> from campus_tune.data.domains import Domains
>>> from campus_tune.recipe.policy import policy_of
>>> rows = Domains(np.repeat([0, 1, 2], [8000, 1500, 500]), ["chat", "code", "math"])
>>> config = CampusConfig(selector="shuffle", domains={"shares": {"chat": 0.4, "code": 0.3, "math": 0.3}})
>>> expected_passes(policy_of(config, n_rows=10_000, domains=rows), visits=10_000)
{'chat': 0.5, 'code': 2.0, 'math': 6.0}
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np

from campus_tune.method.policy import Policy
from campus_tune.method.stages import slice_bounds, stage_grid
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.findings import Finding
from campus_tune.words.types import FloatArray
from campus_tune.words.wording import listed

MOST_PASSES = 4.0  # of a domain, from which on more repetition is worth a warning
_MOMENTS = 1000  # of a run, at which its shares are looked at


def stage_rows(config: CampusConfig, *, n_rows: int, global_batch: int) -> int:
    """Rows of the largest stage that a run opens.

    Args:
        config: settings.
        n_rows: N.
        global_batch: B.
    """
    per_epoch = max(1, ceil(n_rows / global_batch))
    steps = int(np.diff(stage_grid(config.stages, per_epoch)).max())
    if config.window == "slice" and not config.is_shuffle:
        bounds = slice_bounds(config.schedule().pacing, config.stages, n_rows, global_batch)
        steps = max(steps, ceil(int(np.diff(bounds, prepend=0).max()) / global_batch))
    return steps * global_batch


def quota_problems(policy: Policy, rows: int) -> list[str]:
    """Strata with fewer rows than a stage takes of them: one row is in a stage once at most.

    Shares that follow what training or probes show are looked at as they are at the start: where they grow beyond the
    rows, the others give what is missing.

    Args:
        policy: of the run.
        rows: of the largest stage.
    """
    sizes = policy.sizes(policy.codes, len(policy.strata_names))
    most: dict[int, float] = {}
    for u in _moments():
        shares = replace(policy, follow=None, steering=None).shares_at(u)
        if shares is None:
            continue
        for stratum in np.flatnonzero(np.floor(shares * rows) > sizes).tolist():
            most[stratum] = max(most.get(stratum, 0.0), float(shares[stratum]))
    return [
        f"`shares` must ask for no more rows of a stage than there are, got {policy.strata_names[stratum]}: "
        f"{share:.3g} of a stage of {rows} rows is {int(share * rows)}, and it has {sizes[stratum]}. Lower its share "
        f"to {int(sizes[stratum] / rows * 1000) / 1000:g}, or write more `stages`."
        for stratum, share in sorted(most.items())
    ]


def expected_passes(policy: Policy, visits: int) -> dict[str, float]:
    """How often each domain's rows will have been offered when the run is over: 1 is once each.

    Shares that follow what training or probes show are counted as they are at the start, and a row that prune has not
    seen as taken.

    Args:
        policy: of the run.
        visits: rows that the run trains in all.
    """
    plain = replace(policy, follow=None, steering=None)
    sizes = policy.sizes(policy.domain_codes, len(policy.domain_names))
    domain_of = np.zeros((len(policy.strata_names), len(policy.domain_names)))
    np.add.at(domain_of, (policy.codes, policy.domain_codes), 1 if policy.dropped is None else ~policy.dropped)
    domain_of /= np.maximum(1, domain_of.sum(axis=1, keepdims=True))  # which part of a stratum is of which domain
    offered = np.zeros(len(sizes))
    for u in _moments():
        shares = plain.shares_at(u)
        new = 1.0 if policy.review is None or not policy.review.holds(u) else 1 - policy.review.share
        if policy.thin is not None and policy.thin.holds(u) and not policy.thin.by_rewards:  # what is taken is offered
            new *= policy.thin.thinner.offered(1000) / 1000
        offered += new * (plain.natural if shares is None else shares) @ domain_of
    offered *= visits / _MOMENTS
    passes = offered / np.maximum(1, sizes)
    return {name: round(float(x), 9) for name, x in zip(policy.domain_names, passes, strict=True)}


def usual_shares(policy: Policy) -> FloatArray:
    """The strata's shares on average over the run, shape (S,), as they are where nothing that it shows moves them.

    Args:
        policy: of the run.
    """
    plain = replace(policy, follow=None, steering=None)
    drawn = [plain.shares_at(u) for u in _moments()]
    return np.asarray(np.mean([plain.natural if shares is None else shares for shares in drawn], axis=0))


def forecast_findings(policy: Policy, *, rows: int, visits: int) -> list[Finding]:
    """What a person should know of what a policy asks of the rows.

    Args:
        policy: of the run.
        rows: of its largest stage.
        visits: rows that it trains in all.
    """
    found = [Finding("error", problem) for problem in quota_problems(policy, rows)]
    passes = expected_passes(replace(policy, thin=None, review=None), visits)  # rows trained, not offered
    often = {name: x for name, x in passes.items() if x > MOST_PASSES}
    if often:
        named = listed([f"{name} {x:.1f} times" for name, x in often.items()], 5)
        what = f"These domains' rows will be trained more than {MOST_PASSES:g} times each: {named}."
        remedy = (
            "Lower their shares, or train for fewer epochs; up to four repeats cost little in pretraining (arXiv "
            "2305.16264)."
        )
        found.append(Finding("warning", what, remedy))
    if never := [name for name, x in passes.items() if x == 0]:
        what = f"These domains will never be drawn: {listed(never, 5)}."
        found.append(Finding("warning", what, "Give them a share, or write domains: {least: 0.02}."))
    return found


def _moments() -> FloatArray:
    """Points of a run, evenly spaced."""
    return (np.arange(_MOMENTS) + 0.5) / _MOMENTS
