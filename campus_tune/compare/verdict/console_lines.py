"""A verdict as lines for the console: the sentence first, then the table it rests on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from campus_tune.compare.verdict.inputs import ArmResults
from campus_tune.compare.verdict.sentences import interval, percent
from campus_tune.compare.verdict.verdict import Verdict
from campus_tune.evaluate.paired import LEVEL
from campus_tune.words.tables import table


def lines(verdict: Verdict, arms: Sequence[ArmResults]) -> list[str]:
    """What a person wants to know of the arms as they were judged, the most important first."""
    said = [""]
    for judged in verdict.judgements.values():
        if judged.kind != "control":
            said.append(f"VERDICT. {judged.sentence}")
            said += [judged.attribution] if judged.attribution else []
            said.append(f"SPEED. {verdict.speed[judged.arm].sentence}")
    said += [f"PROXY. {one['sentence']}" for one in ((verdict.proxy or {}).get("scores") or {}).values()]
    levels = [judged.difference.level for judged in verdict.judgements.values() if judged.difference is not None]
    wider = any(level is not None and level < LEVEL for level in levels)
    # the table: final loss, its difference to the baseline, tokens to the baseline's final loss
    head = ["arm", "seeds", "final loss", f"against {verdict.baseline}", "interval" if wider else "95 % interval", "p"]
    head.append("tokens to its end")
    rows = []
    for arm in arms:
        losses = [float(one.sum() / arm.end.weights.sum()) for one in arm.end.values]
        spread = f" ± {np.std(losses, ddof=1):.4f}" if len(losses) > 1 else ""
        final = f"{np.mean(losses):.4f}{spread}" if losses else "—"
        cells = [arm.name, str(len(arm.seeds)), final]
        mine = verdict.judgements.get(arm.name)
        found = mine.difference if mine else None
        if found is None or found.low is None or found.high is None:
            cells += ["", "", ""]
        else:
            share = [percent(found.share(value), signed=True) for value in (found.value, found.low, found.high)]
            level = f" ({interval(found).removesuffix(' interval')})" if wider else ""
            known = found.p_adjusted
            p = "—" if known is None else "< 0.001" if known < 0.001 else f"{known:.3f}"
            cells += [share[0], f"{share[1]} to {share[2]}{level}", p]
        speed = verdict.speed.get(arm.name)
        reached = [share for share in (speed.reached or {}).values() if share is not None] if speed else []
        n = len(speed.reached or {}) if speed else 0
        cells.append(f"{percent(float(np.mean(reached)))} ({len(reached)} of {n} seeds)" if reached else "")
        rows.append(cells)
    said += ["", table(head, rows), ""]
    if wider:
        said.append(
            "note: where several arms are judged together, intervals are wider than 95 % and p-values larger (Holm)."
        )
    said += [f"diverged: {one['arm']}, seed {one['seed']}: {one['message']}" for one in verdict.diverged]
    return said + [f"note: {note}" for note in (*verdict.notes, *((verdict.proxy or {}).get("notes") or ()))]
