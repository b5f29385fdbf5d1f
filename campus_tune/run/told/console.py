"""What a run tells a person: one line per decision, and at the end what it comes to.

In a file each is a plain line. In a terminal the parts of a decision stand below those of the one before, and the end
is a panel; in a notebook decisions are the rows of one table, and the end is another. Warnings are lines everywhere,
and the only ones where the run is to be quiet.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import singledispatchmethod
from pathlib import Path

from campus_tune.evaluate.results import scores_in_words
from campus_tune.method.firing_lines import fired_line
from campus_tune.preview.health import health_tables
from campus_tune.run.told.decision_lines import decision_cells, decision_line
from campus_tune.run.told.drawn_lines import earned_line, suspects_line, thinned_lines
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
    PromptsMapped,
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
from campus_tune.run.told.last_lines import NO_BASIS, last_lines, map_line, value_line
from campus_tune.run.told.prompt_lines import groups_line, prompt_map_line
from campus_tune.run.told.screen import decision_words, fitted, panel
from campus_tune.run.told.steering_lines import shares_line
from campus_tune.run.told.summary import as_html, facts_of, next_steps
from campus_tune.run.told.weight_lines import stage_line
from campus_tune.words import progress
from campus_tune.words.console import WARNING, say, show, show_block, show_table
from campus_tune.words.types import Json

CUT = {  # how a step is cut into micro batches
    "drawn": "as drawn",
    "equal": "by length into equal numbers of rows",
    "even": "by length into equal costs",
    "packed": "into equal tokens",
}


class Console:
    """Shows a run as it goes on, a line for each thing.

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
        self._prompts: Json = {}  # what the map of prompts says
        self._shares: Mapping[str, float] = {}  # as they were told last
        self._warned = 0  # warnings of this life

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
        self._warn(event.warnings)

    def _warn(self, warnings: Sequence[str]) -> None:
        self._warned += len(warnings)
        for warning in warnings:
            say(f"{WARNING}{warning}")

    @take.register
    def _(self, event: Examined) -> None:
        if event.health.bad:  # plain shuffling has no scores
            for head, rows in health_tables(event.health):
                show_table(head, rows)
        if event.found:
            share = f"{event.found:.1%}"
            say(f"scores worth {share} of the training compute were found in the cache, not measured")

    @take.register
    def _(self, event: Rescored) -> None:
        say(rescored_line(event.record))
        self._warn(event.warnings)

    @take.register
    def _(self, event: Evaluated) -> None:
        say(evaluation_line(event.record))

    @take.register
    def _(self, event: Decided) -> None:
        if "thin" in event.record:
            self.thinned.append(event.record["thin"])
        told = event.record, self.total_steps, event.probes, event.cost_share
        display = progress.notebook()
        if display is None or progress.VOLUME.quiet:
            show(decision_line(*told), lambda width: fitted(decision_words(*told), width))
            return
        cells = decision_cells(*told)
        if self._table is None:
            self._table = progress.NotebookTable(display, list(cells))
        self._table.add(list(cells.values()))

    @take.register
    def _(self, event: StageEnded) -> None:
        for line in (stage_line(event.record, self.total_steps), groups_line(event.record, self.total_steps)):
            if line is not None:
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
    def _(self, event: PromptsMapped) -> None:
        self._prompts = event.record

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
            *([prompt_map_line(self._prompts)] if self._prompts else []),
        ]
        missing = [line for line in (*of_map, *of_value) if line not in there]  # comes last
        advice = [f"advice · {one['line']}" for one in event.record.get("advice", [])]
        every = [*lines, *thinned_lines(self.thinned), *there, *advice, where, *missing]
        display = progress.notebook()
        if display is None and not progress.in_terminal(sys.stdout):
            for line in every:
                say(line)
            return
        self._warn([line.removeprefix(WARNING) for line in every if line.startswith(WARNING)])
        facts = facts_of(event.record, self._map, self._value, self._prompts, n_warnings=self._warned)
        steps = next_steps(self._map, self._value, self.folder)
        if display is None:
            show_block(panel(facts, steps, str(self.folder)))
        elif not progress.VOLUME.quiet:
            opened = f"campus_tune.open_run({str(self.folder.parent)!r})"
            progress.Drawn(display).draw(as_html(facts, [opened, *steps]))


def batching_line(batching: Json) -> str:
    """What `batching: auto` became, and why."""
    rows = "rows lie flat, without padding" if batching["is"] == "flat" else "rows are padded"
    return f"batching: {batching['is']}: {batching['why']}. So {rows}, and a step is cut {CUT[batching['cut']]}"


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
