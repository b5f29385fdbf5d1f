"""A verdict as lines for the console: the sentence first, then the table it rests on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from campus_tune.compare.verdict.inputs import ArmResults
from campus_tune.compare.verdict.sentences import interval, percent, signed
from campus_tune.compare.verdict.speed import Speed, amount
from campus_tune.compare.verdict.verdict import Verdict
from campus_tune.evaluate.paired import LEVEL
from campus_tune.words.tables import table
from campus_tune.words.wording import cut, listed

SHOWN, LONGEST = 6, 40  # domains that a line names, and characters of each


def lines(verdict: Verdict, arms: Sequence[ArmResults]) -> list[str]:
    """What a person wants to know of the arms as they were judged, the most important first."""
    said = [""]
    for judged in verdict.judgements.values():
        if judged.kind != "control":
            said.append(f"VERDICT. {judged.sentence}")
            said += [judged.attribution] if judged.attribution else []
            sooner = verdict.speed[judged.arm]
            said.append(f"SPEED. {sooner.sentence}")
            said += [f"SPEED BY DOMAIN. {domain_speeds(sooner)}"] if sooner.domains else []
            said += [f"AT EQUAL TOKENS. {verdict.equal[judged.arm].sentence}"] if judged.arm in verdict.equal else []
    said += [f"PROXY. {one['sentence']}" for one in ((verdict.proxy or {}).get("scores") or {}).values()]
    levels = [judged.difference.level for judged in verdict.judgements.values() if judged.difference is not None]
    wider = any(level is not None and level < LEVEL for level in levels)
    # the table: final loss or reward, its difference to the baseline, tokens to the baseline's final one
    head = [
        "arm",
        "seeds",
        f"final {verdict.measure}",
        f"against {verdict.baseline}",
        "interval" if wider else "95 % interval",
        "p",
    ]
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
            share = [signed(found, value) for value in (found.value, found.low, found.high)]
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
    said += readings(verdict)
    said += [f"diverged: {one['arm']}, seed {one['seed']}: {one['message']}" for one in verdict.diverged]
    return said + [f"note: {note}" for note in (*verdict.notes, *((verdict.proxy or {}).get("notes") or ()))]


def domain_speeds(speed: Speed) -> str:
    """In which domains an arm was as good as the baseline sooner or later, and in how many nothing is known."""
    sooner: list[str] = []
    later: list[str] = []
    unknown = 0
    for name, one in speed.domains.items():
        found = one.charged
        if found is None or found.value is None or found.p_adjusted is None or found.p_adjusted > LEVEL:
            unknown += 1
            continue
        (later if found.value > 0 else sooner).append(f"{cut(name, LONGEST)} ({amount(found.value)} tokens)")
    parts = [
        f"{word} in {listed(names, SHOWN, more=' and {n} more')}"
        for word, names in (("sooner", sooner), ("later", later))
        if names
    ]
    parts += [f"not told from chance in {unknown} of {len(speed.domains)} domains"] if unknown else []
    said = "; ".join(parts)
    return f"{said[0].upper()}{said[1:]}."


def readings(verdict: Verdict) -> list[str]:
    """Generalisation gap and sharpness of each arm as a table, and what it may be read for."""
    if not verdict.readings:
        return []
    names = list(dict.fromkeys(arm for of in verdict.readings.values() for arm in of))
    rows = [[name] for name in (verdict.baseline, *names)]
    for of in verdict.readings.values():
        known = {name: one.difference for name, one in of.items() if one.difference is not None}
        rows[0].append(next((f"{one.mean_against:.3g}".replace("-", "−") for one in known.values()), "—"))
        for row in rows[1:]:
            one = known.get(row[0])
            span = "" if one is None or one.low is None else f" (Δ {one.low:+.2g} to {one.high:+.2g})"
            row.append("—" if one is None else f"{one.mean:.3g}{span}".replace("-", "−"))
    note = f"note: Δ is the 95 % interval of the difference to {verdict.baseline}; no verdict hangs on these."
    return [table(["arm", *verdict.readings], rows), "", note]
