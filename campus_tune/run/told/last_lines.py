"""The last lines of a run, which sum it up."""

from __future__ import annotations

from collections.abc import Mapping

from campus_tune.method.budget import ALWAYS, VALUE, rounded_up
from campus_tune.method.curriculum import SHUFFLE
from campus_tune.method.firing_lines import percent
from campus_tune.run.ledger import audited
from campus_tune.run.stream.padding import saved_words
from campus_tune.run.told.drawn_lines import drawn_lines
from campus_tune.run.told.prompt_lines import answered_line
from campus_tune.run.told.weight_lines import audit_line
from campus_tune.words.types import Json
from campus_tune.words.wording import listed

ONE_SIDED = 0.9  # share of the curriculum's rows from one sub-curriculum, above which the run says so

NO_BASIS = "none"  # of a map that could not be made

MOST_RISES = 6  # domains whose smallest rise is named

NOTABLE = 0.1  # seconds of a rank in an activity, below which its picture says nothing


def last_lines(end: Json, where: str) -> list[str]:
    """The end of a run in a few lines."""
    lines = []
    if end["competence"]:
        changes = [f"{domain} {first:.3f} → {last:.3f}" for domain, (first, last) in end["competence"].items()]
        lines.append("competence on the probes, before → after: " + ", ".join(changes))
    if rises := end.get("smallest_rise"):
        named = listed([f"{domain} {percent(rise)}" for domain, rise in rises.items()], MOST_RISES)
        lines.append(f"smallest rise of a loss that the probes can show: {named}")
    by_choice = end["rows_by_choice"]
    shares = [f"{name} {rows / max(1, sum(by_choice.values())):.0%}" for name, rows in by_choice.items() if rows]
    lines.append(f"{noun(end)}s by sub-curriculum: " + ", ".join(shares))
    lines += [f"warning: {warning}" for warning in one_sided(by_choice)]
    lines += [coverage_line(end), *drawn_lines(end)]
    lines += [] if (answered := answered_line(end)) is None else [answered]
    lines += [saved_words(end["padding"])] if "padding" in end else []
    cost = end["cost"]
    told = [name for name in cost if name not in ("all", VALUE) and (cost[name] or name in ALWAYS)]
    parts = ", ".join(f"{name} {cost[name]:.1%}" for name in told)
    if end["found"]:
        parts += f"; {end['found']:.1%} of it found in the score cache"
    spent = cost["all"] - cost.get(VALUE, 0.0)
    beside = f", and {cost[VALUE]:.1%} beside it for values" if VALUE in cost else ""
    lines.append(
        f"cost: {spent:.1%} of the training compute against a budget of {end['budget']:.1%} ({parts}){beside}; "
        f"by the clock, measuring took {end['seconds']['share']:.1%} of the training's own seconds"
    )
    if spent > end["budget"] + 1e-9:
        lines.append(
            "warning: more was spent than the budget allows by now: it was larger when that was measured. budget: "
            f"{rounded_up(spent):g} would have paid for it."
        )
    audit = f"order audit: {audited(**end['audit'])}"
    if "ranks" in end:
        lines += [f"{audit} on all {len(end['ranks']['tokens'])} ranks", ranks_line(end["ranks"])]
    else:
        lines.append(audit)
    if "weights_audit" in end:
        lines.append(audit_line(end["weights_audit"]))
    lines.append(f"everything about this run is in {where}")
    return lines


def map_line(record: Json) -> str:
    """What the map of the rows says, or why there is none.

    >>> map_line({"basis": "training", "suspects": 0, "sentence": "nothing to see: no row stands out from its kind"})
    'data map · nothing to see: no row stands out from its kind'
    """
    if record["basis"] == NO_BASIS:
        return f"no data map: {record['why']}"
    shows = "; campus-tune suspects shows them" if record["suspects"] else ""
    return f"data map · {record['sentence']}{shows}"


def value_line(record: Json) -> str:
    """What the values of the rows say, or why there are none.

    >>> value_line({"rows": 0, "why": "no stage was measured."})
    'no values: no stage was measured.'
    """
    if not record["rows"]:
        return f"no values: {record.get('why', 'no row was measured')}"
    return f"value · {record['sentence']}; campus-tune value shows them"


def ranks_line(ranks: Json) -> str:
    """How evenly the ranks were loaded."""
    parts = []
    for activity, times in ranks["seconds"].items():
        (fastest, low), (slowest, high) = times["fastest"], times["slowest"]
        if high >= NOTABLE:
            parts.append(f"{activity} {low:.1f} s (rank {fastest}) to {high:.1f} s (rank {slowest})")
    parts.append("padding " + ", ".join(f"{share:.0%}" for share in ranks["padding"]))
    return "ranks, own work: " + "; ".join(parts)


def one_sided(by_choice: Mapping[str, int]) -> list[str]:
    """The warning that one of several sub-curricula did nearly all the work."""
    curricula = {name: rows for name, rows in by_choice.items() if name != SHUFFLE}
    total = sum(curricula.values())
    return [
        f"{name} supplied {rows / total:.0%} of the curriculum's rows: this was a curriculum by {name}, whatever else "
        "the recipe names. Write selector: round_robin, which takes all of them in turn, or drop the others."
        for name, rows in curricula.items()
        if len(curricula) > 1 and total and rows / total > ONE_SIDED
    ]


def noun(end: Json) -> str:
    """What was trained, one of them.

    >>> noun({"groups": {"n": 8}}), noun({})
    ('prompt', 'row')
    """
    return "prompt" if "groups" in end else "row"


def coverage_line(end: Json) -> str:
    """How many rows the run saw, and how often it came back to some."""
    line = f"{noun(end)}s: {end['rows_seen']} of {end['n_rows']} seen ({end['rows_seen'] / end['n_rows']:.0%})"
    if "passes" in end:
        return f"{line}, the most often {end['visits_most']} times"
    if end["coverage"] == "exact":
        return f"{line}, each once per epoch, {end['visits'] / end['n_rows']:.2f} epochs"
    repeats = end["rows_repeated"]
    return f"{line}, {repeats} of {end['visits']} visits were repeats ({repeats / max(1, end['visits']):.0%})"
