"""A firing in one line for a person: what a rule saw, with its numbers, and what is done about it.

>>> line = {"kind": "regression", "name": "regression", "probe": "math", "step": 120, "times": 1}
>>> line |= {"value": 0.0612, "bound": 0.032, "against": 0.02, "actions": ["review"]}
>>> fired_line(line, 400)
'step 120/400 · math regressed: loss 6.12% above its best (at least 3.2%, limit 2%) → its rows in the review lane × 2'
"""

from __future__ import annotations

from campus_tune.method.steering import RAISED, REVIEWED
from campus_tune.words.types import Json

ANSWERS = {
    "widen": "the orders are opened a step further",
    "back_off": "the orders are closed by a step",
    "hand_over": "rows are shuffled from here on",
    "review": f"its rows in the review lane × {REVIEWED:g}",
    "raise": f"its share × {RAISED:g}",
    "rollback": "the best weights and moments are back",
    "stop": "training stops here",
    "next_phase": "the next phase begins",
}


def fired_line(record: Json, total_steps: int) -> str:
    """One firing in one line.

    Args:
        record: the ledger's line of it.
        total_steps: of the run.
    """
    answers = ", then ".join(answered(record))
    done = f" → {answers}" if answers else ""
    again = f" (time {record['times']})" if record["times"] > 1 else ""
    return f"step {record['step']}/{total_steps} · {seen(record)}{done}{again}"


def seen(record: Json) -> str:
    """What a rule saw, with its numbers.

    >>> numbers = {"value": 0.781, "bound": 0.796, "against": 0.8}
    >>> seen({"kind": "milestone", "name": "fractions", "probe": "math", **numbers})
    'milestone fractions met: loss of math 0.781 (at most 0.796, limit 0.8)'
    """
    who, kind = record["probe"], record["kind"]
    value, bound, against = (record[name] for name in ("value", "bound", "against"))
    if None in (value, bound, against):  # JSON has no NaN
        numbers = "of unknown size"
        return f"{kind} {numbers}" if who is None else f"{kind} of {who}, {numbers}"
    low = bound > value or bound == value <= against
    if kind == "milestone":
        what = f"loss of {who}" if low else str(who)
        return f"milestone {record['name']} met: {what} {value:.3f} {_bounds(low, f'{bound:.3f}', f'{against:g}')}"
    limits = _bounds(low, percent(bound), percent(against))
    if kind == "stagnation":
        return f"{'the probes stand' if who is None else f'{who} stands'} still: gain {percent(value)} {limits}"
    if kind == "saturated":
        return f"rows that come again are learned: {percent(value)} of their tokens are the likeliest {limits}"
    side = f"{percent(abs(value))} {'above' if value >= 0 else 'below'} its best"
    return f"{who} {'has recovered' if kind == 'recovered' else 'regressed'}: loss {side} {limits}"


def answered(record: Json) -> list[str]:
    """What was done about it, in sequence; nothing of what was only noted."""
    done, said = record.get("done", {}), []
    for action in record["actions"]:
        words = ANSWERS.get(action, action)
        if action == "rollback" and "step" in done.get(action, {}):
            words = f"weights and moments of step {done[action]['step']} are back"
        if action == "stop":
            words = done.get(action, {}).get("said", words)
        if action != "note":
            said.append(words)
    return said


def _bounds(low: bool, bound: str, against: str) -> str:
    return f"({'at most' if low else 'at least'} {bound}, limit {against})"


def percent(value: float) -> str:
    """A share or a relative change, with no more digits than it needs.

    >>> percent(0.0612), percent(0.02), percent(-0.00001), percent(12.3456)
    ('6.12%', '2%', '0%', '1234.56%')
    """
    return f"{round(100 * value, 2) + 0.0:g}%"
