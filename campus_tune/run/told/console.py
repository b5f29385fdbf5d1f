"""What a run tells a person: one line per decision, and the last lines that sum it up."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatchmethod
from pathlib import Path

from campus_tune.evaluate.results import scores_in_words
from campus_tune.method.budget import ALWAYS, VALUE, rounded_up
from campus_tune.method.curriculum import SHUFFLE
from campus_tune.method.firing_lines import fired_line, percent
from campus_tune.preview.health import health_table
from campus_tune.run.ledger import audited
from campus_tune.run.stream.padding import saved_words
from campus_tune.run.told.drawn_lines import drawn_lines, earned_line, suspects_line, thinned_lines
from campus_tune.run.told.events import (
    OTHER_WORLD,
    Decided,
    Ended,
    EpochEnded,
    Evaluated,
    Event,
    Examined,
    Fired,
    Mapped,
    Rescored,
    Resumed,
    SharesMoved,
    SignSeen,
    StageEnded,
    Started,
    Suspected,
    Valued,
    Warned,
)
from campus_tune.run.told.steering_lines import shares_line
from campus_tune.run.told.weight_lines import audit_line, stage_line
from campus_tune.words import progress
from campus_tune.words.console import say
from campus_tune.words.types import Json
from campus_tune.words.wording import listed

ONE_SIDED = 0.9  # share of the curriculum's rows from one sub-curriculum, above which the run says so

MANY_DIGITS = 1e4  # a perplexity from which on its size is all that a line says of it

MOST_SHORT = 3  # groups without enough rows that a decision's line names

NO_BASIS = "none"  # of a map that could not be made

MOST_RISES = 6  # domains whose smallest rise is named

CUT = {  # how a step is cut into micro batches
    "drawn": "as drawn",
    "equal": "by length into equal numbers of rows",
    "even": "by length into equal costs",
    "packed": "into equal tokens",
}

NOTABLE = 0.1  # seconds of a rank in an activity, below which its picture says nothing


class Console:
    """Shows a run as it goes on, a line for each thing; in a notebook decisions are the rows of one table.

    Args:
        total_steps: of the run.
        folder: where everything about it is.
    """

    def __init__(self, total_steps: int, folder: Path) -> None:
        self.total_steps, self.folder = total_steps, folder
        self._table: progress.NotebookTable | None = None
        self.thinned: list[Json] = []  # what each stage of this life said of its thinning
        self._map: Json = {}  # what the map says of the rows
        self._value: Json = {}  # what they were worth
        self._shares: Mapping[str, float] = {}  # as they were told last

    @singledispatchmethod
    def take(self, event: Event) -> None:
        """Of other events nothing is said."""

    @take.register
    def _(self, event: Started) -> None:
        if "why" in event.batching:
            say(batching_line(event.batching))

    @take.register
    def _(self, event: Resumed) -> None:
        say(f"resumed at step {event.step} of {self.total_steps}, inside stage {event.stage}")
        if event.before != event.now:
            say(f"on {event.now} processes, {event.before} before: {OTHER_WORLD}")
        if event.cuts[0] != event.cuts[1]:
            before, now = (CUT[cut] for cut in event.cuts)
            say(f"a step is cut {now}, before the checkpoint {before}: {OTHER_WORLD}")

    @take.register
    def _(self, event: Warned) -> None:
        for warning in event.warnings:
            say(f"warning: {warning}")

    @take.register
    def _(self, event: Examined) -> None:
        if event.health.bad:  # plain shuffling has no scores
            for line in filter(None, health_table(event.health).splitlines()):
                say(line)
        if event.found:
            share = f"{event.found:.1%}"
            say(f"scores worth {share} of the training compute were found in the cache, not measured")

    @take.register
    def _(self, event: Rescored) -> None:
        say(rescored_line(event.record))
        for warning in event.warnings:
            say(f"warning: {warning}")

    @take.register
    def _(self, event: Evaluated) -> None:
        say(evaluation_line(event.record))

    @take.register
    def _(self, event: Decided) -> None:
        if "thin" in event.record:
            self.thinned.append(event.record["thin"])
        display = progress.notebook()
        if display is None:
            say(decision_line(event.record, self.total_steps, event.probes, event.cost_share))
            return
        cells = decision_cells(event.record, self.total_steps, event.probes, event.cost_share)
        if self._table is None:
            self._table = progress.NotebookTable(display, list(cells))
        self._table.add(list(cells.values()))

    @take.register
    def _(self, event: StageEnded) -> None:
        if (line := stage_line(event.record, self.total_steps)) is not None:
            say(line)

    @take.register
    def _(self, event: Fired) -> None:
        say(fired_line(event.line(), self.total_steps))

    @take.register
    def _(self, event: SharesMoved) -> None:
        self._shares = self._shares or event.before
        if (line := shares_line(event.line(), self._shares, self.total_steps)) is not None:
            self._shares = event.after
            say(line)

    @take.register
    def _(self, event: EpochEnded) -> None:
        ended = f"epoch {event.epoch} was ended by a callback, {event.steps_left_out} steps are left out"
        say(f"step {event.step}/{self.total_steps} · {ended}")

    @take.register
    def _(self, event: Suspected) -> None:
        say(suspects_line(event.record, self.total_steps))

    @take.register
    def _(self, event: SignSeen) -> None:
        say(earned_line(event.record, self.total_steps))

    @take.register
    def _(self, event: Mapped) -> None:
        self._map = event.record

    @take.register
    def _(self, event: Valued) -> None:
        self._value = event.record

    @take.register
    def _(self, event: Ended) -> None:
        *lines, where = last_lines(event.record, str(self.folder))
        of_map = [map_line(self._map)] if self._map else []
        of_value = [value_line(self._value)] if self._value else []
        there = [
            *(of_map if self._map.get("basis") != NO_BASIS else []),
            *(of_value if self._value.get("rows") else []),
        ]
        missing = [line for line in (*of_map, *of_value) if line not in there]  # comes last
        advice = [f"advice · {one['line']}" for one in event.record.get("advice", [])]
        for line in (*lines, *thinned_lines(self.thinned), *there, *advice, where, *missing):
            say(line)


def batching_line(batching: Json) -> str:
    """What `batching: auto` became, and why."""
    rows = "rows lie flat, without padding" if batching["is"] == "flat" else "rows are padded"
    return f"batching: {batching['is']}: {batching['why']}. So {rows}, and a step is cut {CUT[batching['cut']]}"


def decision_cells(record: Json, total_steps: int, probes: Mapping[str, Json], cost_share: float) -> dict[str, str]:
    """One decision in the columns of a table."""
    low, high = record["scope"]
    drawn = {"drawn": ", ".join(drawn_words(record))} if "lanes" in record else {}
    return {
        "step": f"{record['step']}/{total_steps}",
        "stage": str(record["stage"]),
        "chosen": record["chosen"],
        "why": record["outcome"],
        "rows": str(record["rows"]),
        "scope": f"{low:.2f}–{high:.2f}",
        **drawn,
        "perplexity": _measured(record),
        "competence": ", ".join(f"{name} {probe['competence']:.3f}" for name, probe in probes.items()),
        "cost": f"{cost_share:.1%}",
    }


def decision_line(record: Json, total_steps: int, probes: Mapping[str, Json], cost_share: float) -> str:
    """One decision in one line."""
    parts = [f"step {record['step']}/{total_steps}", f"stage {record['stage']}"]
    if record["chosen"] == SHUFFLE:
        parts.append(f"shuffled, {record['rows']} rows")
    else:
        low, high = record["scope"]
        parts.append(f"{record['chosen']} ({record['outcome']}), {record['rows']} rows of scope {low:.2f}–{high:.2f}")
        if measured := _measured(record):
            parts.append(f"perplexity {measured}")
    parts += drawn_words(record)
    if probes:
        parts.append("competence " + ", ".join(f"{name} {probe['competence']:.3f}" for name, probe in probes.items()))
    parts.append(f"cost {cost_share:.1%}")
    return " · ".join(parts)


def drawn_words(record: Json) -> list[str]:
    """How a stage was drawn, where a policy drew it: what is out of the ordinary.

    That a scope was widened is not: a stage of a prefix asks for more rows of each group than its first scope holds.

    >>> drawn_words({"lanes": {"offer": 6, "mix": 0, "review": 2}, "offered": 12, "passed_over": 6, "shortage": {}})
    ['2 rows come back', '6 of 12 offered passed over']
    >>> short = {"code": "next pass", "math": "given to others", "text": "widened"}
    >>> lanes = {"offer": 6, "mix": 0, "review": 0}
    >>> drawn_words({"lanes": lanes, "shares": dict.fromkeys(short, 1 / 3), "passed_over": 0, "shortage": short})
    ['next pass of code', 'too few rows of math']
    """
    if "lanes" not in record:
        return []
    words = []
    if record["lanes"]["review"]:
        words.append(f"{record['lanes']['review']} rows come back")
    if record["passed_over"]:
        words.append(f"{record['passed_over']} of {record['offered']} offered passed over")
    if "skipped" in record.get("thin", {}):
        words.append(f"not thinned: {record['thin']['skipped']}")
    for what, help_ in (("next pass", "next pass"), ("too few rows", "given to others")):
        groups = [name for name, word in record["shortage"].items() if word == help_]
        if groups:
            every = len(groups) == len(record["shares"])
            words.append(f"{what} of {'all groups' if every and len(groups) > 1 else listed(groups, MOST_SHORT)}")
    return words


def _measured(record: Json) -> str:
    """The perplexity of each offer that was measured."""
    offers = [offer for offer in record.get("offers", []) if "perplexity" in offer]
    return ", ".join(f"{offer['name']} {perplexity_in_words(offer['perplexity'])}" for offer in offers)


def perplexity_in_words(perplexity: float) -> str:
    """A perplexity for a line: that of a model that diverges has up to 305 digits.

    >>> [perplexity_in_words(value) for value in (7.891, 9999.994, 123456.7, 1.014e304, 1e999)]
    ['7.89', '9999.99', '1.23e+05', '1.01e+304', 'inf']
    """
    return f"{perplexity:.2f}" if perplexity < MANY_DIGITS else f"{perplexity:.3g}"


def rescored_line(record: Json) -> str:
    """One re-scoring in one line."""
    which = "all" if record["rows"] == record["waiting"] else f"{record['rows']} of"
    parts = [f"re-scored {which} {record['waiting']} rows that wait"]
    moved = [f"{label} {order['correlation']:.2f}" for label, order in record["orders"].items()]
    if moved:
        parts.append("rank correlation with the order before: " + ", ".join(moved))
    if "scorer" in record:
        parts.append(f"scorer tells {record['scorer']['accuracy']:.0%} of held-out pairs apart")
    return " · ".join(parts)


def evaluation_line(record: Json) -> str:
    """One evaluation in one line."""
    parts = [scores_in_words(task, metrics, metrics) for task, metrics in record["scores"].items()]
    return f"{record['suite']} after stage {record['stage']}: {'; '.join(parts)} ({record['seconds']:.0f} s)"


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
    lines.append("rows by sub-curriculum: " + ", ".join(shares))
    lines += [f"warning: {warning}" for warning in one_sided(by_choice)]
    lines += [coverage_line(end), *drawn_lines(end)]
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


def coverage_line(end: Json) -> str:
    """How many rows the run saw, and how often it came back to some."""
    line = f"rows: {end['rows_seen']} of {end['n_rows']} seen ({end['rows_seen'] / end['n_rows']:.0%})"
    if "passes" in end:
        return f"{line}, the most often {end['visits_most']} times"
    if end["coverage"] == "exact":
        return f"{line}, each once per epoch, {end['visits'] / end['n_rows']:.2f} epochs"
    repeats = end["rows_repeated"]
    return f"{line}, {repeats} of {end['visits']} visits were repeats ({repeats / max(1, end['visits']):.0%})"
