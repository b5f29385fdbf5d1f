"""A simulated plan as a table for the terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from campus_tune.preview.simulate import SimulatedRun
from campus_tune.words.findings import Finding
from campus_tune.words.tables import table
from campus_tune.words.types import Json


def plan_as_text(run: SimulatedRun, findings: Sequence[Finding]) -> str:
    """The stages as a table, then what they add up to and what to know of it."""
    head = ["stage", "epoch", "chosen", "scope", "rows", "random", "repeats", *run.domains]
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
    ]
    if run.made_up:
        lines.append("scores, and losses where the selector asks for them, are made up")
    return "\n".join([*lines, *(str(finding) for finding in findings)])


def plan_as_json(run: SimulatedRun, findings: Sequence[Finding]) -> Json:
    """The same as one JSON object."""
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
        "stages": [asdict(stage) for stage in run.stages],
        "findings": [asdict(finding) for finding in findings],
    }


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}"
