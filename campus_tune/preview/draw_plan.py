"""What a simulated plan under a policy shows: rows that never come, cells too small, chances that are too unequal.

>>> round(epochs_for_passes(3, begins=0, until=0.875, drop=0.5), 2)
2.49
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import numpy as np

from campus_tune.method.earned import ACT_FROM
from campus_tune.method.policy import Policy
from campus_tune.preview.forecast import forecast_findings, stage_rows
from campus_tune.preview.reweight_advice import growth_findings
from campus_tune.preview.simulate import SimulatedRun
from campus_tune.preview.weight_plan import LEAST_ESS, waiting_findings, weight_plan_findings
from campus_tune.recipe.config import CampusConfig
from campus_tune.words.findings import Finding, Severity
from campus_tune.words.wording import listed

LEAST_TAU = 1.1  # τ below which scores are too much alike to draw by
LEAST_CELL = 3  # rows that can be compared with each other
NOTABLE = 0.001  # part of the rows
BELOW_MEAN = 0.6  # part of the rows whose loss lies below their cell's mean: losses have a long tail


def plan_findings(config: CampusConfig, run: SimulatedRun, known: Collection[str] = ()) -> list[Finding]:
    """What a person should know of who is drawn, which rows, how much they count, where a recipe says something of it.

    Args:
        config: whose run was planned, with its seed.
        run: the plan.
        known: labels of the scores that were given; what follows from others is made up.
    """
    policy, per_epoch = run.policy, math.ceil(run.n_rows / run.global_batch)
    problems = config.draw.passes_problems(
        total_steps=run.total_steps,
        steps_per_epoch=per_epoch,
        n_stages=len(run.stages),
        revisits=config.coverage == "revisit",
    )
    found = [
        *(Finding("error", problem) for problem in problems),
        *weight_plan_findings([s.weights for s in run.stages]),
        *waiting_findings(run.weighting, run.visits),
    ]
    if policy is None:
        return found
    rows = stage_rows(config, n_rows=run.n_rows, global_batch=run.global_batch)
    return [
        *found,
        *forecast_findings(policy, rows=rows, visits=run.visits),
        *growth_findings(config, policy, rows=rows, visits=run.visits),
        *_never_trained(policy, run),
        *_small_cells(policy),
        *_chances(policy, run, known),
        *_shorter_passes(config, run, per_epoch),
        *_suspects(config, run, per_epoch),
    ]


def _never_trained(policy: Policy, run: SimulatedRun) -> Iterator[Finding]:
    """Rows that do not come although there was room for all."""
    n_open = run.n_rows - run.drawn["dropped"]
    never = run.drawn["never_trained"]["rows"]
    if never - max(0, n_open - run.visits) <= NOTABLE * n_open:
        return
    by_domain = run.drawn["never_trained"]["by_domain"].items()
    of = listed([f"{name} {n}" for name, n in by_domain], 5)
    what = f"{never} of {run.n_rows} rows are not trained once in {run.visits} visits ({of})"
    if policy.thin is not None:
        remedy = "Raise `keep`, end thinning sooner (until: 0.5), or train for more epochs, if they should come."
        yield Finding("info", f"{what}: thinning passes them over.", remedy)
        return
    if any(period.top is not None for period in policy.periods):
        yield Finding("info", f"{what}: in some phase `top` is closed to them.", "Raise `top`, if they should come.")
        return
    remedy = "Give their domains larger shares, or train for more epochs."
    yield Finding("warning", f"{what}: their shares do not reach all of them.", remedy)


def _suspects(config: CampusConfig, run: SimulatedRun, per_epoch: int) -> Iterator[Finding]:
    """When suspects are dropped: later than the recipe says, or never, for a row that was never seen is not known."""
    entry = config.draw.suspects
    if entry is None:
        return
    passes = run.total_steps / per_epoch
    epochs = "one epoch" if passes == 1 else f"{passes:.3g} epochs"
    if run.acts_at is None:
        never = run.drawn["never_trained"]["rows"]
        when = f"{never} of {run.n_rows} rows are never seen" if never else "the last of them is seen when it ends"
        what = f"`drop: suspects` drops nothing in this run of {epochs}: it waits until every row was seen, and {when}."
        remedy = (
            "Train for two epochs or more (num_train_epochs: 2), or drop them in the next run: campus-tune suspects "
            "RUN --out rows.jsonl --judge, then drop: [{by: judged, path: rows.jsonl}]."
        )
        yield Finding("info" if entry.acts == "auto" else "warning", what, remedy)
        return
    if run.acts_at > entry.begins + max(stage.n_rows for stage in run.stages) / run.visits:
        what = (
            f"`drop: suspects` waits until progress {run.acts_at:.2g} of {epochs}, for every row is seen once there: "
            f"from: {entry.begins:g} is sooner."
        )
        severity: Severity = "info" if entry.since is None else "warning"
        yield Finding(severity, what, f"Write from: {math.ceil(run.acts_at * 100) / 100:g}, or train for more epochs.")
    made_up = "nobody is dropped" if entry.acts != "always" else f"{entry.bound:.0%} of the rows are, at random"
    what = f"Which rows look wrong is known when a run has seen them: in this plan {made_up}."
    if entry.acts == "auto":
        what += f" With act: auto some are once the record shows, for sure, that {ACT_FROM:.0%} or more are wrong."
    yield Finding("info", what)


def _small_cells(policy: Policy) -> Iterator[Finding]:
    """Cells in which hardly anything can be compared."""
    if policy.thin is None or policy.cells is None:
        return
    sizes = policy.cells.sizes
    small = [policy.cells.names[cell] for cell in np.flatnonzero((sizes > 0) & (sizes < LEAST_CELL)).tolist()]
    if small:
        what = (
            f"{len(small)} of {len(sizes)} cells have fewer than {LEAST_CELL} rows ({listed(small, 3)}): of those, "
            "`thin` has nothing to compare."
        )
        bands = max(1, int(policy.sizes(policy.domain_codes, len(policy.domain_names)).min()) // LEAST_CELL)
        fewer = f"Write cells: {{bands: {bands}}}, " if bands < len(sizes) else "Write "
        yield Finding("warning", what, f"{fewer}or leave out `cells: of`, if it is there.")


def _chances(policy: Policy, run: SimulatedRun, known: Collection[str]) -> Iterator[Finding]:
    """Chances that are very unequal, or hardly at all."""
    thin = policy.thin
    told = [stage.drawn["thin"] for stage in run.stages if stage.drawn.get("thin", {}).get("tau") is not None]
    if thin is None or not told:
        return  # rank and top are biased on purpose: of their chances nobody makes weights
    real = thin.by.removeprefix("-") in known or thin.by in known
    guessed = "" if real else " (with made-up scores)"
    least = min(thin_["ess"] for thin_ in told)
    if least < LEAST_ESS:
        what = (
            f"Rows are taken with chances so unequal that they count as {least:.0%} of as many drawn alike, in some "
            f"stage{guessed}: a few rows come again and again, and few speak for all others."
        )
        yield Finding("warning", what, "Raise `floor` (0.3 is its default), or lower `power`.")
    taus = [thin_["tau"] for thin_ in told]
    if real and max(taus) < LEAST_TAU and thin.gate is None:
        saved = 1 - 1 / max(taus) ** 2
        what = (
            f"`{thin.by}` is nearly the same in all rows of a cell (τ {max(taus):.2f} at most): drawing in proportion "
            f"to it does the work of {saved:.0%} more rows at best."
        )
        remedy = f"Write how: rank, which goes by places, or gate: {LEAST_TAU:g}, or leave `thin` out."
        yield Finding("warning", what, remedy)


def _shorter_passes(config: CampusConfig, run: SimulatedRun, per_epoch: int) -> Iterator[Finding]:
    """Under prune the same steps are more passes: how many epochs would be as many passes as without it."""
    thin, epochs = config.thin, run.total_steps / per_epoch
    if thin is None or thin.how != "prune" or epochs <= 1:
        return
    drop = 0.5 if thin.drop is None else thin.drop
    begins = thin.since if thin.book_score is None else max(thin.since, 1 / epochs)
    passes = passes_of(epochs, begins=begins, until=thin.until, drop=drop)
    fewer = epochs_for_passes(
        epochs, begins=thin.since, until=thin.until, drop=drop, first=0 if thin.book_score is None else 1
    )
    if passes > epochs * 1.01:
        what = (
            f"prune makes passes shorter: {epochs:g} epochs of steps go about {passes:.1f} times through the rows. "
            f"num_train_epochs: {fewer:.2f} would be about {epochs:g} passes, {1 - fewer / epochs:.0%} of the training "
            "less."
        )
        yield Finding("info", what)


def passes_of(epochs: float, *, begins: float, until: float, drop: float) -> float:
    """How often the rows are gone through under prune.

    Args:
        epochs: steps of the run, in passes over all rows.
        begins: progress from which rows are passed over.
        until: progress until which they are.
        drop: share of the rows below their cell's mean that is passed over.
    """
    pruned = max(0.0, until - begins)
    return epochs * (1 - pruned + pruned / (1 - drop * BELOW_MEAN))


def epochs_for_passes(passes: float, *, begins: float, until: float, drop: float, first: float = 1.0) -> float:
    """The epochs whose steps make so many passes under prune: `E − 1 + 1/c = S·(until/c + 1 − until)` for S.

    c = 1 − drop·0.6 is the part of a pruned pass that is trained. Nothing is known in the first pass.

    Args:
        passes: E.
        begins: progress from which rows are passed over, once something is known.
        until: progress until which they are.
        drop: share of the rows below their cell's mean that is passed over.
        first: passes before anything is known: 1 of what training shows, 0 of a metric.

    Reference:
        Qin et al. 2023 (2303.04947) find 20 % saved for LLaMA; this is 11.7, 16.9, 21.0 % for 2, 3, 5 passes.
    """
    c = 1 - drop * BELOW_MEAN
    epochs = (passes - first + first / c) / (until / c + 1 - until)
    if begins * epochs > first:
        epochs = passes / (begins + (until - begins) / c + 1 - until)
    return min(passes, epochs)
