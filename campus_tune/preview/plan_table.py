"""A simulated plan as a table for the terminal, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from campus_tune.method.draws import GIVEN, HELP, WIDENED
from campus_tune.method.firing_lines import fired_line
from campus_tune.preview.simulate import SimulatedRun, SimulatedStage
from campus_tune.words.findings import Finding
from campus_tune.words.tables import table
from campus_tune.words.types import Json
from campus_tune.words.wording import listed

MOST_NAMED = 8  # domains or strata that a line names


def plan_as_text(run: SimulatedRun, findings: Sequence[Finding]) -> str:
    """The stages as a table, then what they add up to and what to know of it."""
    extra = _lanes(run)
    head = ["stage", "epoch", "chosen", "scope", "rows", "random", "repeats", *extra, *run.domains]
    shares = [f"{name} {_share(n, run.visits)}" for name, n in run.rows_by_choice.items() if n]
    cells = [
        [
            str(stage.index),
            str(stage.epoch),
            stage.chosen,
            f"{stage.scope[0]:.2f}–{stage.scope[1]:.2f}",
            str(stage.n_rows),
            str(stage.n_random),
            str(stage.n_repeats),
            *(column[stage.index] for column in extra.values()),
            *(f"{share:.0%}" for share in stage.domain_shares),
        ]
        for stage in run.stages
    ]
    lines = [
        table(head, cells),
        "",
        f"{run.total_steps} steps of {run.global_batch} rows: {run.visits} rows' worth of training",
        f"seen {run.seen} of {run.n_rows} rows, {_share(run.repeats, run.visits)} repeated",
        f"selector {run.selector}; rows from {', '.join(shares)}",
        *drawn_lines(run),
        *weight_lines(run),
        *steering_lines(run),
    ]
    if run.made_up:
        lines.append("scores, and losses where the selector asks for them, are made up")
    return "\n".join([*lines, *(str(finding) for finding in findings)])


def _lanes(run: SimulatedRun) -> dict[str, list[str]]:
    """Columns that only a policy's plan has, where they hold anything: rows that came back, offered, passed over."""
    columns = {
        "review": [stage.drawn.get("lanes", {}).get("review", 0) for stage in run.stages],
        "offered": [stage.drawn.get("offered", 0) for stage in run.stages],
        "passed over": [stage.drawn.get("passed_over", 0) for stage in run.stages],
    }
    if not any(columns["passed over"]):
        del columns["offered"], columns["passed over"]
    return {name: [str(n) for n in column] for name, column in columns.items() if any(column)}


def drawn_lines(run: SimulatedRun) -> list[str]:
    """What a policy makes of the rows; nothing without one."""
    if run.policy is None:
        return []
    end, never = run.drawn, run.drawn["never_trained"]
    passes = [f"{name} {value:.2f}" for name, value in end["passes"].items()]
    lines = [f"passes: {listed(passes, MOST_NAMED)}; a row comes {end['visits_most']} times at most"]
    if never["rows"]:
        of = listed([f"{name} {n}" for name, n in never["by_domain"].items()], MOST_NAMED)
        lines.append(f"never trained: {never['rows']} rows ({of})")
    if end["dropped"]:
        since = "the start" if run.acts_at is None else f"progress {run.acts_at:.2g} on at the latest"
        lines.append(f"left out from {since}: {end['dropped']} rows")
    if end["review_rows"]:
        lines.append(f"review: {end['review_rows']} visits of rows that come back")
    return [*lines, *_thin_lines(run), *_shortage_lines(run)]


def _thin_lines(run: SimulatedRun) -> list[str]:
    """How the stages were thinned."""
    told = [stage.drawn["thin"] for stage in run.stages if "thin" in stage.drawn]
    thinned = [thin for thin in told if "ess" in thin]
    lines = []
    if thinned:
        line = f"thinned by {thinned[0]['by']} ({thinned[0]['how']}) in {len(thinned)} of {len(run.stages)} stages"
        for name, words in (("tau", "τ"), ("ess", "effective sample size")):
            values = [round(thin[name], 2) for thin in thinned if thin[name] is not None]
            if values and set(values) != {1.0}:
                line += f"; {words} {min(values):.2f} to {max(values):.2f}"
        lines.append(line)
    if thinned and run.policy is not None and run.policy.thin is not None and run.policy.thin.fresh:
        lines.append(
            "candidates are measured in every stage here; in a run as far as its budget pays, see campus-tune check"
        )
    for why in dict.fromkeys(thin["skipped"] for thin in told if "skipped" in thin):
        lines.append(f"not thinned in {_stages(sum(thin.get('skipped') == why for thin in told))}: {why}")
    return lines


def weight_lines(run: SimulatedRun) -> list[str]:
    """What planned weights come to; nothing without any."""
    told = [stage.weights for stage in run.stages if stage.weights]
    if not told:
        return []
    mean, ess = (sum(one[name] for one in told) / len(told) for name in ("mean", "ess"))
    low, high = min(one["min"] for one in told), max(one["max"] for one in told)
    line = f"weights planned in {len(told)} of {_stages(len(run.stages))}: mean {mean:.2f}, {low:.2f} to {high:.2f}"
    lines = [f"{line}; effective sample size {ess:.2f}, {min(one['ess'] for one in told):.2f} at least"]
    own = {} if run.weighting is None else run.weighting.columns
    if any(np.ptp(numbers) == 0 for numbers in own.values()):
        lines.append("your own weights (column) are the same for all rows here; check reads them where the rows are")
    return lines


def steering_lines(run: SimulatedRun) -> list[str]:
    """What rules saw, how far shares were moved, how the probes learned and forgot; nothing where nothing steers."""
    if not run.steered and not run.events:
        return []
    lines = [fired_line(firing.line(), run.total_steps) for firing in run.events]
    moved = _share_lines(run)
    probes = []
    for name, past in run.probe_losses.items():
        first, best, last = (f"{loss:.2f}" for loss in (past[0], min(past), past[-1]))
        probes.append(f"{name} {first} → {last}" + (f" ({best} at best)" if best < last else ""))
    if probes:
        lines.append(f"loss of made-up probes: {listed(probes, MOST_NAMED)}")
    return [*lines, *moved]


def _share_lines(run: SimulatedRun) -> list[str]:
    """From how much to how much each stratum's share went; nothing where the record moves none."""
    steering = None if run.policy is None else run.policy.steering
    if steering is None or not steering.moves_shares:
        return []
    told = [stage.drawn["shares"] for stage in run.stages]
    ranges = [
        f"{name} {min(one[name] for one in told):.0%} to {max(one[name] for one in told):.0%}" for name in told[0]
    ]
    return [f"shares of new rows: {listed(ranges, MOST_NAMED)}"]


def _shortage_lines(run: SimulatedRun) -> list[str]:
    """Strata that had fewer rows than a stage asked of them. That a pass ends inside of a stage is no shortage."""
    lines = []
    for help_ in (WIDENED, GIVEN):
        met = Counter(
            name for stage in run.stages for name, word in stage.drawn["shortage"].items() if word == HELP[help_]
        )
        if met:
            named = listed([f"{name} in {_stages(n)}" for name, n in met.items()], MOST_NAMED)
            lines.append(f"short of rows, {HELP[help_]}: {named}")
    return lines


def _stages(n: int) -> str:
    return f"{n} stage{'' if n == 1 else 's'}"


def plan_as_json(run: SimulatedRun, findings: Sequence[Finding]) -> Json:
    """The same as one JSON object; how a policy drew is written as the ledger has it."""
    return {
        "n_rows": run.n_rows,
        "global_batch": run.global_batch,
        "total_steps": run.total_steps,
        "domains": list(run.domains),
        "selector": run.selector,
        "seen": run.seen,
        "repeats": run.repeats,
        "rows_by_choice": dict(run.rows_by_choice),
        "made_up": run.made_up,
        **run.drawn,
        **_steering_as_json(run),
        "stages": [_stage_as_json(stage) for stage in run.stages],
        "findings": [asdict(finding) for finding in findings],
    }


def _steering_as_json(run: SimulatedRun) -> Json:
    """Events as a ledger has them, and the probes; {} where nothing steers."""
    if not run.steered and not run.events:
        return {}
    events = [firing.line() for firing in run.events]
    return {"events": events, "probes": dict(run.probe_losses), "stopped_at": run.stopped_at}


def _stage_as_json(stage: SimulatedStage) -> Json:
    record = asdict(stage)
    drawn, weights = record.pop("drawn"), record.pop("weights")
    return {**record, **drawn, **({"weights": weights} if weights else {})}


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}"
