"""What a steered run tells a person: shares that moved, what it comes to, and what did not help.

>>> shares_line({"step": 120, "after": {"math": 0.5, "code": 0.5}}, {"math": 0.25, "code": 0.75}, 400)
'step 120/400 · shares: math 25% → 50%, code 75% → 50%'
>>> steering_warnings([])
[]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from campus_tune.method.firing_lines import answered, percent, seen
from campus_tune.words.types import Json
from campus_tune.words.wording import listed

LEAST_MOVE = 0.01  # of a share, which is worth a word
MOST_NAMES = 4  # shares that a line names
MOST_STEPS = 6  # at which something was seen, that a sentence names
PAST = {
    "milestone": "milestone `{name}` was met",
    "regression": "{who} regressed",
    "recovered": "{who} recovered",
    "stagnation": "{who} stood still",
    "saturated": "rows that come again were learned",
}
ADVICE = {
    "regression": "Review it (`when: {regression: review}` with a `review` block), raise its share, or lower the "
    "learning rate.",
    "reviewed": "Give it a larger share (`domains: shares`), or lower the learning rate.",
    "stagnation": "Look at the probes and at the learning rate; `when: {stagnation: stop}` saves the steps.",
}


def moves(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """Shares that differ by more than a point, the largest first.

    >>> moves({"math": 0.25, "code": 0.75}, {"math": 0.5, "code": 0.5}), moves({"math": 0.2}, {"math": 0.21})
    (['math 25% → 50%', 'code 75% → 50%'], [])
    """
    moved = {name: round(abs(share - before.get(name, 0.0)), 6) for name, share in after.items()}
    most_first = sorted(moved, key=lambda name: -moved[name])
    return [
        f"{name} {before.get(name, 0.0):.0%} → {after[name]:.0%}" for name in most_first if moved[name] > LEAST_MOVE
    ]


def shares_line(record: Json, told: Mapping[str, float], total_steps: int) -> str | None:
    """How shares have moved since it was told last, in one line; None where none has by more than a point.

    Args:
        record: the ledger's line of it.
        told: the shares that were told last.
        total_steps: of the run.
    """
    moved = moves(told, record["after"])
    return f"step {record['step']}/{total_steps} · shares: {listed(moved, MOST_NAMES)}" if moved else None


def steering_warnings(events: Sequence[Json]) -> list[str]:
    """What rules saw and what was done did not end, or nothing was done about.

    Args:
        events: the lines of the ledger of a run that is over.
    """
    fired = [event for event in events if event["event"] == "event"]
    found = []
    for probe, seen_of in _still_open(fired).items():
        first, last = seen_of[0], seen_of[-1]
        acted = _acted(seen_of)
        though = f", though this was done: {acted}" if acted else "; nothing was done about it"
        advice = ADVICE["reviewed" if any("review" in event["actions"] for event in seen_of) else "regression"]
        found.append(
            f"`{probe}` regressed at step {first['step']} (the loss was {percent(last['value'] or 0.0)} above its best "
            f"at step {last['step']}) and had not recovered at the end{though}. {advice}"
        )
    still = [event for event in fired if event["kind"] == "stagnation"]
    for _, group in groupby(sorted(still, key=lambda event: str(event["probe"])), lambda event: event["probe"]):
        seen_of = list(group)
        acted = _acted(seen_of[:-1])
        if acted:
            who = "the probes" if seen_of[0]["probe"] is None else f"`{seen_of[0]['probe']}`"
            steps = _named([event["step"] for event in seen_of])
            found.append(f"{who} stood still at steps {steps}, though this was done: {acted}. {ADVICE['stagnation']}")
    return found


def summed_up(events: Sequence[Json]) -> list[str]:
    """What a model card and a page say of it, a sentence each: what was seen, shares that moved, an early stop.

    Args:
        events: the lines of a ledger, the first of which is the run's.
    """
    fired = [event for event in events if event["event"] == "event"]
    groups: dict[tuple[str, str, str | None], list[Json]] = {}
    for event in fired:
        groups.setdefault((event["kind"], event["name"], event["probe"]), []).append(event)
    found = []
    for (kind, name, probe), group in groups.items():
        at = f"at step{'s' if len(group) > 1 else ''} {_named([event['step'] for event in group])}"
        acted = _acted([event for event in group if "stop" not in event["actions"]])
        who = "the probes" if probe is None else f"`{probe}`"
        what = PAST.get(kind, "{kind} of {who}").format(kind=kind, name=name, who=who)
        found.append(f"{what} {at}{f' ({acted})' if acted else ''}")
    lines = [f"rules saw: {'; '.join(found)}"] if found else []
    moved = [event for event in events if event["event"] == "shares"]
    if moved:
        of = listed(moves(moved[0]["before"], moved[-1]["after"]), MOST_NAMES) or "by less than a point in the end"
        lines.append(f"shares followed the record, {len(moved)} time{'s' if len(moved) > 1 else ''}: {of}")
    for event in fired:
        if "stop" in event["actions"]:
            where = f"stopped at step {event['step']} of {events[0]['future']['total_steps']}"
            said = event.get("done", {}).get("stop", {}).get("said", where)
            lines.append(f"training was stopped early, because {seen(event)}: {said}")
    return lines


def _still_open(fired: Sequence[Json]) -> dict[str, list[Json]]:
    """Probe → the firings of a regression that it has not recovered from."""
    found: dict[str, list[Json]] = {}
    for event in fired:
        if event["kind"] == "regression":
            found.setdefault(event["probe"], []).append(event)
        elif event["kind"] == "recovered":
            found.pop(event["probe"], None)
    return found


def _acted(fired: Sequence[Json]) -> str:
    """What was done in answer to some firings."""
    return ", ".join(dict.fromkeys(words for event in fired for words in answered(event)))


def _named(steps: Sequence[int]) -> str:
    return listed(steps, MOST_STEPS)
