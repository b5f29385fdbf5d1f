"""`campus-tune diff`: did two runs train the same rows in every step, and where not, since when and why?

For a run that was stopped and resumed, for one process against many, for another machine or another version. Two
ledgers say it: every decision holds a digest of its rows. Losses and perplexities may differ by what floats do; how
far they do is shown, not hidden.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from campus_tune.run.ledger import FILE, FOLDER
from campus_tune.run.ledger_lines import COMPARED, find_ledger, read_events
from campus_tune.words.errors import DataError
from campus_tune.words.types import Json
from campus_tune.words.wording import differences, listed

STREAM = ("step", "epoch", "chosen", "rows", "rows_digest")  # of a decision: what is trained, in which sequence
DRAWN = ("lanes", "shares", "passes", "shortage")  # who was drawn, where a recipe says something of it
MOST_GROUPS = 4  # domains or cells that a line names
MEASURED = (
    ("decision", "perplexity"),
    ("stage_end", "training loss"),
    ("stage_end", "weighted loss"),
    ("probes", "probe loss"),
    ("probes", "calibration error"),
    ("decision", "reward"),
    ("event", "number of an event"),
    ("shares", "share that was moved"),
)
SEEN = ("kind", "name", "probe", "step", "actions")  # of an event: what a rule saw and what was done
ALONE = {"training loss": "train_loss", "weighted loss": "weighted_loss"}  # keys in the ledger
OF_PROBES = {"probe loss": "loss", "calibration error": "ece"}


@dataclass(frozen=True)
class Comparison:
    """Two runs beside one another.

    Args:
        stages: stages that both have.
        first: the first stage with other rows, None where all are the same.
        why: what differs there, one line each.
        unmatched: stages that only one of the two has.
        largest: measured quantity → its largest relative difference in stages with the same rows, on the same samples.
        regrown: offers whose sample grew further in one run than in the other.
        batches: how each run cut its global batch at its start.
        steered: what rules saw, or how often shares were moved, where that differs, one line each.
    """

    stages: int
    first: int | None
    why: list[str]
    unmatched: int
    largest: dict[str, float]
    regrown: int
    batches: list[Json]
    steered: list[str]

    @property
    def same(self) -> bool:
        """The same rows in every step of both."""
        return self.first is None and not self.unmatched

    def lines(self) -> list[str]:
        """For a person."""
        if self.first is None:
            lines = [f"the same rows in every step of {self.stages} stages"]
        else:
            lines = [f"other rows from stage {self.first} on", *self.why]
        lines += self.steered
        if self.unmatched:
            lines.append(f"{self.unmatched} further stages are in one of the two only: it was stopped, or runs longer")
        if self.batches[0] != self.batches[1]:
            cuts = " and ".join(
                f"{cut['micro']} rows × {cut['world']} processes × accumulation {cut['accumulation']}"
                + (f", {cut['cut']}" if "cut" in cut else "")
                for cut in self.batches
            )
            lines.append(f"the global batch was cut as {cuts}")
        for what, difference in self.largest.items():
            lines.append(f"largest relative difference of a {what}: {difference:.1e}")
        if self.regrown:
            lines.append(f"{self.regrown} offers were measured on more rows in one run than in the other")
        return lines


def compare_runs(a: Path, b: Path) -> Comparison:
    """Compare the ledgers of two runs.

    Args:
        a: output_dir of a run, its `curriculum/` folder, or its ledger.
        b: of another one.

    Raises:
        DataError: no ledger there.
    """
    ours, theirs = _events(a), _events(b)
    pairs = list(zip(_of(ours, "decision"), _of(theirs, "decision"), strict=False))
    n_stages = [len(_of(events, "decision")) for events in (ours, theirs)]
    first = next((i for i, (x, y) in enumerate(pairs) if any(x.get(k) != y.get(k) for k in STREAM)), None)
    n_same = len(pairs) if first is None else first
    # where the race of offers stops may hang on the last digits: then their samples end at another size
    offers = [both for x, y in pairs[:n_same] for both in zip(x.get("offers", []), y.get("offers", []), strict=False)]
    largest: dict[str, float] = {}
    for event, what in MEASURED:
        for x, y in zip(_of(ours, event), _of(theirs, event), strict=False):
            if x.get("stage", 0) >= n_same:  # of other rows: nothing to compare
                break
            for p, q in zip(_numbers(x, what), _numbers(y, what), strict=False):
                if p is not None and q is not None and p[1] == q[1]:
                    difference = abs(p[0] - q[0]) / max(abs(p[0]), abs(q[0]), math.ulp(0.0))
                    largest[what] = max(largest.get(what, 0.0), difference)
    return Comparison(
        stages=len(pairs),
        first=first,
        why=[] if first is None else list(_why(*pairs[first])),
        unmatched=abs(n_stages[0] - n_stages[1]),
        largest=largest,
        regrown=sum(a.get("sampled_rows") != b.get("sampled_rows") for a, b in offers),
        batches=[_of(events, "run")[0].get("batch", {}) for events in (ours, theirs)],
        steered=list(_steered(ours, theirs)),
    )


def _events(run: Path) -> list[Json]:
    path = find_ledger(run)
    if path is None:
        raise DataError(f"`{run}` must hold a run's {FOLDER}/{FILE}, got none. Name the output_dir of a run.")
    return read_events(path, COMPARED)


def _of(events: Sequence[Json], name: str) -> list[Json]:
    return [event for event in events if event["event"] == name]


def _why(x: Json, y: Json) -> Iterator[str]:
    """What differs in the decision of a stage."""
    if x["chosen"] == y["chosen"]:
        for name, ours, theirs in differences(*({key: decision.get(key) for key in STREAM} for decision in (x, y))):
            yield f"  {name}: {ours} and {theirs}"
        for name in DRAWN:
            found = differences(x.get(name) or {}, y.get(name) or {})
            values = [f"{key} {_said(ours)} and {_said(theirs)}" for key, ours, theirs in found]
            if values:
                yield f"  {name}: {listed(values, MOST_GROUPS)}"
        return
    for label, decision in (("first run", x), ("second run", y)):
        offers = [
            f"{o['name']} {o['perplexity']:.6g}" for o in decision.get("offers", []) if o.get("perplexity") is not None
        ]
        margin = decision.get("margin")
        said = f" (perplexity {', '.join(offers)})" if offers else ""
        ahead = "" if margin is None else f", {margin:.1e} nats ahead"
        yield f"  {label}: {decision['chosen']}{ahead}{said}"


def _steered(ours: Sequence[Json], theirs: Sequence[Json]) -> Iterator[str]:
    """The first event that only one of two runs has, and how often each has moved its shares."""
    nothing: Json = {}
    for x, y in zip_longest(_of(ours, "event"), _of(theirs, "event"), fillvalue=nothing):
        if any(x.get(key) != y.get(key) for key in SEEN):
            yield f"other events from step {min((e['step'] for e in (x, y) if 'step' in e), default='?')} on"
            yield f"  first run: {_event(x)}"
            yield f"  second run: {_event(y)}"
            break
    acts = [_acts(events) for events in (ours, theirs)]
    if acts[0] != acts[1]:
        yield f"what waits for a sign of wrong rows: {acts[0]} and {acts[1]}"
    times = [len(_of(events, "shares")) for events in (ours, theirs)]
    if times[0] != times[1]:
        yield f"shares were moved {times[0]} times and {times[1]} times"


def _acts(events: Sequence[Json]) -> str:
    """Since when what acts that waits for a sign of wrong rows."""
    told = [(" and ".join(event.get("acts", [])), event.get("step")) for event in _of(events, "act")]
    return next((f"{names} from step {step} on" for names, step in told if names), "nothing acts")


def _event(event: Json) -> str:
    if not event:
        return "nothing more"
    of = f" of {event['probe']}" if event.get("probe") is not None else ""
    name = f" {event['name']}" if event.get("name") != event.get("kind") else ""
    return f"{event.get('kind')}{name}{of} at step {event.get('step')} ({', '.join(event.get('actions', []))})"


def _said(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else "nothing" if value is None else value


def _numbers(event: Json, what: str) -> list[tuple[float, Any] | None]:
    """What was measured, and on how many rows where that may differ."""
    if what == "perplexity":
        offers = event.get("offers", [])
        return [(o["perplexity"], o.get("sampled_rows")) if o.get("perplexity") is not None else None for o in offers]
    if what in OF_PROBES:
        domains, key = event["domains"].values(), OF_PROBES[what]
        return [(values[key], values.get("rows")) if values.get(key) is not None else None for values in domains]
    if what == "share that was moved":
        return [(share, name) for name, share in event.get("after", {}).items()]
    if what == "number of an event":
        found = [(event.get(key), event.get("kind")) for key in ("value", "bound")]
    elif what == "reward":
        reward = event.get("reward") or {}
        found = [(reward.get("value"), reward.get("stage"))]
    else:
        found = [(event.get(ALONE[what]), None)]
    return [None if number is None else (number, of) for number, of in found]
